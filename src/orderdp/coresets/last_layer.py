"""The gradient of each sample in the last layer, without a backward pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.evidence import Evidence

NEEDS = ("labels", "probabilities", "features")

_BLOCK = 8192  # rows at once


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Gradients of the cross-entropy in weights and bias of a linear last layer, kept as factors.

    The gradient of sample i is the (c, d + 1) matrix r_i·x_iᵀ with r_i = p_i - onehot(y_i) and x_i = [1; h_i]. Its
    first column belongs to the bias. The product of two gradients is (r_i·r_j)(x_i·x_j), so no (n, c·(d + 1)) matrix
    is made.

    Args:
        residuals: (n, c) float32, r.
        inputs: (n, d + 1) float32, x.

    >>> evidence = Evidence(labels=[0, 1], probabilities=[[0.5, 0.5], [0.5, 0.5]], features=[[1.0], [0.0]])
    >>> LastLayer.of(evidence).norms()
    tensor([1.0000, 0.7071])
    """

    residuals: Tensor
    inputs: Tensor

    @classmethod
    def of(cls, evidence: Evidence, device: str | torch.device = "cpu") -> LastLayer:
        """Returns the gradients of all samples; the evidence holds labels, probabilities and features."""
        residuals = np.array(evidence.probabilities, dtype=np.float32)
        residuals[np.arange(len(residuals)), evidence.labels] -= 1
        inputs = np.ones((len(residuals), evidence.features.shape[1] + 1), dtype=np.float32)
        inputs[:, 1:] = evidence.features
        return cls(torch.from_numpy(residuals).to(device), torch.from_numpy(inputs).to(device))

    @classmethod
    def of_validation(cls, evidence: Evidence, device: str | torch.device = "cpu") -> LastLayer:
        """Returns the gradients of the samples held out.

        Raises:
            ValueError: the validation set lacks a field, or has other numbers of classes or features.
        """
        validation = evidence.validation
        missing = [name for name in NEEDS if validation is None or name not in validation.given]
        if validation is None or missing:
            raise ValueError(
                f"validation needs {', '.join(NEEDS)}; add {', '.join(missing)} to Evidence(validation=...)"
            )
        for name, count in (("probabilities", "classes"), ("features", "features")):
            sizes = getattr(evidence, name).shape[1], getattr(validation, name).shape[1]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"{name} must have {sizes[0]} {count} in validation too, got {sizes[1]}; use one proxy"
                )
        return cls.of(validation, device)

    def __len__(self) -> int:
        """Returns the number of samples."""
        return len(self.residuals)

    def take(self, rows: Tensor) -> LastLayer:
        """Returns the gradients of these samples, in this order."""
        return LastLayer(self.residuals[rows], self.inputs[rows])

    def norms(self) -> Tensor:
        """Returns (n,) float32, the norm of each gradient."""
        norm = torch.linalg.vector_norm
        norms: Tensor = norm(self.residuals, dim=1) * norm(self.inputs, dim=1)
        return norms

    def products(self, rows: Tensor, others: Tensor | slice) -> Tensor:
        """Returns (len(rows), len(others)) float32, the products of the gradients at these positions."""
        product = self.inputs[rows] @ self.inputs[others].T
        return product.mul_(self.residuals[rows] @ self.residuals[others].T)

    def along(self, direction: Tensor) -> Tensor:
        """Returns (n,) float32, the product of each gradient with a (c, d + 1) direction."""
        return (self.inputs @ direction.T).mul_(self.residuals).sum(1)

    def mean(self) -> Tensor:
        """Returns (c, d + 1) float32, the mean gradient."""
        return self.sum() / len(self)

    def sum(self, weights: Tensor | None = None) -> Tensor:
        """Returns (c, d + 1) float32, the sum of all gradients, weighted by (n,) `weights`. Blocks add in float64."""
        total = self.inputs.new_zeros((self.residuals.shape[1], self.inputs.shape[1]), dtype=torch.float64)
        for begin in range(0, len(self), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            residuals = self.residuals[part]
            if weights is not None:
                residuals = residuals * weights[part, None]
            total += residuals.T @ self.inputs[part]
        return total.float()
