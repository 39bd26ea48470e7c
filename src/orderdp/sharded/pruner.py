"""OrderDP for data sets whose scores are too many for one rank: each rank remembers its own part."""

from __future__ import annotations

import time
import zlib
from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.checks import check_faults, check_integer, check_update, checked_scores, scores_of
from orderdp.epochs import shown
from orderdp.loader import PrunedLoader
from orderdp.notices import REPEATS, Notices, Report
from orderdp.ranks import Batching, Steps, agree, group_of, ranks, refuse_lone_rank, step_runs, total
from orderdp.record import EpochRecord, reduced
from orderdp.rng import generator
from orderdp.sharded.blocks import Counts, edges
from orderdp.sharded.order import OwnSteps, Places
from orderdp.sharded.shard import NOT_SEEN, Bits, Shard, bits_of, restore_record
from orderdp.sharded.states import batching_of, check_settings, chunks_of
from orderdp.sharded.wire import Wire
from orderdp.strategies import OrderDP, Selection
from orderdp.strategies.base import Indices
from orderdp.strategies.draws import index_type

_VERSION = 1


class ShardedPruner:
    """OrderDP with the scores shared out over the ranks, so that one rank holds 1/ranks of them.

    What it selects has the law of `Pruner(OrderDP(...), ...)`, drawn with other random numbers. The samples of a step,
    and their order, do not depend on the number of ranks, if the steps over all ranks have the same size. The table is
    cut into 256 blocks, of which each rank holds some. An epoch begins with about a dozen collectives.

    It is used like a `Pruner`, with these differences: every rank must make each call but `update`; a loop that forms
    its own batches is not served; `record` ends the running epoch; a state holds the rank's own part, so save it with
    `torch.distributed.checkpoint` or in one file a rank.

    Args:
        strategy: `OrderDP` that keeps the highest scores of a draw an epoch.
        num_samples: size of the data set.
        seed: decides every draw, 0 <= seed < 2**64.
        process_group: the processes that share the data, as for `Pruner`; None is all of them.
        fingerprint: name or digest of the data set. A state of another one is then refused.

    Raises:
        TypeError: another strategy. ValueError: OrderDP with settings that need all scores on one rank, or sizes that
            keep no sample.
    """

    sharded = True  # a state is a rank's own

    def __init__(
        self,
        strategy: OrderDP,
        num_samples: int,
        *,
        seed: int = 0,
        process_group: Any = None,
        fingerprint: str | None = None,
    ) -> None:
        if type(strategy) is not OrderDP:
            raise TypeError(f"a sharded table is for OrderDP, got {strategy!r}; write Pruner for other methods")
        self.strategy = strategy
        self.num_samples = check_integer("num_samples", num_samples, 1, 2**63, "write len(dataset)")
        if strategy.surrogate_sizes(self.num_samples) is None:
            raise ValueError(
                f"a sharded table keeps the highest scores of one draw an epoch, got {shown(strategy)}; leave out all "
                "settings but the sizes and initial_score, or write Pruner"
            )
        self.seed = check_integer("seed", seed, 0, 2**64, "write a number such as 0")
        self.fingerprint = fingerprint
        self.selection_s = 0.0  # seconds spent on selection so far
        self.selection: Selection | None = None  # this rank's part of the epoch begun last
        self.epoch: int | None = None  # number of the epoch begun last
        self.next_epoch = 0
        self._group = group_of(process_group)
        self._begun = 0
        self._resume = self._loaded = False
        self._shard: Shard | None = None  # made at the first use, when the ranks are known
        self._record: EpochRecord | None = None  # of the epoch begun last, until it is closed
        self._left: tuple[Indices, Bits] | None = None  # the same in chunks, of a loaded state that is not resumed
        self._batching: Batching | None = None  # of that epoch
        self._done: npt.NDArray[np.bool_] | None = None  # its steps that any rank had trained at the last exchange
        self._notices = Notices()
        self._non_finite = self._missing = 0  # on this rank

    def __repr__(self) -> str:
        return f"<ShardedPruner: {shown(self.strategy)} visits {self.num_selected():,} of {self.num_samples:,} samples>"

    @property
    def resuming(self) -> bool:
        """Whether the next epoch resumes one that a loaded state had begun."""
        return self._resume and self.epoch == self.next_epoch

    def ranks(self) -> tuple[int, int]:
        """Returns (rank, number of ranks) among the processes that share the data; (0, 1) without a process group."""
        return ranks(self._group)

    def num_selected(self) -> int:
        """Returns how many samples an epoch visits on all ranks."""
        return self.strategy.sizes(self.num_samples)[1]

    def total_steps(
        self,
        epochs: int,
        batch_size: int,
        *,
        drop_last: bool = False,
        stable_shapes: bool = False,
        accumulate: int = 1,
    ) -> int:
        """Returns the exact number of optimiser steps of epochs 0 .. epochs - 1 on this number of ranks."""
        batching = Batching(batch_size, drop_last, stable_shapes)
        epochs = check_integer("epochs", epochs, 1, 2**31, "write a number such as 90")
        runs = step_runs(self.strategy, self.num_samples, batching, epochs=epochs, num_ranks=self.ranks()[1])
        return total(runs, of=shown(self.strategy), accumulate=accumulate)

    def loader(self, dataset: Any, **arguments: Any) -> PrunedLoader:
        """Returns a DataLoader of (index, batch) over this rank's samples; `PrunedLoader` explains the arguments."""
        return PrunedLoader(self, dataset, **arguments)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the next one to begin. Only needed to leave the order 0, 1, 2, ..."""
        self.next_epoch = check_integer("epoch", epoch, 0, 2**31, "write the number of the epoch, from 0")

    def worker_seed(self) -> int:
        """Returns the seed of this rank's worker processes in the next epoch to begin."""
        return int(generator(self.seed, self.next_epoch, f"workers of rank {self.ranks()[0]}").integers(2**63))

    def steps_of(self, batching: Batching, num_selected: int) -> OwnSteps:
        """Returns the steps of an epoch, with positions in this rank's own order."""
        rank, num_ranks = self.ranks()
        return OwnSteps(self.num_selected(), batching, rank, num_ranks)

    def check_steps(self, batching: Batching) -> None:
        """Raises ValueError if an epoch is too small for a step; the loader calls this."""
        self.steps_of(batching, self.num_selected())

    def steps_done(self, steps: Steps) -> npt.NDArray[np.bool_]:
        """Returns (len(steps),) bool: which steps of the epoch begun last this rank, or a saved one, has trained."""
        if self._record is None:
            return np.ones(len(steps), dtype=np.bool_)
        done = self._record.steps_done(steps)
        return done if self._done is None or len(self._done) != len(done) else done | self._done

    def begin_epoch(
        self, batch_size: int | None = None, *, drop_last: bool = False, stable_shapes: bool = False
    ) -> Selection:
        """Begins the next epoch and returns this rank's part of it in training order; the loader calls this.

        Raises:
            RuntimeError: the previous epoch had wrong ids on the device; the ranks hold different pruners. ValueError:
                no batch size, or another than that of the epoch to be resumed.
        """
        if batch_size is None:
            raise ValueError("a sharded pruner needs the batch size, got none; take the batches from pruner.loader")
        refuse_lone_rank()
        begin_s = time.perf_counter()
        batching, resumed = Batching(batch_size, drop_last, stable_shapes), self.resuming
        if resumed and batching != self._batching:
            raise ValueError(
                f"an epoch is resumed with the steps of its state, {self._batching}, got {batching}; use those"
            )
        steps = self.steps_of(batching, self.num_selected())
        shard = self._synchronize("begin_epoch", batching)
        if not resumed:
            self._close_epoch(shard)
            ids = shard.choose(*self.strategy.sizes(self.num_samples), self._rng)
            self.selection = Selection(Places(self.num_selected(), batching, shard.wire).to_steps(ids))
            self._record = EpochRecord(self.selection, self.num_samples)
            self._begun, self.epoch = self._begun + 1, self.next_epoch
        assert self.selection is not None
        assert self._record is not None
        self._batching, self.next_epoch, self._resume, self._loaded = batching, self.next_epoch + 1, False, False
        self._record.begin(steps, shard.wire.num_ranks)
        self.selection_s += time.perf_counter() - begin_s
        self._notices.of_autocast(f"epoch {self.epoch}")
        return self.selection

    def end_epoch(self, last: int = -1) -> None:
        """Notes that the loop has received every batch of the epoch begun last; the loader calls this."""
        if self._record is not None:
            self._record.close(last)

    def update(
        self,
        index: Tensor,
        losses: Tensor,
        *,
        scores: Tensor | None = None,
        weights: Tensor | None = None,
        reduction: Literal["mean", "none"] = "mean",
    ) -> Tensor:
        """Remembers the losses of a batch and returns the scalar to back-propagate; as `Pruner.update`."""
        record = self._record
        if record is None or not record.is_open or self._loaded:
            raise RuntimeError("update needs an epoch, got none begun; take index and batch from pruner.loader")
        check_update(index, losses, weights, reduction)
        values = losses.detach()
        own = record.add(index, values if scores is None else scores_of(index, scores, values.device))
        if record.repeats:
            self._notices.warn("repeats", REPEATS.format(self.epoch))
        return reduced(losses, own, record.factor, weights, reduction)

    def record(self, index: Tensor, scores: Tensor) -> None:
        """Ends the running epoch and remembers scores from outside; they count as no visit. Every rank must call it.

        Args:
            index: (k,) distinct ids of the data set, the same on all ranks; each rank takes its own.
            scores: (k,) finite; high scores are kept.

        Raises:
            ValueError: scores of another length or not finite, ids repeated. IndexError: ids out of range.
        """
        ids, values = checked_scores(index, scores, self.num_samples)
        shard = self._synchronize("synchronize", self._batching)
        self.next_epoch += self.resuming
        self._resume = False
        self._close_epoch(shard)
        shard.record(ids, values)

    def report(self) -> Report:
        """Returns what all ranks selected, trained and left out so far; every rank must call it."""
        shard = self._synchronize("synchronize", self._batching)
        table, told = shard.table.copy(), self._told()
        missing = non_finite = 0
        if told:
            missing, non_finite = shard.take_in(told[0], told[1], self._begun - 1, table=table)
        counts = shard.counts(table, self._begun - 1, self._missing + missing, self._non_finite + non_finite)
        trained, visits, seen, age, missing, non_finite, mastered, _ = counts.sum(axis=0).tolist()
        return Report(
            epoch=-1 if self.epoch is None else self.epoch,
            num_samples=self.num_samples,
            num_selected=0 if self.epoch is None else self.num_selected(),
            trained=trained,
            visits=visits,
            never_seen=self.num_samples - seen,
            mean_age=age / seen if seen else float("nan"),
            max_age=int(counts[:, -1].max()),
            non_finite=non_finite,
            missing=missing,
            failed=tuple(shard.failed(table)),
            mastered=mastered / self.num_samples,
            selection_s=self.selection_s,
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns what this rank holds of all that determines future selections, as tensors and plain values.

        Every rank must call it. `torch.distributed.checkpoint` saves the parts of all ranks, and gives another number
        of ranks theirs: its `load` fills a dictionary of the form that this method returns there. Inside an epoch, save
        the state of the loader instead.
        """
        shard = self._synchronize("state_dict", self._batching)
        self._share_done(shard)
        ids, bits = self._in_chunks(shard)
        cuts = self._cuts(shard)
        chunks = {
            str(number): {"ids": torch.from_numpy(ids[part]), "bits": torch.from_numpy(bits[part])}
            for number, part in zip(shard.numbers, map(slice, cuts[:-1], cuts[1:]), strict=True)
        }
        cut, num_ranks = self._batching, shard.wire.num_ranks
        counters = shard.wire.sum(np.array([self._missing, self._non_finite]))
        return {
            **self._settings(),
            "next_epoch": self.next_epoch + self.resuming,
            "epoch": self.epoch,
            "begun": self._begun,
            "step": None if cut is None else [cut.batch_size * num_ranks, cut.drop_last, cut.stable_shapes],
            "counters": counters.tolist(),
            "selection_s": self.selection_s,
            "indices": torch.empty(0),  # the selection stands in the chunks
            "blocks": shard.state_dict(),
            "chunks": chunks,
        }

    def load_state_dict(self, state: Mapping[str, Any], *, resume: bool = False, change: Collection[str] = ()) -> None:
        """Restores what `state_dict` returned; the next epoch is the one after it. Every rank must call it.

        Args:
            state: with the blocks and chunks of this rank.
            resume: begin with the saved epoch and its selection, as the loader does inside an epoch.
            change: must be empty, since a sharded pruner has one strategy.

        Raises:
            ValueError: the state does not fit; nothing is changed.
        """
        if change:
            raise ValueError(f"a sharded pruner changes no setting, got change={sorted(change)}; leave it out")
        check_settings(state, self._settings())
        shard = Shard(self.num_samples, self.strategy.initial_score, Wire(self._group))
        shard.load_state_dict(state["blocks"])
        ids, bits = chunks_of(state, shard.numbers, np.diff(self._cuts(shard)))
        batching = batching_of(state, shard.wire.num_ranks) if resume else None
        places = None if batching is None else Places(self.num_selected(), batching, shard.wire)
        self._shard, self._record, self._left, self._batching = shard, None, (ids, bits), batching
        self.epoch, self.next_epoch, self._begun = state["epoch"], state["next_epoch"], state["begun"]
        self.selection_s, self.selection, self._done = state["selection_s"], None, None
        self._missing, self._non_finite = state["counters"] if shard.wire.rank == 0 else (0, 0)
        self._resume = places is not None
        if places is not None:
            self.selection, self.next_epoch, self._left = Selection(places.to_steps(ids)), state["epoch"], None
            self._record = EpochRecord(self.selection, self.num_samples)
            restore_record(self._record, places.to_steps(bits))
            self._share_done(shard)
        self._loaded = True

    def _settings(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "strategy": repr(self.strategy),
            "num_samples": self.num_samples,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
        }

    def _rng(self, purpose: str, number: int | None) -> np.random.Generator:
        """Returns the generator of a block or chunk, or of all of them, in the epoch that begins."""
        return generator(self.seed, self.next_epoch, f"sharded {purpose} {'' if number is None else number}")

    def _own(self) -> Shard:
        """Returns this rank's part of the table.

        Raises:
            RuntimeError: the number of ranks has changed since the table was made.
        """
        now = self.ranks()
        if self._shard is None:
            self._shard = Shard(self.num_samples, self.strategy.initial_score, Wire(self._group))
        made = self._shard.wire.rank, self._shard.wire.num_ranks
        if made != now:
            raise RuntimeError(
                f"a sharded table keeps its ranks, got rank {now[0]} of {now[1]} after rank {made[0]} of {made[1]}; "
                "call init_process_group first, and load a saved state into a new pruner"
            )
        return self._shard

    def _synchronize(self, call: str, batching: Batching | None) -> Shard:
        """Checks that all ranks make the same call with the same pruner and batches; returns this rank's part."""
        shard, record = self._own(), self._record
        if record is not None:
            record.fold()
        faults = (0, 0) if record is None else record.take_faults()
        end = -1 if record is None else record.end
        if shard.wire.num_ranks > 1:
            position = (self.next_epoch, self.epoch, self._begun, self._loaded, self._resume, record is None)
            checksum = zlib.crc32(repr((*self._settings().values(), *position)).encode())
            *counts, end = agree(self._group, call, zlib.crc32(repr(batching).encode()), checksum, faults, end)
            faults = counts[0], counts[1]
        check_faults(faults, self.epoch)
        if record is not None:
            record.share(end)
        return shard

    def _share_done(self, shard: Shard) -> None:
        """Learns which steps any rank has trained. One may have left out an update; all must resume the same steps."""
        if self._record is not None and self._batching is not None:
            done = self._record.steps_done(self.steps_of(self._batching, self.num_selected()))
            self._done = shard.wire.sum(done.astype(np.int64)) > 0

    def _cuts(self, shard: Shard) -> Counts:
        """Returns where each of this rank's chunks begins, and where the last one ends."""
        cuts = edges(self.num_selected())[shard.numbers.start : shard.numbers.stop + 1]
        return np.asarray(cuts - cuts[0])

    def _in_chunks(self, shard: Shard) -> tuple[Indices, Bits]:
        """Returns the samples in this rank's chunks and what was seen of them; none was if no epoch is open."""
        if self._left is not None:
            return self._left
        if self._record is not None and self._batching is not None:
            places = Places(self.num_selected(), self._batching, shard.wire)
            ids = places.to_chunks(self._record.indices, 0)
            return ids, places.to_chunks(bits_of(self._record), NOT_SEEN)
        size = int(self._cuts(shard)[-1])
        return np.zeros(size, dtype=index_type(self.num_samples)), np.full(size, NOT_SEEN)

    def _told(self) -> list[Any]:
        """Returns the samples of the epoch begun last on this rank and what was seen of them; nothing without one."""
        if self._record is not None:
            return [self._record.indices, bits_of(self._record)]
        return [] if self._left is None or not self._begun else [*self._left]

    def _close_epoch(self, shard: Shard) -> None:
        """Closes the epoch begun last in the table. Drops what was recorded of it before its losses are sent."""
        record = self._record
        if record is not None and not self._loaded:
            left_out = int(np.count_nonzero(record.missing()))
            self._notices.of_epoch(self.epoch, record, record.values()[record.seen()], left_out, self.strategy)
        told = self._told()
        record = self._record = self._left = self._batching = self._done = self.selection = None
        if told:
            missing, non_finite = shard.take_in(told.pop(0), told.pop(), self._begun - 1)
            self._missing, self._non_finite = self._missing + missing, self._non_finite + non_finite
