"""A DataLoader over the selected samples, which yields their ids with the data and resumes inside an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from orderdp.epochs import EpochSource
from orderdp.samplers import PrunedBatchSampler


class IndexedDataset(Dataset[tuple[int, Any]]):
    """A map-style data set of (id, sample), for training loops that build their own DataLoader.

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
    """Fetches a batch as (ids, samples)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, ids: list[int]) -> tuple[list[int], Any]:
        fetch = getattr(self.dataset, "__getitems__", None)
        return ids, fetch(ids) if fetch else [self.dataset[i] for i in ids]


class _Collate:
    """Collates a fetched batch into (index, the batch of a plain DataLoader)."""

    def __init__(self, collate_fn: Callable[[Any], Any]) -> None:
        self.collate_fn = collate_fn

    def __call__(self, fetched: Any) -> tuple[Tensor, Any]:
        ids, samples = fetched
        return torch.tensor(ids, dtype=torch.int64), self.collate_fn(samples)


class PrunedLoader(DataLoader[tuple[Tensor, Any]]):
    """A DataLoader over the samples that a pruner selects. It yields (index, batch), and each pass is the next epoch.

    Args:
        pruner: chooses the epochs; a `Pruner` or another `EpochSource`.
        dataset: any map-style data set of `pruner.num_samples` samples.
        batch_size: samples of one step on one rank.
        drop_last: leave out the last step of an epoch if it is not full.
        collate_fn: makes a batch of a list of samples; None is PyTorch's default.
        dataloader_arguments: any other argument of `torch.utils.data.DataLoader`. Without a `generator`, the pruner's
            seed, the epoch and the rank seed the workers, not the global generator.

    Raises:
        TypeError: an iterable-style data set, a DataLoader or an `IndexedDataset`. ValueError: a data set of another
            length; an argument that sets the order; no batch size.
    """

    batch_sampler: PrunedBatchSampler

    def __init__(
        self,
        pruner: EpochSource,
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
        # With this mark accelerate's `prepare` returns the loader as it is. Otherwise it would split this rank's part
        # again.
        self._is_accelerate_prepared = True
        super().__init__(
            _Fetch(dataset),
            batch_sampler=PrunedBatchSampler(pruner, batch_size, drop_last=drop_last),
            collate_fn=_Collate(collate_fn or default_collate),
            **dataloader_arguments,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:  # type: ignore[override]
        if self.seeds_workers:  # by seed and epoch, like the selection, and not by the global generator
            self.generator.manual_seed(self.batch_sampler.pruner.worker_seed())
        batches = super().__iter__()
        mine = None
        if self.num_workers:  # they have begun the epoch and read ahead; count only what the loop has received
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
        """Returns the pruner's state and how many batches of the running epoch the loop has received.

        With several ranks, every rank must call it, because the ranks first exchange what they have seen.
        """
        return self.batch_sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the pruner and the position; the next pass yields the batches that were not delivered.

        Raises:
            ValueError: the state does not fit; nothing is changed.
        """
        self.batch_sampler.load_state_dict(state)
