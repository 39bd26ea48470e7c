"""Facility location: every sample is similar to one that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy.typing as npt
import torch

from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.cover import coverage, greedy_cover
from orderdp.coresets.evidence import Evidence, Floats
from orderdp.coresets.greedy import bar
from orderdp.coresets.rows import centred_rows, unit_rows
from orderdp.coresets.similarity import Cosine, Gaussian, Similarity

KERNELS = ("cosine", "gaussian")


@dataclass(frozen=True)
class FacilityLocation(Chooser):
    """Keeps samples to one of which every sample is similar: a greedy choice that raises Σ_i max_{j kept} s(i, j).

    Greedy reaches at least 1 - 1/e = 63 % of the largest possible sum. It is the exact greedy, without sampling.

    Args:
        kernel: "cosine" is s = 0.5 + 0.5·cos of the angle between features. "gaussian" is
            s = exp(-distance² / m), with m the mean of the squared distances of all pairs.

    Raises:
        ValueError: another kernel.

    Source: Nemhauser et al., "An analysis of approximations for maximizing submodular set functions", 1978; to choose
        training data, Wei et al., ICML 2015. Departures: DeepCore compares last-layer gradients; here features are
        compared. The scale of the Gaussian kernel is ours. With the number of features as the scale, as in public code,
        similarities of normalised pixels are almost equal.

    >>> evidence = Evidence(features=[[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
    >>> FacilityLocation().choose(evidence, 2, quotas=None).indices
    array([2, 3])
    """

    name = "facility_location"
    label = "facility location"
    needs = ("features",)
    references = (
        """@article{nemhauser1978analysis,
  title = {An analysis of approximations for maximizing submodular set functions--{I}},
  author = {Nemhauser, George L. and Wolsey, Laurence A. and Fisher, Marshall L.},
  journal = {Mathematical Programming},
  volume = {14},
  pages = {265--294},
  year = {1978},
}""",
        """@inproceedings{wei2015submodularity,
  title = {Submodularity in Data Subset Selection and Active Learning},
  author = {Wei, Kai and Iyer, Rishabh and Bilmes, Jeff},
  booktitle = {International Conference on Machine Learning},
  pages = {1954--1963},
  year = {2015},
}""",
    )

    kernel: Literal["cosine", "gaussian"] = "cosine"

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {self.kernel!r}")

    def objective(self, evidence: Evidence, indices: npt.ArrayLike, *, device: str | torch.device = "cpu") -> float:
        """Returns the mean, over all samples, of the similarity to the nearest of those kept, in [0, 1]."""
        similarity = self.similarity(evidence.features, torch.device(device))
        return coverage(similarity, torch.as_tensor(indices, device=device)) / similarity.num_samples

    def similarity(self, features: Floats, device: torch.device) -> Similarity:
        """Returns the similarities of all samples with each other, computed when asked for."""
        if self.kernel == "cosine":
            return Cosine(unit_rows(features, device))
        rows, _ = centred_rows(features, device)
        return Gaussian(rows, scale=2 * float(rows.square().sum(1).mean()) or 1.0)

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        similarity = self.similarity(evidence.features, work.device)
        return Subset(greedy_cover(similarity, size, bar(work, self.label, similarity.num_samples)).chosen)
