"""Where the optimiser steps of one process begin and end in a selection, by its definition."""

from orderdp import Strategy


def bounds_of(size: int, batch_size: int) -> tuple[tuple[int, int], ...]:
    """Half-open intervals of `batch_size` positions; the last one holds the rest."""
    return tuple((begin, min(begin + batch_size, size)) for begin in range(0, size, batch_size))


def declared_bounds(
    strategy: Strategy, num_samples: int, epoch: int, batch_size: int
) -> tuple[tuple[int, int], ...] | None:
    """The bounds of what a strategy declares; None where it does not."""
    size = strategy.num_selected(num_samples, epoch)
    return None if size is None else bounds_of(size, batch_size)
