"""What a recipe learns on its data: the model, what it minimises, and what a step sees of a batch."""

from __future__ import annotations

from typing import Any

from torch import nn

from orderdp.data.base import DataSets
from orderdp.data.imports import import_image_library
from orderdp.training.masked import MaskedAutoencoder, num_patches
from orderdp.training.models import model_for
from orderdp.training.objective import Objective, Patches, objective
from orderdp.training.recipe import Recipe
from orderdp.training.views import Masks, Mixed, Plain, View


def learning(recipe: Recipe, data: DataSets) -> tuple[nn.Module, Objective, View, View]:
    """Returns the model, its objective, what a step sees of a batch in training, and what it sees in evaluation.

    The weights of the model come from torch's global generator.

    Raises:
        ValueError, ImportError: as `model_for`, or a library of images is missing.
    """
    if recipe.finetune is not None:
        sizes = {"in_channels": data.in_channels, "image_size": data.image_size}
        masks = Masks(num_patches(recipe.model, data.image_size), seed=recipe.seed)
        return MaskedAutoencoder(recipe.model, **sizes), Patches(), masks, masks
    model = model_for(recipe.model, data, initialization=recipe.initialization, drop_path=recipe.drop_path)
    tokens = data.vocabulary if data.predicted == "tokens" else 0
    settings: dict[str, Any] = {"mixed": recipe.mixes, "rare": data.rare_classes, "tokens": tokens}
    goal = objective(data.num_classes, recipe.label_smoothing, **settings)
    if not recipe.mixes:
        return model, goal, Plain(), Plain()
    settings = {"num_classes": data.num_classes, "label_smoothing": recipe.label_smoothing}
    return model, goal, Mixed(recipe.mixup, recipe.cutmix, **settings, seed=recipe.seed), Plain()


def averaging(model: nn.Module, decay: float) -> Any:
    """Returns timm's moving average of the weights and buffers of a model, which starts at them.

    Raises:
        ImportError: timm is not installed.
    """
    return import_image_library("timm.utils.model_ema").ModelEmaV3(model, decay=decay)
