"""Work on the rows of large arrays, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from orderdp.coresets.evidence import Array, Floats

_NUMBERS = 2**22  # of one block: 32 MiB in float64


def blocks_of(num_rows: int, width: int) -> Iterator[slice]:
    """Yields slices that cover all rows, each of about four million numbers.

    Args:
        num_rows: rows of the array.
        width: numbers in a row.
    """
    size = max(1, _NUMBERS // max(1, width))
    yield from (slice(begin, begin + size) for begin in range(0, num_rows, size))


def by_rows(function: Callable[..., Floats], *arrays: Array) -> Floats:
    """Returns (n,) what `function` gives for each row. It sees blocks of the arrays, the first one as a float64 copy.

    Large arrays of low precision, mapped from disk perhaps, are so computed in float64 without a whole copy.

    >>> by_rows(lambda rows: rows.sum(1), np.ones((3, 2), dtype=np.float16))
    array([2., 2., 2.])
    """
    first, *others = arrays
    parts = (
        function(np.array(first[rows], dtype=np.float64), *(other[rows] for other in others))
        for rows in blocks_of(len(first), first[0].size)
    )
    return np.concatenate(list(parts))
