"""A uniform draw: what every static method must beat."""

from __future__ import annotations

from dataclasses import dataclass

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.evidence import Evidence, Floats


@dataclass(frozen=True)
class Random(Scorer):
    """Keeps a uniform draw without replacement: the scores are random numbers.

    >>> Random().choose(Evidence(labels=[0, 0, 1, 1]), 2).indices.shape
    (2,)
    """

    name = "random"
    label = "random"

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        return work.rng.random(evidence.num_samples)
