"""Influence: the samples without which the validation loss would be higher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.evidence import Evidence, Floats
from orderdp.coresets.hessian import Hessian
from orderdp.coresets.last_layer import NEEDS, LastLayer
from orderdp.theory.sizes import check_number


@dataclass(frozen=True)
class Influence(Scorer):
    """Keeps the samples whose removal would raise the validation loss most.

    The score is ∇L_val·H⁻¹·gᵢ on the last layer, with the Hessian H of the mean training loss plus `damping`. Divided
    by n, it is by how much the mean validation loss rises if the sample is removed and the last layer trained to its
    minimum. This holds to first order in 1/n, and up to a constant that all samples share if the proxy's mean gradient
    is not zero. A positive score says that the sample helps, a negative one that it harms.

    One system is solved, whatever n is. Up to 6,000 parameters the matrix is factorised; beyond, conjugate gradients
    use products with H that need no matrix.

    Departures: Koh & Liang write the effect of giving a sample more weight, which has the opposite sign. Only the last
    layer counts here.

    Args:
        damping: added to the diagonal of H, above 0. With the L2 penalty of the training, damping/2·‖W‖², the estimate
            belongs to the penalised loss.

    Raises:
        TypeError: damping no number. ValueError: damping not above 0 or not finite.

    Source: Koh and Liang, "Understanding black-box predictions via influence functions", ICML 2017.
    """

    name = "influence"
    label = "Influence"
    needs = (*NEEDS, "validation")
    references = (
        """@inproceedings{koh2017influence,
  title     = {Understanding Black-box Predictions via Influence Functions},
  author    = {Koh, Pang Wei and Liang, Percy},
  booktitle = {International Conference on Machine Learning},
  year      = {2017}
}""",
    )

    damping: float = 0.01

    def __post_init__(self) -> None:
        check_number("damping", self.damping, example="0.01")
        if not 0 < self.damping < np.inf:
            raise ValueError(f"damping must lie above 0 and be finite, got {self.damping}; write 0.01")

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        validation = LastLayer.of_validation(evidence, work.device).mean()
        gradients = LastLayer.of(evidence, work.device)
        direction = Hessian.of(evidence, gradients, self.damping).solve(validation[None])[0]
        scores: Floats = gradients.along(direction.float()).cpu().numpy()
        return scores
