"""KAKURENBO: hide low-loss samples that the model is sure of, fewer as training goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.draws import blocks, permutation, shuffled
from orderdp.strategies.order import Computed, floor_share, largest
from orderdp.theory.sizes import check_count, check_fraction

# (share of the epochs, factor of `hide` from there on)
_DECAY = ((0.0, 1.0), (0.3, 0.8), (0.6, 0.6), (0.8, 0.4))


@dataclass(frozen=True, kw_only=True)
class Kakurenbo(Strategy):
    """Hides the share F of lowest last-seen losses, except samples that the model is not sure of.

    A sample is sure if it was predicted right with probability at least `confidence`. With plain cross-entropy the
    probability of the right class is exp(-loss). The condition is then loss ≤ -log(confidence), if `confidence` is more
    than a half. F falls to 0.8, 0.6 and 0.4 of `hide` after 30, 60 and 80 % of the epochs. The others are weighted by
    1/(1 - F), which for plain SGD is the method's larger learning rate. How many are hidden depends on the losses.

    Args:
        hide: largest share hidden, in [0, 1).
        epochs: epochs of the run.
        confidence: least probability of the right class at which a sample may be hidden, in (0.5, 1].
        weights_only: hides no sample and keeps the weights. This is full data at the method's larger learning rate,
            the control that says whether hiding or the rate makes the difference.

    Raises:
        TypeError: epochs that are no whole number, or `weights_only` no bool. ValueError: a value out of range.

    Source: Nguyen et al., "KAKURENBO: adaptively hiding samples in deep neural network training", NeurIPS 2023; the
        decay as in its public code for CIFAR. Departures: hidden samples keep their stored loss; the method runs a
        forward pass on them after every epoch. With label smoothing, exp(-loss) is not the probability. The public code
        normalises probabilities over the batch instead of over the classes. Its rate is larger only after the warm-up,
        of 1 epoch for CIFAR-100 and 5 for ImageNet; the weights here begin with the second epoch.

    >>> Kakurenbo(hide=0.3, epochs=100).num_selected(1000, epoch=0)
    1000
    """

    name = "kakurenbo"
    label = "KAKURENBO"
    ratio_means = "largest fraction hidden from an epoch, among lowest losses"
    ratio_setting = "hide"
    plain_losses_advice = "set a lower confidence (0.53 for 0.1 on ten classes)"
    references = (
        """@inproceedings{nguyen2023kakurenbo,
  title = {{KAKURENBO}: adaptively hiding samples in deep neural network training},
  author = {Nguyen, Truong Thao and Gerofi, Balazs and others},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023},
}""",
    )

    hide: float = 0.3
    epochs: int
    confidence: float = 0.7
    weights_only: bool = False

    def __post_init__(self) -> None:
        check_fraction("hide", self.hide, low_open=False, high_open=True)
        check_fraction("confidence", self.confidence, low_open=True, high_open=False)
        if self.confidence <= 0.5:
            raise ValueError(
                f"confidence must be more than a half, got {self.confidence}; below it exp(-loss) does not say whether "
                "a prediction was right"
            )
        if not isinstance(self.weights_only, bool):
            raise TypeError(f"weights_only must be True or False, got {self.weights_only!r}; write weights_only=True")
        object.__setattr__(self, "epochs", check_count("epochs", self.epochs))
        for name in ("hide", "confidence"):
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def needs_plain_losses(self) -> bool:
        """True at the default confidence, which losses with label smoothing hardly ever reach."""
        return self.confidence == type(self).confidence and not self.weights_only

    @property
    def columns(self) -> dict[str, float]:
        """One column, `loss`: the last-seen loss, +inf if there is none."""
        return {"loss": math.inf}

    def num_selected(self, num_samples: int, epoch: int) -> int | None:
        """Returns n in the first epoch, which knows no losses, and if none is hidden; then None."""
        return num_samples if epoch == 0 or self.weights_only else None

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns the second epoch, the first that depends on the losses; none if no sample is hidden."""
        return () if self.weights_only else (1,)

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the samples that are not hidden in random order, with equal weights."""
        if memory.epoch == 0:
            return Selection(permutation(memory.num_samples, rng))
        share = self.hide * next(part for start, part in reversed(_DECAY) if memory.epoch >= start * self.epochs)
        weight = 1 / (1 - share)
        if self.weights_only:
            indices = permutation(memory.num_samples, rng)
            return Selection(indices, np.full(len(indices), weight, dtype=np.float32))
        losses = memory.columns["loss"]
        negated = Computed(memory.num_samples, lambda part: -losses[part])
        hidden = largest(negated, floor_share(share, memory.num_samples), rng)
        for block in blocks(memory.num_samples):
            hidden[block] &= losses[block] <= -math.log(self.confidence)
        indices = shuffled(np.logical_not(hidden, out=hidden), rng)
        return Selection(indices, np.full(len(indices), weight, dtype=np.float32))
