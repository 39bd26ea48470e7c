"""The progress of a run, as a checkpoint saves it."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from orderdp.training.provenance import environment

OF_A_RANK = ("loss_sum", "loss_count", "first_count")  # sums that each rank has of its own
SECONDS = ("training_s", "selection_s", "data_s", "evaluation_s")  # in each line of metrics; the result has their sums


@dataclass
class Progress:
    """What a checkpoint saves besides the model, including the sums of an unfinished epoch.

    Args:
        step: optimiser steps made.
        samples_forward: samples that went through the model in training, on all ranks. A sample counts once in each
            forward pass.
        epoch_step: optimiser steps made in the running epoch.
        loss_sum: of the running epoch's losses on this rank.
        loss_count: losses in `loss_sum`.
        first_count: samples of the running epoch in first passes without gradient, on this rank.
        pass_s: seconds a sample of the passes of a method that chooses within the batch; None if not measured.
        training_s: seconds of the running epoch in training, data and selection included.
        waited_s: seconds of the running epoch in waiting for batches, selection included.
        processor_s: processor seconds of the running epoch in training, data and selection included.
        choices: digest of every selection so far.
        trained: (n,) bool, the samples trained in the epoch before; None in the first.
        checkpoint: (n,) bool, those of the last epoch at which checkpoints are compared; None before the first.
        gradient_norms: (step,) float32, norm of the gradient of every step so far.
        unreadable: image files met so far that could not be decoded, on all ranks.
        history: a line of metrics for each finished epoch.
        environments: those in which the run was begun and resumed, as they were then.
    """

    step: int = 0
    samples_forward: int = 0
    epoch_step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    first_count: int = 0
    pass_s: dict[str, float] | None = None
    training_s: float = 0.0
    waited_s: float = 0.0
    processor_s: float = 0.0
    choices: str = ""
    trained: Tensor | None = None
    checkpoint: Tensor | None = None
    gradient_norms: Tensor = field(default_factory=lambda: torch.empty(0))
    unreadable: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    environments: list[dict[str, Any]] = field(default_factory=list)

    def goes_on_in(self, device: torch.device) -> None:
        """Notes the environment now: what is committed while the run trains does not change the code that trains it."""
        self.environments.append(environment(device))

    def warn_of_ratio(self, ratio: float, num_epochs: int) -> None:
        """Warns after a third of a run of ten epochs or more if few samples are mastered for the share that is pruned.

        The threshold, a twentieth of the prune ratio, is a rule of thumb from nine runs. `tools/mastered_rule.py` holds
        it against 86 cases of a study in results/worth: of 28 that were warned of, none ended better than the shorter
        schedule and 14 ended worse; of the others, 3 ended worse.

        Args:
            ratio: prune ratio of the epoch that has ended.
            num_epochs: of the run.
        """
        mastered = self.history[-1].get("mastered")
        third = -(-num_epochs // 3)
        if num_epochs < 10 or len(self.history) != third or mastered is None or 20 * mastered >= ratio:
            return
        logging.getLogger("orderdp").warning(
            f"after a third of the run, {100 * mastered:.1f} % of the samples are mastered (the right class has a "
            f"probability above one half), and {100 * ratio:.0f} % are pruned; where so little is learnt, a shorter "
            "schedule is often better: prune less, choose in proportion to the loss, or train a larger network"
        )

    def check_finite(self, loss: float, name: str, when: str, max_lr: float) -> None:
        """Raises if a loss of the running epoch is not finite.

        Args:
            loss: the loss, or a sum of losses.
            name: what it is called.
            when: "in" or "after" the epoch.
            max_lr: the highest learning rate, which may be too high.

        Raises:
            FloatingPointError: it is not finite.
        """
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the {name} must stay finite, got {loss} {when} epoch {len(self.history) + 1}; "
                f"write a smaller max_lr than {max_lr:g}"
            )
