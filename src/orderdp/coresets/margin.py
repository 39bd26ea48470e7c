"""Margin: the samples whose two most probable classes are closest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.by_rows import by_rows
from orderdp.coresets.evidence import Array, Evidence, Floats
from orderdp.coresets.graph_cut import GUO_2022


@dataclass(frozen=True)
class Margin(Scorer):
    """Keeps the samples with the smallest margin p₁ - p₂ of the two most probable classes: score 1 - (p₁ - p₂).

    It reads no labels, so a confident mistake scores low. With two classes it ranks as least confidence does.

    Raises:
        ValueError: when it scores, the probabilities are of one class.

    Source: Scheffer et al., "Active hidden Markov models for information extraction", 2001; as a static method, Guo et
        al., "DeepCore", 2022. The OrderDP paper cites Coleman et al., whose code has no margin.

    >>> Margin().score(Evidence(probabilities=[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
    array([0., 1.])
    """

    name = "margin"
    label = "margin"
    needs = ("probabilities",)
    references = (
        """@inproceedings{scheffer2001active,
  title = {Active Hidden {Markov} Models for Information Extraction},
  author = {Scheffer, Tobias and Decomain, Christian and Wrobel, Stefan},
  booktitle = {Advances in Intelligent Data Analysis},
  year = {2001},
}""",
        GUO_2022,
    )

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        if evidence.probabilities.shape[1] < 2:
            raise ValueError("Margin needs probabilities of at least 2 classes, got 1; pass softmax outputs")
        return by_rows(_closeness, evidence.probabilities)


def _closeness(probabilities: Array) -> Floats:
    second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
    closeness: Floats = 1 - (first - second)
    return closeness
