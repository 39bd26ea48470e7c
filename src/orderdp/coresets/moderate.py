"""Moderate: the samples at a medium distance from the centre of their class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.by_rows import by_rows
from orderdp.coresets.evidence import Array, Evidence, Floats


@dataclass(frozen=True)
class Moderate(Scorer):
    """Keeps the samples whose distance to the centre of their class is closest to the median distance.

    With d the Euclidean distance of a sample's features to the mean features of its class, the score is
    -|d - median d|. The median is over all samples, as published. With quotas, a compact class then keeps its outer
    samples, and a wide one its inner samples.

    Departures: none from the publication. Its code takes class medians for centres, and a window of ranks around the
    median.

    Source: Xia et al., "Moderate coreset", ICLR 2023.

    >>> Moderate().score(Evidence(labels=[0, 0, 0, 0], features=[[-3.0], [-1.0], [0.0], [4.0]]))
    array([-1., -1., -2., -2.])
    """

    name = "moderate"
    label = "moderate"
    needs = ("labels", "features")
    references = (
        """@inproceedings{xia2023moderate,
  title = {Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient Deep Learning},
  author = {Xia, Xiaobo and Liu, Jiale and Yu, Jun and Shen, Xu and Han, Bo and Liu, Tongliang},
  booktitle = {International Conference on Learning Representations},
  year = {2023},
}""",
    )

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        centres = class_means(evidence.features, evidence.labels)
        distances = by_rows(
            lambda features, labels: np.linalg.norm(features - centres[labels], axis=1),
            evidence.features,
            evidence.labels,
        )
        scores: Floats = 0 - np.abs(distances - np.median(distances))
        return scores


def class_means(features: Array, labels: Array) -> Floats:
    """Returns (c, d) float64 mean features of each class; zeros for a class without samples."""
    means = np.zeros((int(labels.max()) + 1, features.shape[1]))
    for label in np.unique(labels):
        means[label] = features[labels == label].mean(axis=0, dtype=np.float64)
    return means
