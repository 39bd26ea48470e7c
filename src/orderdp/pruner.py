"""The object that a training loop holds: it selects the samples of each epoch and remembers their losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orderdp.epochs import Epochs, shown
from orderdp.loader import PrunedLoader
from orderdp.ranks import num_steps, ranks, step_bounds, steps_by_epoch
from orderdp.rng import generator, uniforms
from orderdp.samplers import PrunedBatchSampler, PrunedSampler
from orderdp.schedule import Constant, Schedule
from orderdp.scores import Faults, ScoreTable, check_batch
from orderdp.strategies import Selection, Strategy

STATE_VERSION = 1


@dataclass(frozen=True)
class Report:
    """What a pruner has done so far.

    Args:
        epoch: number of the running or last epoch, from 0; -1 before the first.
        num_samples: size n of the data set.
        num_selected: samples that this epoch visits.
        visits: samples trained in all epochs together, the running one included.
        never_seen: samples that no epoch has trained.
        mean_age: epochs since a sample was last trained, mean over the seen samples; nan if there are none.
        max_age: the largest such age; 0 if no sample was seen.
        non_finite: losses that were NaN or infinite and so were not recorded.
        selection_s: seconds spent on selection.
    """

    epoch: int
    num_samples: int
    num_selected: int
    visits: int
    never_seen: int
    mean_age: float
    max_age: int
    non_finite: int
    selection_s: float


class Pruner:
    """Selects what each epoch visits, and remembers the losses.

    The selection of an epoch is a pure function of (strategy, what is remembered, seed, epoch). The number of workers,
    ranks and restarts does not change it. Under torch.distributed all ranks hold the same pruner. They exchange what
    they have seen in one collective when the next epoch begins.

    Args:
        strategy: the method, such as `OrderDP(prune_ratio=0.5)`.
        num_samples: size of the data set, `len(dataset)`.
        seed: decides every draw, 0 <= seed < 2**64.
        schedule: strategy to use at each epoch, a function of (strategy, epoch); None uses `strategy` throughout.
        device: device of the table; None takes the device of the first losses.

    Raises:
        TypeError: arguments of another type. ValueError: a seed out of range, or sizes that keep no sample.

    >>> from orderdp import OrderDP
    >>> pruner = Pruner(OrderDP(prune_ratio=0.5), 1000, seed=0)
    >>> pruner.steps_per_epoch(batch_size=64)
    8
    """

    def __init__(
        self,
        strategy: Strategy,
        num_samples: int,
        *,
        seed: int = 0,
        schedule: Schedule | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if not isinstance(strategy, Strategy):
            raise TypeError(f"strategy must be a Strategy, got {strategy!r}; write OrderDP(prune_ratio=0.5)")
        _check_integer("num_samples", num_samples, 1, 2**63, "write len(dataset)")
        _check_integer("seed", seed, 0, 2**64, "write a number such as 0")
        self.strategy = strategy
        self.num_samples = int(num_samples)  # a NumPy integer in the state could not be loaded with weights_only=True
        self.seed = int(seed)
        self.schedule = schedule or Constant()
        self._table = ScoreTable(self.num_samples, strategy.columns, None if device is None else torch.device(device))
        self._epochs = Epochs(strategy, self.num_samples, seed=self.seed, schedule=self.schedule)
        self._non_finite = 0
        self.selection_s = 0.0  # seconds spent on selection so far
        self.num_selected()  # sizes that keep no sample fail here

    @property
    def epoch(self) -> int:
        """The epoch begun last; before the first one and after loading a state, the one that comes next."""
        return self._epochs.current

    @property
    def selection(self) -> Selection | None:
        """What the epoch begun last visits; None before the first."""
        return self._epochs.selection

    @property
    def resuming(self) -> bool:
        """Whether the next epoch resumes one that a loaded state had begun."""
        return self._epochs.resuming

    def num_selected(self, epoch: int | None = None) -> int:
        """Returns how many samples an epoch visits; None is the next one to begin.

        Exact if the strategy declares it, and for the epoch begun last. If the number depends on the losses, it is that
        of the epoch begun last. Before the first epoch it is then n, the maximum.
        """
        return self._epochs.num_selected(epoch)

    def steps_per_epoch(self, batch_size: int, *, drop_last: bool = False, epoch: int | None = None) -> int:
        """Returns the number of optimiser steps of an epoch, exact if `num_selected` is.

        Args:
            batch_size: samples of one step on one rank.
            drop_last: as given to the loader.
            epoch: which one; None is the next to begin.
        """
        return num_steps(self.num_selected(epoch), batch_size, drop_last=drop_last, num_ranks=ranks()[1])

    def total_steps(self, epochs: int, batch_size: int, *, drop_last: bool = False) -> int:
        """Returns the exact number of optimiser steps of epochs 0 .. epochs - 1, to size a learning-rate schedule.

        Raises:
            ValueError: the strategy's number of samples depends on the losses.
        """
        _check_integer("epochs", epochs, 1, 2**31, "write a number such as 90")
        steps = steps_by_epoch(
            self.strategy,
            self.num_samples,
            batch_size,
            epochs=epochs,
            drop_last=drop_last,
            num_ranks=ranks()[1],
            schedule=self.schedule,
        )
        if None in steps:
            raise ValueError(
                f"the steps of {shown(self.strategy)} depend on the losses, got epoch {steps.index(None)} of unknown "
                "size; let the learning rate follow the share of the run that is done, (epoch + step / steps) / epochs "
                "with steps = pruner.steps_per_epoch(batch_size, epoch=epoch) taken inside the epoch"
            )
        return sum(filter(None, steps))

    def loader(
        self,
        dataset: Any,
        *,
        batch_size: int = 1,
        drop_last: bool = False,
        collate_fn: Callable[[Any], Any] | None = None,
        **dataloader_arguments: Any,
    ) -> PrunedLoader:
        """Returns a DataLoader of (index, batch) over the selected samples; `PrunedLoader` explains the arguments."""
        return PrunedLoader(
            self, dataset, batch_size=batch_size, drop_last=drop_last, collate_fn=collate_fn, **dataloader_arguments
        )

    def sampler(self, batch_size: int | None = None, *, drop_last: bool = False) -> PrunedBatchSampler | PrunedSampler:
        """Returns a sampler for a training loop that builds its own DataLoader over an `IndexedDataset`.

        Args:
            batch_size: samples of one step on one rank, for `DataLoader(batch_sampler=...)`. None yields ids one by
                one, for `DataLoader(sampler=...)`.
            drop_last: leave out the last step of an epoch if it is not full; with `batch_size` only.
        """
        return PrunedSampler(self) if batch_size is None else PrunedBatchSampler(self, batch_size, drop_last=drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the next one to begin. Only needed to leave the order 0, 1, 2, ..."""
        _check_integer("epoch", epoch, 0, 2**31, "write the number of the epoch, from 0")
        self._epochs.next = int(epoch)

    def worker_seed(self) -> int:
        """Returns the seed of this rank's worker processes in the next epoch to begin."""
        return int(generator(self.seed, self._epochs.next, f"workers of rank {ranks()[0]}").integers(2**63))

    def begin_epoch(self, batch_size: int | None = None, *, drop_last: bool = False) -> Selection:
        """Begins the next epoch and returns what it visits; loader and sampler call this.

        After loading a state that was taken inside an epoch, returns the selection of that epoch.

        Args:
            batch_size: samples of one step on one rank, for strategies that select by the step; None if the training
                loop forms the batches.
            drop_last: the last step is left out if it is not full.

        Raises:
            RuntimeError: the previous epoch had wrong ids on the device; the ranks hold different pruners; the strategy
                selects something other than it declares. ValueError: the batch size allows no step.
        """
        begin_s = time.perf_counter()
        self._synchronize(self._epochs.scheduled())
        selection = self.preview(batch_size, drop_last=drop_last)
        if self._epochs.begun and not self.resuming:
            self._table.close(self._epochs.ordinal)
        self._epochs.begin(selection)
        self._table.expect(selection.indices, selection.weights)
        self.selection_s += time.perf_counter() - begin_s
        return selection

    def preview(self, batch_size: int | None = None, *, drop_last: bool = False) -> Selection:
        """Returns what the next epoch would visit if it began now, and changes nothing.

        With several ranks, call `synchronize` on all of them first.

        Args:
            batch_size: as for `begin_epoch`.
            drop_last: as for `begin_epoch`.

        Raises:
            ValueError: the schedule names a strategy that needs columns that are not remembered.
        """
        if self.resuming:
            assert self.selection is not None
            return self.selection
        bounds, size = None, self._epochs.declared()
        if batch_size is not None and size is not None:
            bounds = tuple(step_bounds(size, batch_size, drop_last=drop_last, num_ranks=ranks()[1]))
        visits = self.visits().cpu().numpy()
        visits.flags.writeable = False
        return self._epochs.select(self._table.snapshot(), visits, bounds)

    def update(self, index: Tensor, losses: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Remembers the losses of a batch and returns the scalar to back-propagate, the mean of weights·losses.

        Queues its work on the device and never waits for it. Does not change `losses`. A loss that is NaN or infinite
        is not recorded. A warning at the end of the epoch says how many there were.

        Args:
            index: (b,) int64 ids as the loader yields them. On the host a wrong id raises at once, on a GPU at the end
                of the epoch.
            losses: (b,) floating, one loss per sample, with gradient.
            scores: (b,) to remember instead of the losses; high scores are kept.

        Returns:
            () scalar with gradient.

        Raises:
            ValueError: losses reduced, of another length, without gradient or on the wrong device; ids repeated or not
                of this epoch. IndexError: ids out of range. RuntimeError: no epoch has begun.
        """
        if not self._epochs.is_open:
            raise RuntimeError("update needs an epoch, got none begun; take index and batch from pruner.loader")
        check_batch(index, losses, scores)
        seen = losses.detach()
        self._table.settle(seen.device)
        values = seen if scores is None else scores.detach().to(seen.device, non_blocking=seen.device.type != "cpu")
        epoch, waits = self.epoch, seen.device.type == "cpu"
        factors = self._epochs.chooser.batch_weights(
            values.to(torch.float32),
            lambda: uniforms(index.to(seen.device, non_blocking=not waits), self.seed, epoch),
        )
        kept = None if factors is None else factors != 0
        weights = self._table.record(index, values, self._epochs.ordinal, self.strategy.observe, kept)
        if factors is not None and kept is not None:
            losses = torch.where(kept, losses, 0) * factors  # zero times a loss that is not finite would be NaN
        if weights is not None:
            losses = losses * weights
        return losses.mean()

    def synchronize(self) -> None:
        """Exchanges what the ranks have seen, in one collective, and warns of losses that were not finite.

        Every rank must call it. `begin_epoch` and `state_dict` call it themselves. Until then, `report`, `visits`,
        `ages`, `trained` and `scores` of a rank hold only what that rank has trained of the running epoch.

        Raises:
            RuntimeError: wrong ids on the device; the ranks hold different pruners.
        """
        self._synchronize(self._epochs.chooser)

    def _synchronize(self, chooser: Strategy) -> None:
        """As `synchronize`, and checks that the schedules of all ranks name the same strategy."""
        if ranks()[1] > 1:
            self._note(self._table.merge(self._epochs.fingerprint(chooser)))
        else:
            self._note(self._table.take_faults())

    def report(self) -> Report:
        """Returns what was selected, trained and left out so far; waits for the device.

        With several ranks, call `synchronize` on all of them first.
        """
        if ranks()[1] == 1:  # with more ranks, faults stay in the table until all ranks exchange them
            self._note(self._table.take_faults())
        ages, running = self.ages(), self._epochs.running
        seen = ages >= 0
        return Report(
            epoch=-1 if running is None else running,
            num_samples=self.num_samples,
            num_selected=0 if self.selection is None else len(self.selection.indices),
            visits=int(self.visits().sum()),
            never_seen=int((~seen).sum()),
            mean_age=float(ages[seen].double().mean()),
            max_age=int(ages[seen].max()) if seen.any() else 0,
            non_finite=self._non_finite,
            selection_s=self.selection_s,
        )

    def visits(self) -> Tensor:
        """Returns (n,) int32: in how many epochs each sample was trained, the running one included.

        With several ranks, call `synchronize` on all of them first.
        """
        visits = self._table.visits[:-1]
        return visits + self.trained() if self._epochs.begun else visits

    def ages(self) -> Tensor:
        """Returns (n,) int32: epochs begun since each sample was last trained, -1 if never.

        Samples trained by the epoch begun last have 0. A sample whose loss was not finite counts as trained, but keeps
        an older score. With several ranks, call `synchronize` on all of them first.
        """
        last = self._table.last_epoch[:-1]
        return torch.where(last >= 0, self._epochs.ordinal - last, -1)

    def trained(self) -> Tensor:
        """Returns (n,) bool: which samples the epoch begun last has trained so far; none before the first.

        With several ranks, call `synchronize` on all of them first.
        """
        return self._table.last_epoch[:-1] == (self._epochs.ordinal if self._epochs.begun else -2)

    def scores(self) -> dict[str, Tensor]:
        """Returns copies of the remembered columns by name, each (n,) float32."""
        return {name: column[:-1].clone() for name, column in self._table.columns.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that determines future selections, as tensors and plain values.

        Inside an epoch, save the state of the loader or of the batch sampler instead, which adds the position. With
        several ranks, every rank must call it, because the ranks first exchange what they have seen.
        """
        self.synchronize()
        return {
            "version": STATE_VERSION,
            **self._epochs.state_dict(),
            "non_finite": self._non_finite,
            "selection_s": self.selection_s,
            "table": self._table.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, resume: bool = False) -> None:
        """Restores what `state_dict` returned; the next epoch is the one after the saved epoch.

        Args:
            state: of a pruner with the same strategy, size and seed.
            resume: begin with the saved epoch and its selection, as the loader does inside an epoch.

        Raises:
            ValueError: the state does not fit; nothing is changed.
        """
        if "pruner" in state:
            raise ValueError(
                f"the state must be one of a pruner, got a loader's with the keys {sorted(state)}; "
                "give it to loader.load_state_dict, or write state['pruner']"
            )
        if state.get("version") != STATE_VERSION:
            raise ValueError(
                f"the state must be of version {STATE_VERSION}, got {state.get('version')}; "
                "load it with the release of orderdp that wrote it"
            )
        epochs = self._epochs.restored(state, resume=resume)
        self._table.load_state_dict(state["table"])
        self._epochs = epochs
        self._non_finite = state["non_finite"]
        self.selection_s = state["selection_s"]

    def _note(self, faults: Faults) -> None:
        self._non_finite += faults.non_finite
        faults.announce(self._epochs.running)


def _check_integer(name: str, value: Any, low: int, high: int, instead: str) -> None:
    rule = f"{name} must be an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{rule}, got {type(value).__name__} {value!r}"[:200] + f"; {instead}")
    if not low <= value < high:
        raise ValueError(f"{rule} and less than {high}, got {value}; {instead}")
