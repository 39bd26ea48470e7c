"""How many steps and epochs a recipe makes, before it is trained."""

from itertools import accumulate

from orderdp.pruner import Pruner
from orderdp.strategies import FullData
from orderdp.training.methods import make_strategy
from orderdp.training.recipe import Recipe


def total_steps(recipe: Recipe, num_samples: int) -> int | None:
    """Returns the exact number of optimiser steps of a run; None where it depends on the losses.

    Raises:
        ValueError: `max_steps` is more than the epochs hold, or the epochs are of unknown length.
    """
    pruner = Pruner(make_strategy(recipe), num_samples, seed=recipe.seed)
    sizes = [pruner.strategy.num_selected(num_samples, epoch) for epoch in range(recipe.epochs)]
    if None in sizes:
        if recipe.max_steps is not None:
            raise ValueError(
                f"max_steps needs epochs of known length, got {recipe.max_steps} with strategy '{recipe.strategy}', "
                "whose choices depend on the losses; leave max_steps out"
            )
        return None
    steps = pruner.total_steps(recipe.epochs, recipe.batch_size, drop_last=recipe.drop_last)
    if recipe.max_steps is not None and recipe.max_steps > steps:
        raise ValueError(
            f"max_steps must be within the {steps} steps of {recipe.epochs} epochs, got {recipe.max_steps}; "
            "write more epochs"
        )
    return recipe.max_steps or steps


def num_epochs(recipe: Recipe, num_samples: int) -> int:
    """Returns how many epochs a run begins: the recipe's, or fewer where `max_steps` ends it."""
    if recipe.max_steps is None:
        return recipe.epochs
    pruner, size = Pruner(make_strategy(recipe), num_samples), recipe.batch_size
    lengths = (pruner.steps_per_epoch(size, drop_last=recipe.drop_last, epoch=epoch) for epoch in range(recipe.epochs))
    return next(epoch for epoch, steps in enumerate(accumulate(lengths), 1) if steps >= recipe.max_steps)


def most_steps(recipe: Recipe, num_samples: int) -> int:
    """Returns the optimiser steps of as many epochs on all the data."""
    pruner = Pruner(FullData(), num_samples)
    return pruner.total_steps(recipe.epochs, recipe.batch_size, drop_last=recipe.drop_last)
