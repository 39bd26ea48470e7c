"""Farthest first: each pick is the sample that is farthest from all picks before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.base import Positions
from orderdp.coresets.greedy import Progress, lazy_greedy

_ELEMENTS = 2**22  # of a block


@dataclass(frozen=True, eq=False)
class Separated:
    """Samples whose distances are own_i + own_j - 2·left_i·right_j.

    Squared Euclidean distances and symmetric divergences have this form, so a matrix product computes them.

    Args:
        own: (n,) float64.
        left: (n, d) float64.
        right: (n, d) float64; may be the same tensor.
    """

    own: Tensor
    left: Tensor
    right: Tensor

    def take(self, rows: Tensor | slice) -> Separated:
        """Returns these samples."""
        left = self.left[rows]
        return Separated(self.own[rows], left, left if self.right is self.left else self.right[rows])

    def numbers(self, picks: Separated) -> Tensor:
        """Returns (n, k) float64 distances."""
        return (self.own[:, None] + picks.own).addmm_(self.left, picks.right.T, alpha=-2)

    def __len__(self) -> int:
        """Returns n."""
        return len(self.own)


def farthest_first(samples: Separated, first: int, size: int, progress: Progress = iter) -> Positions:
    """Returns (size,) positions: `first`, then always the sample whose nearest pick is farthest (Gonzalez 1985).

    It remembers one number for each sample, the distance to its nearest pick. The lowest position wins a tie.
    """
    scores = samples.numbers(samples.take(slice(first, first + 1)))[:, 0].clone()
    scores[first] = -torch.inf
    others = lazy_greedy(samples, scores, _nearer, size - 1, progress)
    return np.concatenate([[first], others])


def _nearer(distances: Tensor, to_picks: Tensor) -> Tensor:
    return torch.minimum(distances, to_picks.amin(1))


def to_nearest(samples: Separated, picks: Separated) -> Tensor:
    """Returns (n,) float64, the distance of each sample to the nearest pick."""
    step = max(1, _ELEMENTS // len(picks))
    parts = (samples.take(slice(begin, begin + step)) for begin in range(0, len(samples), step))
    return torch.cat([part.numbers(picks).amin(1) for part in parts])
