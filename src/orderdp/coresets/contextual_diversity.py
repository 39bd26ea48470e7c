"""Contextual diversity: predictions that differ from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.evidence import Evidence
from orderdp.coresets.farthest import Separated, farthest_first
from orderdp.coresets.greedy import bar
from orderdp.coresets.rows import rounded
from orderdp.theory.sizes import check_fraction


@dataclass(frozen=True)
class ContextualDiversity(Chooser):
    """Keeps samples whose predictions differ: farthest first under the symmetric divergence of softmax outputs.

    The distance of two predictions is ½ Σ p·log(p/q) + ½ Σ q·log(q/p). The first sample is the one nearest to the
    mean prediction. Each next one is the sample whose nearest pick is farthest.

    Args:
        floor: probabilities below it are raised to it, in (0, 1). A probability of 0 would be infinitely far.

    Raises:
        ValueError: a floor out of range. TypeError: no number.

    Source: Agarwal et al., "Contextual diversity for active learning", ECCV 2020, the greedy variant. Departures: it
        mixes the predictions of all regions of an image; a classifier has one prediction for each. Its code begins with
        a random sample and leaves out infinite terms. The first sample and the floor are ours.

    >>> evidence = Evidence(probabilities=[[0.9, 0.1], [0.5, 0.5], [0.4, 0.6]])
    >>> ContextualDiversity().choose(evidence, 2, quotas=None).indices
    array([1, 0])
    """

    name = "contextual_diversity"
    label = "contextual diversity"
    needs = ("probabilities",)
    references = (
        """@inproceedings{agarwal2020contextual,
  title = {Contextual Diversity for Active Learning},
  author = {Agarwal, Sharat and Arora, Himanshu and Anand, Saket and Arora, Chetan},
  booktitle = {European Conference on Computer Vision},
  pages = {137--153},
  year = {2020},
}""",
    )

    floor: float = 1e-6

    def __post_init__(self) -> None:
        check_fraction("floor", self.floor, low_open=True, high_open=True)

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        p = torch.from_numpy(np.array(evidence.probabilities, dtype=np.float64)).to(work.device)
        p = p.clamp_(min=self.floor)
        samples, mean = _separated(p), _separated(p.mean(0, keepdim=True))
        first = int(samples.numbers(mean)[:, 0].argmin())
        return Subset(farthest_first(samples, first, size, bar(work, self.label, len(samples))))


def _separated(p: Tensor) -> Separated:
    """Returns predictions with twice their divergence: Σ p·log p + Σ q·log q - Σ p·log q - Σ q·log p.

    Probabilities and logarithms are rounded so that the products are exact in float64.
    """
    logs, p = rounded(p.log(), 20), rounded(p / 2, 27)
    return Separated(2 * (p * logs).sum(1), torch.cat([p, logs], 1), torch.cat([logs, p], 1))
