"""Repeated random sampling (RS2): across epochs, every sample once before any twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orderdp.strategies.base import FixedRatio, Memory, Selection
from orderdp.strategies.draws import shuffled
from orderdp.strategies.order import largest


@dataclass(frozen=True, kw_only=True)
class RepeatedRandom(FixedRatio):
    """Walks through a random permutation of the data, round((1 - prune_ratio)·n) samples an epoch, and then another.

    If a round ends inside an epoch, the epoch takes the rest of it. It then begins the next round with samples that it
    does not hold yet. Not to be confused with `DynamicRandom`, whose epochs are independent.

    The next samples are drawn uniformly from those trained least often so far, which is the same law as a permutation
    made in advance. It uses the engine's count of visits. Samples that failed come last, until a finite loss of them is
    recorded. After epochs of another strategy, it first trains the samples with fewer visits.

    Args:
        prune_ratio: fraction of the data left out of each epoch, in [0, 1).

    Raises:
        ValueError: a fraction outside its interval.

    Source: Okanovic et al., "Repeated random sampling for minimizing the time-to-accuracy of learning" (RS2), ICLR
        2024, the form without replacement.

    >>> RepeatedRandom(prune_ratio=0.75).num_selected(1000, epoch=0)
    250
    """

    name = "repeated_random"
    label = "repeated random"
    references = (
        """@inproceedings{okanovic2024repeated,
  title = {Repeated random sampling for minimizing the time-to-accuracy of learning},
  author = {Okanovic, Patrik and Waleffe, Roger and others},
  booktitle = {International Conference on Learning Representations},
  year = {2024},
}""",
    )

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns q samples of those trained least."""
        q = self.num_selected(memory.num_samples, memory.epoch)
        return Selection(shuffled(largest(_turns(memory), q, rng), rng))


def _turns(memory: Memory) -> npt.NDArray[np.signedinteger[Any]]:
    """Returns a number for each sample, highest for those whose turn it is."""
    turns = np.zeros(memory.num_samples, dtype=np.int16) if memory.visits is None else -memory.visits
    if memory.failed is not None:
        turns[memory.failed] = np.iinfo(turns.dtype).min
    return turns
