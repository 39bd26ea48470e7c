"""LARS and LAMB as the paper's public release computes them, where timm's differ.

The release took both from that of InfoBatch. No parameter is excluded from weight decay or from the layer-wise scaling.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_TRUST = 1e-3  # LARS: length of a step over the length of the weights, at learning rate 1
_MOST_TRUST = 50.0
_LARGEST_GRADIENT = 10.0
_LONGEST_WEIGHTS = 10.0
_EPS = 1e-6


class _PerTensor(torch.optim.Optimizer):
    """An optimiser that moves each tensor of weights by itself."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Moves all weights that have a gradient; returns what the closure returns, which is called first."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)
        return result

    @abstractmethod
    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Moves one tensor of weights; does not change the gradient."""

    def _remembered(self, name: str, weight: Tensor) -> Tensor:
        """Returns a tensor of the state, zeros at first."""
        state = self.state[weight]
        if name not in state:
            state[name] = torch.zeros_like(weight)
        remembered: Tensor = state[name]
        return remembered


class ReleaseLars(_PerTensor):
    """LARS whose layer-wise scaling comes after the momentum, of gradients that are clamped to ±10.

    With weights w, gradient g, decay λ and momentum m, a step is v ← m·v + clamp(g + λw, ±10), then w ← w - lr·ρ·v with
    ρ = 0.001·‖w‖ / (‖g‖ + λ‖w‖), at most 50, and 1 where w or g is zero.

    Args:
        parameters: to optimise.
        lr: learning rate.
        momentum: m, in [0, 1).
        weight_decay: λ.

    Source: You et al., "Large batch training of convolutional networks", 2017, in the form of the paper's release.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float = 1.0, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        decay = group["weight_decay"]
        length, steepness = weight.norm(), gradient.norm()
        ratio = _ratio(_TRUST * length, steepness + decay * length, length, steepness).clamp(max=_MOST_TRUST)
        velocity = self._remembered("momentum_buffer", weight)
        clamped = gradient.add(weight, alpha=decay).clamp_(-_LARGEST_GRADIENT, _LARGEST_GRADIENT)
        velocity.mul_(group["momentum"]).add_(clamped)
        weight.sub_(group["lr"] * ratio * velocity)


class ReleaseLamb(_PerTensor):
    """LAMB without correction of the first means' bias, whose layer-wise scaling grows up to a norm of 10.

    With weights w, gradient g and decay λ, a step is m ← β₁m + (1 - β₁)g, v ← β₂v + (1 - β₂)g²,
    u = m / (√v + 10⁻⁶) + λw, then w ← w - lr·ρ·u with ρ = min(‖w‖, 10) / ‖u‖, and 1 where w or u is zero.

    Args:
        parameters: to optimise.
        lr: learning rate.
        betas: (β₁, β₂), each in [0, 1).
        weight_decay: λ.

    Source: You et al., "Large batch optimization for deep learning", ICLR 2020, in the form of the paper's release.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        mean, square = self._remembered("exp_avg", weight), self._remembered("exp_avg_sq", weight)
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        update = (mean / square.sqrt().add_(_EPS)).add_(weight, alpha=group["weight_decay"])
        length, reach = weight.norm(), update.norm()
        ratio = _ratio(length.clamp(max=_LONGEST_WEIGHTS), reach, length, reach)
        weight.sub_(group["lr"] * ratio * update)


def _ratio(numerator: Tensor, denominator: Tensor, *positive: Tensor) -> Tensor:
    """Returns the quotient, or 1 unless these are positive; nothing waits for the device."""
    return torch.where(torch.stack(positive).gt(0).all(), numerator / denominator, 1.0)
