"""What the running epoch has seen: the losses of its samples, in the order of its selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from orderdp.log import Log
from orderdp.lookup import Lookup
from orderdp.ranks import Steps, wire
from orderdp.strategies import Selection

_INT64 = np.dtype(np.int64)
_AT_ONCE = 1 << 22  # samples that one collective exchanges
_OPEN = 2**62  # stands for the end of an epoch that the loop may still leave, and is larger than any step
_WINDOW = 65_536  # positions of the selection whose ids are kept as int64, ready to be compared


class EpochRecord:
    """The losses that one epoch has seen so far.

    A batch that is the next slice of the selection is compared and appended as one. Any other batch is looked up.
    Losses are appended to a log on their own device, so nothing waits for it. `fold` moves the log to the host, into
    one value for each position of the selection. If a sample was seen twice, the newest value counts.

    Args:
        selection: what the epoch visits.
        num_samples: size of the data set.
    """

    def __init__(self, selection: Selection, num_samples: int) -> None:
        self.indices = selection.indices
        self.weights = selection.weights
        self.num_samples = num_samples
        self.steps: Steps | None = None
        self.num_expected = len(self.indices)  # how many the steps visit; `drop_last` may leave out a rest
        self.closed = False  # the loop has received every batch
        self.repeats = False  # a batch came again after that
        self.foreign = self.repeated = 0  # wrong ids that were found when ids came from a device
        self._values: npt.NDArray[np.float32] | None = None
        self._stamps: npt.NDArray[Any] | None = None  # number of the update that saw a position last; 0: not seen
        self._left_out: npt.NDArray[np.bool_] | None = None  # seen last, but not trained
        self._clock = 0
        self._capacity = 0
        self._log = Log(0)
        self._shared = False  # with other ranks
        self._alone = True  # one rank, or a loop that forms its own batches
        self.is_open = False
        # Of the batch added last: with it, the mean over the ranks of their means is the mean of the step.
        self.factor = 1.0
        self._batch = self._next = self._last = 0  # this rank's expected batch, and where it and the last one begin
        self._limit = self._last_limit = len(self.indices)  # where this rank's part of them ends
        self._latest: npt.NDArray[np.int64] | None = None  # positions of the last batch, if it was no slice
        self._whole = True  # not only this rank's part
        self.end = _OPEN  # the last step that came, once all have come; -1 if none is still to be trained
        self._end_of_all = _OPEN  # the largest of all ranks
        self._reached: int | None = None  # what `reached` was in a state that was loaded
        self._window_begin, self._window_end, self._window = 0, -1, np.empty(0, dtype=np.int64)
        self._lookup = Lookup(selection, num_samples)

    def begin(self, steps: Steps | None, num_ranks: int | None = None) -> None:
        """Begins to record, or goes on after a state was loaded.

        Args:
            steps: the optimiser steps and this rank's part of them; None if the loop forms its own batches.
            num_ranks: number of ranks; None is that of the steps.
        """
        if num_ranks is None:
            num_ranks = 1 if steps is None else steps.num_ranks
        self.steps, self.closed, self.is_open, self._reached = steps, False, True, None
        self.end = self._end_of_all = _OPEN
        self.num_expected = len(self.indices) if steps is None else steps[-1][1]
        self._shared = num_ranks > 1
        self._alone = steps is None or num_ranks == 1
        self._capacity = -(-self.num_expected // num_ranks) if steps is None else steps.room
        self._log = Log(self._capacity)
        if steps is not None:
            done = self.steps_done(steps)
            self._batch = 0 if done.all() else int(np.argmin(done))
            self._next, limit = steps.batch(self._batch)
            self._limit = len(self.indices) if self._alone else limit
            self._last, self._last_limit = self._next, self._limit

    def close(self, end: int) -> None:
        """Notes that the loop has received every batch.

        Args:
            end: number of the last step that came, which may have been read ahead; -1 if none is still to be trained.
        """
        self.closed, self.end = True, end

    def add(self, index: Tensor, values: Tensor, kept: Tensor | None = None) -> Tensor | None:
        """Remembers the values of a batch.

        Args:
            index: (b,) int64 or int32 ids. On the host a wrong id raises at once. On a device ids are checked by
                `fold`.
            values: (b,) floating, without gradient.
            kept: (b,) bool, which samples were trained; None for all.

        Returns:
            (b,) float32 weights of these samples, on the device of `values`; None if all are one.

        Raises:
            IndexError: an id out of range. ValueError: an id repeated, not of this epoch, or of another rank's part.
        """
        if values.is_cpu is not self._log.on_host:
            self._settle(values)
        if not index.is_cpu:
            self._log.append(None, values, kept, ids=index)
            if not self._alone:  # the next batch, which `fold` will verify
                self._next = self._follow(self._next, self._next + index.numel())
            return None if self.weights is None else self._lookup.weights_by_id(index, values.device)
        ids = index.numpy()
        begin, limit = self._next, self._limit
        is_next = is_slice = self._is_slice(ids, begin)
        if not is_slice:  # perhaps the last batch again
            begin, limit = self._last, self._last_limit
            is_slice = self._is_slice(ids, begin)
        if not is_slice and self._alone:  # perhaps batches between were left out, or others have them
            begin, limit = self._ahead(ids[0]), len(self.indices)
            is_next = is_slice = self._is_slice(ids, begin)
        end = begin + len(ids)
        if is_slice and end <= limit:
            if self.closed and is_next:
                self.repeats |= self._came(begin)
            self._log.append(begin, values, kept)
            if is_next:
                self._last, self._last_limit, self._latest = begin, limit, None
                self._next = end if self._alone else self._follow(begin, end)
            return None if self.weights is None else self._lookup.weights_on(values.device)[begin:end]
        positions = self._lookup.find(ids, self.steps)
        again = self._is_of_last(positions)
        if self.closed and not again:
            self.repeats |= self._came(int(positions[0]))
        self._log.append(positions, values, kept)
        if not again:
            self._last, self._next, self._latest = int(positions[0]), int(positions[-1]) + 1, positions
            if not self._alone:
                self._next = self._follow(self._last, self._next)
            self._last_limit = self._last
        if self.weights is None:
            return None
        return torch.from_numpy(self.weights[positions]).to(values.device, non_blocking=values.device.type != "cpu")

    def _came(self, position: int) -> bool:
        """Whether an update has seen a position, as far as the host knows without waiting for a device."""
        if self._stamps is not None and self._stamps[position]:
            return True
        slices = (first <= position < first + size for first, size in self._log.entries if type(first) is int)
        return any(slices) or any(position in where for where, _ in self._log.entries if isinstance(where, np.ndarray))

    def _settle(self, values: Tensor) -> None:
        """Prepares the log for values on the host, or for values on a device."""
        if self._log.on_host is not None:  # they were elsewhere before
            self.fold()
        self._log.settle(on_host=values.is_cpu)

    def _is_slice(self, ids: npt.NDArray[Any], begin: int) -> bool:
        """Whether the ids are the selection from a position on."""
        end = begin + len(ids)
        first = begin - self._window_begin
        if first < 0 or end > self._window_end:
            if begin >= len(self.indices) or ids[0] != self.indices[begin]:
                return False
            self._window_begin = first = begin
            self._window = self.indices[begin : begin + max(_WINDOW, len(ids))].astype(np.int64)
            self._window_end = begin + len(self._window)
            first = 0
        expected = self._window[first : first + len(ids)]
        if ids.dtype is _INT64:  # comparing bytes takes a third of the time
            return ids.tobytes() == expected.tobytes()
        return bool(np.array_equal(ids, expected))

    def _ahead(self, first: int) -> int:
        """Returns where an id stands among the next of the selection, or the end of the selection."""
        found = np.flatnonzero(self.indices[self._next : self._next + _WINDOW] == first)
        return self._next + int(found[0]) if len(found) else len(self.indices)

    def _follow(self, begin: int, end: int) -> int:
        """Returns where this rank's next ids begin after those of some positions, and sets the factor of these."""
        steps = self.steps
        assert steps is not None
        last = len(steps) - 1
        if not (self._batch <= last and steps[self._batch][0] <= begin < steps[self._batch][1]):
            self._batch = min(int(steps.numbers(np.array([begin]))[0]), last)
        mine_end = steps.batch(self._batch)[1]
        self.factor = steps.factor(self._batch)
        if end < mine_end or self._batch == last:
            self._limit = mine_end
            return end
        self._batch += 1
        begin, self._limit = steps.batch(self._batch)
        return begin

    def _is_of_last(self, positions: npt.NDArray[np.int64]) -> bool:
        """Whether all positions are of the last batch: a second update of it, or of the part that was chosen."""
        if self._latest is None:
            return bool(positions.min() >= self._last and positions.max() < self._next)
        return self.closed and bool(np.isin(positions, self._latest).all())

    def fold(self) -> None:
        """Moves the log into one value a position; waits for the device. Counts the wrong ids that came from it."""
        if not self._log.entries:
            return
        values, left_out, ids = self._log.take()
        entries, done = self._log.entries, 0
        in_order = len(entries) == 1 and type(entries[0][0]) is int and entries[0][1] == len(self.indices)
        if in_order and self._values is None and left_out is None:
            # One rank, every batch in order: the log is what is asked for.
            self._values, self._stamps = values, np.ones(len(values), dtype=self._stamp_type())
            self._clock, self._log = 1, self._log.emptied()
            return
        if self._values is None:
            self._values = np.empty(len(self.indices), dtype=np.float32)
            self._stamps = np.zeros(len(self.indices), dtype=self._stamp_type())
        assert self._stamps is not None
        if left_out is not None and self._left_out is None:
            self._left_out = np.zeros(len(self.indices), dtype=np.bool_)
        self._log = self._log.emptied()
        self._whole = not self._shared
        for where, size in entries:
            part: Any = slice(done, done + size)
            self._clock += self._shared or not self._clock  # alone, a stamp only says that a position was seen
            if where is None:
                assert ids is not None
                where, good, foreign, repeated = self._lookup.find_good(ids[part], self.steps)
                self.foreign, self.repeated = self.foreign + foreign, self.repeated + repeated
                part = np.arange(done, done + size)[good]
            elif isinstance(where, int):
                where = slice(where, where + size)
            self._values[where] = values[part]
            self._stamps[where] = self._clock
            if self._left_out is not None:
                self._left_out[where] = False if left_out is None else left_out[part]
            done += size

    def _stamp_type(self) -> type[np.int32 | np.uint8]:
        return np.int32 if self._shared else np.uint8

    def merge(self, group: Any, end: int) -> None:
        """Merges what all ranks have seen, in one collective for each four million samples. The newest value wins.

        The number of the update, whether the sample was trained and the bits of its value travel as one integer, so the
        maximum over the ranks keeps them together.

        Args:
            group: the processes that share the data; None is all of them.
            end: the largest `end` of the ranks.
        """
        self.share(end)
        size, device = len(self.indices), wire(group)
        if self._values is None or self._stamps is None:
            self._values, self._stamps = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.int32)
        if self._left_out is None:
            self._left_out = np.zeros(size, dtype=np.bool_)
        for begin in range(0, size, _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            packed = self._stamps[part].astype(np.int64)
            packed <<= 1
            packed |= self._left_out[part]
            packed <<= 32
            packed |= self._values[part].view(np.uint32)
            wired = torch.from_numpy(packed).to(device)
            dist.all_reduce(wired, op=dist.ReduceOp.MAX, group=group)
            merged = wired.cpu().numpy()
            self._values[part] = (merged & 0xFFFFFFFF).astype(np.uint32).view(np.float32)
            merged >>= 32
            self._left_out[part] = merged & 1
            self._stamps[part] = merged >> 1
        if not self._left_out.any():
            self._left_out = None
        self._clock = int(self._stamps.max())

    def share(self, end: int) -> None:
        """Takes the largest `end` of the ranks, where no rank sees samples of another's part."""
        self.fold()
        self._end_of_all = end
        self._whole = True

    def take_faults(self) -> tuple[int, int]:
        """Returns how many ids from a device were not of the epoch, and how many were repeated, since the last call."""
        faults = self.foreign, self.repeated
        self.foreign = self.repeated = 0
        return faults

    def seen(self) -> npt.NDArray[np.bool_]:
        """Returns (q,) bool: which positions an update has seen so far; waits for the device."""
        self.fold()
        if self._stamps is None:
            return np.zeros(len(self.indices), dtype=np.bool_)
        return self._stamps > 0

    def trained(self) -> npt.NDArray[np.bool_]:
        """Returns (q,) bool: which positions were seen and not left out of their step; waits for the device."""
        seen = self.seen()
        return seen if self._left_out is None else seen & ~self._left_out

    def values(self) -> npt.NDArray[np.float32]:
        """Returns (q,) float32: the newest value of each position that was seen, anything elsewhere."""
        self.fold()
        return np.empty(len(self.indices), dtype=np.float32) if self._values is None else self._values

    def missing(self) -> npt.NDArray[np.bool_]:
        """Returns (q,) bool: which samples the epoch left without a loss; waits for the device.

        If an update has seen the last step, or the loop has received every batch, these are all that no update saw.
        Otherwise batches after the last one that was seen do not count: the loop was left before them, or read them
        ahead. If no update saw anything, none counts.
        """
        seen = self.seen()
        if seen.all() or not (seen.any() and self._whole):
            return np.zeros(len(seen), dtype=np.bool_)
        missing = ~seen
        missing[self.reached() :] = False
        return missing

    def reached(self) -> int:
        """Returns the position before which every sample should have been seen; waits for the device."""
        if self._reached is not None:
            return self._reached
        seen, end = self.seen(), self.end if self._alone else self._end_of_all
        if end < 0 or (end < _OPEN and self.steps is not None and seen[slice(*self.steps[end])].any()):
            return self.num_expected
        if not seen.any():
            return 0
        last = min(len(seen) - 1 - int(np.argmax(seen[::-1])), self.num_expected - 1)
        if self.steps is None:
            return last
        number = int(self.steps.numbers(np.array([last]))[0])  # nothing comes after the last step
        return self.num_expected if number == len(self.steps) - 1 else self.steps[number][0]

    def steps_done(self, steps: Steps) -> npt.NDArray[np.bool_]:
        """Returns (len(steps),) bool: of which steps an update has seen a sample; waits for the device."""
        done = np.zeros(len(steps) + 1, dtype=np.bool_)
        done[steps.numbers(np.flatnonzero(self.seen()))] = True
        return done[:-1]

    def state_dict(self) -> dict[str, Any]:
        """Returns copies of what was seen, as tensors and plain values; waits for the device."""
        seen = self.seen()
        return {
            "values": torch.from_numpy(np.where(seen, self.values(), 0)),
            "stamps": None if self._stamps is None else torch.from_numpy(self._stamps.copy()),
            "left_out": None if self._left_out is None else torch.from_numpy(self._left_out.copy()),
            "expected": self.num_expected,
            "reached": self.reached(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned.

        Raises:
            ValueError: of another number of samples.
        """
        size = len(self.indices)
        for name in ("values", "stamps", "left_out"):
            if state[name] is not None and state[name].shape != (size,):
                raise ValueError(
                    f"the state must hold {size} samples of its epoch, got {name} of shape {tuple(state[name].shape)}; "
                    "load a state that was saved whole"
                )
        if state["stamps"] is not None:
            self._values = state["values"].cpu().numpy().astype(np.float32)
            self._stamps = state["stamps"].cpu().numpy().astype(np.int32)
        if state["left_out"] is not None:
            self._left_out = state["left_out"].cpu().numpy().astype(np.bool_)
        self.num_expected, self._reached = state["expected"], state["reached"]


def reduced(losses: Tensor, own: Tensor | None, factor: float, weights: Tensor | None, reduction: str) -> Tensor:
    """Returns what a batch back-propagates.

    Args:
        losses: (b,) with gradient.
        own: (b,) weights of the strategy; None if all are one.
        factor: of the mean, so that ranks with parts of different sizes agree.
        weights: (b,) of the caller, whose weighted mean is taken; None for the mean.
        reduction: "mean", or "none" for (b,) weighted losses.
    """
    if own is not None:
        losses = losses * own
    if factor != 1 and weights is None and reduction == "mean":
        losses = losses * factor
    if weights is not None:
        losses = losses * weights
    if reduction == "none":
        return losses
    return losses.mean() if weights is None else losses.sum() / weights.sum()
