"""Lightning: a callback, and the batches that `Trainer.fit` gets.

Works with `lightning` and with `pytorch_lightning`. The callback's base class comes from the package that the program
has imported, or else from the one that is installed. It works in a Trainer of either.
"""

from __future__ import annotations

import math
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from orderdp.epochs import shown
from orderdp.integrations.lightning_batches import Batches
from orderdp.loader import PrunedLoader
from orderdp.pruner import Pruner
from orderdp.ranks import step_runs, total
from orderdp.schedule import Constant


def _callback_class() -> Any:
    """Returns Lightning's `Callback`; without Lightning, a stand-in, so that this module can be imported."""
    names = ("lightning.pytorch", "pytorch_lightning")
    installed = [name for name in names if find_spec(name.partition(".")[0])]
    installed.sort(key=lambda name: name not in sys.modules)
    return import_module(installed[0]).Callback if installed else object


_Callback: Any = _callback_class()


class _Batches:
    """The epochs of a pruned loader, as a Trainer asks for them.

    It is no DataLoader, so Lightning puts no distributed sampler into it. Lightning makes more iterators than it trains
    epochs. An epoch of the pruner begins when the Trainer's epoch does, and an iterator joins it at its first batch.

    The length is that of the running epoch. Between epochs it is the longest epoch of the run, since Lightning takes
    what it is told first as a limit of all epochs.
    """

    def __init__(self, loader: PrunedLoader, pruner: Pruner) -> None:
        self.loader = loader
        self.pruner = pruner
        self.trainer: Any = None  # that runs `fit` now
        self.first = 0  # the pruner's epoch at the first epoch of the run
        self.length = 0  # batches of the epoch begun last that Lightning trains
        self.served = 0  # of these, how many it has got, in all runs that trained this epoch
        self.ready = False  # an epoch has begun, and no iterator has joined it
        self.open = False  # an epoch has begun, and Lightning has not ended it
        self.estimated = False  # Lightning was asked for the number of steps while optimisers were configured
        self.kept: list[Any] | None = None  # the batches of `overfit_batches`
        self._pass: Iterator[tuple[Tensor, Any]] | None = None
        self._before: Any = None  # the trainer's optimisers before it configured new ones

    def attach(self, trainer: Any) -> None:
        """Serves a Trainer from now on."""
        self.trainer, self._before = trainer, trainer.optimizers
        self.first = max(0, self.pruner.next_epoch - trainer.current_epoch)
        self.kept, self.estimated, self.open = None, False, False
        self.drop()

    def drop(self) -> None:
        """Leaves the running epoch where it is, and its workers end."""
        self._pass, self.ready = None, False

    def __len__(self) -> int:
        if self.trainer is None:
            return len(self.loader)
        return self.length if self.open else self._longest()

    def _longest(self) -> int:
        """Returns how many batches the longest epoch of the run may have."""
        cut = self.loader.batch_sampler.batching
        most = len(self.pruner.steps_of(cut, self.pruner.num_samples))
        steps = [steps for _, steps in self.plan()] if self.trainer.max_epochs > 0 else []
        return max((most if each is None else each for each in steps), default=most)

    def plan(self, limit: float = 1.0) -> list[tuple[int, int | None]]:
        """Returns (number of epochs, batches of each) of the run; None for batches that depend on the losses."""
        pruner, skip = self.pruner, self.first
        runs = step_runs(
            pruner.strategy,
            pruner.num_samples,
            self.loader.batch_sampler.batching,
            epochs=self.first + self.trainer.max_epochs,
            num_ranks=pruner.ranks()[1],
            schedule=None if isinstance(pruner.schedule, Constant) else pruner.schedule,
        )
        planned: list[tuple[int, int | None]] = []
        for epochs, steps in runs:
            skipped = min(skip, epochs)
            skip -= skipped
            if epochs > skipped:
                planned.append((epochs - skipped, None if steps is None else _limited(steps, limit)))
        return planned

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        if self.trainer is None:
            raise RuntimeError(
                "pruning.batches are the training batches of Trainer.fit with the callback, got a loop without it; "
                "write Trainer(callbacks=[pruning]), and use pruning.loader in a loop of your own"
            )
        if not self.trainer.training:
            raise RuntimeError(
                "pruning.batches are for training, got an evaluation, which would begin an epoch; "
                "write a plain DataLoader for validation, test and prediction"
            )
        self.estimated |= self.trainer.optimizers is self._before
        return self._served()

    def _served(self) -> Iterator[tuple[Tensor, Any]]:
        """Yields the batches of the running epoch from the first `next` on."""
        if not self.ready:
            # Lightning 2.6 leaves out `on_train_epoch_start` in some restarts. If it stands inside an epoch of which
            # nothing is left, that epoch ends here.
            if self.trainer.fit_loop.epoch_loop.batch_progress.current.ready > 0:
                return
            self.begin()
        self.ready = False
        batches = self._pass if self.kept is None else iter(self.kept)
        assert batches is not None
        for batch in islice(batches, self.length - self.served):
            self.served += 1
            yield batch

    def begin(self) -> None:
        """Begins the pruner's next epoch, unless one has begun that no iterator has joined."""
        if self.ready:
            return
        trainer = self.trainer
        if not self.pruner.resuming:
            self.served = 0
        self.open = True
        if self.kept is None:
            batches = iter(self.loader)
            self._pass = chain([next(batches)], batches)
            whole = min(len(self.loader), self.served + self.loader.batch_sampler.in_pass)
            self.length = _limited(whole, trainer.limit_train_batches)
            if trainer.overfit_batches:
                self.kept, self._pass = list(islice(self._pass, self.length)), None
        self.ready = True
        trainer.fit_loop.max_batches = self.length
        if isinstance(trainer.val_check_interval, float) and trainer.val_check_batch is not None:
            trainer.val_check_batch = max(1, int(self.length * trainer.val_check_interval))

    def end(self) -> None:
        """Ends the running epoch."""
        self.open = False
        self.drop()

    @property
    def _iterator(self) -> Any:
        """What a DataLoader keeps of its persistent workers; Lightning ends them through it after a run."""
        return self.loader._iterator

    @_iterator.setter
    def _iterator(self, value: Any) -> None:
        self.loader._iterator = value

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing. The callback holds the state, since Lightning does not always give this one back."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes nothing; with it Lightning sees that an epoch can be resumed."""


def _limited(batches: int, limit: float) -> int:
    """Returns how many batches of an epoch Lightning trains with this `limit_train_batches`."""
    return min(batches, limit) if isinstance(limit, int) else max(1, int(batches * limit))


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
        together = trainer.accumulate_grad_batches
        runs = [
            (epochs, None if batches is None else math.ceil(batches / together))
            for epochs, batches in self.batches.plan(trainer.limit_train_batches)
        ]
        steps = total(runs, of=shown(self.pruner.strategy))
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
                "resume a checkpoint that was written with this callback, or write pruner.set_epoch(epoch) to begin "
                "without one"
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
        self.pruner.load_state_dict(state_dict["loader"]["pruner"])
        self.batches.end()  # one that a search for a learning rate had begun
        self.batches.first = state_dict["first"]  # before `configure_optimizers`, which may ask for the steps
        self._loaded = state_dict
