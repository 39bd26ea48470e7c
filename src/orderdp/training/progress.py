"""The progress of a run, as a checkpoint saves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

SECONDS = ("training_s", "selection_s", "data_s", "evaluation_s")  # in each line of metrics; the result has their sums


@dataclass
class Progress:
    """What a checkpoint saves besides the model, including the sums of an unfinished epoch.

    Args:
        step: optimiser steps made.
        samples_forward: samples that went through the model in training, on all ranks.
        epoch_step: optimiser steps made in the running epoch.
        loss_sum: of the running epoch's losses on this rank.
        loss_count: losses in `loss_sum`.
        training_s: seconds of the running epoch in training, data and selection included.
        waited_s: seconds of the running epoch in waiting for batches, selection included.
        choices: digest of every selection so far.
        trained: (n,) bool, the samples trained in the epoch before; None in the first.
        checkpoint: (n,) bool, those of the last epoch at which checkpoints are compared; None before the first.
        gradient_norms: (step,) float32, norm of the gradient of every step so far.
        history: a line of metrics for each finished epoch.
    """

    step: int = 0
    samples_forward: int = 0
    epoch_step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    training_s: float = 0.0
    waited_s: float = 0.0
    choices: str = ""
    trained: Tensor | None = None
    checkpoint: Tensor | None = None
    gradient_norms: Tensor = field(default_factory=lambda: torch.empty(0))
    history: list[dict[str, Any]] = field(default_factory=list)
