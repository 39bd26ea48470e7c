"""Virtual blocks: fixed parts of the data set and of an epoch, which the ranks share out among themselves.

Each rank has whole blocks. What happens inside a block depends on the block alone. So what is selected does not depend
on the number of ranks.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

BLOCKS = 256
_NUMPY_LIMIT = 10**9  # NumPy draws hypergeometric numbers from fewer things only
_SPREAD = 6  # standard deviations by which the first round of a split stays below its size


def edges(total: int, parts: int = BLOCKS) -> Counts:
    """Returns (parts + 1,) where each of equal parts of 0 .. total - 1 begins, and where the last one ends.

    >>> edges(10, 4)
    array([ 0,  2,  5,  7, 10])
    """
    return np.array([total * part // parts for part in range(parts + 1)], dtype=np.int64)


def blocks_of(rank: int, num_ranks: int) -> range:
    """Returns the blocks of a rank.

    Raises:
        ValueError: more ranks than blocks.

    >>> blocks_of(2, 3)
    range(170, 256)
    """
    if num_ranks > BLOCKS:
        raise ValueError(f"a sharded table has {BLOCKS} blocks, got {num_ranks} ranks; use at most {BLOCKS} ranks")
    return range(BLOCKS * rank // num_ranks, BLOCKS * (rank + 1) // num_ranks)


def rank_edges(total: int, num_ranks: int) -> Counts:
    """Returns (num_ranks + 1,) where the blocks of each rank begin in 0 .. total - 1, and where the last one ends."""
    return edges(total)[[blocks_of(rank, num_ranks).start for rank in range(num_ranks)] + [BLOCKS]]


def split(sizes: Counts, count: int, rng: np.random.Generator) -> Counts:
    """Draws how many of `count` samples, drawn uniformly without replacement, fall into each part.

    This is the multivariate hypergeometric law. From 10⁹ samples on, NumPy does not draw it. Then a first round keeps
    each sample with the same chance, a little less than count/total, and is repeated if it kept too many. The rest are
    single uniform draws. Both treat all samples alike, so every set of `count` samples is equally likely.

    Args:
        sizes: (k,) samples of each part.
        count: how many are drawn, at most the sum of the sizes.
        rng: decides the draw.

    Returns:
        (k,) int64 with sum `count`.

    >>> split(np.array([5, 0, 5]), 10, np.random.default_rng(0))
    array([5, 0, 5])
    """
    total = int(sizes.sum())
    if total < _NUMPY_LIMIT:
        return rng.multivariate_hypergeometric(sizes, count, method="marginals")
    if 2 * count > total:
        return sizes - split(sizes, total - count, rng)
    share, drawn = max(0.0, (count - _SPREAD * isqrt(count)) / total), sizes
    while int(drawn.sum()) > count:
        drawn = rng.binomial(sizes, share)
    ends = np.cumsum(sizes - drawn)
    places = _distinct(int(ends[-1]), count - int(drawn.sum()), rng)
    return drawn + np.bincount(np.searchsorted(ends, places, side="right"), minlength=len(sizes))


def _distinct(total: int, count: int, rng: np.random.Generator) -> Counts:
    """Returns `count` distinct numbers of 0 .. total - 1; every set is equally likely."""
    found = np.empty(0, dtype=np.int64)
    while len(found) < count:
        found = np.unique(np.concatenate([found, rng.integers(total, size=count - len(found))]))
    return found
