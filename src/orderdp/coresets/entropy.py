"""Entropy: the samples whose predictions are most spread over the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.by_rows import by_rows
from orderdp.coresets.evidence import Array, Evidence, Floats
from orderdp.coresets.least_confidence import COLEMAN_2020


@dataclass(frozen=True)
class Entropy(Scorer):
    """Keeps the samples with the highest entropy of the prediction: score -Σ p·log p in nats, with 0·log 0 = 0.

    It reads no labels, so a confident mistake scores low.

    Source: Coleman et al., "Selection via proxy", ICLR 2020.

    >>> Entropy().score(Evidence(probabilities=[[1.0, 0.0], [0.5, 0.5]])).round(3)
    array([0.   , 0.693])
    """

    name = "entropy"
    label = "entropy"
    needs = ("probabilities",)
    references = COLEMAN_2020

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        return by_rows(entropies, evidence.probabilities)


def entropies(probabilities: Array) -> Floats:
    """Returns (n,) float64, the entropy of each row of (n, c) float64 probabilities, in nats."""
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    sums: Floats = (probabilities * logs).sum(1)
    return 0 - sums  # not -sums, which shows a certain prediction as -0
