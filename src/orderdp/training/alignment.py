"""What the trainer measures along a run, in the plain values that its metrics hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from orderdp.data.images import AugmentedImages
from orderdp.diagnostics import alignment, rolling_deviation
from orderdp.strategies import Selection, Strategy

ROLLING_WINDOW = 20  # steps over which the deviation of the gradient norm is taken
CHECKPOINTS = 5  # epochs, evenly over a run, whose choices are compared with each other


def norms_of(norms: Tensor, began: int) -> dict[str, float | None]:
    """Returns the mean gradient norm since step `began`, and how much it moves from step to step."""
    rolling = rolling_deviation(norms[max(began - ROLLING_WINDOW + 1, 0) :].double(), ROLLING_WINDOW)
    return {
        "gradient_norm": float(norms[began:].double().mean()),
        "gradient_norm_deviation": float(rolling.mean()) if len(rolling) else None,
    }


def similarity(before: Tensor | None, now: Tensor) -> float | None:
    """Returns the Jaccard similarity of two masks; None in the first epoch, or where both are empty.

    `diagnostics.jaccard` is the same of ids, which it has to sort.
    """
    if before is None or not (before | now).any():
        return None
    return int((before & now).sum()) / int((before | now).sum())


def epochs_measured(times: int, epochs: int) -> set[int]:
    """Returns the epochs, from 1, at whose end to measure so many times, evenly over the run and at its end."""
    return {-(-number * epochs // times) for number in range(1, times + 1)}  # rounded up


class InOrder:
    """Batches of (index, batch) over a whole data set, as often as they are gone through."""

    def __init__(self, images: AugmentedImages, batch_size: int, loading: dict[str, Any]) -> None:
        self._ids = torch.split(torch.arange(len(images)), batch_size)
        self._images, self._loading = images, loading

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        batches = [ids.tolist() for ids in self._ids]
        loader: Any = DataLoader(self._images, batch_sampler=batches, generator=torch.Generator(), **self._loading)
        return zip(self._ids, loader, strict=True)


def alignment_of(
    strategy: Strategy,
    selection: Selection,
    model: nn.Module,
    losses_of: Callable[[Any], Tensor],
    batches: InOrder,
) -> dict[str, dict[str, float]] | None:
    """Returns cosine and norm ratio of the selection's mean gradient to the full one, and to OrderDP's ∇L_q.

    None for strategies that choose within the batch: what they will choose is not known beforehand.

    Args:
        strategy: whose choice it is.
        selection: the choice.
        model: in eval mode, so that dropout and the statistics of the batch do not make a gradient of their own.
        losses_of: from a batch to its (b,) losses with gradient.
        batches: the data set without augmentation.
    """
    if strategy.chooses_in_batch:
        return None
    measured = alignment(
        model,
        lambda _, batch: losses_of(batch),
        batches,
        selection.indices,
        weights=selection.weights,
        sizes=strategy.surrogate_sizes(len(batches)),
    )
    return {name: other._asdict() for name, other in measured.items()}
