"""Distributed training: each rank's part of every optimiser step, and the number of steps in an epoch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise

import torch.distributed as dist

from orderdp.strategies import Strategy


def ranks() -> tuple[int, int]:
    """Returns (rank, number of ranks) of the running process group, (0, 1) without one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def step_bounds(
    num_selected: int, batch_size: int, *, drop_last: bool = False, num_ranks: int = 1
) -> list[tuple[int, int]]:
    """Returns where each optimiser step of all ranks together begins and ends in the selection.

    Each step takes the next num_ranks·batch_size samples. The last step takes the rest. If the rest is less than one
    sample per rank, the step before it gives up some of its samples.

    Args:
        num_selected: length q of the selection.
        batch_size: samples of one step on one rank.
        drop_last: leave out the last step if it is not full.
        num_ranks: number of ranks.

    Returns:
        Half-open intervals of positions, one per step. They follow each other without gaps, from 0.

    Raises:
        ValueError: there are no such steps.

    >>> step_bounds(10, 4)
    [(0, 4), (4, 8), (8, 10)]
    >>> step_bounds(9, 4, num_ranks=2)
    [(0, 7), (7, 9)]
    """
    size, full, last = _step_sizes(num_selected, batch_size, drop_last=drop_last, num_ranks=num_ranks)
    return list(pairwise(accumulate([size] * full + last, initial=0)))


def batch_bounds(
    num_selected: int, batch_size: int, *, drop_last: bool = False, rank: int = 0, num_ranks: int = 1
) -> list[tuple[int, int]]:
    """Returns where each batch of one rank begins and ends in the selection.

    The ranks share each step of `step_bounds` evenly. So every rank makes the same number of steps, and the union over
    the ranks is the selection, without repeats.

    Args:
        num_selected: length q of the selection.
        batch_size: samples of one step on one rank.
        drop_last: leave out the last step if it is not full.
        rank: this rank.
        num_ranks: number of ranks.

    Returns:
        Half-open intervals of positions, one per step.

    Raises:
        ValueError: there are no such steps.

    >>> batch_bounds(10, 2, rank=1, num_ranks=2)
    [(2, 4), (6, 8), (9, 10)]
    """
    steps = step_bounds(num_selected, batch_size, drop_last=drop_last, num_ranks=num_ranks)
    shares = [(begin, end - begin) for begin, end in steps]
    return [(begin + size * rank // num_ranks, begin + size * (rank + 1) // num_ranks) for begin, size in shares]


def num_steps(num_selected: int, batch_size: int, *, drop_last: bool = False, num_ranks: int = 1) -> int:
    """Returns the number of optimiser steps of one epoch, `len(step_bounds(...))`.

    >>> num_steps(10, 4)
    3
    """
    _, full, last = _step_sizes(num_selected, batch_size, drop_last=drop_last, num_ranks=num_ranks)
    return full + len(last)


def steps_by_epoch(
    strategy: Strategy,
    num_samples: int,
    batch_size: int,
    *,
    epochs: int,
    drop_last: bool = False,
    num_ranks: int = 1,
    schedule: Callable[[Strategy, int], Strategy] | None = None,
) -> list[int | None]:
    """Returns the optimiser steps of each of the epochs 0 .. epochs - 1, without selecting a sample.

    Args:
        strategy: the method.
        num_samples: size of the data set.
        batch_size: samples of one step on one rank.
        epochs: number of epochs.
        drop_last: leave out the last step of an epoch if it is not full.
        num_ranks: number of ranks.
        schedule: strategy to use at each epoch, a function of (strategy, epoch); None uses `strategy` throughout.

    Returns:
        One number per epoch; None if the number of samples depends on the losses.

    Raises:
        ValueError: the strategy keeps no sample, or an epoch has no step.

    >>> from orderdp.strategies import DynamicRandom
    >>> steps_by_epoch(DynamicRandom(prune_ratio=0.5), 1000, 64, epochs=3)
    [8, 8, 8]
    """
    steps: list[int | None] = []
    for epoch in range(epochs):
        chooser = schedule(strategy, epoch) if schedule else strategy
        size = chooser.num_selected(num_samples, epoch)
        steps.append(None if size is None else num_steps(size, batch_size, drop_last=drop_last, num_ranks=num_ranks))
    return steps


def _step_sizes(num_selected: int, batch_size: int, *, drop_last: bool, num_ranks: int) -> tuple[int, int, list[int]]:
    """Returns size and number of the full steps over all ranks, and the sizes of the steps after them."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}; write a number such as 128")
    chunk = batch_size * num_ranks
    full, rest = divmod(num_selected, chunk)
    if not rest or drop_last:
        if not full:
            raise ValueError(
                f"drop_last leaves no batch, got {num_selected} selected samples for {num_ranks} x {batch_size} a "
                "step; write a smaller batch_size or drop_last=False"
            )
        return chunk, full, []
    if rest >= num_ranks:
        return chunk, full, [rest]
    if not full or chunk + rest < 2 * num_ranks:
        raise ValueError(
            f"every rank needs a sample in every step, got {num_selected} selected samples for {num_ranks} "
            f"ranks at batch_size {batch_size}; prune less, use fewer ranks, or write drop_last=True"
        )
    return chunk, full - 1, [chunk + rest - num_ranks, num_ranks]
