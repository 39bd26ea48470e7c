"""A proxy trains as the trainer does, says what its weights say, and is taken up where it was killed."""

import math
import os
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from orderdp import Pruner
from orderdp.coresets import Evidence
from orderdp.coresets.deepfool import perturbation_norms
from orderdp.data.base import DataSets, ImageArrays, Texts
from orderdp.training import models, proxy, proxy_folder
from orderdp.training.loop import Run
from orderdp.training.models import build_model
from orderdp.training.proxy import SETTINGS, Proxy, proxy_recipe
from orderdp.training.proxy_folder import ProxyFolder
from orderdp.training.proxy_outputs import last_linear
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

N, EPOCHS = 200, 3
EVERYTHING = ("probabilities", "features", "gradient_norms", "presented", "trajectory", "alignments", "learning_rates")


@pytest.fixture
def recipe(tiny):
    return proxy_recipe(tiny(model="small_cnn", prune_ratio=0.5), epochs=EPOCHS, batch_size=32)


@pytest.fixture
def make(tmp_path, recipe, digits):
    def made(data=digits, validation=0.0, **changes):
        return Proxy(recipe.model_copy(update=changes), data, tmp_path / "proxies", validation=validation, show=False)

    return made


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def arrays(evidence: Evidence) -> dict[str, list]:
    return {name: getattr(evidence, name).tolist() for name in evidence.given if name != "validation"}


def test_a_recipe_of_a_proxy_has_deepcores_settings_and_the_data_and_model_of_the_other(tiny):
    given = tiny(
        dataset="fashion_mnist",
        model="cnn",
        optimizer="adamw",
        max_lr=0.3,
        max_steps=5,
        strategy="ucb",
        prune_ratio=0.5,
    )
    recipe = proxy_recipe(given, epochs=2)
    assert (recipe.dataset, recipe.model, recipe.train_size, recipe.epochs) == ("fashion_mnist", "cnn", 200, 2)
    assert {name: getattr(recipe, name) for name in SETTINGS} == {**SETTINGS, "epochs": 2}
    assert (recipe.label, recipe.max_steps) == ("full data", None)


@pytest.mark.parametrize(
    "changes",
    [{"augment": "crop", "label_smoothing": 0.1}, {"schedule": "onecycle", "optimizer": "adamw", "nesterov": False}],
    ids=["constant rate", "one cycle"],
)
def test_it_ends_with_the_weights_of_a_run_on_full_data(make, tmp_path, digits, changes):
    trained = make(**changes)
    trained.evidence()
    folder = RunFolder.create(tmp_path / "run", trained.recipe)
    Run(trained.recipe, digits, folder, show=False).train()
    expected, _ = folder.load_checkpoint()
    weights = load_file(trained.path / f"epoch-{EPOCHS:04d}.safetensors")
    assert set(weights) == set(expected)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert [line["loss"] for line in trained.history] == [line["loss"] for line in folder.metrics()]
    assert [line["lr"] for line in trained.history] == [line["lr"] for line in folder.metrics()]


@pytest.mark.parametrize("epoch", [0, 2, EPOCHS])
def test_outputs_are_those_of_the_weights_after_that_epoch(make, digits, epoch):
    made = make()
    evidence = made.evidence(("probabilities", "features", "gradient_norms", "perturbations"), epoch=epoch)
    model = build_model("small_cnn", num_classes=10, in_channels=1, image_size=8)
    model.load_state_dict(load_file(made.path / f"epoch-{epoch:04d}.safetensors"))
    model.eval()
    images = digits.train.images.float().div(255).sub(digits.mean[0]).div(digits.std[0])
    logits = model(images)
    assert evidence.labels.tolist() == digits.train.labels.tolist()
    np.testing.assert_allclose(evidence.probabilities, logits.softmax(1).detach(), atol=1e-5)
    layer = last_linear(model, 10)
    np.testing.assert_allclose(
        evidence.features @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), logits.detach(), atol=1e-4
    )
    np.testing.assert_allclose(evidence.perturbations[:9], perturbation_norms(model, images[:9]), rtol=1e-4)
    for sample in (0, 77):
        model.zero_grad()
        F.cross_entropy(model(images[sample : sample + 1]), digits.train.labels[sample : sample + 1]).backward()
        norm = math.sqrt(sum(parameter.grad.square().sum().item() for parameter in model.parameters()))
        assert evidence.gradient_norms[sample] == pytest.approx(norm, rel=1e-3, abs=1e-6)


