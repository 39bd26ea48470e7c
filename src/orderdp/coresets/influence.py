"""Influence: the samples without which the validation loss would be higher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.evidence import Evidence, Floats
from orderdp.coresets.hessian import Hessian
from orderdp.coresets.last_layer import NEEDS, LastLayer
from orderdp.coresets.softmax_regression import fitted, predicted
from orderdp.theory.sizes import check_number


@dataclass(frozen=True)
class Influence(Scorer):
    """Keeps the samples whose removal would raise the validation loss most.

    The score is ∇L_val·H⁻¹·gᵢ on the last layer, with the Hessian H of the mean training loss plus `damping`. All three
    are taken at the minimum of the mean training loss plus damping/2·‖W‖², to which the last layer is brought first, on
    the features of the proxy. Divided by n, the score is by how much the mean validation loss rises if the sample is
    removed and the last layer trained anew, to first order in 1/n and up to a constant that all samples share. A
    positive score says that the sample helps, a negative one that it harms.

    At the proxy itself the order would be of chance. A network whose training ends at a large learning rate is not at a
    minimum. Its mean validation gradient is then almost the mean training gradient of its last steps.

    One system is solved, whatever n is. Up to 6,000 parameters the matrix is factorised; beyond, conjugate gradients
    use products with H that need no matrix.

    Departures: Koh & Liang write the effect of giving a sample more weight, which has the opposite sign. Only the last
    layer counts here, trained to its minimum. Of the proxy's probabilities only the number of classes is used.

    Args:
        damping: of the L2 penalty damping/2·‖W‖² on weights and bias, so it is added to the diagonal of H; above 0.

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
        gradients, validation = LastLayer.of(evidence, work.device), LastLayer.of_validation(evidence, work.device)
        assert evidence.validation is not None
        labels = torch.from_numpy(np.array(evidence.labels)).to(work.device)
        weights = fitted(gradients.inputs, labels, evidence.probabilities.shape[1], self.damping)
        at_minimum = _predicting(evidence, predicted(gradients.inputs, weights))
        held_out = _predicting(evidence.validation, predicted(validation.inputs, weights))
        gradients = LastLayer.of(at_minimum, work.device)
        direction = LastLayer.of(held_out, work.device).mean()
        direction = Hessian.of(at_minimum, gradients, self.damping).solve(direction[None])[0]
        scores: Floats = gradients.along(direction.float()).cpu().numpy()
        return scores


def _predicting(evidence: Evidence, probabilities: Tensor) -> Evidence:
    """Returns the labels and features of some evidence, with these probabilities."""
    return Evidence(labels=evidence.labels, features=evidence.features, probabilities=probabilities.cpu())
