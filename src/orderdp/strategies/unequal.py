"""Draws with unequal chances: exactly as many samples as asked, each with a chance proportional to its size.

Given the sizes, integers alone decide: the chances are exact, and every machine draws alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from orderdp.strategies.base import Indices
from orderdp.strategies.draws import Mask, blocks, draw_among, positions, shuffle
from orderdp.strategies.order import Part, Values

_BITS = 31  # of the largest size as an integer; so products with a number of samples fit in 64 bits

Integers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A draw and the chances that it had: 1 for some samples, and rate·size + equal for the others.

    Args:
        kept: (n,) bool, the samples drawn.
        certain: (n,) bool, those whose chance was 1.
        sizes: (n,) of all samples.
        rate: 0 if the others had size 0.
        equal: chance of each of the others if they had size 0; else 0.
    """

    kept: Mask
    certain: Mask
    sizes: Values
    rate: float
    equal: float = 0.0

    def chances(self, indices: Indices) -> npt.NDArray[np.float64]:
        """Returns (k,) the chances of k samples of those that could be drawn."""
        certain = self.certain[indices]
        open_sizes = np.where(certain, 0.0, self.sizes[indices])  # those of the others might overflow
        return np.where(certain, 1.0, self.rate * open_sizes + self.equal)


def draw_proportional(sizes: Values, count: int, rng: np.random.Generator, *, among: Mask) -> Drawn:
    """Draws `count` of the samples of a mask; the chance of each is min(1, c·size), with the c that sums to `count`.

    Where sizes are large enough for a chance of 1, those samples are kept. The others are drawn by systematic sampling
    in random order. They stand in a row, each as long as its size, and `count` points at equal distances fall on the
    row. No sample is hit twice, since each is shorter than the distance. If the samples that are left have size 0, they
    are drawn uniformly.

    It takes O(n) time. A size below 2⁻³¹ of the largest whose chance is not 1 counts as 0, and other sizes are rounded
    down to a multiple of that.

    Args:
        sizes: (n,) finite and at least 0.
        count: how many, at most as many as the mask holds.
        rng: of the order and the points.
        among: (n,) bool, the samples that may be drawn.

    Source: Goodman and Kish, "Controlled selection: a technique in probability sampling", 1950; Hartley and Rao,
        "Sampling with unequal probabilities and without replacement", 1962.

    >>> drawn = draw_proportional(np.array([9.0, 1.0, 0.0, 1.0]), 2, np.random.default_rng(0), among=np.ones(4, bool))
    >>> drawn.kept.tolist(), drawn.certain.tolist(), drawn.rate
    ([True, False, False, True], [True, False, False, False], 0.5)
    """
    certain = np.zeros(len(sizes), dtype=np.bool_)
    open_: Mask = among.copy()
    while count:
        row = _Row.of(sizes, open_)
        if row is None:
            rest = int(np.count_nonzero(open_))
            return Drawn(certain | draw_among(open_, count, rng), certain, sizes, 0.0, count / rest)
        found = row.certain(count)
        if not found.any():
            kept = row.hit(count, rng)
            kept |= certain
            return Drawn(kept, certain, sizes, row.rate(count))
        certain |= found
        open_ &= ~found
        count -= int(np.count_nonzero(found))
    return Drawn(certain, certain, sizes, 0.0)


class _Row(NamedTuple):
    """Samples in a row, each as long as its size in integers."""

    sizes: Values
    among: Mask
    exponent: int  # sizes are multiplied by two to this power
    length: int  # of the row

    @classmethod
    def of(cls, sizes: Values, among: Mask) -> _Row | None:
        """Returns the row of the samples of a mask; None if all have size 0."""
        largest = max((float(sizes[block][among[block]].max(initial=0.0)) for block in blocks(len(sizes))), default=0.0)
        if largest == 0.0:
            return None
        row = cls(sizes, among, _BITS - int(np.frexp(largest)[1]), 0)
        return row._replace(length=sum(int(row._integers(block).sum()) for block in blocks(len(sizes))))

    def _integers(self, part: Part) -> Integers:
        """Returns the lengths of samples; 0 outside the mask."""
        inside = np.asarray(self.sizes[part], dtype=np.float64) * self.among[part]  # first: others might overflow
        return np.ldexp(inside, self.exponent, out=inside).astype(np.int64)

    def certain(self, count: int) -> Mask:
        """Returns the samples that are at least as long as the distance of `count` points."""
        found = np.empty(len(self.sizes), dtype=np.bool_)
        for block in blocks(len(found)):
            np.greater_equal(self._integers(block) * count, self.length, out=found[block])
        return found

    def rate(self, count: int) -> float:
        """Returns the chance of a sample divided by its size."""
        return float(np.ldexp(count / self.length, self.exponent))

    def hit(self, count: int, rng: np.random.Generator) -> Mask:
        """Returns the samples on which `count` points at equal distances fall, the first of them at random."""
        order = positions(self.among)
        shuffle(order, rng)
        start = int(rng.integers(0, self.length))
        kept = np.zeros(len(self.sizes), dtype=np.bool_)
        first = begin = 0
        for part in _parts(order):
            ends = np.cumsum(self._integers(part))
            end = begin + int(ends[-1])
            last = -((start - end * count) // self.length)  # the points first .. last - 1 lie before the end
            kept[part[np.searchsorted(ends, self._points(start, first, last, count) - begin, side="right")]] = True
            first, begin = last, end
        return kept

    def _points(self, start: int, first: int, last: int, count: int) -> Integers:
        """Returns ⌊(start + j·length)/count⌋ for j from `first` to `last` - 1, without a product that overflows."""
        whole, rest = divmod(self.length, count)
        numbers = np.arange(first, last, dtype=np.int64)
        return numbers * whole + (start + numbers * rest) // count


def _parts(order: Indices) -> Iterator[Indices]:
    for block in blocks(len(order)):
        yield order[block]
