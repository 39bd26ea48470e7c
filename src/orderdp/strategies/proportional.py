"""Proportional choice: each sample with a chance proportional to its loss above the floor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orderdp.strategies.base import FixedRatio, Indices, Memory, Selection, Weights
from orderdp.strategies.draws import Mask, blocks, draw_among, shuffled
from orderdp.strategies.order import Computed, Part, under_all
from orderdp.strategies.unequal import Drawn, draw_proportional
from orderdp.theory.sizes import check_fraction, check_number

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Proportional(FixedRatio):
    """Draws exactly q samples without replacement, each with a chance proportional to its excess loss.

    The excess is the last-seen loss, cut to [floor, ceiling], minus the floor, so losses may be negative. The size of a
    sample is

        x = (1 - u)·e + u·(mean e),  e = top·(excess/top)^power,  u = `uniform_share`

    where top is the largest excess; with `power=1`, e is the excess. The chance of a sample is π = min(1, c·x), with
    the c for which all chances sum to q. Where nothing is learnt yet, losses are alike and so are the chances; late in
    training most chances are small. Samples without a loss come first, each with chance 1 or, if they are more than q,
    with equal chances. Samples that failed come last. Once all samples have a loss, π is at least u·q/n.

    Each sample has the weight (q/(n·π))^debias. With 0, all weights are 1, and the expected gradient is that of the
    losses weighted by π. With 1, it is the gradient of the mean loss if u is above 0; with u = 0, samples at the floor
    are never drawn. In an epoch that begins with samples without a loss, all weights are 1: the few places that are
    left would have large ones.

    Args:
        prune_ratio: fraction of the data left out of each epoch, in [0, 1).
        floor: loss at which nothing is left to learn, finite in float32; None for the lowest loss on record. With label
            smoothing or noise, no loss comes near 0.
        ceiling: losses above it count as this one, above the floor; inf for none.
        power: above 0. The higher, the nearer to the top q of the losses cut at the ceiling, in which all above it are
            equal.
        uniform_share: u, in [0, 1]; 1 is a uniform draw.
        debias: exponent of the weights, in [0, 1]. Between 0 and 1 the mean weight is below 1, which for plain SGD is a
            smaller learning rate.

    Raises:
        TypeError: a setting that is no number. ValueError: a value out of range.

    Source: unequal probability sampling (Hartley and Rao 1962), with the loss as the size of a sample; the weights of
        importance sampling, as in Katharopoulos and Fleuret, "Not all samples are created equal", ICML 2018.

    >>> Proportional(prune_ratio=0.5).num_selected(1000, epoch=3)
    500
    """

    name = "proportional"
    label = "proportional"
    references = (
        """@inproceedings{katharopoulos2018samples,
  title = {Not all samples are created equal: deep learning with importance sampling},
  author = {Katharopoulos, Angelos and Fleuret, Fran{\\c{c}}ois},
  booktitle = {International Conference on Machine Learning},
  year = {2018},
}""",
    )

    floor: float | None = None
    ceiling: float = math.inf
    power: float = 1.0
    uniform_share: float = 0.1
    debias: float = 0.0

    def __post_init__(self) -> None:
        check_fraction("uniform_share", self.uniform_share, low_open=False, high_open=False)
        check_fraction("debias", self.debias, low_open=False, high_open=False)
        check_number("ceiling", self.ceiling, example="0.9")
        check_number("power", self.power, example="2")
        if not 0 < self.power < math.inf:
            raise ValueError(f"power must be finite and above 0, got {self.power}; write 1 for the excess itself")
        if self.floor is not None:
            check_number("floor", self.floor, example="0.0")
            if not abs(self.floor) <= _LARGEST:  # also of NaN
                raise ValueError(
                    f"floor must be finite in float32, got {self.floor}; write None for the lowest loss on record"
                )
            object.__setattr__(self, "floor", float(self.floor))
        if not self.ceiling > (-math.inf if self.floor is None else self.floor):  # also of NaN
            raise ValueError(
                f"ceiling must lie above the floor, got {self.ceiling} and {self.floor}; write inf for no ceiling"
            )
        super().__post_init__()

    @property
    def columns(self) -> dict[str, float]:
        """One column, `loss`: the last-seen loss, +inf if there is none."""
        return {"loss": math.inf}

    def blind_to(self, losses: npt.NDArray[np.float32]) -> str | None:
        """Returns that the floor lies above all, or a ceiling of at most 0 below all."""
        if self.floor is not None and losses.max() <= self.floor:
            return f"none lies above floor={self.floor:g}, so all have the same chance"
        return under_all(self.ceiling, losses)

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the q samples in random order, with weights if `debias` is above 0."""
        q, losses = self.num_selected(memory.num_samples, memory.epoch), memory.columns["loss"]
        unseen = losses == math.inf
        num_unseen = int(np.count_nonzero(unseen))
        if num_unseen >= q:
            return Selection(shuffled(draw_among(unseen, q, rng), rng), self._equal(q))
        known = np.isfinite(losses)
        num_known = int(np.count_nonzero(known))
        if num_unseen + num_known <= q:
            failed = draw_among(~(known | unseen), q - num_unseen - num_known, rng)
            return Selection(shuffled(known | unseen | failed, rng), self._equal(q))
        sizes = self._sizes(losses, known, num_known)
        drawn = draw_proportional(sizes, q - num_unseen, rng, among=known)
        indices = shuffled(drawn.kept | unseen, rng)
        if num_unseen:
            return Selection(indices, self._equal(q))
        return Selection(indices, self._weights(indices, drawn, q / memory.num_samples))

    def _sizes(self, losses: npt.NDArray[np.float32], known: Mask, num_known: int) -> Computed:
        """Returns x of the samples with a loss; those without one have any finite size."""
        if self.floor is None:
            floor = min(float(losses[block][known[block]].min(initial=math.inf)) for block in blocks(len(losses)))
        else:
            floor = self.floor
        excess = Computed(len(losses), lambda part: self._excess(losses, floor, part))
        if self.power != 1:
            excess = self._raised(excess, known)
        total = sum(float(excess[block][known[block]].sum(dtype=np.float64)) for block in blocks(len(losses)))
        constant = self.uniform_share * total / num_known
        return Computed(len(losses), lambda part: (1 - self.uniform_share) * excess[part] + constant)

    def _raised(self, excess: Computed, known: Mask) -> Computed:
        """Returns top·(excess/top)^power."""
        top = max(float(excess[block][known[block]].max(initial=0.0)) for block in blocks(len(excess)))
        if not top:
            return excess
        return Computed(len(excess), lambda part: top * (np.minimum(excess[part], top) / top) ** self.power)

    def _excess(self, losses: npt.NDArray[np.float32], floor: float, part: Part) -> npt.NDArray[np.float64]:
        excess = losses[part].astype(np.float64)
        np.clip(excess, floor, max(floor, min(self.ceiling, _LARGEST)), out=excess)
        excess -= floor
        return excess

    def _equal(self, q: int) -> Weights | None:
        return np.ones(q, dtype=np.float32) if self.debias else None

    def _weights(self, indices: Indices, drawn: Drawn, share: float) -> Weights | None:
        """Returns (q/(n·π))^debias; share is q/n."""
        if not self.debias:
            return None
        return ((share / drawn.chances(indices)) ** self.debias).astype(np.float32)
