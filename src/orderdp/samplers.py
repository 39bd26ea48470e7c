"""Samplers: a selection as ids, or as batches of ids for each rank, which resume inside an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import Sampler

from orderdp.epochs import EpochSource
from orderdp.ranks import batch_bounds, ranks, step_bounds


class _Pass:
    """Whether a pass over an epoch is under way. A pass that begins replaces one that was left early."""

    def __init__(self) -> None:
        self.under_way = False
        self._number = 0

    def begin(self) -> int:
        """Begins a pass and returns its number."""
        self.under_way = True
        self._number += 1
        return self._number

    def end(self, number: int | None = None) -> None:
        """Ends the pass of this number if it is still under way; without a number, any pass."""
        if number in (None, self._number):
            self.under_way = False


class PrunedSampler(Sampler[int]):
    """Ids of the next epoch one by one, for a DataLoader that forms the batches.

    The epoch begins when a fresh iterator is asked for its first id; making an iterator changes nothing. The length is
    that of the pass under way until all its ids are taken. After that it is the length of the next pass.

    Args:
        pruner: chooses the epoch; a `Pruner` or another `EpochSource`.
    """

    def __init__(self, pruner: EpochSource) -> None:
        self.pruner = pruner
        self.current = _Pass()
        self._count = 0  # ids of the pass under way

    def __len__(self) -> int:
        """Returns how many ids the pass under way yields; between passes, how many the next one yields."""
        return self._count if self.current.under_way else self.pruner.num_selected()

    def __iter__(self) -> Iterator[int]:
        if ranks()[1] > 1:
            raise RuntimeError(
                f"pruner.sampler() cannot keep {ranks()[1]} ranks in step without the size of a batch, got none; "
                "write DataLoader(..., batch_sampler=pruner.sampler(batch_size=...))"
            )
        indices = self.pruner.begin_epoch().indices
        self._count = len(indices)
        mine = self.current.begin()
        try:
            for begin in range(0, len(indices), 4096):  # Python integers take four times the memory
                yield from indices[begin : begin + 4096].tolist()
        finally:
            self.current.end(mine)


class PrunedBatchSampler(Sampler[list[int]]):
    """Batches of ids of this rank in the next epoch, or in the rest of the epoch that was loaded.

    The epoch begins when a fresh iterator is asked for its first batch. Making an iterator changes nothing, since a
    DataLoader with workers makes two for its first epoch.

    The length is that of the pass under way, from its first batch until it ends or its iterator is dropped. Otherwise
    it is the length of the next pass. A DataLoader with workers, and a loop that reads one batch ahead, end the pass
    before they have trained its last batches; `pruner.loader` corrects this for workers.

    Args:
        pruner: chooses the epoch; a `Pruner` or another `EpochSource`.
        batch_size: samples of one step on one rank.
        drop_last: leave out the last step of an epoch if it is not full.
    """

    def __init__(self, pruner: EpochSource, batch_size: int, *, drop_last: bool = False) -> None:
        self.pruner = pruner
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.first = 0  # first batch of this pass, not 0 after a resume
        self.delivered = 0  # batches of the running epoch that the loop has received
        self._bounds: list[tuple[int, int]] = []  # of this rank's batches in the running epoch
        self._num_selected = 0  # in the running epoch
        self._resume_at = 0
        self.current = _Pass()
        self._split(pruner.num_selected())  # an impossible batch size fails here

    @property
    def remaining(self) -> int:
        """Batches of the running epoch that the loop has not received yet; 0 between epochs."""
        return len(self._bounds) - self.delivered

    def __len__(self) -> int:
        """Returns how many batches the pass under way yields; between passes, how many the next one yields."""
        if self.pruner.resuming:
            return len(self._bounds) - self._resume_at
        if self.current.under_way:
            return len(self._bounds) - self.first
        return len(self._split(self.pruner.num_selected()))

    def __iter__(self) -> Iterator[list[int]]:
        resumed = self.pruner.resuming
        selection = self.pruner.begin_epoch(self.batch_size, drop_last=self.drop_last)
        self._num_selected = len(selection.indices)
        self._bounds = self._split(self._num_selected)
        self.first, self._resume_at = (self._resume_at if resumed else 0), 0
        mine = self.current.begin()
        try:
            for number, (begin, end) in enumerate(self._bounds[self.first :], self.first + 1):
                self.delivered = number
                yield selection.indices[begin:end].tolist()
        finally:
            self.current.end(mine)

    def _split(self, num_selected: int) -> list[tuple[int, int]]:
        rank, num_ranks = ranks()
        return batch_bounds(num_selected, self.batch_size, drop_last=self.drop_last, rank=rank, num_ranks=num_ranks)

    def state_dict(self) -> dict[str, Any]:
        """Returns the pruner's state and the position in the epoch.

        Exact if the DataLoader fetches nothing ahead (num_workers=0); `pruner.loader` counts what was delivered. With
        several ranks, every rank must call it, because the ranks first exchange what they have seen.
        """
        inside = self.remaining > 0
        return {
            "pruner": self.pruner.state_dict(),
            "batches": self.delivered if inside else None,
            "samples": self._samples_before(self.delivered, self._num_selected) if inside else None,
            "batch_size": self.batch_size * ranks()[1],
            "drop_last": self.drop_last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the pruner, and the position if the state was taken inside an epoch.

        Another number of ranks may resume it, if the steps have the same size and begin at the same samples.

        Raises:
            ValueError: inside an epoch, steps of another size; or what `Pruner.load_state_dict` raises.
        """
        names = ("batch_size", "drop_last", "samples")
        if not {"pruner", "batches", *names} <= set(state):
            raise ValueError(
                f"the state must be one of a loader or sampler, got the keys {sorted(state)}; "
                "give a pruner's state to pruner.load_state_dict"
            )
        inside = state["batches"] is not None
        bounds, num_selected = [], 0
        if inside:
            num_selected = len(state["pruner"]["indices"])
            saved = {name: state[name] for name in names}
            samples = self._samples_before(state["batches"], num_selected)
            now = {"batch_size": self.batch_size * ranks()[1], "drop_last": self.drop_last, "samples": samples}
            if saved != now:
                raise ValueError(
                    f"a state inside an epoch needs the steps over all ranks that it was saved with, {saved}, "
                    f"got {now}; use those, or load only state['pruner'] to begin with the next epoch"
                )
            bounds = self._split(num_selected)
        self.pruner.load_state_dict(state["pruner"], resume=inside)
        self.current.end()
        self._bounds, self._num_selected = bounds, num_selected
        self._resume_at = self.delivered = state["batches"] or 0

    def _samples_before(self, step: int, num_selected: int) -> int | None:
        """Returns how many samples all ranks together train before a step; None where there is no such step."""
        bounds = step_bounds(num_selected, self.batch_size, drop_last=self.drop_last, num_ranks=ranks()[1])
        return bounds[step][0] if step < len(bounds) else None
