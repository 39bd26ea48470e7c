"""K-Center: no sample is far from those kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy.typing as npt
import torch

from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.evidence import Evidence, Floats
from orderdp.coresets.farthest import Separated, farthest_first, to_nearest
from orderdp.coresets.greedy import bar
from orderdp.coresets.rows import centred_rows


@dataclass(frozen=True)
class KCenter(Chooser):
    """Keeps centres that leave no sample far away: farthest first by Euclidean distance of features.

    The first centre is the sample nearest to the mean. Each next one is the sample whose nearest centre is farthest.
    The radius, the largest distance of a sample to its nearest centre, is at most twice the smallest one possible.

    Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985; as a way to choose data, Sener
        and Savarese, ICLR 2018. Departures: they begin with any sample, or with samples that have labels. Their
        variant that leaves outliers out by integer programs is not here.

    >>> KCenter().choose(Evidence(features=[[0.0], [1.0], [9.0], [4.0]]), 2, quotas=None).indices
    array([3, 2])
    """

    name = "k_center"
    label = "K-Center"
    needs = ("features",)
    references = (
        """@inproceedings{sener2018active,
  title = {Active Learning for Convolutional Neural Networks: A Core-Set Approach},
  author = {Sener, Ozan and Savarese, Silvio},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
}""",
        """@article{gonzalez1985clustering,
  title = {Clustering to minimize the maximum intercluster distance},
  author = {Gonzalez, Teofilo F.},
  journal = {Theoretical Computer Science},
  volume = {38},
  pages = {293--306},
  year = {1985},
}""",
    )

    def radius(self, evidence: Evidence, indices: npt.ArrayLike, *, device: str | torch.device = "cpu") -> float:
        """Returns the largest Euclidean distance of a sample to the nearest of those kept."""
        samples, scale = separated(evidence.features, torch.device(device))
        squares = to_nearest(samples, samples.take(torch.as_tensor(indices, device=device)))
        return scale * math.sqrt(float(squares.max()))

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        samples, _ = separated(evidence.features, work.device)
        first = int(samples.own.argmin())
        return Subset(farthest_first(samples, first, size, bar(work, self.label, len(samples))))


def separated(features: Floats, device: torch.device) -> tuple[Separated, float]:
    """Returns the samples with their squared distances, and what to multiply their roots by."""
    rows, scale = centred_rows(features, device)
    return Separated(rows.square().sum(1), rows, rows), scale
