"""A fresh uniform subset each epoch: the baseline that knows nothing of the losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.order import draw
from orderdp.theory.sizes import check_fraction


@dataclass(frozen=True, kw_only=True, repr=False)
class DynamicRandom(Strategy):
    """Draws round((1 - prune_ratio)·n) samples uniformly without replacement, afresh each epoch.

    Easily confused with repeated random sampling (RS2), which walks through a permutation and so visits every sample
    before any twice.

    Args:
        prune_ratio: fraction of the data left out of each epoch, in [0, 1).

    Raises:
        ValueError: `prune_ratio` outside [0, 1).

    >>> DynamicRandom(prune_ratio=0.3).num_selected(10, epoch=0)
    7
    """

    prune_ratio: float

    def __post_init__(self) -> None:
        check_fraction("prune_ratio", self.prune_ratio, low_open=False, high_open=True)
        object.__setattr__(self, "prune_ratio", float(self.prune_ratio))

    def num_selected(self, num_samples: int, epoch: int) -> int:
        """Returns round((1 - prune_ratio)·n).

        Raises:
            ValueError: that is zero.
        """
        size = round((1 - self.prune_ratio) * num_samples)
        if size < 1:
            raise ValueError(
                f"prune_ratio must leave at least one of the {num_samples} samples, got {self.prune_ratio}; "
                f"write at most {1 - 1 / num_samples!r}"
            )
        return size

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the draw in random order."""
        indices = draw(memory.num_samples, self.num_selected(memory.num_samples, memory.epoch), rng)
        rng.shuffle(indices)
        return Selection(indices)
