"""Greedy choice by scores that only fall: the highest score is taken, and each pick lowers the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.base import Positions, Work

_MIN_POOL = 64
_POOL_SHARE = 16  # one candidate in so many is kept up to date at each pick
_ELEMENTS = 2**22  # of a block
_LARGE = 10_000  # samples

Progress = Callable[[Iterable[Any]], Iterator[Any]]
P = TypeVar("P", bound="Points")


class Points(Protocol):
    """Samples for which a number of two can be computed: a distance, or a similarity."""

    def take(self: P, rows: Tensor | slice) -> P:
        """Returns these samples."""

    def numbers(self: P, picks: P) -> Tensor:
        """Returns (len(self), len(picks)), the number of each sample with each pick."""


def lazy_greedy(
    points: P,
    scores: Tensor,
    lowered: Callable[[Tensor, Tensor], Tensor],
    size: int,
    progress: Progress = iter,
) -> Positions:
    """Takes the highest score, `size` times; the lowest position wins a tie.

    The choice is that of plain greedy, which lowers all scores after each pick. Here a pool of the highest scores is
    kept up to date. The old scores of the others are bounds, because scores only fall. Once one of them exceeds the
    pool, all scores are lowered in one matrix product, and a new pool begins.

    Args:
        points: n samples.
        scores: (n,) float64, -inf for samples that may not be taken; overwritten.
        lowered: from (m,) scores and the (m, k) numbers of m samples with k picks to the scores after these picks. It
            never raises a score.
        size: number of picks.
        progress: wraps the picks.

    Returns:
        (size,) int64 positions in the order of choice.
    """
    chosen: list[int] = []
    picks = progress(range(size))
    while True:
        pool, bound, bound_at = _best(scores, max(_MIN_POOL, len(scores) // _POOL_SHARE))
        members, values, begun = points.take(pool), scores[pool], len(chosen)
        place = int(values.argmax())  # the first of equal ones
        for _ in picks:
            chosen.append(int(pool[place]))
            values = lowered(values, members.numbers(members.take(slice(place, place + 1))))
            values[place] = -torch.inf
            place = int(values.argmax())
            best = float(values[place])
            if best < bound or (best == bound and int(pool[place]) > bound_at):
                break
        if len(chosen) == size:
            for _ in picks:  # lets the bar end
                pass
            return np.array(chosen, dtype=np.int64)
        picked = points.take(torch.tensor(chosen[begun:], device=scores.device))
        for begin in range(0, len(scores), step := max(1, _ELEMENTS // (len(chosen) - begun))):
            part = slice(begin, begin + step)
            scores[part] = lowered(scores[part], points.take(part).numbers(picked))
        scores[pool] = values


def _best(scores: Tensor, count: int) -> tuple[Tensor, float, int]:
    """Returns the positions of the highest scores, ascending, and value and position of the best one outside."""
    if count >= len(scores):
        return torch.arange(len(scores), device=scores.device), -torch.inf, len(scores)
    lowest = scores.kthvalue(len(scores) - count + 1).values
    above = scores > lowest
    equal = (scores == lowest).nonzero()[:, 0]
    above[equal[: count - int(above.sum())]] = True
    outside = scores.masked_fill(above, -torch.inf)
    at = int(outside.argmax())
    return above.nonzero()[:, 0], float(outside[at]), at


def bar(work: Work, label: str, num_samples: int) -> Progress:
    """Returns what shows the steps of one group: a progress bar if it is large. Small ones take seconds."""
    return iter if num_samples < _LARGE else lambda picks: work.progress(picks, label)
