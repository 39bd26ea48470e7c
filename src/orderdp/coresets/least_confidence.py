"""Least confidence: the samples whose predicted class is least probable."""

from __future__ import annotations

from dataclasses import dataclass

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.by_rows import by_rows
from orderdp.coresets.evidence import Evidence, Floats

COLEMAN_2020 = (
    """@inproceedings{coleman2020selection,
  title = {Selection via Proxy: Efficient Data Selection for Deep Learning},
  author = {Coleman, Cody and Yeh, Christopher and Mussmann, Stephen and Mirzasoleiman, Baharan and Bailis, Peter and
    Liang, Percy and Leskovec, Jure and Zaharia, Matei},
  booktitle = {International Conference on Learning Representations},
  year = {2020},
}""",
)


@dataclass(frozen=True)
class LeastConfidence(Scorer):
    """Keeps the samples with the lowest probability of the predicted class: score 1 - max p.

    It reads no labels, so a confident mistake scores low.

    Source: Coleman et al., "Selection via proxy", ICLR 2020.

    >>> LeastConfidence().score(Evidence(probabilities=[[1.0, 0.0], [0.5, 0.5]]))
    array([0. , 0.5])
    """

    name = "least_confidence"
    label = "least confidence"
    needs = ("probabilities",)
    references = COLEMAN_2020

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        return by_rows(lambda p: 1 - p.max(1), evidence.probabilities)
