"""What a pruner remembers: the table of the epochs that are over, and the record of the running one."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.checks import check_faults, check_integer, checked_scores
from orderdp.epochs import Epochs
from orderdp.lost_ranks import meeting
from orderdp.notices import Notices, Report
from orderdp.ranks import Batching, agree, group_of, ranks
from orderdp.record import EpochRecord
from orderdp.schedule import Constant, Schedule, check_schedule
from orderdp.scores import ScoreTable
from orderdp.states import STATE_VERSION, checked_state
from orderdp.strategies import Selection, Strategy
from orderdp.strategies.order import share_up_to
from orderdp.strategies.settings import check_settings
from orderdp.theory.sizes import check_number


class Ledger:
    """What is remembered of each sample, on all ranks, and saved and loaded.

    The losses of the running epoch are kept apart. They move into the table when the epoch ends.

    Args:
        strategy: the method.
        num_samples: size of the data set.
        seed: decides every draw, 0 <= seed < 2**64.
        schedule: strategy to use at each epoch; None uses `strategy` throughout.
        group: the processes that share the data, or a device mesh of one dimension; None is all of them.
        data: name or digest of the data set; None compares none.

    Raises:
        TypeError: arguments of another type. ValueError: a size or a seed out of range.
    """

    sharded = False  # each rank holds a whole state

    def __init__(
        self,
        strategy: Strategy,
        num_samples: int,
        *,
        seed: int,
        schedule: Schedule | None,
        group: Any,
        data: str | None,
    ) -> None:
        if not isinstance(strategy, Strategy):
            raise TypeError(f"strategy must be a Strategy, got {strategy!r}; write OrderDP(prune_ratio=0.5)")
        check_settings(strategy)
        if not isinstance(data, (str, type(None))):
            raise TypeError(f"fingerprint must be a string, got {type(data).__name__}; write a name or a digest")
        self.strategy = strategy
        self.num_samples = check_integer("num_samples", num_samples, 1, 2**63, "write len(dataset)")
        self.seed = check_integer("seed", seed, 0, 2**64, "write a number such as 0")
        self.schedule: Schedule = Constant() if schedule is None else schedule
        check_schedule(self.schedule)
        self.fingerprint = data
        self.selection_s = 0.0  # seconds spent on selection so far
        self._group = group_of(group)
        self._table = ScoreTable(self.num_samples, strategy.columns)
        self._epochs = self._new_epochs()
        self._record: EpochRecord | None = None  # of the epoch begun last, until it is closed
        self._batching: Batching | None = None  # of that epoch
        # A strategy that keeps the last value of each sample need not be asked.
        self._observe = None if type(strategy).observe is Strategy.observe else strategy.observe
        self._notices = Notices()
        self._non_finite = self._missing = 0
        self._recorded = 0  # checksum of what `record` was given
        self._loaded = 0  # checksum of the columns of a state that was loaded
        self._later: list[tuple[npt.NDArray[Any], npt.NDArray[np.float32]]] = []  # what it was given in this epoch

    @property
    def epoch(self) -> int | None:
        """The number of the epoch begun last, from 0; None before the first."""
        return self._epochs.running

    @property
    def next_epoch(self) -> int:
        """The number of the epoch that the next pass begins, or resumes after loading a state."""
        return self._epochs.next

    @property
    def selection(self) -> Selection | None:
        """What the epoch begun last visits; None before the first."""
        return self._epochs.selection

    @property
    def resuming(self) -> bool:
        """Whether the next epoch resumes one that a loaded state had begun."""
        return self._epochs.resuming

    def ranks(self) -> tuple[int, int]:
        """Returns (rank, number of ranks) among the processes that share the data; (0, 1) without a process group."""
        return ranks(self._group)

    def record(self, index: Tensor, scores: Tensor) -> None:
        """Remembers scores from outside: of a proxy model, or of a forward pass over samples that were not trained.

        Each column is updated as by a loss that is newer than those of the running epoch. It counts as no visit. With
        several ranks, give every rank the same samples and scores; otherwise the next exchange refuses them.

        Args:
            index: (k,) distinct ids of the data set, of this epoch or not.
            scores: (k,) finite; high scores are kept.

        Raises:
            ValueError: scores of another length or not finite, ids repeated. IndexError: ids out of range.
        """
        ids, values = checked_scores(index, scores, self.num_samples)
        if self._record is None:
            self._table.record(ids, values, self._observe)
        else:
            self._later.append((ids.copy(), values.copy()))
        self._recorded = zlib.crc32(values.tobytes(), zlib.crc32(ids.tobytes(), self._recorded))

    def resize(self, num_samples: int) -> None:
        """Takes in samples that were added at the end of the data set; they were never seen.

        Ends the running epoch. Make a new loader over the larger data set. With several ranks, every rank must call it.

        Raises:
            ValueError: fewer samples than before.
        """
        size = check_integer("num_samples", num_samples, self.num_samples, 2**63, "samples can only be added")
        self.synchronize()
        self._close_epoch(tell=True)
        self._epochs.end()
        self._table.resize(size)
        self.num_samples = self._epochs.num_samples = size

    def synchronize(self) -> None:
        """Exchanges what the ranks have seen.

        Every rank must call it. `begin_epoch` and `state_dict` call it themselves. Until then, `report`, `visits`,
        `ages`, `trained` and `scores` of a rank hold only what that rank has trained of the running epoch.

        Raises:
            RuntimeError: wrong ids on the device; the ranks hold different pruners; another rank ended or did not
                answer in time.
        """
        self._synchronize("synchronize", self._epochs.chooser, self._batching)

    def _synchronize(self, call: str, chooser: Strategy, batching: Batching | None) -> None:
        """As `synchronize`; first checks that all ranks make the same call with the same pruner and batches."""
        record, num_ranks = self._record, self.ranks()[1]
        if record is not None:
            record.fold()
        faults = (0, 0) if record is None else record.take_faults()
        end = -1 if record is None else record.end
        if num_ranks > 1:
            shape = None if batching is None else (batching.batch_size, batching.drop_last, batching.stable_shapes)
            checksum = self._epochs.checksum(chooser, record is None, self._recorded, self._loaded)
            cut = zlib.crc32(repr(shape).encode())
            foreign, repeated, end = agree(self._group, call, cut, checksum, faults, end)
            faults = foreign, repeated
        check_faults(faults, self.epoch)
        if num_ranks > 1 and record is not None:
            with meeting(call):
                record.merge(self._group, end)

    def _close_epoch(self, *, tell: bool = False) -> None:
        """Moves what the running epoch has seen into the table, and warns of what went wrong in it.

        Args:
            tell: warn also of an epoch that a loaded state had left.
        """
        record = self._record
        if record is None:
            return
        values, missing = self._move(self._table)
        self._non_finite += len(values) - int(np.count_nonzero(np.isfinite(values)))
        self._missing += missing
        self._record = self._batching = None
        self._later = []
        self._epochs.drop_details()
        if self._epochs.is_open or tell:  # last, since a warning may be raised as an error
            self._notices.of_epoch(self.epoch, record, values, missing, self.strategy)

    def _move(self, table: ScoreTable) -> tuple[npt.NDArray[np.float32], int]:
        """Closes the running epoch in a table. Returns the values that it saw, and how many samples it left out."""
        record = self._record
        assert record is not None
        trained, ids, values, mask = record.trained(), record.indices, record.values(), self._epochs.mask
        left_out = np.empty(0, dtype=np.int64)  # of their steps, with a loss that was seen
        if not trained.all():
            left_out = np.flatnonzero(record.seen() & ~trained)
            ids, values, mask = ids[trained], values[trained], None
        missing = record.indices[record.missing()]
        table.close(ids, values, missing, self._epochs.ordinal, self._observe, mask)
        if len(left_out):  # also without columns: a finite loss ends a failure
            table.record(record.indices[left_out], record.values()[left_out], self._observe)
        for later in self._later:
            table.record(*later, self._observe)
        return values, len(missing)

    def _now(self) -> tuple[ScoreTable, npt.NDArray[np.float32], int]:
        """Returns a copy of the table as it would be if the running epoch ended now, and what `_move` returns."""
        table = self._table.copy()
        return (table, *(self._move(table) if self._record is not None else (np.empty(0, dtype=np.float32), 0)))

    def report(self, *, mastered_at: float = math.log(2)) -> Report:
        """Returns what was selected, trained and left out so far; waits for the device.

        With several ranks, call `synchronize` on all of them first.

        Args:
            mastered_at: loss at or below which a sample is mastered. log 2 is a probability of one half for the right
                class; with label smoothing write `theory.loss_at(0.5, num_classes, label_smoothing)`. For a loss that
                is no cross-entropy, choose a value of your own, or ignore `mastered`.

        Raises:
            TypeError: `mastered_at` is no number.
        """
        check_number("mastered_at", mastered_at, example="0.69")
        table, values, missing = self._now()
        seen = table.last_epoch >= 0
        ages = self._epochs.ordinal - table.last_epoch[seen].astype(np.int64)
        return Report(
            epoch=-1 if self.epoch is None else self.epoch,
            num_samples=self.num_samples,
            num_selected=0 if self.selection is None else len(self.selection.indices),
            trained=int(self.trained().sum()),
            visits=int(table.visits.sum(dtype=np.int64)),
            never_seen=int(np.count_nonzero(~seen)),
            mean_age=float(ages.mean()) if len(ages) else float("nan"),
            max_age=int(ages.max()) if len(ages) else 0,
            non_finite=self._non_finite + int(np.count_nonzero(~np.isfinite(values))),
            missing=self._missing + missing,
            failed=tuple(table.failed.tolist()),
            mastered=share_up_to(next(iter(table.columns.values())), mastered_at) if table.columns else math.nan,
            selection_s=self.selection_s,
        )

    def table(self) -> dict[str, Tensor]:
        """Returns all that is remembered of each sample, by the name of the column; `pandas.DataFrame` takes it.

        With several ranks, call `synchronize` on all of them first.

        Returns:
            (n,) tensors: `id`, `visits`, `age` (epochs since it was last trained, -1 if never), `selected` (by the
            epoch begun last), `failed` (no finite loss since it was last selected), and the strategy's columns, where
            +inf or the first value stands for samples not seen yet and -inf for failed ones.
        """
        table, _, _ = self._now()
        flags = torch.zeros(2, self.num_samples, dtype=torch.bool)
        flags[0, torch.from_numpy(table.failed)] = True
        if self.selection is not None:
            flags[1, torch.from_numpy(self.selection.indices).long()] = True
        return {
            "id": torch.arange(self.num_samples),
            "visits": self.visits(),
            "age": self.ages(),
            "selected": flags[1],
            "failed": flags[0],
            **{name: torch.from_numpy(column) for name, column in table.columns.items()},
        }

    def visits(self) -> Tensor:
        """Returns (n,) int32: in how many epochs each sample was trained, the running one included.

        With several ranks, call `synchronize` on all of them first.
        """
        visits = torch.from_numpy(self._table.visits.astype(np.int32))
        return visits if self._record is None else visits + self.trained()

    def ages(self) -> Tensor:
        """Returns (n,) int32: epochs begun since each sample was last trained, -1 if never.

        Samples trained by the epoch begun last have 0. A sample whose loss was not finite counts as trained. With
        several ranks, call `synchronize` on all of them first.
        """
        last = torch.from_numpy(self._table.last_epoch.astype(np.int32))
        ages = torch.where(last >= 0, self._epochs.ordinal - last, -1)
        return ages if self._record is None else torch.where(self.trained(), 0, ages)

    def trained(self) -> Tensor:
        """Returns (n,) bool: which samples the epoch begun last has trained so far; none before the first.

        With several ranks, call `synchronize` on all of them first.
        """
        if self._record is None:
            ordinal = self._epochs.ordinal if self._epochs.begun else -2
            return torch.from_numpy(self._table.last_epoch == ordinal)
        trained = np.zeros(self.num_samples, dtype=np.bool_)
        trained[self._record.indices[self._record.trained()]] = True
        return torch.from_numpy(trained)

    def scores(self) -> dict[str, Tensor]:
        """Returns copies of the columns by name, each (n,) float32, with what the running epoch has seen."""
        return {name: torch.from_numpy(column) for name, column in self._now()[0].columns.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that determines future selections, as tensors and plain values.

        Inside an epoch, save the state of the loader or of the batch sampler instead, which checks how the epoch was
        cut into steps. With several ranks, every rank must call it, because the ranks first exchange what they have
        seen; then one of them saves it.
        """
        self._synchronize("state_dict", self._epochs.chooser, self._batching)
        return {
            "version": STATE_VERSION,
            **self._epochs.state_dict(),
            "record": None if self._record is None else self._record.state_dict(),
            "non_finite": self._non_finite,
            "missing": self._missing,
            "recorded": self._recorded,
            "later": [[torch.from_numpy(array) for array in arrays] for arrays in self._later],
            "selection_s": self.selection_s,
            "table": self._table.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, resume: bool = False, change: Collection[str] = ()) -> None:
        """Restores what `state_dict` returned; the next epoch is the one after the saved epoch.

        Args:
            state: of a pruner with the same strategy, size, seed, schedule and fingerprint.
            resume: begin with the saved epoch and its selection, as the loader does inside an epoch.
            change: settings that may differ from the state's between two epochs: "strategy", "schedule". Columns that
                the new strategy shares with the old one are kept; others begin anew.

        Raises:
            ValueError: the state does not fit; nothing is changed. TypeError: it is no dictionary.
        """
        _check_change(change, resume=resume)
        state = checked_state(state, self._new_epochs().state_dict(), resume=resume)
        epochs = self._epochs.restored(state, resume=resume, change=change)
        table = self._table.restored(state["table"], other_columns="strategy" in change)
        record = None
        if state["record"] is not None and epochs.selection is not None:
            record = EpochRecord(epochs.selection, self.num_samples)
            record.load_state_dict(state["record"])
        self._table, self._epochs, self._record, self._loaded = table, epochs, record, table.checksum()
        self._batching = None
        self._later = [(ids.cpu().numpy(), values.cpu().numpy()) for ids, values in state["later"]]
        self._non_finite, self._missing, self._recorded = state["non_finite"], state["missing"], state["recorded"]
        self.selection_s = state["selection_s"]

    def _new_epochs(self) -> Epochs:
        return Epochs(
            self.strategy, self.num_samples, seed=self.seed, schedule=self.schedule, fingerprint=self.fingerprint
        )


def _check_change(change: Collection[str], *, resume: bool) -> None:
    if isinstance(change, str) or not set(change) <= {"strategy", "schedule"}:
        raise ValueError(f"change names settings, 'strategy' or 'schedule', got {change!r}; write change=('strategy',)")
    if change and resume:
        raise ValueError(
            f"{', '.join(sorted(change))} can change between two epochs, got a state inside one; write "
            f"pruner.load_state_dict(state['pruner'], change={tuple(sorted(change))}) to begin with the next epoch"
        )
