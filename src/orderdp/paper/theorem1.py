"""Theorem 1 measured: OrderDP's mean gradient is that of L_q, not that of L."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from orderdp.paper.digits_models import descend, digits, losses, models
from orderdp.paper.exhibit import Shown
from orderdp.strategies import Memory, OrderDP
from orderdp.theory import surrogate_weights


def theorem1(*, smoke: bool = False) -> Shown:
    """The measurement of `gradient_means` as a table."""
    return show(gradient_means(draws=200, n=300) if smoke else gradient_means())


def show(rows: list[GradientRow]) -> Shown:
    """Returns the rows as a table."""
    header = ("gradient of", "scores", "draws", "from L_q, std errors", "from L, std errors", "L_q from L, relative")
    lines = [
        (
            f"{row.model}, {row.block}",
            row.scores,
            f"{row.draws:,}",
            f"{row.to_surrogate:.2f}",
            f"{row.to_full:.1f}",
            f"{row.shift:.2f}",
        )
        for row in rows
    ]
    furthest = max((row.to_surrogate for row in rows if row.scores == "current"), default=0.0)
    note = (
        "The theorem says that with current scores the mean gradient over the draws is that of L_q. It should then lie "
        "about 1 standard error from L_q, and many from L. Many standard errors from L_q would contradict it; the "
        f"largest distance with current scores is {furthest:.2f}. It does not cover stored scores, which are older."
    )
    return Shown({}, {"theorem1": (GradientRow._fields, rows)}, (header, lines), note)


class GradientRow(NamedTuple):
    """The mean of OrderDP's gradient over many draws, for one parameter tensor of a model.

    Args:
        model: name of the model.
        scores: "current" for the losses at these weights, as in Theorem 1; "stored" for those at earlier weights.
        block: name of the parameter tensor.
        draws: number of draws.
        to_surrogate: distance from ∇L_q, in standard errors of the mean; about 1 if it is the expectation.
        to_full: distance from ∇L, in standard errors of the mean.
        shift: ‖∇L_q - ∇L‖ / ‖∇L‖ of this block: how large the bias is.
    """

    model: str
    scores: str
    block: str
    draws: int
    to_surrogate: float
    to_full: float
    shift: float


def gradient_means(
    *, draws: int = 10_000, n: int = 1_000, explore: float = 0.5, exploit: float = 0.4
) -> list[GradientRow]:
    """Measures Theorem 1 on handwritten digits: logistic regression and a network with a hidden layer.

    Each model makes 60 steps of gradient descent. Then every draw is one `OrderDP.select`, and its gradient is the mean
    over the q samples kept. ∇L_q comes from `surrogate_weights` of the same losses. Standard errors are those of the
    mean over the draws, √(Σ variance / draws) over the coordinates of a tensor. In training, scores are older. With
    those of 10 steps before the theorem does not hold, and the rows "stored" show by how much.

    Source: OrderDP, Theorem 1, eq. (4).
    """
    images, labels = digits(n)
    rng = np.random.default_rng(0)
    strategy = OrderDP(explore=explore, exploit=exploit)
    s, q = strategy.sizes(n)
    rows = []
    for name, model in models().items():
        earlier = descend(model, images, labels, steps=50)
        descend(model, images, labels, steps=10)
        gradients = sample_gradients(model, images, labels)
        current = losses(model, images, labels).detach()
        weights = surrogate_weights(current, s, q)
        for kind, scores in (("current", current), ("stored", earlier)):
            column = scores.numpy().astype(np.float32)
            sums = {block: torch.zeros(2, values.shape[1], dtype=torch.float64) for block, values in gradients.items()}
            for epoch in range(draws):
                kept = torch.from_numpy(strategy.select(Memory(n, epoch, {"score": column}), rng).indices)
                for block, values in gradients.items():
                    estimate = values[kept].mean(dim=0)
                    sums[block] += torch.stack([estimate, estimate**2])
            for block, values in gradients.items():
                mean, square = sums[block] / draws
                error = float(((square - mean**2).sum() / draws).sqrt())
                surrogate, full = weights @ values, values.mean(dim=0)
                rows.append(
                    GradientRow(
                        model=name,
                        scores=kind,
                        block=block,
                        draws=draws,
                        to_surrogate=float((mean - surrogate).norm()) / error,
                        to_full=float((mean - full).norm()) / error,
                        shift=float((surrogate - full).norm() / full.norm()),
                    )
                )
    return rows


def sample_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Returns each sample's gradient: for every parameter tensor, (n, coordinates) float64."""

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(model, parameters, (image,)), label)

    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)
    return {name: values.flatten(1) for name, values in gradients.items()}
