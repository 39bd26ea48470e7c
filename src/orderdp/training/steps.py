"""The number of steps and epochs of a recipe, before it is trained."""

from itertools import accumulate

from orderdp.ranks import steps_by_epoch
from orderdp.strategies import FullData, Strategy
from orderdp.training.recipe import Recipe


def total_steps(recipe: Recipe, num_samples: int, num_ranks: int = 1) -> int | None:
    """Returns the exact number of optimiser steps of a run; None if it depends on the losses.

    Raises:
        ValueError: `max_steps` is more than the epochs hold, or the epochs are of unknown length.
    """
    lengths = _lengths(recipe.strategy, recipe, num_samples, num_ranks)
    if None in lengths:
        if recipe.max_steps is not None:
            raise ValueError(
                f"max_steps needs epochs of known length, got {recipe.max_steps} with strategy "
                f"'{recipe.strategy.name}', whose choices depend on the losses; leave max_steps out"
            )
        return None
    steps = sum(filter(None, lengths))
    if recipe.max_steps is not None and recipe.max_steps > steps:
        raise ValueError(
            f"max_steps must be within the {steps} steps of {recipe.epochs} epochs, got {recipe.max_steps}; "
            "write more epochs"
        )
    return recipe.max_steps or steps


def num_epochs(recipe: Recipe, num_samples: int, num_ranks: int = 1) -> int:
    """Returns how many epochs a run begins: the recipe's, or fewer if `max_steps` ends it."""
    if recipe.max_steps is None:
        return recipe.epochs
    lengths = _lengths(recipe.strategy, recipe, num_samples, num_ranks)
    done = accumulate(filter(None, lengths))
    return next(epoch for epoch, steps in enumerate(done, 1) if steps >= recipe.max_steps)


def most_steps(recipe: Recipe, num_samples: int, num_ranks: int = 1) -> int:
    """Returns the optimiser steps of the recipe's epochs on full data."""
    return sum(filter(None, _lengths(FullData(), recipe, num_samples, num_ranks)))


def _lengths(strategy: Strategy, recipe: Recipe, num_samples: int, num_ranks: int) -> list[int | None]:
    """Returns the steps of each epoch; None if they depend on the losses."""
    return steps_by_epoch(
        strategy,
        num_samples,
        recipe.batch_size,
        epochs=recipe.epochs,
        drop_last=recipe.drop_last,
        num_ranks=num_ranks,
    )
