"""Lightning: a callback, and the batches that `Trainer.fit` gets.

Works with `lightning` and with `pytorch_lightning`. The callback's base class comes from the package that the program
has imported, or else from the one that is installed. It works in a Trainer of either.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from orderdp.epochs import shown
from orderdp.integrations.lightning_batches import Batches
from orderdp.loader import PrunedLoader
from orderdp.pruner import Pruner
from orderdp.ranks import total
from orderdp.states import resumed_by


def _callback_class() -> Any:
    """Returns Lightning's `Callback`; without Lightning, a stand-in, so that this module can be imported."""
    names = ("lightning.pytorch", "pytorch_lightning")
    installed = [name for name in names if find_spec(name.partition(".")[0])]
    installed.sort(key=lambda name: name not in sys.modules)
    return import_module(installed[0]).Callback if installed else object


_Callback: Any = _callback_class()
_RESUME = (
    "make the pruner and its loader as for the run that wrote the checkpoint, and call trainer.fit(model, "
    "pruning.batches, ckpt_path=path); or leave ckpt_path out to begin a new run"
)


class Pruning(_Callback):
    """Lets a Trainer train the epochs of a pruned loader.

    Give the callback to the Trainer, and its `batches` to `fit` or from a `train_dataloader` hook::

        pruning = Pruning(pruner.loader(train_set, batch_size=64))
        trainer = Trainer(max_epochs=10, callbacks=[pruning])
        trainer.fit(model, pruning.batches)

    `training_step` gets (index, batch) and returns `pruner.update(index, losses)`. Every epoch has its own number of
    steps, also in progress bars, with `limit_train_batches` and with `val_check_interval`. A checkpoint of the Trainer
    holds the pruner, and resumes inside an epoch or with the next one. With `overfit_batches`, every epoch trains the
    same first batches, and checkpoints do not hold the pruner.

    Args:
        loader: what `pruner.loader(...)` returned.

    Attributes:
        loader: the loader.
        pruner: its pruner.
        batches: what the Trainer gets: (index, batch), with (b,) int64 ids.

    Raises:
        TypeError: not a pruner's loader. ImportError: Lightning is not installed.
    """

    def __init__(self, loader: PrunedLoader) -> None:
        if _Callback is object:
            raise ImportError("the Lightning callback needs lightning: pip install 'lightning>=2.6'")
        super().__init__()
        pruner = loader.batch_sampler.pruner if isinstance(loader, PrunedLoader) else None
        if not isinstance(pruner, Pruner):
            raise TypeError(
                f"loader must be a pruner's, got {type(loader).__name__}; write Pruning(pruner.loader(train_set, ...))"
            )
        self.loader = loader
        self.pruner = pruner
        self.batches = Batches(loader, pruner)
        self._loaded: dict[str, Any] | None = None  # a state of which Lightning has not said yet where it goes on
        self._estimate: float | None = None  # of the number of steps, if `configure_optimizers` read it

    def total_steps(self, trainer: Any) -> int:
        """Returns the exact number of optimiser steps of a run, to size a schedule in `configure_optimizers`.

        Counts as Lightning does, with `accumulate_grad_batches`, `limit_train_batches`, `max_epochs` and `max_steps`.

        Args:
            trainer: the Trainer, inside `fit`.

        Raises:
            ValueError: the strategy's number of samples depends on the losses; neither `max_epochs` nor `max_steps`; an
                accumulation that changes. RuntimeError: outside `fit`, where the number of processes is not known yet.
        """
        if self.batches.trainer is not trainer:
            raise RuntimeError(
                "total_steps needs a Trainer inside fit with this callback, got one outside; call it in "
                "configure_optimizers as pruning.total_steps(self.trainer)"
            )
        if trainer.max_epochs < 0:
            if trainer.max_steps < 0:
                raise ValueError("total_steps needs the end of the run, got none; write Trainer(max_epochs=...)")
            return int(trainer.max_steps)
        if any(len(getattr(each, "scheduling", ())) > 1 for each in trainer.callbacks):
            one = "total_steps needs one accumulation for all epochs, got a GradientAccumulationScheduler"
            raise ValueError(f"{one}; let the learning rate follow the share of the run that is done")
        runs = self.batches.plan(trainer.limit_train_batches)
        steps = total(runs, of=shown(self.pruner.strategy), accumulate=trainer.accumulate_grad_batches)
        return steps if trainer.max_steps < 0 else min(steps, trainer.max_steps)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Attaches the batches to the Trainer."""
        if stage == "fit":
            self.batches.attach(trainer)
            self._loaded = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuses what would train wrongly, and goes on where the checkpoint was written.

        Raises:
            RuntimeError: other batches or ranks in the Trainer, no pruner in the checkpoint, a wrong schedule.
        """
        self._check_batches(trainer)
        ours, theirs = self.pruner.ranks()[1], (trainer.distributed_sampler_kwargs or {}).get("num_replicas", 1)
        if ours != theirs:
            raise RuntimeError(
                f"the pruner must share the data among {theirs} ranks, as the Trainer does, got {ours}; give "
                "Pruner(process_group=...) the ranks that see other batches"
            )
        if trainer.overfit_batches:
            return
        state, self._loaded = self._loaded, None
        if state is not None:
            self._resume(trainer, state)
        elif self.pruner.epoch is None and self.pruner.next_epoch == 0 and trainer.global_step > 0:
            raise RuntimeError(
                f"a run at step {trainer.global_step} must hold the pruner's state, got a pruner at its beginning; "
                "resume a checkpoint that was written with this callback by trainer.fit(..., ckpt_path=path), or write "
                "pruner.set_epoch(epoch) before fit to begin without one"
            )
        self._check_estimate(trainer)

    def _check_batches(self, trainer: Any) -> None:
        given = trainer.train_dataloader
        if given is not self.batches:
            raise RuntimeError(
                f"the Trainer must train pruning.batches alone, got {type(given).__name__}; write "
                "trainer.fit(model, pruning.batches), or return pruning.batches from train_dataloader"
            )

    def _check_estimate(self, trainer: Any) -> None:
        """Raises, or warns, if a schedule was sized by an estimate that is wrong."""
        if self._estimate is None or trainer.max_epochs < 0:
            return
        try:
            steps = self.total_steps(trainer)
        except ValueError:
            warnings.warn(
                f"configure_optimizers read trainer.estimated_stepping_batches, which is {self._estimate}, the most "
                "that the run may make; the number of steps depends on the losses, so a schedule of that length ends "
                "early. Let the learning rate follow the share of the run that is done",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        if steps != self._estimate:
            raise RuntimeError(
                f"a schedule must have the {steps} steps of the run, got {self._estimate} from "
                "trainer.estimated_stepping_batches, which takes all epochs as equally long; "
                "write pruning.total_steps(self.trainer) in configure_optimizers"
            )

    def _resume(self, trainer: Any, state: dict[str, Any]) -> None:
        """Goes on inside the saved epoch if Lightning does, and otherwise begins with the next one."""
        batches, fit = self.batches, trainer.fit_loop
        progress = fit.epoch_loop.batch_progress
        untouched = state["open"] and state["served"] == 0
        inside = fit.restarting and not untouched and progress.current.processed < state["length"]
        if inside or untouched:
            with resumed_by(_RESUME):
                self.loader.load_state_dict(state["loader"])
        batches.length, batches.served = state["length"], progress.current.processed if inside else 0
        if not fit.restarting:
            return
        if progress.current.completed < progress.current.processed:
            # Saved after a batch and before Lightning counted it. Lightning 2.6 does not count it after a resume if a
            # batch was skipped before, and goes by the length of another epoch.
            progress.increment_completed()
            fit.epoch_loop.reset_restart_stage()
        if inside and self.pruner.resuming:
            batches.begin()
        elif not inside and fit.epoch_progress.current.processed == fit.epoch_progress.current.started:
            # Of an epoch that is over. With `max_steps`, Lightning 2.6 would take its batches for those of the next.
            progress.reset_on_run()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Notes what `configure_optimizers` was told."""
        self._estimate = trainer.estimated_stepping_batches if self.batches.estimated else None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begins an epoch, whose number of batches everything else then reads."""
        self._check_batches(trainer)
        self.batches.begin()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Tells Lightning which batch is the last. It goes by the length that it read before the first epoch."""
        if self.batches.served >= self.batches.length:
            trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Ends the epoch, however many of its batches were trained.

        Raises:
            RuntimeError: the Trainer ended it early, and nobody had told it so.
        """
        batches, current = self.batches, trainer.fit_loop.epoch_loop.batch_progress.current
        left = current.started < current.ready  # `on_train_batch_start` returned -1
        told = left or trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        if batches.open and batches.served < batches.length and not told:
            raise RuntimeError(
                f"the Trainer must train all {batches.length} batches of an epoch, got an end after {batches.served}; "
                "let no other callback change max_batches, and write limit_train_batches for fewer"
            )
        batches.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leaves the Trainer as `teardown` does, which Lightning does not call after an error."""
        if trainer is self.batches.trainer:
            self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leaves the Trainer."""
        if stage == "fit":
            self.batches.drop()
            self.batches.trainer = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the loader's state and the place in Lightning's epoch; Lightning calls it on every rank."""
        batches = self.batches
        if batches.kept is not None:
            return {}
        return {
            "loader": self.loader.whole_state(),
            "length": batches.length,
            "served": batches.served,
            "open": batches.open,
            "first": batches.first,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the pruner if the Trainer is to train; an evaluation of a checkpoint leaves it as it is."""
        trainer = self.batches.trainer
        if trainer is None or trainer.overfit_batches:
            return
        with resumed_by(_RESUME):
            self.pruner.load_state_dict(state_dict["loader"]["pruner"])
        self.batches.end()  # one that a search for a learning rate had begun
        self.batches.first = state_dict["first"]  # before `configure_optimizers`, which may ask for the steps
        self._loaded = state_dict
