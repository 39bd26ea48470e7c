import re

import pytest
import torch
from torch import nn

from orderdp.training.models import build_model, model_names

SMALL = ["small_cnn", "cnn", "strided_cnn", "small_resnet"]


@pytest.fixture(autouse=True)
def one_thread_and_seed_0():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "in_channels", "image_size", "expected"),
    [
        ("small_cnn", 1, 28, 13_262),
        ("cnn", 1, 28, 223_530),
        ("strided_cnn", 3, 32, 224_106),
        ("small_resnet", 3, 32, 78_042),
        ("small_swin", 3, 32, 136_822),
        ("vit_base", 3, 224, 85_806_346),
        ("resnet18", 3, 32, 11_173_962),
        ("resnet50", 3, 32, 23_520_842),
        ("resnet18", 3, 224, 11_181_642),
        ("resnet50", 3, 224, 23_528_522),
        ("strided_resnet18", 3, 56, 11_181_642),
        ("strided_resnet50", 3, 56, 23_528_522),
    ],
)
def test_parameter_counts_are_those_of_the_architecture(name, in_channels, image_size, expected):
    with torch.device("meta"):
        model = build_model(name, num_classes=10, in_channels=in_channels, image_size=image_size)
    assert num_parameters(model) == expected


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("in_channels", "image_size"), [(1, 8), (1, 28), (3, 32), (5, 31)])
def test_small_models_take_any_size_and_number_of_channels(name, in_channels, image_size):
    model = build_model(name, num_classes=7, in_channels=in_channels, image_size=image_size)
    logits = model(torch.zeros(2, in_channels, image_size, image_size))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("small_cnn", (32, 7, 7)),
        ("cnn", (128, 7, 7)),
        ("strided_cnn", (128, 4, 4)),
        ("small_resnet", (64, 7, 7)),
    ],
)
def test_how_often_small_models_halve_the_image(name, features):
    """Parameter counts do not show a stride."""
    model = build_model(name, num_classes=10, in_channels=1, image_size=28)
    assert model[:-1](torch.zeros(1, 1, 28, 28)).shape[1:] == features


def test_a_residual_block_adds_its_input_before_the_last_relu():
    block = build_model("small_resnet", num_classes=10, in_channels=1, image_size=8)[1].eval()
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(block(x), (block.norm(block.second(block.first(x))) + x).relu())


def test_the_cifar_stem_starts_as_the_other_convolutions():
    model = build_model("resnet18", num_classes=10, in_channels=3, image_size=32)
    for convolution in (model.conv1, model.layer1[0].conv1):
        out, _, height, width = convolution.weight.shape
        assert convolution.weight.std().item() == pytest.approx((2 / (out * height * width)) ** 0.5, rel=0.1)


def test_pytorchs_initialization_gives_each_layer_its_default_deviation():
    """Uniform with variance 1/(3·fan_in); the model's own is 0.5 to 4.9 times as wide (the paper's ResNets)."""
    ratios = []
    for name in ("resnet18", "resnet50"):
        sizes = {"num_classes": 100, "in_channels": 3, "image_size": 32}
        own = build_model(name, **sizes)
        default = build_model(name, **sizes, initialization="torch")
        for (layer, module), other in zip(default.named_modules(), own.modules(), strict=True):
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                assert module.weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.05), layer
                assert module.weight.abs().max() <= fan_in**-0.5
            if isinstance(module, nn.Conv2d):
                ratios.append((other.weight.std() / module.weight.std()).item())
            if isinstance(module, nn.BatchNorm2d):
                assert module.weight.eq(1).all()
    assert (min(ratios), max(ratios)) == (pytest.approx(0.53, abs=0.03), pytest.approx(4.9, abs=0.1))


def test_small_models_have_pytorchs_initialization_already():
    own, reset = (
        build_model("cnn", num_classes=10, in_channels=3, image_size=32, initialization=one)
        for one in ("model", "torch")
    )
    for one, other in zip(own.parameters(), reset.parameters(), strict=True):
        if one.dim() > 1:
            assert one.std().item() == pytest.approx(other.std().item(), rel=0.1)
            assert not one.equal(other)


