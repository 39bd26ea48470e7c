"""The Hessian of softmax regression on the last layer, and systems with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.evidence import Evidence, Floats
from orderdp.coresets.last_layer import LastLayer

_DIRECT = 6000  # dimensions up to which the matrix is factorised, in 300 MB; beyond, conjugate gradients
_BLOCK = 8192  # rows at once
_MOST_STEPS = 2000


@dataclass(frozen=True, eq=False)
class Hessian:
    """Mean over all samples of (diag(p) - ppᵀ) ⊗ xxᵀ, plus `damping` on the diagonal.

    It is the Hessian of the mean cross-entropy in weights and bias of the last layer. The damping is that of an L2
    penalty damping/2·‖W‖² on both, and makes the matrix positive definite.

    Args:
        probabilities: (n, c) float32.
        inputs: (n, d + 1) float32, [1; h].
        damping: above 0.
    """

    probabilities: Tensor
    inputs: Tensor
    damping: float

    @classmethod
    def of(cls, evidence: Evidence, gradients: LastLayer, damping: float) -> Hessian:
        """Returns the Hessian at the proxy, on the device of the gradients."""
        probabilities = torch.tensor(np.array(evidence.probabilities, dtype=np.float32))
        return cls(probabilities.to(gradients.inputs.device), gradients.inputs, damping)

    def times(self, direction: Tensor) -> Tensor:
        """Returns (c, d + 1) float64, the product with a (c, d + 1) float64 direction, without the matrix."""
        total = self.damping * direction
        for begin in range(0, len(self.inputs), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            probabilities, inputs = self.probabilities[part].double(), self.inputs[part].double()
            moved = probabilities * (inputs @ direction.T)
            moved -= probabilities * moved.sum(1, keepdim=True)
            total += moved.T @ inputs / len(self.inputs)
        return total

    def matrix(self) -> Tensor:
        """Returns (c·(d + 1), c·(d + 1)) float64."""
        num_classes, size = self.probabilities.shape[1], self.inputs.shape[1]
        matrix = self.inputs.new_zeros((num_classes, size, num_classes, size), dtype=torch.float64)
        for one in range(num_classes):
            for other in range(one + 1):
                weights = -self.probabilities[:, one] * self.probabilities[:, other]
                if one == other:
                    weights = weights + self.probabilities[:, one]
                block = LastLayer(weights[:, None] * self.inputs, self.inputs).mean()
                matrix[one, :, other] = matrix[other, :, one] = block
        matrix = matrix.reshape(num_classes * size, -1)
        matrix.diagonal().add_(self.damping)
        return matrix

    def solve(self, directions: Tensor) -> Tensor:
        """Returns (k, c, d + 1) float64, the inverse times each of the (k, c, d + 1) directions.

        Raises:
            RuntimeError: conjugate gradients do not converge.
        """
        flat = directions.double().flatten(1)
        if flat.shape[1] <= _DIRECT:
            factor = torch.linalg.cholesky(self.matrix())
            return torch.cholesky_solve(flat.T, factor).T.reshape(directions.shape)
        return torch.stack([self._conjugate_gradients(direction) for direction in flat]).reshape(directions.shape)

    def _conjugate_gradients(self, direction: Tensor) -> Tensor:
        try:
            from scipy.sparse.linalg import LinearOperator, cg
        except ImportError:
            raise ImportError("a large Hessian needs SciPy: pip install scipy") from None
        shape, device = (self.probabilities.shape[1], self.inputs.shape[1]), self.inputs.device

        def times(flat: Floats) -> Floats:
            product: Floats = self.times(torch.from_numpy(flat).to(device).reshape(shape)).cpu().numpy()
            return product.ravel()

        size = len(direction)
        operator = LinearOperator((size, size), matvec=times, dtype=np.float64)
        solution, status = cg(operator, direction.cpu().numpy(), rtol=1e-8, maxiter=_MOST_STEPS)
        if status:
            raise RuntimeError(
                f"conjugate gradients did not converge in {_MOST_STEPS} steps, damping={self.damping}; raise it tenfold"
            )
        return torch.from_numpy(solution).to(device)
