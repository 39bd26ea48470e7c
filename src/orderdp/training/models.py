"""Models by name: small ones for one processor core, also of texts, numbers and graphs, ResNets, and all of timm's."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from orderdp.data.base import DataSets, Features
from orderdp.data.imports import import_image_library
from orderdp.output.suggestions import did_you_mean
from orderdp.training.graph_network import GraphNetwork
from orderdp.training.masked import VITS, VisionTransformer, check_vit
from orderdp.training.small_gpt import SmallGPT

LARGEST_CIFAR_IMAGE = 64

Initialization: TypeAlias = Literal["model", "torch"]


def build_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    initialization: Initialization = "model",
    drop_path: float = 0.0,
) -> nn.Module:
    """A freshly initialised classifier from (b, in_channels, image_size, image_size) to (b, num_classes) logits.

    The weights come from torch's global generator. Seed it first: equal seeds give equal weights.

    Up to 64 pixels, ResNets have the CIFAR stem (3×3, stride 1, no max-pool), and above 64 the ImageNet stem. Those
    called strided have the ImageNet stem at any size: at 56 pixels they are ten times as fast. Models of timm with a
    fixed input size are built for this size. The small models take any size.

    Args:
        name: one of `model_names()`, or a name from `timm.list_models()`.
        num_classes: outputs of the last layer.
        in_channels: 1 for grey images, 3 for colour.
        image_size: side of the square images, in pixels.
        initialization: "model" for the model's own: for ResNets, normal with variance 2/fan_out, as in timm and
            torchvision. "torch" for what PyTorch gives convolutions and linear layers by default: uniform with variance
            1/(3·fan_in). The paper's release trains so on CIFAR.
        drop_path: share of the residual branches that are dropped in training, in [0, 1); of models of timm only.

    Raises:
        ValueError: no model of that name, a size below 1, patches that do not fill the images, or a model that drops no
            paths.
        ImportError: the model is of timm or transformers, which is not installed.

    >>> import torch
    >>> build_model("small_cnn", num_classes=10, in_channels=1, image_size=8)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    for argument, value in (("num_classes", num_classes), ("in_channels", in_channels), ("image_size", image_size)):
        if value < 1:
            raise ValueError(f"{argument} must be at least 1, got {value}; write what the data set has")
    check_model(name, drop_path=drop_path)
    if name in _SMALL_MODELS:
        model = _SMALL_MODELS[name](in_channels, num_classes)
    elif name in VITS:
        model = VisionTransformer(name, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    else:
        settings: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
        build = _resnet if name in _RESNETS else _small_swin if name == _SMALL_SWIN else _timm_model
        try:  # also a rate of 0, since some models of timm, such as Swin, drop a tenth if it is left out
            model = build(name, image_size, drop_path_rate=drop_path, **settings)
        except TypeError as error:
            if "drop_path_rate" not in str(error):
                raise
            if drop_path:
                raise ValueError(f"{name} drops no paths, got drop_path {drop_path:g}; write drop_path = 0") from None
            model = build(name, image_size, **settings)
    return _initialized(model, initialization)


def model_for(
    name: str, data: DataSets, *, initialization: Initialization = "model", drop_path: float = 0.0
) -> nn.Module:
    """A freshly initialised model of a data set, with one output for each class, one for a number, or all next tokens.

    Its weights come from torch's global generator, and are initialised, as those of `build_model`.

    Raises:
        ValueError, ImportError: as `build_model`, or a model of other inputs.
    """
    check_model_reads(name, data)
    outputs = data.num_classes or 1
    if name in _OTHER_MODELS:
        inputs = data.train.values.shape[1] if isinstance(data.train, Features) else data.vocabulary
        return _initialized(_OTHER_MODELS[name].build(inputs, outputs), initialization)
    return build_model(
        name,
        num_classes=outputs,
        in_channels=data.in_channels,
        image_size=data.image_size,
        initialization=initialization,
        drop_path=drop_path,
    )


def _initialized(model: nn.Module, initialization: Initialization) -> nn.Module:
    if initialization == "torch":
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    return model


def check_model_reads(name: str, data: DataSets) -> None:
    """Raises ValueError if a model is of another kind of samples than the data set."""
    kind = _OTHER_MODELS[name].kind if name in _OTHER_MODELS else "images"
    if kind != data.kind:
        known = [other for other, model in _OTHER_MODELS.items() if model.kind == data.kind] or model_names()
        raise ValueError(f"model {name!r} reads {kind}, got {data.kind}; choose from {', '.join(known)}")


def check_model(name: str, *, drop_path: float = 0.0) -> None:
    """Raises unless there is a model of that name; builds nothing.

    Raises:
        ValueError: there is none, or it drops no paths.
        ImportError: the model is of timm or transformers, which is not installed.
    """
    own = {*_SMALL_MODELS, *_OTHER_MODELS, *VITS}
    if drop_path and name in own:
        raise ValueError(f"drop_path is for models of timm, got {drop_path:g} for {name}; write drop_path = 0")
    if name in VITS:
        check_vit()
    elif name not in own:
        timm = import_image_library("timm")
        if name not in (*_RESNETS, _SMALL_SWIN) and not timm.is_model(name):
            meant = did_you_mean(name, [*model_names(), *_OTHER_MODELS, *timm.list_models()])
            raise ValueError(f"no model named {name!r}{meant} (model_names() and timm.list_models() list them)")


def model_names() -> list[str]:
    """The names of images that mean the same whatever timm is installed; timm's own may be used as well."""
    return [*_SMALL_MODELS, *_RESNETS, _SMALL_SWIN, *VITS]


def _convolution(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _classifier(in_channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))


def _small_cnn(in_channels: int, num_classes: int) -> nn.Module:
    """13 thousand parameters; the stride in the first layer makes it fast on one core."""
    return nn.Sequential(
        _convolution(in_channels, 12, stride=2),
        _convolution(12, 32, stride=2),
        _convolution(32, 32),
        _classifier(32, num_classes),
    )


def _cnn(in_channels: int, num_classes: int, *, stride: int = 1) -> nn.Module:
    """224 thousand parameters."""
    return nn.Sequential(
        _convolution(in_channels, 32, stride=stride),
        _convolution(32, 64, stride=2),
        _convolution(64, 64),
        _convolution(64, 96, stride=2),
        _convolution(96, 128),
        _classifier(128, num_classes),
    )


def _strided_cnn(in_channels: int, num_classes: int) -> nn.Module:
    """The parameters of `cnn`, with a stride in the first layer: about a quarter of the multiplications."""
    return _cnn(in_channels, num_classes, stride=2)


class _ResidualBlock(nn.Module):
    """Two convolutions with a shortcut around them, which is a 1×1 convolution if the width changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.first = _convolution(in_channels, out_channels, stride=stride)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, h, w) to (b, out_channels, h / stride, w / stride)."""
        return F.relu(self.norm(self.second(self.first(x))) + self.shortcut(x))


def _small_resnet(in_channels: int, num_classes: int) -> nn.Module:
    """ResNet-8: one block of each width, 78 thousand parameters.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2 with n = 1. Departure:
    1×1 convolutions in the shortcuts, as in its ImageNet models, in place of zero padding.
    """
    return nn.Sequential(
        _convolution(in_channels, 16),
        _ResidualBlock(16, 16, stride=1),
        _ResidualBlock(16, 32, stride=2),
        _ResidualBlock(32, 64, stride=2),
        _classifier(64, num_classes),
    )


def _text_bag(vocabulary: int, num_outputs: int) -> nn.Module:
    """The mean embedding of the tokens, then two layers; 64 numbers a token, and 4 thousand parameters beside them."""
    return nn.Sequential(
        nn.EmbeddingBag(vocabulary, 64, mode="mean", padding_idx=0),
        nn.Linear(64, 64),
        nn.ReLU(inplace=True),
        nn.Linear(64, num_outputs),
    )


def _mlp(num_features: int, num_outputs: int) -> nn.Module:
    """Two hidden layers of 128 with batch norm: 22 thousand parameters for 16 numbers and 26 classes."""
    sizes = (num_features, 128, 128)
    hidden = (
        layer
        for before, width in pairwise(sizes)
        for layer in (nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True))
    )
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], num_outputs))


