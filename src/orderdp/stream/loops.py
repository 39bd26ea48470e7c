"""Loops over a stream that would train wrongly without a word."""

from __future__ import annotations

from dataclasses import dataclass
from types import FrameType
from typing import Any

_FIT_LOOPS = ("lightning.pytorch.loops.fit_loop", "pytorch_lightning.loops.fit_loop")


@dataclass
class Calls:
    """How many batches came in the running pass, and how many updates.

    Args:
        came: batches that the loop received.
        updates: calls of `update`.
        ended: whether the pass came to its end.
    """

    came: int = 0
    updates: int = 0
    ended: bool = False

    def begin_window(self) -> None:
        """Raises RuntimeError if the loop has called no update, though it reads at most one batch ahead."""
        self._check(least=2)

    def begin_pass(self) -> None:
        """Raises RuntimeError if a pass had no update. One left after two batches may have met an error."""
        self._check(least=1 if self.ended else 3)
        self.came, self.updates, self.ended = 0, 0, False

    def _check(self, least: int) -> None:
        if self.came < least or self.updates:
            return
        came, self.came, self.ended = self.came, 0, False  # a loop that is mended begins anew
        raise RuntimeError(
            f"update must be called for every batch of a stream, got no call for the {came} batches that came; write "
            "loss = stream.update(index, losses), or a longer window if the loop reads several batches ahead"
        )


def refuse_accumulation(source: Any) -> None:
    """Raises RuntimeError for a source that accelerate prepared to end its accumulation of gradients.

    It reads windows ahead, so accelerate would see its end before the last batches are trained.
    """
    state = getattr(source, "gradient_state", None)
    num_steps = getattr(state, "num_steps", 1)
    if num_steps > 1 and getattr(state, "sync_with_dataloader", True):
        raise RuntimeError(
            f"source must not be prepared by accelerate with gradient_accumulation_steps={num_steps}, got "
            f"{type(source).__name__}, whose end would come before that of the pass; prepare model and optimizer only"
        )


def refuse_trainers(caller: FrameType | None, *, new: bool) -> None:
    """Raises RuntimeError for the loop of a Trainer that would train a stream wrongly.

    The Trainer of Transformers reads all batches of an accumulated step ahead, also across the end of a pass.

    Args:
        caller: the frame that asks for the first batch.
        new: whether the stream has no state and has made no pass, so it must not be part of a run that goes on.
    """
    while caller is not None:
        module, trainer = str(caller.f_globals.get("__name__")), caller.f_locals.get("self")
        run = cure = None
        if module in _FIT_LOOPS:
            run = getattr(trainer, "trainer", None)
            cure = 'in on_save_checkpoint of the LightningModule and load checkpoint["stream"] in on_load_checkpoint'
        elif module == "transformers.trainer":
            batches = getattr(getattr(trainer, "args", None), "gradient_accumulation_steps", 1)
            if batches > 1:
                raise RuntimeError(
                    f"gradient_accumulation_steps must be 1 to train on a stream under the HF Trainer, got {batches}; "
                    "it would read the batches of a step before their update. Make the batches of the stream larger, "
                    "or write a loop of your own"
                )
            run = getattr(trainer, "state", None)
            cure = "in on_save of a TrainerCallback and load it before trainer.train"
        if new and (steps := getattr(run, "global_step", 0)):
            raise RuntimeError(
                f"a run that goes on needs the state of its stream, got a new stream after {steps} steps; save it "
                f"{cure}. To begin without memory, write stream.load_state_dict(stream.state_dict())"
            )
        caller = caller.f_back
