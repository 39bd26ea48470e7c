"""Ordered SGD: the highest losses of every batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.draws import permutation
from orderdp.strategies.order import weights_of_largest
from orderdp.theory.sizes import check_fraction


@dataclass(frozen=True, kw_only=True)
class OrderedSGD(Strategy):
    """Trains each step on the highest losses in its batch, by the current forward pass.

    Every sample has a forward pass in every epoch. With `pruner.update` alone, the backward pass also runs over the
    whole batch and saves nothing. To save, train the positions of `pruner.choose` by a second forward pass. A loss that
    is not finite is left out of the mean. If the model makes it NaN, only `choose` keeps it out of the gradients.
    It is the same as `OrderDP(explore=1.0, exploit=keep, per="iteration", fresh=True)`. With several ranks, each rank
    selects within its own part of the batch, so the selection depends on their number.

    Args:
        keep: share of each batch that is trained, rounded, at least one sample, in (0, 1].

    Raises:
        ValueError: a fraction outside its interval.

    Source: Kawaguchi and Lu, "Ordered SGD: a new stochastic optimization framework for empirical risk minimization",
        AISTATS 2020, Algorithm 1.

    >>> OrderedSGD(keep=0.25).num_selected(1000, epoch=0)
    1000
    """

    name = "ordered_sgd"
    label = "ordered SGD"
    ratio_means = "fraction of each batch left out of the backward pass"
    ratio_setting = "keep"
    references = (
        """@inproceedings{kawaguchi2020ordered,
  title = {Ordered {SGD}: a new stochastic optimization framework for empirical risk minimization},
  author = {Kawaguchi, Kenji and Lu, Haihao},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year = {2020},
}""",
    )

    keep: float

    def __post_init__(self) -> None:
        check_fraction("keep", self.keep, low_open=True, high_open=False)
        object.__setattr__(self, "keep", float(self.keep))

    @property
    def asked_ratio(self) -> float:
        """The share of each batch left out."""
        exact = 1 - self.keep
        rounded = float(f"{exact:.12g}")  # 0.3 of keep = 0.7, where 1 - 0.7 is a little more
        return rounded if 1 - rounded == self.keep else exact

    @classmethod
    def _of_ratio(cls, ratio: float) -> float:
        return 1 - ratio

    def num_selected(self, num_samples: int, epoch: int) -> int:
        """Returns n: every sample has a forward pass."""
        return num_samples

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns no epoch."""
        return ()

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns all samples in random order."""
        return Selection(permutation(memory.num_samples, rng))

    def batch_weights(self, losses: Tensor, uniforms: Callable[[], Tensor]) -> Tensor | None:
        """Returns b/k for the k highest losses and 0 for the others."""
        return weights_of_largest(losses, self.keep)
