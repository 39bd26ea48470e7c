"""Herding: the mean of those kept follows the mean of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.evidence import Evidence
from orderdp.coresets.greedy import bar
from orderdp.coresets.rows import centred_rows, unit_rows
from orderdp.coresets.similarity import HELD


@dataclass(frozen=True)
class Herding(Chooser):
    """Keeps samples whose mean feature is near the mean of all, at every size.

    With μ the mean of all features and S the sum of the t kept so far, the next sample x minimises
    ‖(t + 1)·μ - S - x‖. Samples are kept at most once.

    Args:
        unit_norm: divide the features of each sample by their norm first. Otherwise a few samples with large norms
            steer the choice.

    Raises:
        TypeError: `unit_norm` no bool.

    Departures: Welling takes the largest product of x with (t + 1)·μ - S, and samples may repeat. For equal norms the
    largest product is the smallest distance, so with `unit_norm` it is the same rule.

    Source: Welling, "Herding dynamical weights to learn", ICML 2009; with unit norms and without repeats, Rebuffi et
        al., "iCaRL", CVPR 2017. DeepCore takes the largest distance instead and keeps a mean far away.

    >>> Herding(unit_norm=False).choose(Evidence(features=[[0.0], [1.0], [9.0], [4.0]]), 2, quotas=None).indices
    array([3, 1])
    """

    name = "herding"
    label = "herding"
    needs = ("features",)
    references = (
        """@inproceedings{welling2009herding,
  title = {Herding Dynamical Weights to Learn},
  author = {Welling, Max},
  booktitle = {International Conference on Machine Learning},
  pages = {1121--1128},
  year = {2009},
}""",
        """@inproceedings{rebuffi2017icarl,
  title = {{iCaRL}: Incremental Classifier and Representation Learning},
  author = {Rebuffi, Sylvestre-Alvise and Kolesnikov, Alexander and Sperl, Georg and Lampert, Christoph H.},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages = {2001--2010},
  year = {2017},
}""",
    )

    unit_norm: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.unit_norm, bool):
            raise TypeError(f"unit_norm must be True or False, got {self.unit_norm!r}")

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        # Around the mean, (t + 1)·μ - S - x is minus the sum of those kept and x.
        features, device = evidence.features, work.device
        exact = unit_rows(features, device) if self.unit_norm else centred_rows(features, device)[0]
        exact -= exact.mean(0)
        errors = exact.square().sum(1)  # ‖S + x‖² - ‖S‖²
        rows = exact.float()
        products = rows @ rows.T if len(rows) <= HELD and size > 1 else None
        chosen = []
        for _ in bar(work, self.label, len(rows))(range(size)):
            best = int(errors.argmin())  # the first of equal ones
            chosen.append(best)
            errors += 2 * (rows @ rows[best] if products is None else products[best])
            errors[best] = torch.inf
        return Subset(np.array(chosen, dtype=np.int64))
