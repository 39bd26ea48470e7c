"""Whether a recipe fits its data and the machine, before anything is built."""

from __future__ import annotations

from accelerate import PartialState

from orderdp.training.models import check_model
from orderdp.training.optim import check_optimizer
from orderdp.training.recipe import Recipe
from orderdp.training.steps import most_steps, total_steps


def check_recipe(recipe: Recipe, num_samples: int, num_ranks: int = 1, *, in_files: bool = False) -> None:
    """Raises if a recipe does not fit its data or the machine. Builds no model and reads no image.

    Args:
        recipe: the settings.
        num_samples: training samples.
        num_ranks: ranks that train the run.
        in_files: whether the images are files rather than in memory.

    Raises:
        ValueError: a device that this machine lacks, an unknown model, an epoch without a step, more steps than the
            epochs hold, a resident data path for files, or a file of the strategy that is missing or has changed.
        ImportError: the model or the optimiser is timm's, and timm is not installed.
    """
    device = PartialState(cpu=recipe.device == "cpu").device.type
    if recipe.device not in ("auto", device):
        raise ValueError(f"device must exist on this machine, got {recipe.device}; write {device} or auto")
    check_model(recipe.model)
    check_optimizer(recipe.optimizer)
    if total_steps(recipe, num_samples, num_ranks) is None:  # then the schedule is as long as that of full data
        most_steps(recipe, num_samples, num_ranks)
    recipe.strategy.check_files()
    if in_files and recipe.data_path == "resident":
        raise ValueError("data_path 'resident' is for images in memory, got files; write data_path = \"loader\"")
