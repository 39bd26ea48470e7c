"""Where the optimiser steps of an epoch begin and end in a selection, by their definition and by brute force."""

from itertools import accumulate, pairwise

from orderdp import Strategy

Bounds = tuple[tuple[int, int], ...]


def bounds_of(size: int, batch_size: int, *, stable_shapes: bool = False, drop_last: bool = False) -> Bounds:
    """Half-open intervals of the steps of one process."""
    return bounds_of_ranks(size, batch_size, 1, stable_shapes=stable_shapes, drop_last=drop_last)


def bounds_of_ranks(
    size: int, batch_size: int, num_ranks: int, *, stable_shapes: bool = False, drop_last: bool = False
) -> Bounds:
    """Half-open intervals of the steps of all ranks together."""
    chunk = batch_size * num_ranks
    if drop_last:
        sizes = [chunk] * (size // chunk)
    elif stable_shapes:
        sizes = full_and_rest(size, batch_size, num_ranks)
    else:
        count = number_of_equal_steps(size, batch_size, num_ranks)
        ends = [size * step // count for step in range(count + 1)]
        sizes = [end - begin for begin, end in pairwise(ends)]
    return tuple(pairwise(accumulate(sizes, initial=0)))


def full_and_rest(size: int, batch_size: int, num_ranks: int) -> list[int]:
    """Full steps and one rest. A rest too small for the ranks takes samples from the step before, or joins it."""
    chunk = batch_size * num_ranks
    sizes = [min(chunk, size - begin) for begin in range(0, size, chunk)]
    if sizes[-1] >= num_ranks:
        return sizes
    *full, before, rest = sizes
    if before + rest < 2 * num_ranks:
        return [*full, before + rest]
    return [*full, before + rest - num_ranks, num_ranks]


def number_of_equal_steps(size: int, batch_size: int, num_ranks: int) -> int:
    """The fewest steps that are no larger than a full one. If each rank then lacks a sample, as many as have one."""
    enough = [steps for steps in range(1, size + 1) if size // steps >= num_ranks]
    return next((steps for steps in enough if -(-size // steps) <= batch_size * num_ranks), enough[-1])


def declared_bounds(strategy: Strategy, num_samples: int, epoch: int, batch_size: int) -> Bounds | None:
    """The bounds of what a strategy declares; None where it does not."""
    size = strategy.num_selected(num_samples, epoch)
    return None if size is None else bounds_of(size, batch_size)
