"""The k largest of scores that are shared out over the ranks, exact, by a radix selection on their bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orderdp.sharded.blocks import Counts, split
from orderdp.sharded.wire import Wire
from orderdp.strategies.draws import Mask, draw

_AT_ONCE = 1 << 20  # scores whose keys are made together
_HALF = 1 << 16  # values of one half of a key


def keys(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Returns integers in the order of the scores, infinite ones too; 0.0 and -0.0 are equal.

    >>> np.argsort(keys(np.float32([2.0, -np.inf, np.inf, -3.0, 0.5]))).tolist()
    [1, 3, 4, 0, 2]
    """
    bits = (scores + np.float32(0)).view(np.uint32)
    negative = bits >> 31 != 0
    return np.where(negative, ~bits, bits | np.uint32(1 << 31))


def top(
    scores: npt.NDArray[np.float32],
    drawn: Mask,
    blocks: Sequence[tuple[int, slice]],
    k: int,
    wire: Wire,
    *,
    num_blocks: int,
    rng_of: Callable[[Any], np.random.Generator],
) -> Counts:
    """Keeps the k largest of the scores drawn on all ranks; ties at the threshold are broken uniformly at random.

    Three collectives, and a fourth if ties cross the threshold: the histogram of the upper halves of the keys, that of
    the lower halves beside the threshold's upper half, and for each block how many are above and at the threshold.

    Args:
        scores: (m,) of this rank, without NaN.
        drawn: (m,) bool, those that count; on return those that are kept.
        blocks: number and place of each block of this rank.
        k: how many to keep on all ranks together, at most as many as were drawn.
        wire: the ranks.
        num_blocks: number of blocks of all ranks.
        rng_of: the generator of a block's ties, and of None for their split over the blocks.

    Returns:
        (num_blocks,) how many each block keeps.
    """
    upper, above, _ = _place(wire.sum(_histogram(scores, drawn, None)), k)
    lower, within, ties = _place(wire.sum(_histogram(scores, drawn, upper)), k - above)
    threshold, wanted = np.uint32(upper * _HALF + lower), k - above - within
    counts = np.zeros((2, num_blocks), dtype=np.int64)
    for number, part in blocks:
        mine, inside = keys(scores[part]), drawn[part]
        counts[:, number] = (
            np.count_nonzero(inside & (mine > threshold)),
            np.count_nonzero(inside & (mine == threshold)),
        )
    over, at = wire.sum(counts)
    kept = at if wanted == ties else wire.same(split(at, wanted, rng_of(None)))
    for number, part in blocks:
        mine, inside = keys(scores[part]), drawn[part]
        if kept[number] < at[number]:
            tied = np.flatnonzero(inside & (mine == threshold))
            inside[tied] = draw(len(tied), int(kept[number]), rng_of(number))
        inside &= mine >= threshold
    return np.asarray(over + kept)


def _histogram(scores: npt.NDArray[np.float32], drawn: Mask, upper: int | None) -> Counts:
    """Returns how often each upper half of a key occurs; or each lower half, of the keys with a given upper half."""
    counts = np.zeros(_HALF, dtype=np.int64)
    for begin in range(0, len(scores), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        mine = keys(scores[part][drawn[part]])
        halves = mine >> 16
        if upper is not None:
            halves = mine[halves == upper] & (_HALF - 1)
        counts += np.bincount(halves, minlength=_HALF)
    return counts


def _place(histogram: Counts, k: int) -> tuple[int, int, int]:
    """Returns the value at which the k-th largest stands, how many are larger, and how many are equal."""
    from_top = np.cumsum(histogram[::-1])
    place = int(np.searchsorted(from_top, k))
    equal = int(histogram[_HALF - 1 - place])
    return _HALF - 1 - place, int(from_top[place]) - equal, equal
