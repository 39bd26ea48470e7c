"""GraNd: the samples with the largest loss gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from orderdp.coresets.base import Scorer, Work
from orderdp.coresets.by_rows import by_rows
from orderdp.coresets.el2n import PAUL_2021, error_norms
from orderdp.coresets.evidence import Array, Evidence, Floats


@dataclass(frozen=True)
class GraNd(Scorer):
    """Keeps the samples with the largest norm of the loss gradient.

    "GraNd-4" is this score of proxies after 4 epochs. Pass the evidence of several proxies, and their scores are
    averaged; the publication averages ten.

    The gradient in weights and bias of a linear last layer has norm ‖p - onehot(y)‖·√(1 + ‖h‖²), with the features h.
    It needs no backward pass. The publication takes all layers. DeepCore's GraNd takes the last one.

    Args:
        layer: "all" reads the norms in all parameters, "last" computes those of the last layer.

    Raises:
        ValueError: another layer.

    Source: Paul et al., "Deep learning on a data diet", NeurIPS 2021.

    >>> GraNd().score(Evidence(gradient_norms=[0.5, 2.0]))
    array([0.5, 2. ])
    """

    name = "grand"
    label = "GraNd"
    needs = ("gradient_norms",)
    references = PAUL_2021

    layer: Literal["all", "last"] = "all"

    def __post_init__(self) -> None:
        if self.layer not in ("all", "last"):
            raise ValueError(f'layer must be "all" or "last", got {self.layer!r}')
        if self.layer == "last":
            object.__setattr__(self, "needs", ("labels", "probabilities", "features"))

    def _score(self, evidence: Evidence, work: Work) -> Floats:
        if self.layer == "all":
            scores: Floats = evidence.gradient_norms
            return scores
        errors = by_rows(error_norms, evidence.probabilities, evidence.labels)
        return errors * by_rows(_input_norms, evidence.features)


def _input_norms(features: Array) -> Floats:
    norms: Floats = np.sqrt(1 + np.square(features).sum(1))
    return norms
