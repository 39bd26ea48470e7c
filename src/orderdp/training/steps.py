"""The number of steps and epochs of a recipe, before it is trained."""

from orderdp.ranks import Batching, step_runs
from orderdp.strategies import FullData, Strategy
from orderdp.training.recipe import Recipe

_MOST_COUNTED = 1_000_000  # epochs that are counted one by one, in about a second


def total_steps(recipe: Recipe, num_samples: int, num_ranks: int = 1) -> int | None:
    """Returns the exact number of optimiser steps of a run; None if it depends on the losses.

    Raises:
        ValueError: `max_steps` is more than the epochs hold, or the epochs are of unknown length.
    """
    steps = 0
    for epochs, each in _runs(recipe.strategy, recipe, num_samples, num_ranks):
        if each is None:
            if recipe.max_steps is not None:
                raise ValueError(
                    f"max_steps needs epochs of known length, got {recipe.max_steps} with strategy "
                    f"'{recipe.strategy.name}', whose choices depend on the losses; leave max_steps out"
                )
            return None
        steps += epochs * each
    if recipe.max_steps is not None and recipe.max_steps > steps:
        raise ValueError(
            f"max_steps must be within the {steps} steps of {recipe.epochs} epochs, got {recipe.max_steps}; "
            "write more epochs"
        )
    return recipe.max_steps or steps


def num_epochs(recipe: Recipe, num_samples: int, num_ranks: int = 1) -> int:
    """Returns how many epochs a run begins: the recipe's, or fewer if `max_steps` ends it."""
    left, begun = recipe.max_steps, 0
    if left is None:
        return recipe.epochs
    for epochs, each in _runs(recipe.strategy, recipe, num_samples, num_ranks):
        if each is not None and left <= epochs * each:
            return begun + -(-left // each)
        begun += epochs
        left -= epochs * (each or 0)
    return begun


def most_steps(recipe: Recipe, num_samples: int, num_ranks: int = 1) -> int:
    """Returns the optimiser steps of the recipe's epochs on full data."""
    return sum(epochs * (each or 0) for epochs, each in _runs(FullData(), recipe, num_samples, num_ranks))


def _runs(strategy: Strategy, recipe: Recipe, num_samples: int, num_ranks: int) -> list[tuple[int, int | None]]:
    """Returns runs of equal epochs: how many, and the steps of each; None if they depend on the losses.

    Raises:
        ValueError: too many epochs to count one by one.
    """
    if recipe.epochs > _MOST_COUNTED and strategy.size_changes() is None:
        raise ValueError(
            f"epochs must be at most {_MOST_COUNTED:,} with strategy '{strategy.name}', whose size may change at any "
            f"epoch, got {recipe.epochs}; write fewer, or let its class say when in size_changes"
        )
    batching = Batching(recipe.batch_size, recipe.drop_last)
    return step_runs(strategy, num_samples, batching, epochs=recipe.epochs, num_ranks=num_ranks)
