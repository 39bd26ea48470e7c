"""A Selection as ids or batches of ids for each rank, resumable inside an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any

from torch.utils.data import Sampler

from orderdp.ranks import batch_bounds, ranks

if TYPE_CHECKING:
    from orderdp.pruner import Pruner


class _Pass:
    """Whether an epoch is being gone through; a pass that begins takes over from one that was left."""

    def __init__(self) -> None:
        self.under_way = False
        self._number = 0

    def begin(self) -> int:
        """Begins a pass and returns its number."""
        self.under_way = True
        self._number += 1
        return self._number

    def end(self, number: int | None = None) -> None:
        """Ends a pass, unless another one has begun since; without a number whichever is under way."""
        if number in (None, self._number):
            self.under_way = False


class PrunedSampler(Sampler[int]):
    """Ids of the next epoch one by one, for a DataLoader that forms the batches.

    Asking a fresh iterator for its first id begins the epoch; making an iterator changes nothing. The length is that of
    the pass under way until all its ids are taken, and that of the next one otherwise.

    Args:
        pruner: chooses the epoch.
    """

    def __init__(self, pruner: Pruner) -> None:
        self.pruner = pruner
        self.current = _Pass()

    def __len__(self) -> int:
        """Returns how many ids the pass under way yields, and between passes the next one."""
        return self.pruner.num_selected(self.pruner.epoch if self.current.under_way else None)

    def __iter__(self) -> Iterator[int]:
        if ranks()[1] > 1:
            raise RuntimeError(
                f"pruner.sampler() cannot keep {ranks()[1]} ranks in step without the size of a batch, got none; "
                "write DataLoader(..., batch_sampler=pruner.sampler(batch_size=...))"
            )
        indices = self.pruner.begin_epoch().indices
        mine = self.current.begin()
        try:
            for begin in range(0, len(indices), 4096):  # Python integers take four times the room
                yield from indices[begin : begin + 4096].tolist()
        finally:
            self.current.end(mine)


class PrunedBatchSampler(Sampler[list[int]]):
    """Batches of ids of this rank in the next epoch, or in the rest of the one that was loaded.

    Asking a fresh iterator for its first batch begins the epoch; making an iterator changes nothing, since a DataLoader
    with workers makes two for its first epoch.

    Its length is that of the pass under way, from its first batch until it ends or its iterator is dropped, and that of
    the next one otherwise. A DataLoader with workers, and a loop that reads one batch ahead, end it before their last
    batches are trained; `pruner.loader` follows its workers.

    Args:
        pruner: chooses the epoch.
        batch_size: samples of one step on one rank.
        drop_last: leave out the last step of an epoch if it is not full.
    """

    def __init__(self, pruner: Pruner, batch_size: int, *, drop_last: bool = False) -> None:
        self.pruner = pruner
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.first = 0  # batch at which this run of the epoch began, not 0 after a resume
        self.delivered = 0  # batches of the running epoch that the loop has received
        self._bounds: list[tuple[int, int]] = []
        self._resume_at = 0
        self.current = _Pass()
        self._split(pruner.num_selected())  # a batch size that cannot be kept fails here

    @property
    def remaining(self) -> int:
        """Batches of the running epoch that the loop has not received yet; 0 between epochs."""
        return len(self._bounds) - self.delivered

    def __len__(self) -> int:
        """Returns how many batches the pass under way yields, and between passes the next one."""
        if self.pruner.resuming:
            return len(self._bounds) - self._resume_at
        if self.current.under_way:
            return len(self._bounds) - self.first
        return len(self._split(self.pruner.num_selected()))

    def __iter__(self) -> Iterator[list[int]]:
        resumed = self.pruner.resuming
        selection = self.pruner.begin_epoch(self.batch_size * ranks()[1])
        self._bounds = self._split(len(selection.indices))
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

        Exact where the DataLoader fetches nothing ahead (num_workers=0); `pruner.loader` counts what was delivered.
        Under several ranks every rank must call it: what the ranks have seen is exchanged first.
        """
        return {
            "pruner": self.pruner.state_dict(),
            "batches": self.delivered if self.remaining else None,
            "samples": self._samples_before(self.delivered, self.pruner.selection.indices)
            if self.remaining and self.pruner.selection
            else None,
            "batch_size": self.batch_size * ranks()[1],
            "drop_last": self.drop_last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the pruner, and the position if the state was taken inside an epoch.

        Another number of ranks may go on with it, if their steps are as large and begin at the same samples.

        Raises:
            ValueError: inside an epoch, steps of another size; or what `Pruner.load_state_dict` raises.
        """
        names = ("batch_size", "drop_last", "samples")
        if not {"pruner", "batches", *names} <= set(state):
            raise ValueError(
                f"the state must be one of a loader or sampler, got the keys {sorted(state)}; "
                "give a pruner's state to pruner.load_state_dict"
            )
        bounds: list[tuple[int, int]] = []
        if state["batches"] is not None:
            indices = state["pruner"]["indices"]
            saved = {name: state[name] for name in names}
            samples = self._samples_before(state["batches"], indices)
            now = {"batch_size": self.batch_size * ranks()[1], "drop_last": self.drop_last, "samples": samples}
            if saved != now:
                raise ValueError(
                    f"a state inside an epoch needs the steps over all ranks that it was saved with, {saved}, "
                    f"got {now}; use those, or load only state['pruner'] to begin with the next epoch"
                )
            bounds = self._split(len(indices))
        self.pruner.load_state_dict(state["pruner"], resume=state["batches"] is not None)
        self.current.end()
        self._bounds = bounds
        self._resume_at = self.delivered = state["batches"] or 0

    def _samples_before(self, step: int, indices: Sized) -> int | None:
        """Returns how many samples all ranks together train before a step; None where there is no such step."""
        size, num_ranks = self.batch_size, ranks()[1]
        bounds = batch_bounds(len(indices), size, drop_last=self.drop_last, rank=0, num_ranks=num_ranks)
        return bounds[step][0] if step < len(bounds) else None
