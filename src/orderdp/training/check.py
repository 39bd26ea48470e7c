"""Whether a recipe fits its data and the machine, before anything is built."""

from __future__ import annotations

import logging
from functools import cache

import torch
from accelerate import PartialState

from orderdp.data.base import DataSets, ImageFiles
from orderdp.training.masked import VITS
from orderdp.training.models import check_model, check_model_reads
from orderdp.training.optim import check_optimizer
from orderdp.training.recipe import Recipe
from orderdp.training.steps import most_steps, num_epochs, total_steps


def check_recipe(recipe: Recipe, num_samples: int, num_ranks: int = 1, *, data: DataSets | None = None) -> None:
    """Raises if a recipe does not fit its data or the machine. Builds no model and reads no sample.

    It warns, once in a process, of bf16 on a processor that has no instructions for it.

    Args:
        recipe: the settings.
        num_samples: training samples, which may be fewer than those of the data.
        num_ranks: ranks that train the run.
        data: the data set, for the kind of its inputs and labels; None checks neither.

    Raises:
        ValueError: a device that this machine lacks, an unknown model, an epoch without a step, more steps than the
            epochs hold, a strategy that prunes in none of them, a setting for another kind of data, or a file of the
            strategy that is missing or has changed.
        ImportError: the model or the optimiser is timm's, and timm is not installed.
    """
    device = PartialState(cpu=recipe.device == "cpu").device.type
    if recipe.device not in ("auto", device):
        raise ValueError(f"device must exist on this machine, got {recipe.device}; write {device} or auto")
    # The public name of what oneDNN asks for before it computes in bf16; else PyTorch has plain loops.
    if (device, recipe.precision) == ("cpu", "bf16") and torch.backends.cpu.get_cpu_capability() == "AVX2":
        _warn_of_slow_bf16()
    check_model(recipe.model, drop_path=recipe.drop_path)
    if recipe.finetune is not None:
        if recipe.model not in VITS:
            raise ValueError(
                f"finetune is for a masked autoencoder, got model {recipe.model!r}; choose from {', '.join(VITS)}"
            )
        recipe.strategy.for_labels(None)  # raises if the method needs classes
        check_recipe(recipe.finetuning(), num_samples, num_ranks, data=data)
    check_optimizer(recipe.optimizer)
    if total_steps(recipe, num_samples, num_ranks) is None:  # then the schedule is as long as that of full data
        most_steps(recipe, num_samples, num_ranks)
    epochs, strategy = num_epochs(recipe, num_samples, num_ranks), recipe.strategy
    if strategy.prunes and not strategy.may_prune(epochs):
        raise ValueError(
            f"strategy must prune in an epoch of the run, got none of {epochs} with {strategy.describe(epochs)}; "
            "leave its epochs out, or write more for the run"
        )
    recipe.strategy.check_files(None if data is None else lambda: data.sha256)
    if data is not None:
        _check_kind(recipe, data)


@cache
def _warn_of_slow_bf16() -> None:
    logging.getLogger("orderdp").warning(
        "this processor (AVX2) has no instructions for bf16: convolutions take many times as long as in float32; "
        'write precision = "float32"'
    )


def _check_kind(recipe: Recipe, data: DataSets) -> None:
    """Raises ValueError if a setting is for another kind of inputs or labels."""
    check_model_reads(recipe.model, data)
    if isinstance(data.train, ImageFiles) and recipe.data_path == "resident":
        raise ValueError("data_path 'resident' is for samples in memory, got files; write data_path = \"loader\"")
    if data.kind != "images":
        for name, value in {"augment": "none", "channels_last": False}.items():
            if getattr(recipe, name) != value:
                raise ValueError(f"{name} is for images, got {getattr(recipe, name)} for {data.kind}; leave it out")
        if recipe.data_path == "loader":
            raise ValueError(f"data_path 'loader' is for images, got {data.kind}; leave it out")
    if recipe.mixes and (data.kind != "images" or not data.num_classes):
        kind = data.kind if data.kind != "images" else "labels that are numbers"
        raise ValueError(f"mixup and cutmix are for images of classes, got {kind}; leave them out")
    if not data.num_classes:
        _check_without_classes(recipe, data)


def _check_without_classes(recipe: Recipe, data: DataSets) -> None:
    """Raises ValueError if a setting is for classes, or if the accuracy would be undefined."""
    if recipe.label_smoothing:
        raise ValueError(
            f"label_smoothing is for classes, got {recipe.label_smoothing:g} for labels that are {data.predicted}; "
            "write label_smoothing = 0"
        )
    recipe.strategy.for_labels(None)  # raises if the method needs classes
    if recipe.strategy.needs_plain_losses:
        raise ValueError(
            f"strategy '{recipe.strategy.name}' reads probabilities off its losses, got labels that are "
            f"{data.predicted}; choose another"
        )
    labels = data.test.labels.flatten()
    if (labels == labels[0]).all():
        raise ValueError(
            f"{data.predicted} to predict must differ between the {len(data.test)} test samples, got {labels[0]:g} for "
            "all; evaluate on more samples"
        )
