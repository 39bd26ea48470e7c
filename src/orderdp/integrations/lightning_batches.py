"""The batches that `Trainer.fit` of Lightning gets: the epochs of a pruned loader, one for each of the Trainer's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from torch import Tensor

from orderdp.loader import PrunedLoader
from orderdp.pruner import Pruner
from orderdp.ranks import step_runs
from orderdp.schedule import Constant


class Batches:
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
        if not self.trainer.callbacks:  # Lightning's search takes them all away, and that for a learning rate does not
            raise RuntimeError(
                "a search for the batch size needs a loader that it can make anew, got pruning.batches in "
                "Tuner.scale_batch_size or with a BatchSizeFinder; search with a plain DataLoader in a Trainer without "
                "the callback, and write what it finds in pruner.loader(train_set, batch_size=...)"
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
