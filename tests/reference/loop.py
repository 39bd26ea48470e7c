"""A training loop without a model: each loss is a function of sample and epoch, so any two runs can be compared."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import pytest
import torch

from orderdp import OrderDP, Pruner, Strategy

# For tests that leave epochs early, or walk through them without training, on purpose.
LEFT_EARLY = pytest.mark.filterwarnings("ignore:epoch .* was left after .* of its .* samples:RuntimeWarning")
NEVER_UPDATED = pytest.mark.filterwarnings("ignore:update was never called in epoch:RuntimeWarning")

TOP_HALF = OrderDP(explore=1.0, exploit=0.5)


def loss_of(index: torch.Tensor, epoch: int) -> torch.Tensor:
    """(b,) float32 with gradient; looks random, and some samples tie."""
    hashed = (index.to("cpu", torch.int64) * 7919 + (epoch + 1) * 104_729) % 1009
    return (hashed // 2).to(torch.float32).div(100).requires_grad_()


def train_epoch(pruner: Pruner, loader: Iterable[Any], num_batches: int | None = None) -> list[list[int]]:
    """Trains on the loader's next epoch, or on its first `num_batches`; returns the ids of each batch."""
    batches = []
    for index, _ in loader:
        pruner.update(index, loss_of(index, pruner.epoch)).backward()
        batches.append(index.tolist())
        if len(batches) == num_batches:
            break
    return batches


def train(pruner: Pruner, loader: Iterable[Any], epochs: int) -> list[list[list[int]]]:
    """Trains for some epochs; returns the ids by epoch and batch."""
    return [train_epoch(pruner, loader) for _ in range(epochs)]


def joined(batches: Iterable[list[int]]) -> list[int]:
    """The ids of all batches, one after another."""
    return list(chain.from_iterable(batches))


def begun(strategy: Strategy = TOP_HALF, n: int = 8, **arguments) -> tuple[Pruner, torch.Tensor]:
    """A pruner with its first epoch begun, and the ids of that epoch."""
    pruner = Pruner(strategy, n, **arguments)
    return pruner, torch.from_numpy(pruner.begin_epoch().indices.copy()).long()


def with_gradient(*values: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)