def test_what_covers_a_time_holds_each_epoch(make):
    made = make()
    evidence = made.evidence(EVERYTHING)
    assert evidence.trajectory.dtype == np.float16
    assert isinstance(evidence.trajectory, np.memmap)
    for epoch in range(1, EPOCHS + 1):
        now = made.evidence(("probabilities", "features"), epoch=epoch)
        assert evidence.trajectory[epoch - 1].tolist() == now.probabilities.astype(np.float16).tolist()
    assert evidence.learning_rates.tolist() == [0.1] * EPOCHS
    # The mean of the products with the mean gradient is its squared norm.
    assert (evidence.alignments.mean(1) > 0).all()
    assert arrays(made.evidence(EVERYTHING, epoch=2))["alignments"] == evidence.alignments[:2].tolist()
    assert made.evidence(("presented",), epoch=2).presented.tolist() == evidence.presented[:2].tolist()


def test_learning_rates_are_those_of_the_epochs_up_to_the_one_asked_at(make):
    made = make(schedule="onecycle")
    rates = made.evidence(("learning_rates",), epoch=2).learning_rates.tolist()
    assert rates == [line["lr"] for line in made.history[:2]]
    assert rates != [line["lr"] for line in made.history[-2:]]


def test_a_trajectory_grows_without_computing_its_beginning_again(make, monkeypatch):
    made = make()
    short = made.evidence(("trajectory",), epoch=2).trajectory.tolist()
    measured = []
    original = proxy.measure
    monkeypatch.setattr(
        proxy, "measure", lambda names, *rest, **more: measured.append(names) or original(names, *rest, **more)
    )
    whole = made.evidence(("trajectory",)).trajectory
    assert (len(measured), whole.shape) == (1, (EPOCHS, N, 10))
    assert whole[:2].tolist() == short
    assert not list(made.path.glob("trajectory-*"))


