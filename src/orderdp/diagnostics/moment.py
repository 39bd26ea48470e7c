"""When a run measures its diagnostics, and what they can read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import Tensor, nn

from orderdp.notices import Report
from orderdp.pruner import Pruner
from orderdp.strategies import Selection

CHECKPOINTS = 5  # epochs, evenly over a run, whose samples are compared with each other


class When(Enum):
    """When a run measures a diagnostic. `END` values are in the result, all others in lines of metrics."""

    EPOCH = "at the end of each epoch"
    CHECKPOINT = f"at the end of {CHECKPOINTS} epochs, evenly over the run"
    ASKED = "at the end of as many epochs as the recipe asks for, evenly over the run"
    END = "at the end of the run"


def evenly(times: int, epochs: int) -> set[int]:
    """Returns the last epoch, counted from 1, of each of `times` parts of a run, which are as equal as possible.

    >>> sorted(evenly(3, 7))
    [3, 5, 7]
    """
    return {-(-number * epochs // times) for number in range(1, times + 1)}  # rounded up


def due(epoch: int, epochs: int, *, asked: int) -> set[When]:
    """Returns which kinds of diagnostics are measured at the end of an epoch.

    Args:
        epoch: number of the epoch, from 1.
        epochs: epochs of the run.
        asked: how often in the run the recipe asks for the costly diagnostics.
    """
    kinds = {When.EPOCH}
    if epoch in evenly(CHECKPOINTS, epochs):
        kinds.add(When.CHECKPOINT)
    if epoch in evenly(asked, epochs):
        kinds.add(When.ASKED)
    return kinds


@dataclass(frozen=True)
class Moment:
    """A run at the end of an epoch, as its diagnostics see it.

    Args:
        epochs: epochs finished so far, including this one.
        first_step: steps made before this epoch.
        gradient_norms: (steps,) norm of the gradient of every step so far.
        trained: (n,) bool, the samples that this epoch trained.
        trained_before: (n,) bool, those of the epoch before; None in the first, and for what is measured at the end.
        trained_at_checkpoint: (n,) bool, those of the checkpoint before; None at the first, and at the end.
        labels: (n,) class of each training sample; None if there are no classes.
        pruner: after the ranks have exchanged what they saw.
        report: `pruner.report()`.
        preview: returns the selection of the next epoch, `pruner.preview()`.
        model: in eval mode.
        losses_of: from a model and a batch to its (b,) losses with gradient.
        batches: returns all training data without augmentation, as (index, batch); it can be read several times.
    """

    epochs: int
    first_step: int
    gradient_norms: Tensor
    trained: Tensor
    trained_before: Tensor | None
    trained_at_checkpoint: Tensor | None
    labels: Tensor | None
    pruner: Pruner
    report: Report
    preview: Callable[[], Selection]
    model: nn.Module
    losses_of: Callable[[nn.Module, Any], Tensor]
    batches: Callable[[], Iterable[tuple[Tensor, Any]]]
