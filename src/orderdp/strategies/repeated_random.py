"""Repeated random sampling without replacement across epochs: every sample before any twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from orderdp.strategies.base import FixedRatio, Memory, Selection
from orderdp.strategies.order import largest


@dataclass(frozen=True, kw_only=True, repr=False)
class RepeatedRandom(FixedRatio):
    """Walks through a random permutation of the data, round((1 - prune_ratio)·n) samples an epoch, and then another.

    Where a round ends inside an epoch, the epoch takes what is left of it and begins the next round with samples that
    it does not hold yet. Easily confused with `DynamicRandom`, whose epochs are independent.

    What is remembered is how often each sample was trained: the next are drawn uniformly from those trained least,
    which is the same law as a permutation made in advance.

    Args:
        prune_ratio: fraction of the data left out of each epoch, in [0, 1).

    Raises:
        ValueError: a fraction outside its interval.

    Source: Okanovic et al., "Repeated random sampling for minimizing the time-to-accuracy of learning" (RS2), ICLR
        2024, the form without replacement.

    >>> RepeatedRandom(prune_ratio=0.75).num_selected(1000, epoch=0)
    250
    """

    @property
    def columns(self) -> dict[str, float]:
        """One column, `visits`: how often a sample was trained, exact to 2^24."""
        return {"visits": 0.0}

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns q samples of those trained least."""
        kept = largest(-memory.columns["visits"], self.num_selected(memory.num_samples, memory.epoch), rng)
        rng.shuffle(kept)
        return Selection(kept)

    def observe(self, old: Mapping[str, Tensor], losses: Tensor) -> dict[str, Tensor]:
        """Counts a visit."""
        return {"visits": old["visits"] + 1}
