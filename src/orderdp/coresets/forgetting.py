"""Forgetting: the samples that training learns and unlearns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.evidence import Array, Evidence, Floats


@dataclass(frozen=True)
class Forgetting(Scorer):
    """Keeps the samples that were forgotten most often.

    A sample is forgotten when its prediction was right at one presentation and is wrong at the next one. A sample that
    was never right comes before all others. Most samples are often never forgotten, so the seed breaks many ties.

    Departures: the publication counts a sample never learned as forgotten infinitely often. Here it counts as t times,
    for t epochs, which is more than any count and has a mean over proxies. The authors' code does the same.

    Source: Toneva et al., "An empirical study of example forgetting", ICLR 2019, Algorithm 1.

    >>> Forgetting().score(Evidence(presented=[[True, False], [False, False], [True, False]]))
    array([1., 3.])
    """

    name = "forgetting"
    label = "forgetting"
    needs = ("presented",)
    references = (
        """@inproceedings{toneva2019empirical,
  title = {An Empirical Study of Example Forgetting during Deep Neural Network Learning},
  author = {Toneva, Mariya and Sordoni, Alessandro and Tachet des Combes, Remi and Trischler, Adam and Bengio, Yoshua
    and Gordon, Geoffrey J.},
  booktitle = {International Conference on Learning Representations},
  year = {2019},
}""",
    )

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        right: Array = evidence.presented
        forgotten = np.count_nonzero(right[:-1] & ~right[1:], axis=0)
        return np.where(right.any(0), forgotten, len(right)).astype(np.float64)