def test_presented_says_whether_the_prediction_was_right_in_training(make, digits, monkeypatch):
    """With two classes, a prediction is right where the loss is below ln 2."""
    data = replace(digits, train=ImageArrays(digits.train.images, digits.train.labels % 2), num_classes=2)
    seen = []
    original = Pruner.update

    def update(pruner, index, losses):
        seen.append((index.clone(), losses.detach().clone()))
        return original(pruner, index, losses)

    monkeypatch.setattr(Pruner, "update", update)
    evidence = make(data).evidence(("presented",))
    expected = np.zeros((EPOCHS, N), dtype=bool)
    steps = len(seen) // EPOCHS
    for step, (index, losses) in enumerate(seen):
        expected[step // steps, index] = losses < math.log(2)
    assert evidence.presented.tolist() == expected.tolist()
    assert 0 < expected.mean() < 1


def test_samples_that_are_held_out_are_not_trained_and_the_same_for_every_seed(make, digits):
    needs = ("probabilities", "features", "validation")
    made = make(validation=0.1)
    evidence = made.evidence(needs)
    assert (evidence.num_samples, evidence.validation.num_samples) == (180, 20)
    assert sorted([*made.ids, *made.held_out]) == list(range(N))
    assert evidence.labels.tolist() == digits.train.labels[made.ids].tolist()
    assert evidence.validation.labels.tolist() == digits.train.labels[made.held_out].tolist()
    assert np.bincount(evidence.validation.labels).max() <= 3
    assert evidence.validation.given == ("labels", "probabilities", "features")
    other = make(validation=0.1, seed=1)
    assert other.ids.tolist() == made.ids.tolist()
    assert other.path != made.path


def test_a_second_call_trains_nothing_and_builds_no_model(make, monkeypatch):
    first = arrays(make().evidence(EVERYTHING, epoch=2))
    for name in ("measure", "proxy_model"):
        monkeypatch.setattr(proxy, name, lambda *_, **__: pytest.fail("computed again"))
    assert arrays(make().evidence(EVERYTHING, epoch=2)) == first


@pytest.mark.parametrize("change", [{"evaluations": 3}, {"held_out": 0.1}, {"label_noise": 0.1}])
def test_keys_that_change_nothing_in_a_proxy_leave_its_folder_as_it_is(make, digits, change):
    first = make()
    other = first.recipe.model_copy(update=change)  # of the same data, which says the rest
    assert ProxyFolder(first.path.parent, other, digits, first.held_out).path == first.path


def test_the_folder_is_that_of_recipe_data_seed_and_share(make, digits, tmp_path):
    paths = [make().path, make(seed=1).path, make(epochs=4).path, make(validation=0.1).path]
    paths += [make(precision="bf16").path, make(augment="crop").path]
    for images, labels in (
        (digits.train.images.flip(3), digits.train.labels),
        (digits.train.images, digits.train.labels.flip(0)),
    ):
        paths.append(make(replace(digits, train=ImageArrays(images, labels))).path)
    assert len(set(paths)) == 8
    assert make(download=True, dataset="digits").path == paths[0]
    assert re.fullmatch(r"digits-small_cnn-[0-9a-f]{12}-seed0", paths[0].name)


MOMENTS = {
    "in an epoch": (Pruner, "update", 10),
    "after an epoch's weights": (ProxyFolder, "write_array", 2),
    "before an epoch's state": (ProxyFolder, "write_state", 2),
    "in a file": (proxy_folder, "write_whole", 6),
    "while it measures": (ProxyFolder, "write_array", 6),
    "before arrays are joined": (ProxyFolder, "append", 1),
}


@pytest.mark.parametrize(("owner", "name", "number"), list(MOMENTS.values()), ids=list(MOMENTS))
def test_a_killed_proxy_resumes_with_the_same_bits(make, tmp_path, in_child, kill_at, monkeypatch, owner, name, number):
    needs = ("probabilities", "presented", "trajectory", "learning_rates")

    def work():
        kill_at(owner, name, number)
        make(augment="crop").evidence(needs)

    assert in_child(work) == -signal.SIGKILL
    killed = make(augment="crop")
    state = ProxyFolder.state(killed._folder)
    began = 0 if state is None else len(state["history"])
    assert began < EPOCHS or name in ("write_array", "append")
    trained = []
    original = Pruner.set_epoch
    monkeypatch.setattr(Pruner, "set_epoch", lambda pruner, epoch: trained.append(epoch) or original(pruner, epoch))
    resumed = arrays(killed.evidence(needs))
    assert trained == list(range(began, EPOCHS))
    (tmp_path / "proxies").rename(tmp_path / "killed")
    assert arrays(make(augment="crop").evidence(needs)) == resumed


def test_a_killed_proxy_with_dropout_resumes_with_the_same_bits(make, tmp_path, in_child, kill_at, monkeypatch):
    original = build_model
    monkeypatch.setattr(
        models,
        "build_model",
        lambda *given, **more: torch.nn.Sequential(original(*given, **more), torch.nn.Dropout()),
    )

    def work():
        kill_at(Pruner, "update", 10)
        make().evidence(("trajectory",))

    assert in_child(work) == -signal.SIGKILL
    resumed = arrays(make().evidence(("trajectory",)))
    (tmp_path / "proxies").rename(tmp_path / "killed")
    assert arrays(make().evidence(("trajectory",))) == resumed


def test_a_kill_while_arrays_are_joined_leaves_no_part_of_them(make, tmp_path, in_child):
    def work():
        original = np.lib.format.open_memmap

        def unfinished(*given, mode="r", **more):
            array = original(*given, mode=mode, **more)
            if mode == "w+":
                array.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return array

        np.lib.format.open_memmap = unfinished
        make().evidence(("trajectory",))

    assert in_child(work) == -signal.SIGKILL
    resumed = arrays(make().evidence(("trajectory",)))
    (tmp_path / "proxies").rename(tmp_path / "killed")
    assert arrays(make().evidence(("trajectory",))) == resumed


def test_the_global_generators_are_left_alone(make):
    before = torch.get_rng_state()
    make().evidence(EVERYTHING)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_it_cannot_do_gets_one_line_before_it_trains(make, recipe, digits, tmp_path):
    with raises(ValueError, "epoch must lie in 0 .. 3, the epochs of the proxy, got 4; write more epochs"):
        make().evidence(epoch=4)
    with raises(ValueError, "validation needs a share that is held out, got none; write validation = 0.1"):
        make().evidence(("validation",))
    with raises(ValueError, "presented needs at least one epoch, got epoch 0; write epoch 1 or later"):
        make().evidence(("presented",), epoch=0)
    texts = Texts(torch.ones(200, 3, dtype=torch.int64), digits.train.labels)
    words = DataSets(texts, texts, num_classes=10, vocabulary=2)
    for name in ("perturbations", "alignments"):
        with raises(ValueError, f"{name} are of images, got texts; choose another static method"):
            make(words, model="text_bag").check({name}, None)
    with raises(ValueError, "a proxy does not know scores; add it to the evidence yourself"):
        make().evidence(("scores",))
    with raises(
        ValueError,
        "validation must hold out at least one of the 200 samples and not all, got 0.001; write a share such as 0.1",
    ):
        make(validation=0.001)
    with raises(ValueError, "a proxy trains all samples, got a recipe with strategy; write proxy_recipe(recipe)"):
        Proxy(Recipe(), digits, tmp_path)
    assert not (tmp_path / "proxies").exists()


def test_a_loss_that_is_not_finite_stops_it(make):
    with pytest.raises(
        FloatingPointError, match=r"^the loss of a proxy must stay finite, got nan in epoch \d; write a smaller"
    ):
        make(max_lr=1e30, momentum=0.0, nesterov=False).evidence()


def test_features_are_the_inputs_of_the_last_layer_with_as_many_outputs_as_classes():
    last = torch.nn.Linear(3, 3)
    assert last_linear(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), last), 3) is last


def test_features_need_a_linear_last_layer():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 10, 8), torch.nn.Flatten())
    with raises(
        ValueError,
        "features are the inputs of a linear layer with 10 outputs, got "
        "a model without; write a model that ends in one",
    ):
        last_linear(model, 10)
