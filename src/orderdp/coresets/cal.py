"""CAL: the samples whose predictions differ from those of their neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.by_rows import blocks_of
from orderdp.coresets.divergence import divergences
from orderdp.coresets.evidence import Array, Evidence, Floats
from orderdp.theory.sizes import check_count


@dataclass(frozen=True)
class CAL(Scorer):
    """Keeps the samples whose predictions differ most from those of their nearest neighbours in feature space.

    The score is the mean Kullback–Leibler divergence Σ q·log(q / p) of the neighbours' predictions q from the sample's
    prediction p. Neighbours are nearest in Euclidean distance, among all other samples. A copy of the sample is a
    neighbour. Which of equally near samples are neighbours is left to scikit-learn.

    Args:
        num_neighbors: neighbours of a sample.

    Raises:
        TypeError: `num_neighbors` no whole number. ValueError: below 1, or when it scores, not fewer than the samples.
        ImportError: when it scores, scikit-learn is missing.

    Departures: active learning seeks neighbours among labelled samples. Here all samples are labelled. The authors'
    code divides features by their norm first. Here they stay as they are. Probabilities below 1e-8 count as 1e-8 in the
    logarithms.

    Source: Margatina et al., "Active learning by acquiring contrastive examples", EMNLP 2021, with 10 neighbours.
    DeepCore makes the divergence symmetric and keeps the smallest scores, the opposite samples.

    >>> evidence = Evidence(features=[[0.0], [1.0], [5.0], [6.0]], probabilities=[[1, 0], [0.5, 0.5], [0, 1], [0, 1]])
    >>> CAL(num_neighbors=1).score(evidence).round(1)
    array([8.5, 0.7, 0. , 0. ])
    """

    name = "cal"
    label = "CAL"
    needs = ("probabilities", "features")
    references = (
        """@inproceedings{margatina2021active,
  title = {Active Learning by Acquiring Contrastive Examples},
  author = {Margatina, Katerina and Vernikos, Giorgos and Barrault, Lo{\\"\\i}c and Aletras, Nikolaos},
  booktitle = {Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing},
  pages = {650--663},
  year = {2021},
}""",
    )

    num_neighbors: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_neighbors", check_count("num_neighbors", self.num_neighbors))

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        n, k = evidence.num_samples, self.num_neighbors
        if k >= n:
            raise ValueError(f"num_neighbors must be below {n}, the number of samples, got {k}; write {max(1, n - 1)}")
        search = _search(evidence.features)
        probabilities: Array = evidence.probabilities
        width = k * probabilities.shape[1] + evidence.features.shape[1]
        scores = np.empty(n)
        for rows in work.progress(list(blocks_of(n, width)), self.label):
            own = np.arange(n)[rows]
            neighbors = others(search(evidence.features[rows], k + 1), own)
            scores[rows] = divergences(probabilities[neighbors], probabilities[rows, None]).mean(1)
        return scores


def others(found: npt.NDArray[np.intp], own: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Returns (b, k) of the (b, k + 1) nearest rows found for each row, without the row itself.

    The row need not be the first one found, nor found at all, if it has copies.
    """
    left_out = found == own[:, None]
    left_out[~left_out.any(1), -1] = True
    kept: npt.NDArray[np.intp] = found[~left_out].reshape(len(found), -1)
    return kept


def _search(features: Array) -> Any:
    """Returns the function that finds the nearest of these rows: (rows, how many) to (b, how many) positions."""
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError:
        raise ImportError("CAL needs scikit-learn: pip install scikit-learn") from None
    rows = np.asarray(features, dtype=np.result_type(features, np.float32))  # scikit-learn takes no float16
    index = NearestNeighbors().fit(rows)
    return lambda queries, number: index.kneighbors(queries, number, return_distance=False)
