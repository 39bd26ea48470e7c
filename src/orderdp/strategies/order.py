"""The k largest, exact and the same on every machine.

Among equal values, a library's partial sort chooses by processor and version. Here only the threshold *value* comes
from the partial sort, and the generator breaks the ties at it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.strategies.draws import Mask, blocks, draw

Part: TypeAlias = slice | npt.NDArray[np.int64]

_SAMPLE = 16_384  # values that are ranked to guess the threshold; fewer than these are ranked at once


@dataclass(frozen=True, eq=False)
class Computed:
    """Values that are computed from columns when some of them are read, so that they take no memory.

    Args:
        num_samples: how many.
        read: returns the values of a slice or at some places.

    >>> Computed(3, lambda part: -np.arange(3.0)[part])[1:].tolist()
    [-1.0, -2.0]
    """

    num_samples: int
    read: Callable[[Part], npt.NDArray[Any]]

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, part: Part) -> npt.NDArray[Any]:
        return self.read(part)


Values: TypeAlias = npt.NDArray[Any] | Computed


def largest(values: Values, k: int, rng: np.random.Generator, *, among: Mask | None = None) -> Mask:
    """The k largest values, or the k largest of a mask; ties at the threshold are broken uniformly at random.

    O(len(values)). Beside masks it needs a few per cent of the memory of the values.

    Args:
        values: (m,) numbers without NaN.
        k: how many, 0 <= k <= m.
        rng: breaks the ties; not used if none cross the threshold.
        among: (m,) bool, the values that count, at least k; None for all.

    Returns:
        (m,) bool, k of them True.

    >>> largest(np.array([3.0, 9.0, 1.0, 9.0]), 3, np.random.default_rng(0)).tolist()
    [True, True, False, True]
    """
    kept = np.zeros(len(values), dtype=np.bool_)
    if k == 0:
        return kept
    threshold, above, ties = _threshold(values, k, among)
    chosen = None if above + ties == k else draw(ties, k - above, rng)
    first = 0
    for block in blocks(len(values)):
        mine, inside = values[block], kept[block]
        np.greater_equal(mine, threshold, out=inside)
        if among is not None:
            inside &= among[block]
        if chosen is not None:
            tied = np.flatnonzero(inside & (mine == threshold))
            inside[tied] = chosen[first : first + len(tied)]
            first += len(tied)
    return kept


def _threshold(values: Values, k: int, among: Mask | None) -> tuple[Any, int, int]:
    """Returns the k-th largest value, how many are larger, and how many are equal to it.

    A sample of the values gives a narrow bracket around the threshold. Counting shows whether the threshold is an end
    of the bracket, inside it or outside. Only the values of that part are then ranked. So the result does not depend on
    the sample, and a sample that misleads costs time only.
    """
    if len(values) <= _SAMPLE:
        return _ranked(_counting(values[:], among), k)
    low, high = _bracket(values, k, among)
    from_high, above_low, between = _counted(values, low, high, among)
    if from_high < k <= above_low:
        begin, part = from_high, between
    elif k <= from_high:
        above_high = _number(values, lambda mine: mine > high, among)
        if above_high < k:
            return high, above_high, from_high - above_high
        begin, part = 0, _passing(values, lambda mine: mine > high, among)
    else:
        from_low = _number(values, lambda mine: mine >= low, among)
        if k <= from_low:
            return low, above_low, from_low - above_low
        begin, part = from_low, _passing(values, lambda mine: mine < low, among)
    threshold, above, ties = _ranked(part, k - begin)
    return threshold, begin + above, ties


def _bracket(values: Values, k: int, among: Mask | None) -> tuple[Any, Any]:
    """Returns two values of a sample that most likely lie on either side of the k-th largest."""
    places = _places(len(values))
    sample = _counting(values[places], None if among is None else among[places])
    if not len(sample):  # nothing counts at these places
        sample = _counting(values[:], among)[:1]
    total = len(values) if among is None else int(np.count_nonzero(among))
    place, margin = len(sample) * (total - k) // total, 2 * math.isqrt(len(sample))
    ends = max(0, place - margin), min(len(sample) - 1, place + margin)
    low, high = np.partition(sample, ends)[list(ends)]
    return low, high


def _counted(values: Values, low: Any, high: Any, among: Mask | None) -> tuple[int, int, npt.NDArray[Any]]:
    """Returns how many values are >= high and > low, and the values between the two."""
    from_high = above_low = 0
    between = [values[:0]]
    for block in blocks(len(values)):
        mine = values[block]
        upper, inner = mine >= high, mine > low
        if among is not None:
            upper &= among[block]
            inner &= among[block]
        from_high += int(np.count_nonzero(upper))
        above_low += int(np.count_nonzero(inner))
        if low < high:
            inner ^= upper
            between.append(mine.take(np.flatnonzero(inner)))
    return from_high, above_low, np.concatenate(between)


def _places(num_values: int) -> npt.NDArray[np.int64]:
    """Returns even places, each moved by a hash of itself, so that they miss nothing that repeats."""
    step = num_values // _SAMPLE
    places = np.arange(0, num_values - step + 1, step)
    places += places * 2_654_435_761 // 65_536 % step
    return places


def _ranked(values: npt.NDArray[Any], k: int) -> tuple[Any, int, int]:
    threshold = np.partition(values, len(values) - k)[len(values) - k]
    return threshold, int(np.count_nonzero(values > threshold)), int(np.count_nonzero(values == threshold))


def _number(values: Values, test: Callable[[npt.NDArray[Any]], Mask], among: Mask | None) -> int:
    return sum(int(np.count_nonzero(_passed(values[block], block, test, among))) for block in blocks(len(values)))


def _passing(values: Values, test: Callable[[npt.NDArray[Any]], Mask], among: Mask | None) -> npt.NDArray[Any]:
    found = []
    for block in blocks(len(values)):
        mine = values[block]
        found.append(mine.take(np.flatnonzero(_passed(mine, block, test, among))))
    return np.concatenate(found)


def _passed(mine: npt.NDArray[Any], block: slice, test: Callable[[npt.NDArray[Any]], Mask], among: Mask | None) -> Mask:
    return test(mine) if among is None else test(mine) & among[block]


def _counting(values: npt.NDArray[Any], among: Mask | None) -> npt.NDArray[Any]:
    return values if among is None else values[among]


def chances_by_rank(
    values: npt.NDArray[np.float32], places: npt.NDArray[np.signedinteger[Any]], gammas: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Returns the chances of the values at some places by their ranks; equal values share the mean of their ranks.

    Args:
        values: (n,) without NaN.
        places: (k,) of the values to look up.
        gammas: (n,) chance of each rank, the largest value first.

    >>> chances_by_rank(np.float32([1, 5, 1, 9]), np.array([0, 1]), np.array([1.0, 0.8, 0.5, 0.1]))
    array([0.3, 0.8])
    """
    ascending = np.sort(values)
    mine = values[places]
    order = np.argsort(mine)
    mine = mine[order]  # a search for ascending values does not wait for memory
    first = len(values) - np.searchsorted(ascending, mine, side="right")
    last = len(values) - np.searchsorted(ascending, mine, side="left")
    below = np.concatenate([[0.0], np.cumsum(gammas)])
    mean = (below[last] - below[first]) / (last - first)
    chances = np.empty(len(mine))
    chances[order] = np.where(last - first == 1, gammas[first], mean)
    return chances


