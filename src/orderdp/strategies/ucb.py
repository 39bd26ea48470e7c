"""UCB: the highest smoothed losses, with a bonus for those that vary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.strategies.base import FixedRatio, Memory, Selection
from orderdp.strategies.draws import permutation, shuffled
from orderdp.strategies.epsilon_greedy import RAJU_2021, same_again
from orderdp.strategies.order import Computed, Part, largest
from orderdp.theory.sizes import check_count, check_fraction, check_number

_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True, kw_only=True)
class UCB(FixedRatio):
    """Keeps the q samples of highest mean + c·var, moving averages of the loss and of its squared change.

    With a = `smoothing`, each sample trained updates its averages, v taken with the mean before:

        v = (loss - mean)²
        mean ← (1 - a)·mean + a·loss
        var ← (1 - a)·var + a·v

    The first loss sets the mean, with var = 0. Values are capped at the largest float32. Samples not trained keep both.
    The first epoch uses full data. Samples are then ranked every `every` epochs. The epochs between visit the same q
    samples in another order.

    Args:
        prune_ratio: fraction of the data left out of each epoch but the first, in [0, 1).
        c: weight of the variance, finite in float32.
        smoothing: a, share of the new value in a moving average, in (0, 1].
        every: epochs from one ranking to the next.

    Raises:
        TypeError: `every` no whole number, or another setting no number. ValueError: a value out of range.

    Source: Raju et al., "Accelerating deep learning with dynamic data pruning", 2021, as run by the authors of
        InfoBatch: c = 1, a = 0.8, 10 epochs.

    >>> [UCB(prune_ratio=0.5).num_selected(1000, epoch) for epoch in (0, 1)]
    [1000, 500]
    """

    name = "ucb"
    label = "UCB"
    ratio_means = "fraction left out of each epoch but the first, which is full"
    references = RAJU_2021

    c: float = 1.0
    smoothing: float = 0.8
    every: int = 10

    def __post_init__(self) -> None:
        check_fraction("smoothing", self.smoothing, low_open=True, high_open=False)
        object.__setattr__(self, "every", check_count("every", self.every))
        check_number("c", self.c, example="1.0")
        if not abs(self.c) <= _LARGEST:  # also of NaN
            raise ValueError(f"c must be a finite number in float32, got {self.c}; write 1.0")
        super().__post_init__()

    @property
    def columns(self) -> dict[str, float]:
        """`mean`, +inf if no loss is known, and `var`."""
        return {"mean": math.inf, "var": 0.0}

    def num_selected(self, num_samples: int, epoch: int) -> int:
        """Returns n in the first epoch, then q."""
        q = super().num_selected(num_samples, epoch)
        return num_samples if epoch == 0 else q

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns the second epoch, the first with q samples."""
        return (1,)

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns all samples in the first epoch, then the q of the last ranking or of a new one, in random order."""
        q = self.num_selected(memory.num_samples, memory.epoch)
        again = same_again(memory, self.every, rng, first=1)
        if again is not None:
            return Selection(again)
        if q == memory.num_samples:
            return Selection(permutation(q, rng))
        bounds = Computed(memory.num_samples, lambda part: self._bounds(memory.columns, part))
        return Selection(shuffled(largest(bounds, q, rng), rng))

    def _bounds(self, columns: Mapping[str, npt.NDArray[np.float32]], part: Part) -> npt.NDArray[np.float32]:
        """Returns mean + c·var within float32; ±inf only for samples that are not seen yet or failed."""
        mean, var = columns["mean"][part], columns["var"][part]
        with np.errstate(over="ignore", invalid="ignore"):
            bound = np.float32(self.c) * var
            bound += mean
        np.clip(bound, np.float32(-_LARGEST), np.float32(_LARGEST), out=bound)
        np.copyto(bound, mean, where=np.isinf(mean))
        return bound

    def observe(self, old: Mapping[str, Tensor], losses: Tensor) -> dict[str, Tensor]:
        """Moves both averages."""
        unseen = torch.isinf(old["mean"])  # or failed so far
        mean = torch.where(unseen, losses, old["mean"])
        change = (losses - mean) ** 2
        # A square that overflows would stay infinite for ever.
        var = ((1 - self.smoothing) * old["var"] + self.smoothing * change).clamp(max=_LARGEST)
        return {
            "mean": (1 - self.smoothing) * mean + self.smoothing * losses,
            "var": torch.where(unseen, 0.0, var),
        }
