"""k-means prototypes: the samples far from the centre of their cluster, or near it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.by_rows import by_rows
from orderdp.coresets.evidence import Array, Evidence, Floats
from orderdp.theory.sizes import check_count


@dataclass(frozen=True)
class KMeans(Scorer):
    """Keeps the samples by their Euclidean distance to the nearest k-means centre, the prototype of their cluster.

    It runs on one thread. With more threads, scikit-learn's k-means adds up in the order in which they end, and equal
    seeds give different clusters (seen in 1.9.1). Rows are sorted first, so the clusters do not depend on the order of
    the samples.

    Args:
        num_clusters: clusters; None takes one for each class and needs labels. The publication finds that the number
            matters little within a factor of ten of the number of classes.
        keep: "far" keeps hard samples, "near" easy ones. The publication advises easy ones if data are few.

    Raises:
        TypeError: `num_clusters` no whole number. ValueError: below 1, or another word to keep.
        ImportError: when it scores, scikit-learn is missing.

    Departures: the publication uses features of a self-supervised model. The scores that its authors published are
    cosine similarities to the centre. Here distances are Euclidean. Scale the features to unit norm if their length
    should not count; then the order is that of the cosine, if all centres have the same norm. There are never more
    clusters than distinct rows.

    Source: Sorscher et al., "Beyond neural scaling laws", NeurIPS 2022.

    >>> features = [[0.0], [0.2], [0.7], [5.0], [5.0]]
    >>> KMeans(num_clusters=2).score(Evidence(features=features)).round(1)
    array([0.3, 0.1, 0.4, 0. , 0. ])
    """

    name = "k_means"
    label = "k-means prototypes"
    needs = ("labels", "features")
    references = (
        """@inproceedings{sorscher2022beyond,
  title = {Beyond neural scaling laws: beating power law scaling via data pruning},
  author = {Sorscher, Ben and Geirhos, Robert and Shekhar, Shashank and Ganguli, Surya and Morcos, Ari S.},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {35},
  pages = {19523--19536},
  year = {2022},
}""",
    )

    num_clusters: int | None = None
    keep: Literal["far", "near"] = "far"

    def __post_init__(self) -> None:
        if self.keep not in ("far", "near"):
            raise ValueError(f'keep must be "far" or "near", got {self.keep!r}')
        if self.num_clusters is not None:
            object.__setattr__(self, "num_clusters", check_count("num_clusters", self.num_clusters))
            object.__setattr__(self, "needs", ("features",))

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        number = self.num_clusters or len(np.unique(evidence.labels))
        centres, clusters = _clusters(evidence.features, number, int(work.rng.integers(2**31)))
        distances = by_rows(
            lambda features, cluster: np.linalg.norm(features - centres[cluster], axis=1), evidence.features, clusters
        )
        return distances if self.keep == "far" else 0 - distances


def _clusters(features: Array, number: int, seed: int) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Returns the centres and (n,) the nearest centre of each row."""
    try:
        from sklearn.cluster import KMeans as Lloyd
        from threadpoolctl import threadpool_limits  # scikit-learn needs it too
    except ImportError:
        raise ImportError("KMeans needs scikit-learn: pip install scikit-learn") from None
    order = sorting(features)
    rows = np.asarray(features, dtype=np.result_type(features, np.float32))[order]
    distinct = 1 + int((rows[1:] != rows[:-1]).any(1).sum())
    with threadpool_limits(1):
        model = Lloyd(min(number, distinct), n_init=1, random_state=seed).fit(rows)
    clusters = np.empty(len(rows), dtype=np.intp)
    clusters[order] = model.labels_
    return model.cluster_centers_, clusters


def sorting(rows: Array) -> npt.NDArray[np.intp]:
    """Returns (n,) an order of the rows that depends on their bytes only; equal rows stand together."""
    rows = np.ascontiguousarray(rows) + 0  # -0 is 0
    return np.argsort(rows.view(np.dtype((np.void, rows[0].nbytes))).ravel(), kind="stable")
