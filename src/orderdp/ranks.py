"""Which ranks share the data, and which part of each step is theirs."""

from __future__ import annotations

import torch.distributed as dist


def ranks() -> tuple[int, int]:
    """Returns (rank, number of ranks) of the running process group, (0, 1) without one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def batch_bounds(
    num_selected: int, batch_size: int, *, drop_last: bool = False, rank: int = 0, num_ranks: int = 1
) -> list[tuple[int, int]]:
    """Where each of a rank's batches begins and ends in the selection.

    Step k of all ranks together takes the next num_ranks·batch_size samples, so the union over the ranks is the
    selection, without repeats, and every rank makes the same number of steps. What remains for the last step is shared
    out evenly; where it is less than one sample for each rank, the step before gives up some of its own.

    Args:
        num_selected: length q of the selection.
        batch_size: samples of one step on one rank.
        drop_last: leave out the last step if it is not full.
        rank: this rank.
        num_ranks: number of ranks.

    Returns:
        Half-open intervals of positions, one for each step.

    Raises:
        ValueError: there are no such steps.

    >>> batch_bounds(10, 4)
    [(0, 4), (4, 8), (8, 10)]
    >>> batch_bounds(10, 2, rank=1, num_ranks=2)
    [(2, 4), (6, 8), (9, 10)]
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}; write a number such as 128")
    chunk = batch_size * num_ranks
    full, rest = divmod(num_selected, chunk)
    sizes = [chunk] * full
    if rest and not drop_last:
        sizes.append(rest)
        if rest < num_ranks:
            if not full or chunk + rest < 2 * num_ranks:
                raise ValueError(
                    f"every rank needs a sample in every step, got {num_selected} selected samples for {num_ranks} "
                    f"ranks at batch_size {batch_size}; prune less, use fewer ranks, or write drop_last=True"
                )
            sizes[-2:] = [chunk + rest - num_ranks, num_ranks]
    if not sizes:
        raise ValueError(
            f"drop_last leaves no batch, got {num_selected} selected samples for {num_ranks} x {batch_size} a step; "
            "write a smaller batch_size or drop_last=False"
        )
    bounds, begin = [], 0
    for size in sizes:
        bounds.append((begin + size * rank // num_ranks, begin + size * (rank + 1) // num_ranks))
        begin += size
    return bounds
