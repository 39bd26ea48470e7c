"""InfoBatch: drop some of the samples below the mean loss, and weight the rest of them more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.draws import Mask, blocks, draw_among, permutation, shuffled
from orderdp.strategies.order import first_after, floor_share, least_float32
from orderdp.theory.sizes import check_count, check_fraction

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, kw_only=True)
class InfoBatch(Strategy):
    """Drops samples below the mean last-seen loss with probability r, and weights the rest of them by 1/(1 - r).

    This keeps the expected sum over the epoch. It saves not r but about r·P(loss < mean). That depends on the losses,
    so the number of steps is not known in advance. The first epoch uses full data, since no loss is known.

    It keeps ⌊k·L⌋ of the L samples below the mean, with k = max(1 - r, least_kept), and weights them by 1/k. Their
    weights add up to L if k·L is a whole number, and otherwise to less, by under 1/k.

    Args:
        prune_probability: r, the share that is dropped of the samples below the mean, in [0, 1).
        epochs: epochs of the run, for annealing; None does not anneal, as the OrderDP paper compares it.
        delta: from epoch delta·epochs on, full data with weight one, in [0, 1]; no effect without epochs.
        least_kept: least share kept of the samples below the mean, whatever r is, in [0, 1); 0.1 as in its public code.

    Raises:
        TypeError: epochs that are no whole number. ValueError: a fraction outside its interval.

    Source: Qin et al., "InfoBatch: lossless training speed up by unbiased dynamic data pruning", ICLR 2024; r = 0.5 and
        delta = 0.875 are its defaults, with annealing. Departures: the mean is taken in float64, since in float32 the
        mean of equal losses can exceed every one of them. Its public code keeps at least 0.1 of the samples below the
        mean. Where delta·epochs is no whole number, it anneals from the epoch before (26 of 0 to 29, not 27, for
        0.875·30), and keeps the weights of the epoch pruned last; `delta=26/30` anneals from epoch 26.

    >>> InfoBatch(prune_probability=0.5).num_selected(1000, epoch=0)
    1000
    >>> InfoBatch(prune_probability=0.99, least_kept=0.1).share_kept
    0.1
    """

    name = "infobatch"
    label = "InfoBatch"
    ratio_means = "chance of leaving out a sample whose loss is below the mean"
    ratio_setting = "prune_probability"
    references = (
        """@inproceedings{qin2024infobatch,
  title = {{InfoBatch}: lossless training speed up by unbiased dynamic data pruning},
  author = {Qin, Ziheng and Wang, Kai and Zheng, Zangwei and Gu, Jianyang and others},
  booktitle = {International Conference on Learning Representations},
  year = {2024},
}""",
    )

    prune_probability: float = 0.5
    epochs: int | None = None
    delta: float = 0.875
    least_kept: float = 0.0

    def __post_init__(self) -> None:
        check_fraction("prune_probability", self.prune_probability, low_open=False, high_open=True)
        check_fraction("delta", self.delta, low_open=False, high_open=False)
        check_fraction("least_kept", self.least_kept, low_open=False, high_open=True)
        for name in ("prune_probability", "delta", "least_kept"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.epochs is not None:
            object.__setattr__(self, "epochs", check_count("epochs", self.epochs))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], *, epochs: int | None) -> Self:
        """Returns the method, with annealing if `delta` or `epochs` is given.

        Raises:
            ValueError, TypeError: as for every strategy.
        """
        anneals = {"delta", "epochs"} & set(settings)
        return super().from_settings(settings, epochs=epochs if anneals else None)

    def settings(self) -> dict[str, Any]:
        """Returns the settings, with `delta` exactly if it has an effect."""
        found = super().settings()
        found.pop("delta", None)
        return found if self.epochs is None else {**found, "delta": self.delta}

    @property
    def columns(self) -> dict[str, float]:
        """One column, `loss`: the last-seen loss, +inf if there is none."""
        return {"loss": math.inf}

    @property
    def share_kept(self) -> float:
        """The share kept of the samples below the mean: 1 - r, and at least `least_kept`."""
        return max(1 - self.prune_probability, self.least_kept)

    def num_selected(self, num_samples: int, epoch: int) -> int | None:
        """Returns n in the first epoch and while annealing; None in the others."""
        return num_samples if epoch == 0 or self._annealing(epoch) else None

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns the second epoch, which depends on the losses, and the first that anneals."""
        if self.epochs is None:
            return (1,)
        last = first_after(self.delta, self.epochs)
        return (1, last) if last > 1 else ()

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the samples kept in random order, and the weights 1/k of those below the mean."""
        if self.num_selected(memory.num_samples, memory.epoch) is not None:
            return Selection(permutation(memory.num_samples, rng))
        below = below_mean(memory.columns["loss"])
        num_below = int(np.count_nonzero(below))
        size = floor_share(self.share_kept, num_below)
        if num_below == memory.num_samples:  # all losses failed
            size = max(1, size)
        kept = draw_among(below, size, rng)
        kept |= ~below
        indices = shuffled(kept, rng)
        del kept
        weights = np.empty(len(indices), dtype=np.float32)
        heavier = np.array([1, 1 / self.share_kept], dtype=np.float32)
        for block in blocks(len(indices)):
            weights[block] = heavier[below[indices[block]].view(np.uint8)]
        return Selection(indices, weights)

    def _annealing(self, epoch: int) -> bool:
        return self.epochs is not None and epoch >= first_after(self.delta, self.epochs)


def below_mean(losses: npt.NDArray[np.float32]) -> Mask:
    """Returns which losses lie below the mean of those that are finite, taken in float64.

    A loss that is not known is +inf and does not. One of a failed sample is -inf and does.
    """
    total, num_finite = 0.0, 0
    for block in blocks(len(losses)):
        finite = losses[block][np.isfinite(losses[block])]
        total += float(finite.sum(dtype=np.float64))
        num_finite += len(finite)
    mean = total / num_finite if num_finite else math.inf
    return losses < least_float32(mean)
