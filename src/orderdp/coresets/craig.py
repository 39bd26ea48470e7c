"""CRAIG: weighted samples whose gradients stand for those of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from orderdp.coresets import last_layer
from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.cover import greedy_cover
from orderdp.coresets.evidence import Evidence
from orderdp.coresets.greedy import bar
from orderdp.coresets.last_layer import LastLayer
from orderdp.coresets.rows import rounded
from orderdp.coresets.similarity import Similarity


@dataclass(frozen=True)
class CRAIG(Chooser):
    """Keeps samples near whose last-layer gradients all gradients lie, each weighted by how many it stands for.

    A greedy choice raises Σ_i max_{j kept} (D - ‖g_i - g_j‖), with g the loss gradients in the last layer and D a
    distance that none exceeds. Each sample counts for the nearest one kept. The weights are these counts, so they sum
    to the number of samples. The weighted sum of the gradients kept differs from the sum of all by at most
    Σ_i min_{j kept} ‖g_i - g_j‖.

    The publication chooses within each class. Quotas do that; with quotas=None all classes are chosen from together.
    The samples of a class with quota 0 are not in the weights.

    Source: Mirzasoleiman et al., "Coresets for data-efficient training of machine learning models", ICML 2020.
        Departures: the publication compares the gradients in the logits, p - onehot(y). Here they are those in weights
        and bias of the last layer, as in DeepCore. D is twice the largest norm. Any D gives the same choice. The
        publication chooses anew while it trains; here the subset is fixed.

    >>> predictions = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]]
    >>> evidence = Evidence(labels=[0, 0, 0], probabilities=predictions, features=[[1.0], [1.0], [2.0]])
    >>> CRAIG().choose(evidence, 2).weights
    array([2., 1.], dtype=float32)
    """

    name = "craig"
    label = "CRAIG"
    needs = last_layer.NEEDS
    weighs = True
    references = (
        """@inproceedings{mirzasoleiman2020coresets,
  title = {Coresets for Data-efficient Training of Machine Learning Models},
  author = {Mirzasoleiman, Baharan and Bilmes, Jeff and Leskovec, Jure},
  booktitle = {International Conference on Machine Learning},
  pages = {6950--6960},
  year = {2020},
}""",
    )

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        similarity = _Gradients(LastLayer.of(evidence, work.device))
        covered = greedy_cover(similarity, size, bar(work, self.label, similarity.num_samples))
        return Subset(covered.chosen, np.bincount(covered.owner, minlength=size).astype(np.float32))


class _Gradients(Similarity):
    """1 - distance / D of two gradients, with D twice the largest norm.

    Factors are rounded so that the products of each are exact in float64.
    """

    def __init__(self, gradients: LastLayer) -> None:
        self.num_samples = self.num_candidates = len(gradients)
        self.device = gradients.inputs.device
        inputs, residuals = gradients.inputs.double(), gradients.residuals.double()
        self._inputs = rounded(inputs / inputs.abs().max(), 20)
        self._residuals = rounded(residuals, 24)
        self._squares = self._inputs.square().sum(1) * self._residuals.square().sum(1)
        self._scale = 4 * float(self._squares.max()) or 1.0

    def of_samples(self, rows: Tensor) -> Tensor:
        """See `Similarity`."""
        products = (self._inputs[rows] @ self._inputs.T).mul_(self._residuals[rows] @ self._residuals.T)
        squares = products.mul_(-2).add_(self._squares).add_(self._squares[rows, None]).clamp_(min=0)
        return squares.div_(self._scale).sqrt_().neg_().add_(1).float().add_(1).sub_(1)  # rounds to multiples of 2⁻²³

    def of_candidates(self, rows: Tensor) -> Tensor:
        """See `Similarity`."""
        return self.of_samples(rows)
