"""DP: leaves out samples whose influences on the parameters cancel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.evidence import Evidence
from orderdp.coresets.last_layer import NEEDS, LastLayer
from orderdp.theory.sizes import check_count, check_number

_PAIRS = 2**20  # that each swap looks at, more or less
_GAIN = 1e-6  # share of the squared norm that a swap must save, above rounding errors


@dataclass(frozen=True)
class DP(Chooser):
    """Leaves out n - k samples so that the norm of their summed influence on the parameters is small.

    Without m samples D the parameters move by about (Σ_D sᵢ - m·s̄) / (n - m), with the influences sᵢ = H⁻¹gᵢ on the
    last layer and their mean s̄. The publication bounds the generalisation gap by the norm of the sum.

    It begins with a uniform draw to leave out, and swaps samples left out against samples kept while that lowers the
    norm: first as many at once as possible, then one pair at a time. For a pair it looks at about a million: all
    samples kept, against those left out whose return would lower the norm most.

    Departures: The publication anneals; this descends. It leaves the Hessian to an estimator. Here H is the Kronecker
    product A ⊗ B, damped, with A the mean of diag(p) - ppᵀ and B the mean of xxᵀ (Martens & Grosse 2015). So an
    influence has two factors, as a gradient has. The publication has no s̄, which is zero after training without weight
    decay. With quotas H is that of all classes, and each class has its own sum and mean.

    Many sets reach almost the same norm, so `start` decides which of them is found.

    Args:
        damping: makes the Hessian invertible, above 0.
        start: "uniform" as published, or "smallest": the samples with the smallest influence, which are the easy ones.
        steps: most steps, in each class.

    Raises:
        TypeError: a setting of another type. ValueError: a setting out of range.

    Source: Yang et al., "Dataset pruning", ICLR 2023, eq. (6), with the number of samples given.
    """

    name = "dp"
    label = "DP"
    needs = NEEDS
    references = (
        """@inproceedings{yang2023dataset,
  title     = {Dataset Pruning: Reducing Training Data by Examining Generalization Influence},
  author    = {Yang, Shuo and Xie, Zeke and Peng, Hanyu and Xu, Min and Sun, Mingming and Li, Ping},
  booktitle = {International Conference on Learning Representations},
  year      = {2023}
}""",
        """@inproceedings{martens2015optimizing,
  title     = {Optimizing Neural Networks with {Kronecker}-factored Approximate Curvature},
  author    = {Martens, James and Grosse, Roger},
  booktitle = {International Conference on Machine Learning},
  year      = {2015}
}""",
    )

    damping: float = 0.01
    start: Literal["uniform", "smallest"] = "uniform"
    steps: int = 300

    def __post_init__(self) -> None:
        check_number("damping", self.damping, example="0.01")
        if not 0 < self.damping < np.inf:
            raise ValueError(f"damping must lie above 0 and be finite, got {self.damping}; write 0.01")
        if self.start not in ("uniform", "smallest"):
            raise ValueError(f'start must be "uniform" or "smallest", got {self.start!r}')
        object.__setattr__(self, "steps", check_count("steps", self.steps))

    def _prepare(self, evidence: Evidence, work: Work) -> Evidence:
        """Returns the factors of each influence in place of residuals and inputs, since H belongs to all classes."""
        factors = influences(evidence, self.damping, work.device)
        left, right = factors.residuals.cpu().numpy(), factors.inputs.cpu().numpy()
        return Evidence._unchecked({"probabilities": left, "features": right})

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        left, right = (torch.from_numpy(part).to(work.device) for part in (evidence.probabilities, evidence.features))
        factors = LastLayer(left, right)
        squares = factors.norms().square()
        order = squares.argsort(stable=True) if self.start == "smallest" else torch.arange(len(squares))  # shuffled
        out = torch.zeros(len(squares), dtype=torch.bool, device=work.device)
        out[order[: len(squares) - size]] = True
        if out.any():
            total = factors.take(out.nonzero().flatten()).sum().double() - int(out.sum()) * factors.mean().double()
            together = int(min(out.sum(), (~out).sum()))
            for _ in work.progress(range(self.steps), self.label):
                while together > 1 and not _swap_many(factors, squares, out, total, together):
                    together //= 2
                if together <= 1 and not _swap(factors, squares, out, total):
                    break
        return Subset((~out).nonzero().flatten().cpu().numpy())


def influences(evidence: Evidence, damping: float, device: str | torch.device = "cpu") -> LastLayer:
    """Returns H⁻¹gᵢ of each sample as two factors, in the place of residuals and inputs.

    The damping is shared between the two matrices in proportion to the roots of their mean eigenvalues, as Martens and
    Grosse do.
    """
    gradients = LastLayer.of(evidence, device)
    inputs, count = gradients.inputs, len(gradients)
    probabilities = torch.from_numpy(np.array(evidence.probabilities, dtype=np.float32)).to(device)
    small = (probabilities.sum(0).diag() - probabilities.T @ probabilities).double() / count
    large = (inputs.T @ inputs).double() / count
    ratio = (small.diagonal().mean() / large.diagonal().mean()).sqrt().clamp(min=1e-6)  # all may be certain
    small.diagonal().add_(ratio * damping**0.5)
    large.diagonal().add_(damping**0.5 / ratio)
    return LastLayer(
        gradients.residuals @ torch.linalg.inv(small).float(), gradients.inputs @ torch.linalg.inv(large).float()
    )


def _swap_many(factors: LastLayer, squares: Tensor, out: Tensor, total: Tensor, count: int) -> bool:
    """Swaps the `count` samples that lower the norm most when each goes alone, if that lowers it; returns whether."""
    along = factors.along(total.float())
    returns = torch.where(out, squares - 2 * along, torch.inf).argsort(stable=True)[:count]
    leaves = torch.where(out, torch.inf, squares + 2 * along).argsort(stable=True)[:count]
    new = total + factors.take(leaves).sum() - factors.take(returns).sum()
    if not new.norm() < total.norm() * (1 - _GAIN):
        return False
    total.copy_(new)
    out[leaves], out[returns] = True, False
    return True


def _swap(factors: LastLayer, squares: Tensor, out: Tensor, total: Tensor) -> bool:
    """Makes the swap that lowers the norm of the total most, in place; returns whether there was one."""
    along = factors.along(total.float())
    returns = squares - 2 * along  # change of the squared norm if a sample is kept after all
    left_out = out.nonzero().flatten()
    returning = left_out[returns[left_out].argsort(stable=True)[: _PAIRS // len(out) + 1]]
    changes = factors.products(returning, slice(None)).mul_(-2).add_(squares + 2 * along).add_(returns[returning, None])
    changes[:, out] = torch.inf
    best, leaving = divmod(int(changes.argmin()), len(out))
    back = int(returning[best])
    new = total + _one(factors, leaving) - _one(factors, back)
    if not new.norm() < total.norm() * (1 - _GAIN):
        return False
    total.copy_(new)
    out[leaving], out[back] = True, False
    return True


def _one(factors: LastLayer, row: int) -> Tensor:
    return torch.outer(factors.residuals[row].double(), factors.inputs[row].double())
