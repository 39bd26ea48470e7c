"""What a pruner tells its user: the report, and warnings that come once each."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from orderdp.epochs import shown
from orderdp.record import EpochRecord
from orderdp.strategies import Strategy

_TIED_SHARE, _TIED_SAMPLE, _TIED_LEAST = 0.25, 4096, 256
_LEAST = 32  # losses that say something of a setting
_FEW = 10  # ids of failed samples that a printed report names
# Types of device that have an autocast of their own in some release of torch, and those that have it in this one.
_DEVICES = ("cpu", "cuda", "hpu", "mps", "mtia", "privateuseone", "xla", "xpu")
_WITH_AUTOCAST = [device for device in _DEVICES if torch.amp.is_autocast_available(device)]


@dataclass(frozen=True)
class Report:
    """What a pruner has done so far. Its repr shows six digits of a number; printed, it names few of `failed`.

    Args:
        epoch: number of the running or last epoch, from 0; -1 before the first.
        num_samples: size n of the data set.
        num_selected: samples that this epoch visits.
        trained: samples that this epoch has trained so far.
        visits: samples trained in all epochs together, the running one included.
        never_seen: samples that no epoch has trained.
        mean_age: epochs since a sample was last trained, mean over the seen samples; nan if there are none.
        max_age: the largest such age; 0 if no sample was seen.
        non_finite: losses that were NaN or infinite and so were not recorded, at most one a sample and epoch.
        missing: samples that an epoch selected and left without a loss, in all epochs together.
        failed: ids of the samples that have no finite loss since they were last selected, ascending. They rank below
            all others until a finite loss is recorded.
        mastered: share of the samples that are mastered: their last-seen loss, the first column, is at most the
            `mastered_at` of `Pruner.report`. By default this is log 2, whatever the loss is: a probability of one half
            for cross-entropy without label smoothing, and without meaning for regression and other losses. nan if the
            strategy remembers none.
        selection_s: seconds spent on selection.
    """

    epoch: int
    num_samples: int
    num_selected: int
    trained: int
    visits: int
    never_seen: int
    mean_age: float
    max_age: int
    non_finite: int
    missing: int
    failed: tuple[int, ...]
    mastered: float
    selection_s: float

    def __repr__(self) -> str:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        shown = (f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value!r}" for name, value in values)
        return f"Report({', '.join(shown)})"

    def __str__(self) -> str:
        ids = self.failed
        if len(ids) <= _FEW:
            return repr(self)
        few = f"({', '.join(map(str, ids[:_FEW]))}, ... {len(ids):,} in all)"
        return repr(self).replace(f"failed={ids!r}", f"failed={few}")

    def as_dict(self) -> dict[str, float]:
        """Returns the report as plain numbers, as loggers and JSON take them.

        `failed` is the number of these samples. What is not known yet, which is nan in the report, is left out.

        >>> report = Report(0, 100, 50, 50, 50, 50, 0.0, 0, 0, 0, (3, 7), float("nan"), 0.25)
        >>> {name: value for name, value in report.as_dict().items() if name in ("visits", "failed", "mastered")}
        {'visits': 50, 'failed': 2}
        """
        values = {**vars(self), "failed": len(self.failed)}
        return {name: value for name, value in values.items() if not math.isnan(value)}


class Notices:
    """Warnings of a pruner, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def warn(self, kind: str, text: str) -> None:
        """Warns at the line of the loop, unless a warning of this kind was given before."""
        if kind not in self._given:
            self._given.add(kind)
            warnings.warn(text, RuntimeWarning, stacklevel=_level_of_loop())

    def of_run(self, strategy: Strategy, epochs: int) -> None:
        """Warns of a strategy that prunes in none of the epochs of a run, though it may in later ones."""
        if strategy.prunes and not strategy.may_prune(epochs):
            self.warn(
                "prunes late",
                f"no epoch of {epochs} prunes under {shown(strategy)}; if they are the whole run, give the "
                f"strategy epochs={epochs}",
            )

    def of_end(self, strategy: Strategy, epoch: int | None) -> None:
        """Warns of an epoch after the last one of a strategy that was made for a number of epochs."""
        last = getattr(strategy, "epochs", None)
        if isinstance(last, int) and epoch is not None and epoch >= last:
            self.warn(
                "past its end",
                f"epoch {epoch} is past the end of {shown(strategy)}, which goes on as at its end; give it the epochs "
                "of the run",
            )

    def of_autocast(self, what: str) -> None:
        """Warns of an epoch or a pass inside autocast, which keeps its copies of the weights until its block ends."""
        if torch.is_autocast_cache_enabled() and any(map(torch.is_autocast_enabled, _WITH_AUTOCAST)):
            self.warn(
                "autocast",
                f"{what} begins inside torch.autocast, which goes on with the weights of its first step; write "
                "with torch.autocast(...) in each step, around the forward pass and the loss alone",
            )

    def of_size(self, epoch: int | None, num_selected: int, *, added: int, kept_step: bool) -> None:
        """Warns of an epoch that a strategy made too small for its ranks or for a full step.

        Args:
            epoch: its number.
            num_selected: samples that it visits.
            added: how many of them were drawn because the strategy selected too few.
            kept_step: whether `drop_last` keeps a step that is not full.
        """
        if added:
            self.warn(
                "added",
                f"epoch {epoch} selected {num_selected - added} samples, fewer than there are ranks, so {added} others "
                "were drawn; prune less or use fewer ranks",
            )
        if kept_step:
            self.warn(
                "kept step",
                f"epoch {epoch} selected {num_selected} samples, too few for a full step, so drop_last keeps one "
                "smaller step; write a smaller batch_size",
            )

    def of_epoch(
        self,
        epoch: int | None,
        record: EpochRecord,
        values: npt.NDArray[np.float32],
        missing: int,
        strategy: Strategy,
    ) -> None:
        """Warns of what went wrong in an epoch that has ended.

        Args:
            epoch: its number.
            record: what it saw.
            values: (k,) what it saw of the samples that it trained.
            missing: how many samples it left without a loss.
            strategy: the method. Equal losses matter if it remembers them.
        """
        seen, expected = int(record.seen().sum()), record.num_expected
        if not seen:
            self.warn(
                "update",
                f"update was never called in epoch {epoch}, which selected {expected} samples, so nothing of it is "
                "remembered; write loss = pruner.update(index, losses) for every batch",
            )
        elif missing:
            self.warn(
                "missing",
                f"{missing} of the {expected} samples of epoch {epoch} were left without a loss; they rank below all "
                "others until one is recorded. pruner.report().failed lists them. Usual causes: update is not called "
                "for every batch, a collate function drops samples that it cannot read, the loop caught an error of "
                "the data set and lost the whole batch, or a framework splits the batches among the ranks again. "
                "pruner.record(ids, scores) ranks them again",
            )
        if seen and seen + missing < expected:
            self.warn(
                "unfinished",
                f"epoch {epoch} was left after {seen} of its {expected} samples, and the next one begins. If this is "
                "not meant, look for an interruption, a limit on the number of batches, or a length read before the "
                "epoch; loader.load_state_dict(loader.state_dict()) goes on inside an epoch, and so does a framework "
                "that resumes its checkpoint",
            )
        bad = len(values) - int(np.count_nonzero(np.isfinite(values)))
        if bad:
            self.warn(
                "non_finite",
                f"{bad} losses of epoch {epoch} were NaN or infinite and were not recorded; these samples rank below "
                "all others until a finite loss is recorded, or pruner.record(ids, scores) gives them a score. "
                "pruner.report().failed lists them",
            )
        self._of_losses(epoch, values[np.isfinite(values)], strategy)

    def _of_losses(self, epoch: int | None, values: npt.NDArray[np.float32], strategy: Strategy) -> None:
        """Warns of finite losses that are equal, or that a setting of the strategy makes equal in the first epoch."""
        reason = strategy.blind_to(values) if epoch == 0 and len(values) >= _LEAST else None
        if reason is not None:
            self.warn(
                "blind",
                f"the losses of epoch {epoch} lie between {values.min():.3g} and {values.max():.3g}, and {reason}; "
                "write another value, or leave it out",
            )
        tied = _largest_tie(values) if strategy.columns else 0.0
        if tied > _TIED_SHARE:
            self.warn(
                "ties",
                f"{tied:.0%} of the losses of epoch {epoch} are equal, so their order is left to chance; compute them "
                "in float32, cross_entropy(logits.float(), ...), since bfloat16 and float16 round small losses to 0",
            )


REPEATS = (
    "batches of epoch {} came again after its last one; each pass over the loader is a new epoch, so write a for loop "
    "over it instead of itertools.cycle or a list of its batches"
)


def _level_of_loop() -> int:
    """Returns the stack level, for its caller, of the code that calls orderdp, by itself or through a torch loader."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] in ("orderdp", "torch"):
        frame, level = frame.f_back, level + 1
    return level


def _largest_tie(values: npt.NDArray[np.float32]) -> float:
    """Returns the share of the most frequent value among the first few thousand; 0.0 of few values."""
    sample = values[:_TIED_SAMPLE]
    if len(sample) < _TIED_LEAST:
        return 0.0
    return float(np.unique(sample, return_counts=True)[1].max() / len(sample))
