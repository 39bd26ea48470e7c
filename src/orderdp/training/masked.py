"""Vision transformers of transformers: as masked autoencoders without labels, and as classifiers that begin there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import Tensor, nn

from orderdp.data.imports import import_image_library

VITS: dict[str, dict[str, int]] = {
    "tiny_vit": {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "decoder_hidden_size": 32,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 64,
    },
    "vit_base": {},  # the defaults of transformers are ViT-Base with the decoder of the publication
}


class MaskedAutoencoder(nn.Module):
    """A masked autoencoder that returns the loss of each image.

    The encoder sees a quarter of the patches, and the decoder rebuilds the others. The loss of an image is the mean
    squared error of its masked patches, whose pixels are normalised within each patch. Its mean over a batch is the
    loss that `ViTMAEForPreTraining` returns itself.

    Args:
        name: one of `VITS`.
        in_channels: of the images.
        image_size: side of the images, in pixels.

    Raises:
        ImportError: transformers is not installed. ValueError: patches do not fill the image.

    Source: He et al., "Masked autoencoders are scalable vision learners", CVPR 2022.
    """

    def __init__(self, name: str, *, in_channels: int, image_size: int) -> None:
        super().__init__()
        config = _settings(name, in_channels=in_channels, image_size=image_size)
        library = _transformers()
        self.autoencoder: Any = library.ViTMAEForPreTraining(library.ViTMAEConfig(**config, norm_pix_loss=True))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """(b, in_channels, h, w) and (b, num_patches) noise, whose largest are masked, to (b,) losses."""
        outputs = self.autoencoder(images, noise=noise)
        wanted = self.autoencoder.patchify(images)
        deviation = (wanted.var(-1, keepdim=True) + 1e-6).sqrt()
        errors = (outputs.logits - (wanted - wanted.mean(-1, keepdim=True)) / deviation).square().mean(-1)
        losses: Tensor = (errors * outputs.mask).sum(1) / outputs.mask.sum(1)
        return losses

    def encoder(self) -> dict[str, Tensor]:
        """Returns the weights that a `VisionTransformer` of the same name begins with."""
        state: dict[str, Tensor] = self.autoencoder.vit.state_dict()
        return {f"classifier.vit.{name}": tensor for name, tensor in state.items()}


class VisionTransformer(nn.Module):
    """A classifier from (b, in_channels, h, w) to (b, num_classes) logits, of the class token.

    The arguments and errors are those of `MaskedAutoencoder`; `num_classes` is the number of outputs.
    """

    def __init__(self, name: str, *, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        config = _settings(name, in_channels=in_channels, image_size=image_size)
        own = {key: value for key, value in config.items() if not key.startswith("decoder_")}
        library = _transformers()
        self.classifier: Any = library.ViTForImageClassification(library.ViTConfig(**own, num_labels=num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        logits: Tensor = self.classifier(images).logits
        return logits


def num_patches(name: str, image_size: int) -> int:
    """Returns the patches of an image."""
    return int((image_size // _patch_size(name, image_size)) ** 2)


def check_vit() -> None:
    """Raises ImportError if transformers is not installed."""
    _transformers()


def _settings(name: str, *, in_channels: int, image_size: int) -> dict[str, Any]:
    patch_size = _patch_size(name, image_size)
    if image_size % patch_size:
        raise ValueError(
            f"images of {name} must be a multiple of {patch_size} pixels, the side of a patch, got {image_size}; "
            "choose another model"
        )
    return {**VITS[name], "num_channels": in_channels, "image_size": image_size, "patch_size": patch_size}


def _patch_size(name: str, image_size: int) -> int:
    return 16 if name == "vit_base" else 4 if image_size >= 16 else 2


def _transformers() -> Any:
    import_image_library("torchvision")  # transformers imports it too, and hides what an incomplete one raises
    try:
        return import_module("transformers")
    except ModuleNotFoundError as error:
        raise ImportError(f"vision transformers need {error.name}: pip install 'transformers>=5.24'") from error
