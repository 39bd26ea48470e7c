"""EL2N: the samples whose predictions are farthest from their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.by_rows import by_rows
from orderdp.coresets.evidence import Array, Evidence, Floats

PAUL_2021 = (
    """@inproceedings{paul2021deep,
  title = {Deep Learning on a Data Diet: Finding Important Examples Early in Training},
  author = {Paul, Mansheej and Ganguli, Surya and Dziugaite, Gintare Karolina},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {34},
  pages = {20596--20607},
  year = {2021},
}""",
)


@dataclass(frozen=True)
class EL2N(Scorer):
    """Keeps the samples with the largest error: score ‖p - onehot(y)‖₂, between 0 and √2.

    "EL2N-2" and "EL2N-20" are this score of proxies after 2 and 20 epochs. Pass the evidence of several proxies, and
    their scores are averaged; the publication averages ten.

    Source: Paul et al., "Deep learning on a data diet", NeurIPS 2021.

    >>> EL2N().score(Evidence(labels=[0, 0], probabilities=[[1.0, 0.0], [0.0, 1.0]])).round(3)
    array([0.   , 1.414])
    """

    name = "el2n"
    label = "EL2N"
    needs = ("labels", "probabilities")
    references = PAUL_2021

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        return by_rows(error_norms, evidence.probabilities, evidence.labels)


def error_norms(probabilities: Array, labels: Array) -> Floats:
    """Returns (n,) float64, the norm of p - onehot(y) for (n, c) float64 probabilities, which it overwrites."""
    probabilities[np.arange(len(labels)), labels] -= 1
    norms: Floats = np.linalg.norm(probabilities, axis=1)
    return norms
