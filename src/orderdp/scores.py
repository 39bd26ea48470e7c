"""The table of what is remembered of each sample."""

from __future__ import annotations

import copy
import functools
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Observe = Callable[[Mapping[str, Tensor], Tensor], Mapping[str, Tensor]]

_AT_ONCE = 1 << 20  # samples whose columns are moved together, so that temporary copies stay small
_SMALL = np.iinfo(np.int16).max  # epochs up to which the counters take two bytes


def mask_of(ids: npt.NDArray[Any], num_samples: int) -> npt.NDArray[np.bool_]:
    """Returns (num_samples,) bool: which samples are among the ids."""
    mask = np.zeros(num_samples, dtype=np.bool_)
    for begin in range(0, len(ids), _AT_ONCE):  # NumPy copies indices of 32 bits before it uses them
        np.put(mask, ids[begin : begin + _AT_ONCE], True)  # noqa: FBT003
    return mask


class ScoreTable:
    """The columns that a strategy remembers, and in how many epochs and when each sample was trained.

    It lives on the host, where strategies read it. It changes once an epoch, when the epoch is closed.

    A failed sample has no finite loss since it was last selected: its loss was not finite, or an epoch left it without
    one. It holds -inf in every column, below every finite score, until a finite loss is recorded.

    Args:
        num_samples: size n of the data set.
        columns: name of each column to its first value.
    """

    def __init__(self, num_samples: int, columns: Mapping[str, float]) -> None:
        self.num_samples = num_samples
        self.first = dict(columns)
        self.columns = {name: np.full(num_samples, first, dtype=np.float32) for name, first in columns.items()}
        self.last_epoch: npt.NDArray[Any] = np.full(num_samples, -1, dtype=np.int16)  # ordinal; -1: never
        self.visits: npt.NDArray[Any] = np.zeros(num_samples, dtype=np.int16)
        self.failed: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)  # ids, ascending

    def close(
        self,
        ids: npt.NDArray[Any],
        values: npt.NDArray[np.float32],
        missing: npt.NDArray[Any],
        epoch: int,
        observe: Observe | None,
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Records an epoch that has ended.

        Args:
            ids: (k,) distinct, the samples that it trained.
            values: (k,) what it saw of them.
            missing: (m,) distinct, the samples that it should have trained and did not.
            epoch: ordinal of the epoch among those begun.
            observe: the rule from old columns and values to new columns; None if each column holds the value.
            mask: (n,) which samples are among `ids`; None finds out.
        """
        if epoch >= _SMALL and self.visits.dtype == np.int16:
            self.last_epoch, self.visits = self.last_epoch.astype(np.int32), self.visits.astype(np.int32)
        mask = mask_of(ids, self.num_samples) if mask is None else mask
        self._count(mask, epoch)
        if observe is not None:  # it reads and writes each column, which is several times as fast in ascending order
            spread = np.empty(self.num_samples, dtype=np.float32)
            spread[ids] = values
            ids = np.flatnonzero(mask)
            values = spread[ids]
        failed = [missing]
        for begin in range(0, len(ids), _AT_ONCE):
            part, seen = ids[begin : begin + _AT_ONCE], values[begin : begin + _AT_ONCE]
            finite = np.isfinite(seen)
            if not finite.all():
                failed.append(part[~finite])
                part, seen = part[finite], seen[finite]
            self._observe(part, seen, observe)
        self.failed = self.failed[self.last_epoch[self.failed] != epoch]
        self._fail(np.concatenate(failed))

    def record(self, ids: npt.NDArray[Any], values: npt.NDArray[np.float32], observe: Observe | None) -> None:
        """Records finite values of distinct samples that no epoch has trained, (k,) each."""
        self._observe(ids, values, observe)
        if len(self.failed):
            self.failed = np.setdiff1d(self.failed, ids, assume_unique=True)

    def _count(self, trained: npt.NDArray[np.bool_], epoch: int) -> None:
        """Counts a visit of each sample. Vector operations over all samples cost less than a scattered update."""
        for begin in range(0, self.num_samples, _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            now, last = trained[part].astype(self.visits.dtype), self.last_epoch[part]
            self.visits[part] += now
            last += now * (epoch - last)

    def _observe(self, ids: npt.NDArray[Any], values: npt.NDArray[np.float32], observe: Observe | None) -> None:
        if observe is None:
            for column in self.columns.values():
                column[ids] = values
            return
        old = {name: torch.from_numpy(column[ids]) for name, column in self.columns.items()}
        if len(self.failed):  # they begin anew, since nothing can be averaged with -inf
            healed = torch.from_numpy(np.isin(ids, self.failed))
            old = {name: column.masked_fill_(healed, self.first[name]) for name, column in old.items()}
        for name, new in observe(old, torch.from_numpy(values)).items():
            self.columns[name][ids] = new.detach().cpu().numpy()

    def _fail(self, failed: npt.NDArray[Any]) -> None:
        if len(failed):
            for column in self.columns.values():
                column[failed] = -math.inf
            self.failed = np.union1d(self.failed, failed).astype(np.int64)

    def snapshot(self) -> tuple[dict[str, npt.NDArray[np.float32]], npt.NDArray[Any], npt.NDArray[np.int64] | None]:
        """Returns columns and visits, each (n,), and the ids that failed or None, as read-only views."""
        views = [*(column.view() for column in self.columns.values()), self.visits.view(), self.failed.view()]
        for view in views:
            view.flags.writeable = False
        return dict(zip(self.columns, views, strict=False)), views[-2], views[-1] if len(self.failed) else None

    def checksum(self) -> int:
        """Returns a 32-bit number of the columns."""
        return functools.reduce(lambda crc, column: zlib.crc32(column.data, crc), self.columns.values(), 0)

    def copy(self) -> ScoreTable:
        """Returns an independent copy."""
        return copy.deepcopy(self)

    def resize(self, num_samples: int) -> None:
        """Adds samples at the end that were never seen."""
        more = num_samples - self.num_samples
        for name, first in self.first.items():
            self.columns[name] = np.concatenate([self.columns[name], np.full(more, first, dtype=np.float32)])
        self.last_epoch = np.concatenate([self.last_epoch, np.full(more, -1, dtype=self.last_epoch.dtype)])
        self.visits = np.concatenate([self.visits, np.zeros(more, dtype=self.visits.dtype)])
        self.num_samples = num_samples

    def state_dict(self) -> dict[str, Any]:
        """Returns copies of all that is remembered, as tensors."""
        return {
            "columns": {name: torch.from_numpy(column.copy()) for name, column in self.columns.items()},
            "last_epoch": torch.from_numpy(self.last_epoch.astype(np.int32)),
            "visits": torch.from_numpy(self.visits.astype(np.int32)),
            "failed": torch.from_numpy(self.failed.copy()),
        }

    def restored(self, state: Mapping[str, Any], *, other_columns: bool = False) -> ScoreTable:
        """Returns a table with these columns and what `state_dict` saved.

        Args:
            state: what `state_dict` returned.
            other_columns: accept a state of other columns; those that it lacks begin anew.

        Raises:
            ValueError: other columns, or another number of samples.
        """
        saved = state["columns"]
        if set(saved) != set(self.columns) and not other_columns:
            raise ValueError(
                f"the state must hold the columns {sorted(self.columns)}, got {sorted(saved)}; "
                "load it into a pruner with the strategy that it was saved with"
            )
        for name, entry in {**saved, "last_epoch": state["last_epoch"], "visits": state["visits"]}.items():
            if entry.shape != (self.num_samples,):
                raise ValueError(
                    f"the state must hold {self.num_samples} samples, got {name} of shape {tuple(entry.shape)}; "
                    "load it into a pruner of the data set that it was saved with"
                )
        table = ScoreTable(self.num_samples, self.first)
        for name in set(saved) & set(self.columns):
            table.columns[name][:] = saved[name].cpu().numpy()
        for name in ("last_epoch", "visits"):
            counts = state[name].cpu().numpy()
            small = counts.max(initial=0) < _SMALL
            setattr(table, name, counts.astype(np.int16 if small else np.int32))
        if table.visits.dtype != table.last_epoch.dtype:
            table.visits, table.last_epoch = table.visits.astype(np.int32), table.last_epoch.astype(np.int32)
        table.failed = state["failed"].cpu().numpy().astype(np.int64)
        for column in table.columns.values():
            column[table.failed] = -math.inf
        return table
