"""Two small models on handwritten digits: real losses and gradients in a second, in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def digits(n: int) -> tuple[Tensor, Tensor]:
    """Returns (n, 64) float64 pixels in [0, 1] and (n,) int64 labels, a fixed random subset."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(images))[:n]
    return torch.from_numpy(images[chosen] / 16), torch.from_numpy(labels[chosen].astype(np.int64))


def models() -> dict[str, nn.Module]:
    """Returns logistic regression and a network with a hidden layer, with the same first weights each time."""
    named = {
        "logistic regression": nn.Linear(64, 10),
        "network": nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
    }
    rng = torch.Generator().manual_seed(0)
    for model in named.values():
        model.double()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2, generator=rng)
    return named


def losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Returns the (n,) cross-entropies, in nats."""
    return nn.functional.cross_entropy(model(images), labels, reduction="none")


def descend(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> Tensor:
    """Makes steps on full data; returns the losses after them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        losses(model, images, labels).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return losses(model, images, labels).detach()
