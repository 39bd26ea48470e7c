"""Full data: every sample in every epoch, the baseline of every saving."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.draws import permutation


@dataclass(frozen=True)
class FullData(Strategy):
    """Visits every sample once an epoch in a fresh random order.

    >>> FullData().num_selected(10, epoch=0)
    10
    """

    name = "full"
    label = "full data"
    ratio_means = "none; all samples"
    ratio_setting = None
    prunes = False

    def num_selected(self, num_samples: int, epoch: int) -> int:
        """Returns `num_samples`."""
        return num_samples

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns no epoch."""
        return ()

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns a random permutation of the data set."""
        return Selection(permutation(memory.num_samples, rng))