class _OtherModel(NamedTuple):
    """A model of other samples than images.

    Args:
        kind: of the samples, as `DataSets.kind`.
        build: from the size of the inputs, a vocabulary or a number of columns, and the number of outputs.
    """

    kind: str
    build: Callable[[int, int], nn.Module]


_SMALL_MODELS: dict[str, Callable[[int, int], nn.Module]] = {
    "small_cnn": _small_cnn,
    "cnn": _cnn,
    "strided_cnn": _strided_cnn,
    "small_resnet": _small_resnet,
}
_RESNETS = {  # name: timm's, and whether the stem always has stride
    "resnet18": ("resnet18", False),
    "resnet50": ("resnet50", False),
    "strided_resnet18": ("resnet18", True),
    "strided_resnet50": ("resnet50", True),
}
_SMALL_SWIN = "small_swin"
_OTHER_MODELS = {
    "text_bag": _OtherModel("texts", _text_bag),
    "mlp": _OtherModel("rows of numbers", _mlp),
    "small_gpt": _OtherModel("windows of tokens", lambda vocabulary, _: SmallGPT(vocabulary)),
    "graph_network": _OtherModel("graphs", GraphNetwork),
}


def _resnet(name: str, image_size: int, **settings: Any) -> nn.Module:
    # timm rather than torchvision: it takes the number of channels, and every other model comes from it too.
    # zero_init_last=False: timm would start each block as the identity, torchvision and the usual CIFAR code do not.
    of_timm, strided = _RESNETS[name]
    model: nn.Module = import_image_library("timm").create_model(
        of_timm, pretrained=False, zero_init_last=False, **settings
    )
    if image_size <= LARGEST_CIFAR_IMAGE and not strided:
        stem = nn.Conv2d(settings["in_chans"], 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as the other convolutions
        model.conv1 = stem
        model.maxpool = nn.Identity()
    return model


def _small_swin(name: str, image_size: int, **settings: Any) -> nn.Module:
    """A Swin transformer of two stages with two blocks each, width 32: 137 thousand parameters.

    Its windows are of 4×4 patches, and its patches of 4×4 pixels, or of one pixel below 16.

    Source: Liu et al., "Swin transformer", ICCV 2021, by timm's code.
    """
    small: dict[str, Any] = {"embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
    small |= {"img_size": image_size, "patch_size": 4 if image_size >= 16 else 1}
    model: nn.Module = import_image_library("timm").create_model(
        "swin_tiny_patch4_window7_224",
        pretrained=False,
        **small,
        **settings,
    )
    return model


def _timm_model(name: str, image_size: int, **settings: Any) -> nn.Module:
    timm = import_image_library("timm")
    # Convolutional models take any size and refuse the argument.
    size = {"img_size": image_size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    model: nn.Module = timm.create_model(name, pretrained=False, **size, **settings)
    return model
