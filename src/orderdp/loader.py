"""A Selection as batches for each rank, with the ids beside the data, resumable inside an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, default_collate

if TYPE_CHECKING:
    from orderdp.pruner import Pruner


def ranks() -> tuple[int, int]:
    """Returns (rank, number of ranks) of the running process group, (0, 1) without one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def batch_bounds(
    num_selected: int, batch_size: int, *, drop_last: bool = False, rank: int = 0, num_ranks: int = 1
) -> list[tuple[int, int]]:
    """Where each of a rank's batches begins and ends in the selection.

    Step k of all ranks together takes the next num_ranks·batch_size samples, so the union over the ranks is the
    selection, without repeats, and every rank makes the same number of steps. What remains for the last step is shared
    out evenly; where it is less than one sample for each rank, the step before gives up some of its own.

    Args:
        num_selected: length q of the selection.
        batch_size: samples of one step on one rank.
        drop_last: leave out the last step if it is not full.
        rank: this rank.
        num_ranks: number of ranks.

    Returns:
        Half-open intervals of positions, one for each step.

    Raises:
        ValueError: there are no such steps.

    >>> batch_bounds(10, 4)
    [(0, 4), (4, 8), (8, 10)]
    >>> batch_bounds(10, 2, rank=1, num_ranks=2)
    [(2, 4), (6, 8), (9, 10)]
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}; write a number such as 128")
    chunk = batch_size * num_ranks
    full, rest = divmod(num_selected, chunk)
    sizes = [chunk] * full
    if rest and not drop_last:
        sizes.append(rest)
        if rest < num_ranks:
            if not full or chunk + rest < 2 * num_ranks:
                raise ValueError(
                    f"every rank needs a sample in every step, got {num_selected} selected samples for {num_ranks} "
                    f"ranks at batch_size {batch_size}; prune less, use fewer ranks, or write drop_last=True"
                )
            sizes[-2:] = [chunk + rest - num_ranks, num_ranks]
    if not sizes:
        raise ValueError(
            f"drop_last leaves no batch, got {num_selected} selected samples for {num_ranks} x {batch_size} a step; "
            "write a smaller batch_size or drop_last=False"
        )
    bounds, begin = [], 0
    for size in sizes:
        bounds.append((begin + size * rank // num_ranks, begin + size * (rank + 1) // num_ranks))
        begin += size
    return bounds


class IndexedDataset(Dataset[tuple[int, Any]]):
    """A map-style data set whose samples are (id, sample), for loops that build their own DataLoader.

    >>> IndexedDataset(["a", "b"])[1]
    (1, 'b')
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]


class _Fetch(Dataset[Any]):
    """Fetches a batch as (ids, what the data set returns for them)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, ids: list[int]) -> tuple[list[int], Any]:
        fetch = getattr(self.dataset, "__getitems__", None)
        return ids, fetch(ids) if fetch else [self.dataset[i] for i in ids]


class _Collate:
    """Collates a fetched batch into (index, the batch as it would have been)."""

    def __init__(self, collate_fn: Callable[[Any], Any]) -> None:
        self.collate_fn = collate_fn

    def __call__(self, fetched: Any) -> tuple[Tensor, Any]:
        ids, samples = fetched
        return torch.tensor(ids, dtype=torch.int64), self.collate_fn(samples)


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


class IdSampler(Sampler[int]):
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


class PrunedBatches(Sampler[list[int]]):
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


class PrunedLoader(DataLoader[tuple[Tensor, Any]]):
    """A DataLoader over the samples that a pruner selects: yields (index, batch); each pass is the next epoch.

    Args:
        pruner: chooses the epochs.
        dataset: any map-style data set of `pruner.num_samples` samples.
        batch_size: samples of one step on one rank.
        drop_last: leave out the last step of an epoch if it is not full.
        collate_fn: makes a batch of a list of samples; None is PyTorch's default.
        dataloader_arguments: any other argument of `torch.utils.data.DataLoader`. Without a `generator` the workers
            are seeded by the pruner's seed, the epoch in which they start and the rank; the global generator is left
            alone.

    Raises:
        TypeError: an iterable-style data set, a DataLoader or an `IndexedDataset`. ValueError: a data set of another
            length; an argument that would choose the order; no batch size.
    """

    batch_sampler: PrunedBatches

    def __init__(
        self,
        pruner: Pruner,
        dataset: Any,
        *,
        batch_size: int = 1,
        drop_last: bool = False,
        collate_fn: Callable[[Any], Any] | None = None,
        **dataloader_arguments: Any,
    ) -> None:
        if isinstance(dataset, IterableDataset):
            raise TypeError(
                f"dataset must be map-style, with __getitem__ and __len__, got {type(dataset).__name__}; "
                "an iterable-style data set cannot be asked for chosen samples"
            )
        if isinstance(dataset, (DataLoader, IndexedDataset)):
            raise TypeError(
                f"dataset must be the plain data set, got {type(dataset).__name__}; "
                "the loader makes the batches and adds the ids itself"
            )
        if len(dataset) != pruner.num_samples:
            raise ValueError(
                f"dataset must have the pruner's {pruner.num_samples} samples, got {len(dataset)}; "
                "write Pruner(strategy, len(dataset))"
            )
        if not dataloader_arguments.get("in_order", True):
            raise ValueError("in_order must be True, got False; a state inside an epoch counts batches in their order")
        for name in ("shuffle", "sampler", "batch_sampler"):
            if dataloader_arguments.pop(name, None):
                raise ValueError(f"{name} must be left out, got one; the pruner chooses the samples and their order")
        self.seeds_workers = dataloader_arguments.get("generator") is None
        if self.seeds_workers:
            dataloader_arguments["generator"] = torch.Generator()
        # accelerate's `prepare` then returns the loader as it is: it would share out this rank's part a second time.
        self._is_accelerate_prepared = True
        super().__init__(
            _Fetch(dataset),
            batch_sampler=PrunedBatches(pruner, batch_size, drop_last=drop_last),
            collate_fn=_Collate(collate_fn or default_collate),
            **dataloader_arguments,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:  # type: ignore[override]
        if self.seeds_workers:  # as the choice is: by seed and epoch, not by the global generator
            self.generator.manual_seed(self.batch_sampler.pruner.worker_seed())
        batches = super().__iter__()
        mine = None
        if self.num_workers:  # they have begun the epoch and run ahead; what counts is what the loop has received
            self.batch_sampler.delivered = self.batch_sampler.first
            mine = self.batch_sampler.current.begin()
        return self._count(batches, mine)

    def _count(self, batches: Iterator[tuple[Tensor, Any]], mine: int | None) -> Iterator[tuple[Tensor, Any]]:
        try:
            for number, batch in enumerate(batches, 1):
                self.batch_sampler.delivered = self.batch_sampler.first + number
                yield batch
        finally:
            if mine is not None:
                self.batch_sampler.current.end(mine)

    def state_dict(self) -> dict[str, Any]:
        """Returns the pruner's state and the number of batches that the loop has received of the running epoch.

        Under several ranks every rank must call it: what the ranks have seen is exchanged first.
        """
        return self.batch_sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the pruner and the position; the next `iter` yields the batches that had not been delivered.

        Raises:
            ValueError: the state does not fit; nothing is changed.
        """
        self.batch_sampler.load_state_dict(state)