@pytest.mark.parametrize(
    ("name", "image_size", "stem_size", "last_size"),
    [
        *((name, *sizes) for name in ("resnet18", "resnet50") for sizes in [(32, 32, 4), (64, 64, 8), (96, 24, 3)]),
        *((name, *sizes) for name in ("strided_resnet18", "strided_resnet50") for sizes in [(56, 14, 2), (96, 24, 3)]),
    ],
)
def test_resnets_have_the_cifar_stem_up_to_64_pixels_unless_they_are_strided(name, image_size, stem_size, last_size):
    model = build_model(name, num_classes=10, in_channels=2, image_size=image_size).eval()
    sizes = {}
    model.layer1.register_forward_pre_hook(lambda _, inputs: sizes.update(stem=inputs[0].shape))
    model.layer4.register_forward_hook(lambda _, inputs, output: sizes.update(last=output.shape))
    with torch.no_grad():
        logits = model(torch.zeros(1, 2, image_size, image_size))
    assert logits.shape == (1, 10)
    assert sizes["stem"][1:] == (64, stem_size, stem_size)
    assert sizes["last"][2:] == (last_size, last_size)
    assert model.conv1.kernel_size == ((3, 3) if image_size <= 64 and name.startswith("resnet") else (7, 7))


def test_no_residual_block_starts_as_the_identity():
    model = build_model("resnet18", num_classes=10, in_channels=3, image_size=32)
    assert all(block.bn2.weight.eq(1).all() for layer in (model.layer1, model.layer4) for block in layer)


@pytest.mark.parametrize("name", [*SMALL, "resnet18"])
def test_equal_seeds_give_equal_weights_and_different_seeds_different_ones(name):
    def stem(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_model(name, num_classes=10, in_channels=3, image_size=32).parameters())

    assert stem(0).equal(stem(0))
    assert not stem(0).equal(stem(1))


@pytest.mark.parametrize("name", SMALL)
def test_small_models_learn_under_bfloat16_in_channels_last(name):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 1, 8, 8, generator=generator).contiguous(memory_format=torch.channels_last)
    y = torch.randint(4, (32,), generator=generator)
    model = build_model(name, num_classes=4, in_channels=1, image_size=8).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(30):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
        loss = nn.functional.cross_entropy(logits.float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_any_timm_model_may_be_named(name):
    model = build_model(name, num_classes=5, in_channels=1, image_size=64).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 5)


def test_the_listed_names_can_all_be_built_and_every_parameter_gets_a_gradient():
    for name in model_names():
        with torch.device("meta"):
            model = build_model(name, num_classes=10, in_channels=3, image_size=32)
            loss = model(torch.zeros(2, 3, 32, 32)).sum()
        assert num_parameters(model) > 0
        loss.backward()
        # The fused SGD fails at the first step in which a parameter joins the others.
        assert [named for named, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "no model named 'resnet81'; did you mean 'resnet18'? "),
        ("smal_cnn", "no model named 'smal_cnn'; did you mean 'small_cnn'? "),
        ("convnext_tine", "no model named 'convnext_tine'; did you mean 'convnext_tiny'? "),
        ("!", "no model named '!' "),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known(name, message):
    message += "(model_names() and timm.list_models() list them)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_model(name, num_classes=10, in_channels=3, image_size=32)


@pytest.mark.parametrize("argument", ["num_classes", "in_channels", "image_size"])
def test_sizes_below_one_are_refused(argument):
    sizes = {"num_classes": 10, "in_channels": 1, "image_size": 8, argument: 0}
    with pytest.raises(ValueError, match=rf"^{argument} must be at least 1, got 0; write what the data set has$"):
        build_model("small_cnn", **sizes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small_cnn", "drop_path is for models of timm, got 0.1 for small_cnn; write drop_path = 0"),
        ("tiny_vit", "drop_path is for models of timm, got 0.1 for tiny_vit; write drop_path = 0"),
        ("vgg11", "vgg11 drops no paths, got drop_path 0.1; write drop_path = 0"),
    ],
)
def test_a_model_that_drops_no_paths_is_refused(name, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_model(name, num_classes=10, in_channels=3, image_size=32, drop_path=0.1)


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_no_path_is_dropped_unless_asked_for(rate):
    """timm's Swin drops a tenth by default."""
    model = build_model("small_swin", num_classes=10, in_channels=3, image_size=32, drop_path=rate)
    rates = [getattr(module, "drop_prob", 0.0) for module in model.modules()]
    assert max(rates) == pytest.approx(rate)
