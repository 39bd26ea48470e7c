"""The last layer at the minimum of its penalised loss: softmax regression on the features of the proxy.

torch's L-BFGS finds it, since it runs on the device of the features.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 8192  # rows at once
_MOST_STEPS = 3000
_CLOSE = 1e-4  # norm of the gradient at the end, over that at zero


def fitted(inputs: Tensor, labels: Tensor, num_classes: int, penalty: float) -> Tensor:
    """Returns (c, d + 1) float64, the weights W at the minimum of the mean cross-entropy plus penalty/2·‖W‖².

    The minimum is unique and does not depend on where the training of the proxy ended.

    Args:
        inputs: (n, d + 1), [1; h].
        labels: (n,) int64, on the same device.
        num_classes: c.
        penalty: on weights and bias, above 0.

    Raises:
        RuntimeError: the descent does not come near the minimum.
    """
    weights = torch.zeros((num_classes, inputs.shape[1]), dtype=torch.float64, device=inputs.device)
    weights.grad = torch.zeros_like(weights)
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=_MOST_STEPS,
        max_eval=2 * _MOST_STEPS,
        history_size=50,
        tolerance_grad=1e-8,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        value, gradient = _slope(weights.detach(), inputs, labels, penalty)
        weights.grad = gradient
        return value

    with torch.no_grad():
        first = _slope(weights, inputs, labels, penalty)[1].norm()
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        last = _slope(weights, inputs, labels, penalty)[1].norm()
    if not last <= _CLOSE * first:
        raise RuntimeError(
            f"the last layer did not reach its minimum in {_MOST_STEPS} steps, damping={penalty}; raise it tenfold"
        )
    return weights.detach()


def predicted(inputs: Tensor, weights: Tensor) -> Tensor:
    """Returns (n, c) float32, what a last layer with these weights predicts."""
    blocks = range(0, len(inputs), _BLOCK)
    return torch.cat([(inputs[begin : begin + _BLOCK].double() @ weights.T).softmax(1).float() for begin in blocks])


def _slope(weights: Tensor, inputs: Tensor, labels: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Returns the penalised mean loss and its (c, d + 1) gradient."""
    value = penalty / 2 * weights.square().sum()
    gradient = penalty * weights
    for begin in range(0, len(inputs), _BLOCK):
        rows, target = inputs[begin : begin + _BLOCK].double(), labels[begin : begin + _BLOCK]
        logs = (rows @ weights.T).log_softmax(1)
        value = value - logs.gather(1, target[:, None]).sum() / len(inputs)
        residuals = logs.exp_()
        residuals[torch.arange(len(target), device=target.device), target] -= 1
        gradient = gradient + residuals.T @ rows / len(inputs)
    return value, gradient
