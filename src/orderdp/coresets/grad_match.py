"""GradMatch: few weighted samples whose gradients add up to that of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.base import Chooser, Subset, Work
from orderdp.coresets.evidence import Evidence
from orderdp.coresets.growing_inverse import GrowingInverse
from orderdp.coresets.last_layer import NEEDS, LastLayer
from orderdp.theory.sizes import check_number

_NOISE = 1e-6  # cosine below which a float32 product counts as zero
_EXACT = 32  # steps from one solution of all weights to the next; between, rounding errors stay


@dataclass(frozen=True)
class GradMatch(Chooser):
    """Keeps samples, with weights w >= 0, whose weighted gradients add up to the sum of all gradients.

    It minimises ‖Σ wᵢgᵢ - Σ gⱼ‖² + l2·‖w‖² by orthogonal matching pursuit on last-layer gradients. Each step adds the
    sample whose gradient has the largest product with the residual, and then fits all weights anew.

    The gradients span at most (c - 1)(d + 1) dimensions, with quotas too, since residuals p - onehot(y) sum to zero.
    Beyond that rank the residual is not exactly zero, because l2 > 0. More samples then share the weight.

    Departures: A sample whose best weight falls to zero leaves the subset again, and may come back, so the weights are
    those of non-negative least squares (Lawson & Hanson 1974) and all positive. Once no further sample can lower the
    error, the authors' library fills the subset up with random samples of weight one. They would spoil the match. Here
    it is filled up with weight zero, largest product with the residual first. Where all gradients are zero, all weights
    are one. With quotas each class matches its own sum.

    Args:
        l2: weight of ‖w‖², above 0. Gradients enter as they are, so large features make a given l2 weaker.

    Raises:
        TypeError: l2 no number. ValueError: l2 not above 0 or not finite.

    Source: Killamsetty et al., "GRAD-MATCH", ICML 2021, Algorithm 2, with λ = 0.5 as in the authors' library
        (cords), which has λ = 0 for whole batches.
    """

    name = "grad_match"
    label = "GradMatch"
    needs = NEEDS
    weighs = True
    references = (
        """@inproceedings{killamsetty2021gradmatch,
  title = {{GRAD-MATCH}: Gradient Matching based Data Subset Selection for Efficient Deep Model Training},
  author = {Killamsetty, Krishnateja and Sivasubramanian, Durga and Ramakrishnan, Ganesh and De, Abir and
    Iyer, Rishabh},
  booktitle = {International Conference on Machine Learning},
  pages = {5464--5474},
  year = {2021},
}""",
    )

    l2: float = 0.5

    def __post_init__(self) -> None:
        check_number("l2", self.l2, example="0.5")
        if not 0 < self.l2 < np.inf:
            raise ValueError(f"l2 must lie above 0 and be finite, got {self.l2}; write 0.5")

    def _choose(self, evidence: Evidence, size: int, work: Work) -> Subset:
        gradients = LastLayer.of(evidence, work.device)
        fit = _Fit(gradients, self.l2, size)
        for _ in work.progress(_pursue(gradients, fit, size), self.label, total=size):
            pass
        chosen, weights = fit.result()
        if len(chosen) < size:
            products = gradients.along(fit.residual.float())
            products[chosen] = -torch.inf
            filled = products.argsort(descending=True, stable=True)[: size - len(chosen)]
            weight = 0.0 if len(chosen) else 1.0
            chosen, weights = (
                torch.cat([chosen, filled]),
                torch.cat([weights, weights.new_full((len(filled),), weight)]),
            )
        return Subset(chosen.cpu().numpy(), weights.float().cpu().numpy())


def _pursue(gradients: LastLayer, fit: _Fit, size: int) -> Iterator[None]:
    """Adds one sample after another until there are `size`, or no further one lowers the error."""
    norms = gradients.norms()
    while fit.count < size:
        products = gradients.along(fit.residual.float())
        products[fit.members] = -torch.inf
        best = int(products.argmax())
        if products[best] <= _NOISE * norms[best] * fit.residual.norm():
            return
        if not fit.add(best):
            return  # it fell out at once: rounding errors are all that is left
        yield


class _Fit:
    """The best non-negative weights of some samples, kept up to date while samples come and go.

    A step costs O(k²): it changes the inverse of the regularised Gram matrix by rank one. Weights move by Newton steps
    from the residual, so errors do not add up.

    Args:
        gradients: of all samples; their sum is the target.
        l2: weight of ‖w‖².
        capacity: how many samples there can be at most.
    """

    def __init__(self, gradients: LastLayer, l2: float, capacity: int) -> None:
        self._gradients, self._l2 = gradients, l2
        self.target = gradients.sum().double()
        self.residual = self.target  # (c, d + 1), the target minus the weighted sum
        self.count = self._steps = 0
        new, double = gradients.inputs.new_empty, torch.float64
        self._inverse = GrowingInverse(capacity, gradients.inputs.device)
        self._inputs = new((capacity, gradients.inputs.shape[1]), dtype=double)
        self._residuals = new((capacity, gradients.residuals.shape[1]), dtype=double)
        self._weights = new(capacity, dtype=double)
        self._members, self._when = (new(capacity, dtype=torch.int64) for _ in range(2))

    @property
    def members(self) -> Tensor:
        """Returns (k,) int64, positions of the samples, in no order."""
        return self._members[: self.count]

    def result(self) -> tuple[Tensor, Tensor]:
        """Returns (k,) positions, in the order in which they came, and (k,) weights."""
        if self.count:
            self._solve()  # what rounding errors the last step left
        order = self._when[: self.count].argsort()
        return self.members[order], self._weights[: self.count][order]

    def add(self, row: int) -> bool:
        """Adds a sample and fits the weights; returns whether the sample stays."""
        k = self.count
        inputs, residuals = self._gradients.inputs[row].double(), self._gradients.residuals[row].double()
        products = (self._inputs[:k] @ inputs) * (self._residuals[:k] @ residuals)
        self._inverse.append(products, (inputs @ inputs) * (residuals @ residuals) + self._l2, self._l2)
        self._inputs[k], self._residuals[k], self._weights[k] = inputs, residuals, 0
        self._members[k], self._when[k] = row, self._steps
        self.count, self._steps = k + 1, self._steps + 1
        self._solve(newest_alone=self._steps % _EXACT != 0)
        return bool((self.members == row).any())

    def _solve(self, *, newest_alone: bool = False) -> None:
        """Moves to the best weights. On the way, each sample whose weight reaches zero leaves.

        Args:
            newest_alone: all but the newest sample are where they have no slope, up to rounding errors.
        """
        while True:
            weights, best = self._weights[: self.count], self._best(newest_alone=newest_alone)
            falling = (best <= 0).nonzero().flatten()
            if not len(falling):
                return self._move(best)
            shares = weights[falling] / (weights[falling] - best[falling]).clamp(min=torch.finfo(best.dtype).tiny)
            first = int(shares.argmin())
            self._move(weights + shares[first] * (best - weights))
            self._drop(int(falling[first]))
            newest_alone = False

    def _best(self, *, newest_alone: bool) -> Tensor:
        """Returns (k,) the minimum without regard to signs, one Newton step away."""
        k = self.count
        first = k - 1 if newest_alone else 0
        inputs, residuals, weights = self._inputs[first:k], self._residuals[first:k], self._weights[:k]
        slope = ((inputs @ self.residual.T) * residuals).sum(1) - self._l2 * weights[first:]
        return weights + (self._inverse.column(first) * slope if newest_alone else self._inverse.times(slope))

    def _move(self, weights: Tensor) -> None:
        k = self.count
        self._weights[:k] = weights
        self.residual = self.target - (self._residuals[:k] * weights[:, None]).T @ self._inputs[:k]

    def _drop(self, position: int) -> None:
        """Takes a sample of weight zero out; the last one moves to its place."""
        last = self.count - 1
        self._inverse.drop(position)
        for table in (self._inputs, self._residuals, self._weights, self._members, self._when):
            table[position] = table[last].clone()
        self.count = last
