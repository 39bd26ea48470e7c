"""Calibrated: the highest scores and a uniform draw, weighted so that the mean loss is unbiased."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.evidence import Evidence
from orderdp.theory.sizes import check_fraction


@dataclass(frozen=True)
class Calibrated(Chooser):
    """Keeps the highest scores, and a uniform draw of the others that stands for all of them.

    Of k samples kept from n, round(α·k) are drawn without replacement, α = `uniform_share`. The other ones have the
    highest scores. A high score has weight 1. A sample drawn has weight (n - number of high scores) / (number drawn).
    So the weights sum to n, and each sample has an expected weight of one. The weighted sum of the losses of the subset
    is therefore an unbiased estimate of the sum over all data. With quotas, this holds within each class.

    Args:
        uniform_share: α, in (0, 1]. With 1 it is a uniform draw. At least one sample is drawn.

    Raises:
        TypeError: `uniform_share` no number. ValueError: out of range.

    Departures: the draw is of exact size, without replacement.

    Source: Ayed and Hayou, "Data pruning and neural scaling laws", TMLR 2023, its calibration by exploration.

    >>> subset = Calibrated().choose(Evidence(scores=[0.0, 5.0, 1.0, 4.0, 2.0]), 4, quotas=None)
    >>> subset.indices[:2], subset.weights
    (array([1, 3]), array([1. , 1. , 1.5, 1.5], dtype=float32))
    """

    name = "calibrated"
    label = "calibrated"
    needs = ("scores",)
    weighs = True
    references = (
        """@article{ayed2023data,
  title = {Data Pruning and Neural Scaling Laws: Fundamental Limitations of Score-Based Algorithms},
  author = {Ayed, Fadhel and Hayou, Soufiane},
  journal = {Transactions on Machine Learning Research},
  year = {2023},
}""",
    )

    uniform_share: float = 0.5

    def __post_init__(self) -> None:
        check_fraction("uniform_share", self.uniform_share, low_open=True, high_open=False)

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        drawn = max(1, math.floor(self.uniform_share * size + 0.5))
        highest, others = np.split(np.argsort(-evidence.scores, kind="stable"), [size - drawn])
        # The order of ties tells which of them are among `highest`, so the draw needs random numbers of its own.
        uniform = work.rng.choice(others, drawn, replace=False)
        weights = np.ones(size, dtype=np.float32)
        weights[size - drawn :] = len(others) / drawn
        return Subset(np.concatenate([highest, uniform]), weights)
