"""ε-greedy: the highest scores, and a share drawn from the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orderdp.strategies.base import FixedRatio, Indices, Memory, Selection
from orderdp.strategies.draws import Mask, draw_among, shuffle, shuffled
from orderdp.strategies.order import largest
from orderdp.theory.sizes import check_count, check_fraction, check_number

RAJU_2021 = (
    """@misc{raju2021accelerating,
  title = {Accelerating deep learning with dynamic data pruning},
  author = {Raju, Ravi S. and Daruwalla, Kyle and Lipasti, Mikko},
  year = {2021},
  eprint = {2111.12621},
  archiveprefix = {arXiv},
}""",
)


@dataclass(frozen=True, kw_only=True)
class EpsilonGreedy(FixedRatio):
    """Keeps the (1 - ε)·q samples of highest last-seen loss and ε·q drawn uniformly from the rest, for some epochs.

    The samples are ranked every `every` epochs. The epochs between visit the same q samples in another order. The first
    ranking knows no losses and is a uniform draw. ε = 0 is plain top-q, and ε = 1 is a uniform draw.

    With `initial_score=inf`, unseen samples come first. The first n/q = 1/(1 - prune_ratio) rankings, about every/(1 -
    prune_ratio) epochs, then select no sample by its loss. In short runs, use `every=1`.

    Args:
        prune_ratio: fraction of the data left out of each epoch, in [0, 1).
        epsilon: ε, fraction of the q that is drawn uniformly, in [0, 1].
        every: epochs from one ranking to the next.
        initial_score: score of a sample not seen yet; +inf puts unseen samples before seen ones.

    Raises:
        TypeError: `every` no whole number, or another setting no number. ValueError: a value out of range.

    Source: Raju et al., "Accelerating deep learning with dynamic data pruning", 2021; ε = 0.1 and 10 epochs as there.

    >>> EpsilonGreedy(prune_ratio=0.5, epsilon=0.1).num_selected(1000, epoch=3)
    500
    """

    name = "epsilon_greedy"
    label = "ε-greedy"
    references = RAJU_2021

    epsilon: float = 0.1
    every: int = 10
    initial_score: float = math.inf

    def __post_init__(self) -> None:
        check_fraction("epsilon", self.epsilon, low_open=False, high_open=False)
        object.__setattr__(self, "every", check_count("every", self.every))
        check_number("initial_score", self.initial_score, example="3.0")
        if math.isnan(self.initial_score):
            raise ValueError("initial_score must be a number that can be compared, got nan; write inf for unseen first")
        super().__post_init__()

    @property
    def columns(self) -> dict[str, float]:
        """One column, `score`."""
        return {"score": self.initial_score}

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the q samples of the last ranking, or of a new one, in random order."""
        q = self.num_selected(memory.num_samples, memory.epoch)
        again = same_again(memory, self.every, rng, first=0)
        if again is not None:
            return Selection(again)
        return Selection(shuffled(self._kept(memory.columns["score"], q, rng), rng))

    def _kept(self, scores: npt.NDArray[np.float32], q: int, rng: np.random.Generator) -> Mask:
        uniform = round(self.epsilon * q)
        kept = largest(scores, q - uniform, rng)
        if uniform:
            kept |= draw_among(~kept, uniform, rng)
        return kept


def same_again(memory: Memory, every: int, rng: np.random.Generator, *, first: int) -> Indices | None:
    """Returns the last epoch's selection in a new order, or None if this epoch must rank again.

    Args:
        memory: of this epoch.
        every: epochs from one ranking to the next.
        rng: makes the order; not used if this epoch must rank again.
        first: epoch of the first ranking.
    """
    if memory.previous is None or memory.previous_epoch is None:
        return None
    ranking, last = ((epoch - first) // every for epoch in (memory.epoch, memory.previous_epoch))
    if ranking != last:
        return None
    again = memory.previous.copy()
    shuffle(again, rng)
    return again
