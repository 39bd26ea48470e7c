"""Dynamic random: a fresh uniform subset each epoch, the baseline that ignores the losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orderdp.strategies.base import FixedRatio, Memory, Selection
from orderdp.strategies.draws import draw, shuffled


@dataclass(frozen=True, kw_only=True)
class DynamicRandom(FixedRatio):
    """Draws round((1 - prune_ratio)·n) samples uniformly without replacement, afresh each epoch.

    Not to be confused with repeated random sampling (RS2), which visits every sample once before any twice.

    Args:
        prune_ratio: fraction of the data left out of each epoch, in [0, 1).

    Raises:
        ValueError: `prune_ratio` outside [0, 1).

    >>> DynamicRandom(prune_ratio=0.3).num_selected(10, epoch=0)
    7
    """

    name = "dynamic_random"
    label = "dynamic random"

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the draw in random order."""
        q = self.num_selected(memory.num_samples, memory.epoch)
        return Selection(shuffled(draw(memory.num_samples, q, rng), rng))