def share_up_to(losses: npt.NDArray[np.float32], loss: float) -> float:
    """Returns the share of the samples whose loss is known and at most this; nan if this is.

    >>> share_up_to(np.float32([0.5, 1.0, np.inf, -np.inf]), 1.0)
    0.5
    """
    return math.nan if math.isnan(loss) else count_up_to(losses, loss) / len(losses)


def count_up_to(losses: npt.NDArray[np.float32], loss: float) -> int:
    """Returns how many samples have a known loss of at most this."""
    parts = (losses[block] for block in blocks(len(losses)))
    return sum(int(np.count_nonzero((part <= loss) & np.isfinite(part))) for part in parts)


def under_all(ceiling: float, losses: npt.NDArray[np.float32]) -> str | None:
    """Returns that all losses count alike, if the ceiling is at most 0 and below all; None if they do not.

    A ceiling above 0 may lie below all losses until something is learnt.

    >>> under_all(-1.0, np.float32([0.5, 2.0]))
    'none lies below ceiling=-1, so all rank alike'
    """
    blind = ceiling <= min(0.0, float(losses.min()))
    return f"none lies below ceiling={ceiling:g}, so all rank alike" if blind else None


def floor_share(share: float, count: int) -> int:
    """Returns ⌊share·count⌋ for a share meant in decimals: 0.1·30 is 3, though (1 - 0.9)·30 in floats is less.

    >>> floor_share(1 - 0.9, 30)
    3
    """
    return math.floor(share * count + 1e-9)


def first_after(share: float, epochs: int) -> int:
    """Returns the first epoch of those from share·epochs on, for a share meant in decimals: 0.55 of 100 are 55.

    >>> first_after(0.55, 100)
    55
    """
    return math.ceil(share * epochs - 1e-9)


def least_float32(bounds: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Returns the least float32 that is not below each bound.

    A float32 lies below the bound exactly if it lies below this one. So float32 values need not become float64, and
    every version of NumPy compares alike.

    >>> least_float32([0.5, 0.1]) >= [0.5, 0.1]
    array([ True,  True])
    """
    exact = np.asarray(bounds, dtype=np.float64)
    rounded = exact.astype(np.float32)
    return np.where(rounded < exact, np.nextafter(rounded, np.float32(math.inf)), rounded)


def weights_of_largest(values: Tensor, share: float) -> Tensor:
    """Returns b/k for the k = round(share·b) largest of b values, at least one, and 0 for the others.

    So the mean of weights·losses is the mean over those kept. Equal values are kept in their order. A value that is not
    finite has weight 0. If fewer than k are finite, the weights are b divided by their number; if none is, all are 0.
    Nothing waits for the device.

    >>> weights_of_largest(torch.tensor([1.0, 3.0, 2.0, 0.0]), 0.5)
    tensor([0., 2., 2., 0.])
    >>> weights_of_largest(torch.tensor([1.0, math.nan, 2.0, math.nan]), 0.75)
    tensor([2., 0., 2., 0.])
    """
    finite = torch.isfinite(values)
    most = max(1, round(share * len(values)))
    order = torch.argsort(values.masked_fill(~finite, -math.inf), descending=True, stable=True)
    kept = torch.zeros_like(values).index_fill_(0, order[:most], 1.0) * finite
    return kept * len(values) / kept.sum().clamp(min=1)
