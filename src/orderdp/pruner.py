"""The object that a training loop holds: it selects the samples of each epoch and remembers their losses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.checks import check_index, check_integer, check_update, check_values, scores_of
from orderdp.epochs import shown
from orderdp.ledger import Ledger
from orderdp.loader import PrunedLoader
from orderdp.notices import REPEATS
from orderdp.ranks import Batching, Steps, refuse_lone_rank, step_runs, total
from orderdp.record import EpochRecord, reduced
from orderdp.rng import generator
from orderdp.samplers import PrunedBatchSampler, PrunedSampler
from orderdp.schedule import Constant, Schedule
from orderdp.scores import ScoreTable
from orderdp.strategies import Selection, Strategy
from orderdp.within_batch import WithinBatch


class Pruner(Ledger):
    """Selects what each epoch visits, and remembers the losses.

    The selection of an epoch is a pure function of (strategy, what is remembered, seed, epoch). The number of workers,
    ranks and restarts does not change it. Under torch.distributed all ranks hold the same pruner. They exchange what
    they have seen when the next epoch begins.

    What counts as trained is what `update` saw. A sample that is seen twice in an epoch counts once, with its newest
    loss. Scores change when the epoch ends. A sample that its epoch left without a finite loss has failed: it ranks
    below all others until a finite loss is recorded.

    Args:
        strategy: the method, such as `OrderDP(prune_ratio=0.5)`.
        num_samples: size of the data set, `len(dataset)`.
        seed: decides every draw, 0 <= seed < 2**64.
        schedule: strategy to use at each epoch, a function of (strategy, epoch); None uses `strategy` throughout.
        process_group: the processes that share the data, as a process group or a device mesh of one dimension; None is
            all of them. Ranks of tensor, sequence or pipeline parallelism that must see the same batch each get a group
            of the ranks that see other batches, such as `mesh["dp"]`.
        fingerprint: name or digest of the data set. A state of another one is then refused.

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
        process_group: Any = None,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__(strategy, num_samples, seed=seed, schedule=schedule, group=process_group, data=fingerprint)
        self._within: WithinBatch | None = None  # if the strategy of the running epoch chooses within batches
        self.num_selected()  # sizes that keep no sample fail here
        if strategy.assumed_size is not None:
            logging.getLogger("orderdp").warning(strategy.assumed_size)

    def __repr__(self) -> str:
        size = self._epochs.declared()
        kept = "as many as the losses decide" if size is None else f"{size:,}"
        return f"<Pruner: {shown(self.strategy)} visits {kept} of {self.num_samples:,} samples in its next epoch>"

    @property
    def chooses_in_batch(self) -> bool:
        """Whether the epoch begun last chooses within its batches, so that `choose` needs a forward pass first."""
        return self._within is not None

    def num_selected(self, epoch: int | None = None) -> int:
        """Returns how many samples an epoch visits; None is the next one to begin.

        Exact if the strategy declares it, and for the epoch begun last. If the number depends on the losses, it is that
        of the epoch begun last. Before the first epoch it is then n, the maximum.
        """
        return self._epochs.num_selected(epoch)

    def steps_per_epoch(
        self,
        batch_size: int,
        *,
        drop_last: bool = False,
        stable_shapes: bool = False,
        epoch: int | None = None,
        num_ranks: int | None = None,
    ) -> int:
        """Returns the number of optimiser steps of an epoch, exact if `num_selected` is.

        Args:
            batch_size: samples of one step on one rank.
            drop_last: as given to the loader.
            stable_shapes: as given to the loader.
            epoch: which one; None is the next to begin.
            num_ranks: number of ranks; None is that of the process group, which must exist then.
        """
        exact = self._epochs.declared(epoch) is not None
        steps = Batching(batch_size, drop_last, stable_shapes).steps(
            self.num_selected(epoch), num_ranks=self._num_ranks(num_ranks), exact=exact
        )
        return len(steps)

    def total_steps(
        self,
        epochs: int,
        batch_size: int,
        *,
        drop_last: bool = False,
        stable_shapes: bool = False,
        num_ranks: int | None = None,
        accumulate: int = 1,
    ) -> int:
        """Returns the exact number of optimiser steps of epochs 0 .. epochs - 1, to size a learning-rate schedule.

        Args:
            epochs: number of epochs.
            batch_size: samples of one step on one rank.
            drop_last: as given to the loader.
            stable_shapes: as given to the loader.
            num_ranks: number of ranks. None is that of the process group, or 1 before there is one: give the number
                there, or call `loader.total_steps` afterwards.
            accumulate: batches whose gradients make one step together; the last step of an epoch may have fewer.

        Raises:
            ValueError: the strategy's number of samples depends on the losses.
        """
        epochs = check_integer("epochs", epochs, 1, 2**31, "write a number such as 90")
        if isinstance(self.schedule, Constant):
            self._notices.of_run(self.strategy, epochs)
        runs = step_runs(
            self.strategy,
            self.num_samples,
            Batching(batch_size, drop_last, stable_shapes),
            epochs=epochs,
            num_ranks=self._num_ranks(num_ranks),
            schedule=None if isinstance(self.schedule, Constant) else self.schedule,
        )
        return total(runs, of=shown(self.strategy), accumulate=accumulate)

    def _num_ranks(self, given: int | None) -> int:
        if given is None:
            return self.ranks()[1]
        return check_integer("num_ranks", given, 1, 2**31, "write the number of processes")

    def loader(
        self,
        dataset: Any,
        *,
        batch_size: int = 1,
        drop_last: bool = False,
        stable_shapes: bool = False,
        collate_fn: Callable[[Any], Any] | None = None,
        **dataloader_arguments: Any,
    ) -> PrunedLoader:
        """Returns a DataLoader of (index, batch) over the selected samples; `PrunedLoader` explains the arguments."""
        return PrunedLoader(
            self,
            dataset,
            batch_size=batch_size,
            drop_last=drop_last,
            stable_shapes=stable_shapes,
            collate_fn=collate_fn,
            **dataloader_arguments,
        )

    def sampler(
        self, batch_size: int | None = None, *, drop_last: bool = False, stable_shapes: bool = False
    ) -> PrunedBatchSampler | PrunedSampler:
        """Returns a sampler for a training loop that builds its own DataLoader over an `IndexedDataset`.

        Args:
            batch_size: samples of one step on one rank, for `DataLoader(batch_sampler=...)`. None yields ids one by
                one, for `DataLoader(sampler=...)`.
            drop_last: full batches only; with `batch_size` only.
            stable_shapes: full batches and a rest; with `batch_size` only.
        """
        if batch_size is None:
            return PrunedSampler(self)
        return PrunedBatchSampler(self, batch_size, drop_last=drop_last, stable_shapes=stable_shapes)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the next one to begin. Only needed to leave the order 0, 1, 2, ..."""
        self._epochs.next = check_integer("epoch", epoch, 0, 2**31, "write the number of the epoch, from 0")

    def worker_seed(self) -> int:
        """Returns the seed of this rank's worker processes in the next epoch to begin."""
        return int(generator(self.seed, self._epochs.next, f"workers of rank {self.ranks()[0]}").integers(2**63))

    def steps_of(self, batching: Batching, num_selected: int) -> Steps:
        """Returns the steps of an epoch of that size, with this rank's part of each."""
        rank, num_ranks = self.ranks()
        return batching.steps(num_selected, rank=rank, num_ranks=num_ranks, exact=False)

    def check_steps(self, batching: Batching) -> None:
        """Raises ValueError if an epoch to come is known to be too small for a step; loaders and samplers call this.

        The epochs to come are those of the strategy, and with a schedule only the next one.
        """
        changes = self.strategy.size_changes() if isinstance(self.schedule, Constant) else ()
        for epoch in (self.next_epoch, *(epoch for epoch in changes or () if epoch > self.next_epoch)):
            size = self._epochs.declared(epoch)
            if size is not None or epoch == self.next_epoch:
                batching.steps(self.num_selected(epoch), num_ranks=self.ranks()[1], exact=size is not None)

    def steps_done(self, steps: Steps) -> npt.NDArray[np.bool_]:
        """Returns (len(steps),) bool: which steps of the epoch begun last `update` has seen; waits for the device.

        With several ranks, call `synchronize` on all of them first.
        """
        return np.ones(len(steps), dtype=np.bool_) if self._record is None else self._record.steps_done(steps)

    def begin_epoch(
        self, batch_size: int | None = None, *, drop_last: bool = False, stable_shapes: bool = False
    ) -> Selection:
        """Begins the next epoch and returns what it visits; loader and sampler call this.

        After loading a state that was taken inside an epoch, returns the selection of that epoch.

        Args:
            batch_size: samples of one step on one rank, at most; None if the training loop forms the batches.
            drop_last: full batches only.
            stable_shapes: full batches and a rest, instead of batches that are as equal as possible.

        Raises:
            RuntimeError: the previous epoch had wrong ids on the device; the ranks hold different pruners, or know
                nothing of each other; the strategy selects something other than it declares. ValueError: the batch size
                allows no step.
        """
        refuse_lone_rank()
        begin_s = time.perf_counter()
        batching = None if batch_size is None else Batching(batch_size, drop_last, stable_shapes)
        self._synchronize("begin_epoch", self._epochs.checked(), batching)
        resumed = self.resuming
        if not resumed:
            self._close_epoch()
            self._epochs.begin(*self._select(self._table, batching))
        else:
            assert self.selection is not None
            self._epochs.begin(self.selection)
        selection = self.selection
        assert selection is not None
        steps = None if batching is None else self.steps_of(batching, len(selection.indices))
        self._batching, chooser = batching, self._epochs.chooser
        within = chooser.within(self._table.columns, self.epoch or 0)
        self._within = None if within is None else WithinBatch(within, self.seed, self.epoch or 0)
        if not resumed or self._record is None:
            self._record = EpochRecord(selection, self.num_samples)
        self._record.begin(steps, self.ranks()[1])
        self.selection_s += time.perf_counter() - begin_s
        self._notices.of_autocast(f"epoch {self.epoch}")  # last, since a warning may be raised as an error
        if not resumed:
            kept_step = steps is not None and steps.batching != batching
            self._notices.of_end(chooser, self.epoch)
            self._notices.of_size(self.epoch, len(selection.indices), added=self._epochs.added, kept_step=kept_step)
        return selection

    def end_epoch(self, last: int = -1) -> None:
        """Notes that the loop has received every batch of the epoch begun last; the loader calls this.

        Samples that the epoch then left without a loss have failed. Without this call, batches after the last one that
        `update` saw do not count as left out: the loop may have left them.

        Args:
            last: number of the last step that came. The loop may have read it ahead, so the epoch ends when `update`
                has seen it. -1 if nothing is still to be trained.
        """
        if self._record is not None:
            self._record.close(last)

    def preview(
        self, batch_size: int | None = None, *, drop_last: bool = False, stable_shapes: bool = False
    ) -> Selection:
        """Returns what the next epoch would visit if it began now, and changes nothing.

        With several ranks, call `synchronize` on all of them first.

        Args:
            batch_size: as for `begin_epoch`.
            drop_last: as for `begin_epoch`.
            stable_shapes: as for `begin_epoch`.

        Raises:
            ValueError: the schedule names a strategy that needs columns that are not remembered.
        """
        if self.resuming and self.selection is not None:
            return self.selection
        batching = None if batch_size is None else Batching(batch_size, drop_last, stable_shapes)
        return self._select(self._now()[0], batching)[0]

    def _select(self, table: ScoreTable, batching: Batching | None) -> tuple[Selection, npt.NDArray[np.bool_] | None]:
        """Returns what the next epoch visits, from a table that holds all epochs before; and (n,) which samples."""
        size, (_, num_ranks) = self._epochs.declared(), self.ranks()
        steps = None
        if batching is not None and size is not None:  # a run that has begun goes on with a smaller step
            steps = batching.steps(size, num_ranks=num_ranks, exact=self._epochs.begun == 0)
        return self._epochs.select(*table.snapshot(), steps, at_least=num_ranks)

    def update(
        self,
        index: Tensor,
        losses: Tensor,
        *,
        scores: Tensor | None = None,
        weights: Tensor | None = None,
        reduction: Literal["mean", "none"] = "mean",
    ) -> Tensor:
        """Remembers the losses of a batch and returns the scalar to back-propagate, the mean of weights·losses.

        With several ranks, the mean over the ranks of what it returns is the mean of the step, even if the ranks have
        parts of different sizes. This does not hold with `weights`, of which each rank takes its own mean.

        Queues its work on the device and never waits for it. Does not change `losses`. A loss that is NaN or infinite
        is not recorded: its sample ranks below all others until a finite loss is. A second update of a batch replaces
        the first.

        Args:
            index: (b,) int64 ids as the loader yields them. On the host a wrong id raises at once, on a GPU at the end
                of the epoch.
            losses: (b,) floating, one loss per sample, with gradient.
            scores: (b,) to remember instead of the losses; high scores are kept.
            weights: (b,) of class weights or numbers of tokens. The result is then Σ weights·losses / Σ weights, as
                torch's class-weighted mean. What is remembered does not change.
            reduction: "mean", or "none" for (b,) weighted losses, to be reduced by the caller.

        Returns:
            () scalar with gradient, or (b,).

        Raises:
            ValueError: losses reduced, of another length or without gradient; ids repeated or not of this epoch.
            IndexError: ids out of range. RuntimeError: no epoch has begun.
        """
        record = self._record
        if record is None or not record.is_open:
            raise RuntimeError("update needs an epoch, got none begun; take index and batch from pruner.loader")
        check_update(index, losses, weights, reduction)
        values, kept = losses.detach(), None
        if scores is not None:
            values = scores_of(index, scores, values.device)
        if self._within is not None:
            losses, values, kept, weights = self._within.reduce(index, losses, values, weights, record)
        own = record.add(index, values, kept)
        if record.repeats:
            self._notices.warn("repeats", REPEATS.format(self.epoch))
        return reduced(losses, own, record.factor, weights, reduction)

    def choose(self, index: Tensor, losses: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Returns the positions in a batch that a method within batches trains, so that only they go backward.

        Run the batch forward without gradient, call this, and run the kept part forward and backward::

            with torch.no_grad():
                kept = pruner.choose(index, F.cross_entropy(model(x), y, reduction="none"))
            loss = pruner.update(index[kept], F.cross_entropy(model(x[kept]), y[kept], reduction="none"))

        Waits for the device, since the host must know how many are kept.

        Args:
            index: (b,) int64 ids as the loader yields them.
            losses: (b,) floating, one loss per sample.
            scores: (b,) to choose by instead of the losses.

        Returns:
            (k,) int64 positions in the batch, ascending, on the device of `losses`; all of them if the strategy does
            not choose within batches. None of them if no loss is finite: leave out the step then.

        Raises:
            ValueError, IndexError, RuntimeError: as for `update`.
        """
        record = self._record
        if record is None or not record.is_open:
            raise RuntimeError("choose needs an epoch, got none begun; take index and batch from pruner.loader")
        check_index(index)
        check_values(len(index), losses, "losses")
        seen = losses.detach()
        values = seen if scores is None else scores_of(index, scores, seen.device)
        if self._within is None:
            return torch.arange(len(index), device=seen.device)
        return self._within.choose(index, seen, values, record)
