"""A DataLoader over the selected samples, which yields their ids with the data and resumes inside an epoch."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from orderdp.accelerate_state import GradientStateMember, Preparation, watch
from orderdp.epochs import EpochSource
from orderdp.foreign_loops import length_expected, refused_late, wrong_length
from orderdp.samplers import PrunedBatchSampler

FOR_A_STREAM = "write orderdp.stream.StreamPruner(DataLoader(dataset, ...), strategy, batch_size=..., score=...)"


def _refuse(message: str) -> Iterator[tuple[Tensor, Any]]:
    """Raises at the first batch, since Lightning 2.6 covers an error of `iter` with one of its own."""
    raise TypeError(message)
    yield


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

    Its length is always that of a whole epoch; `remaining` is what is left of the running one. After an error of the
    data set, the loop may go on with the next batch, as with any DataLoader.

    Args:
        pruner: chooses the epochs; a `Pruner` or another `EpochSource`.
        dataset: any map-style data set of `pruner.num_samples` samples.
        batch_size: samples of one step on one rank, at most. By default the batches of an epoch are as equal as
            possible, so none is tiny: 5,000 samples at 128 make 40 batches of 125.
        drop_last: full batches only; the samples of the last batch are left out if it is not full.
        stable_shapes: full batches and one smaller batch at the end, for compiled models and cuDNN.
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
        stable_shapes: bool = False,
        collate_fn: Callable[[Any], Any] | None = None,
        **dataloader_arguments: Any,
    ) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise TypeError(
                f"dataset must be map-style, with __getitem__ and __len__, got {type(dataset).__name__}, which cannot "
                f"be asked for chosen samples; {FOR_A_STREAM}"
            )
        if isinstance(dataset, (DataLoader, IndexedDataset)):
            raise TypeError(
                f"dataset must be the plain data set, got {type(dataset).__name__}; "
                "the loader makes the batches and adds the ids itself"
            )
        if len(dataset) != pruner.num_samples:
            raise ValueError(
                f"dataset must have the pruner's {pruner.num_samples} samples, got {len(dataset)}; "
                "write Pruner(strategy, len(dataset)), or pruner.resize(len(dataset)) if samples were added"
            )
        if not dataloader_arguments.get("in_order", True):
            raise ValueError("in_order must be True, got False; the ids of an epoch are compared in their order")
        for name in ("shuffle", "sampler", "batch_sampler"):
            if given := dataloader_arguments.pop(name, None):
                what = given if given is True else type(given).__name__
                raise ValueError(f"{name} must be left out, got {what}; the pruner chooses the samples and their order")
        self.seeds_workers = dataloader_arguments.get("generator") is None
        if self.seeds_workers:
            dataloader_arguments["generator"] = torch.Generator()
        self._preparation = Preparation()
        self._counted = False  # an Ignite Engine has taken this loader's length for that of every epoch
        super().__init__(
            _Fetch(dataset),
            batch_sampler=PrunedBatchSampler(pruner, batch_size, drop_last=drop_last, stable_shapes=stable_shapes),
            collate_fn=_Collate(collate_fn or default_collate),
            **dataloader_arguments,
        )

    @property
    def _is_accelerate_prepared(self) -> bool:
        """True: accelerate's `prepare` must return the loader as it is, and not split this rank's part again."""
        self._preparation.asked(self, sys._getframe(1))
        return True

    @_is_accelerate_prepared.setter
    def _is_accelerate_prepared(self, _: bool) -> None:
        """Does nothing; `prepare` sets it."""

    @property
    def end_of_dataloader(self) -> bool:
        """Whether the batch that came last is the last of its pass; accelerate reads it."""
        self._preparation.watched = self._preparation.watched or watch(self, sys._getframe(1))
        return self._preparation.at_end

    @end_of_dataloader.setter
    def end_of_dataloader(self, value: bool) -> None:
        self._preparation.at_end = value

    @property
    def remaining(self) -> int:
        """Batches of the running epoch that `update` has not seen; 0 between epochs. Waits for the device."""
        return self.batch_sampler.remaining

    def total_steps(self, epochs: int, *, accumulate: int = 1) -> int:
        """Returns the exact number of optimiser steps of epochs 0 .. epochs - 1 on this number of ranks.

        Call it when the process group exists, with this loader's batches, to size a learning-rate schedule.

        Args:
            epochs: number of epochs.
            accumulate: batches whose gradients make one step together; the last step of an epoch may have fewer.

        Raises:
            ValueError: the strategy's number of samples depends on the losses.
        """
        cut = self.batch_sampler.batching
        return self.batch_sampler.pruner.total_steps(
            epochs,
            cut.batch_size,
            drop_last=cut.drop_last,
            stable_shapes=cut.stable_shapes,
            accumulate=accumulate,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:  # type: ignore[override]
        caller = sys._getframe(1)
        refused = refused_late(caller)
        if refused is not None:
            return _refuse(refused)
        expected = length_expected(caller, resuming=self.batch_sampler.pruner.resuming)
        self._counted = self._counted or (expected is not None and expected == len(self))
        if self.seeds_workers:  # by seed and epoch, like the selection, and not by the global generator
            self.generator.manual_seed(self.batch_sampler.pruner.worker_seed())
        return _LoaderPass(self, super().__iter__(), expected if self._counted else None)

    def state_dict(self) -> dict[str, Any]:
        """Returns the pruner's state, which holds what `update` has seen, and how the epoch is cut into steps.

        With several ranks, every rank must call it, because the ranks first exchange what they have seen.
        """
        return self.batch_sampler.state_dict()

    def whole_state(self) -> dict[str, Any]:
        """As `state_dict`, for a framework that writes the state of one rank for all.

        Raises:
            RuntimeError: each rank has a state of its own.
        """
        pruner = self.batch_sampler.pruner
        if getattr(pruner, "sharded", False) and pruner.ranks()[1] > 1:
            raise RuntimeError(
                "a checkpoint of one file needs a pruner that is whole on each rank, got a sharded one; save "
                "loader.state_dict() with torch.distributed.checkpoint, or write Pruner"
            )
        return self.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], *, change: Collection[str] = ()) -> None:
        """Restores the pruner. If the state was taken inside an epoch, the next pass yields what `update` had not seen.

        Args:
            state: what `state_dict` returned.
            change: settings that may differ from the state's between two epochs: "strategy", "schedule".

        Raises:
            ValueError: the state does not fit; nothing is changed.
        """
        self.batch_sampler.load_state_dict(state, change=change)


class _LoaderPass(Iterator[tuple[Tensor, Any]]):
    """One pass over a loader. It outlives errors of the data set, and knows its last batch."""

    def __init__(self, loader: PrunedLoader, batches: Iterator[tuple[Tensor, Any]], expected: int | None) -> None:
        self._batches = batches
        self._expected = expected  # what its loop takes for the length of the epoch
        self._sampler = loader.batch_sampler
        self._received = 0
        self._preparation = loader._preparation
        self._accelerate = GradientStateMember(loader)
        # Workers have begun the epoch and read ahead, perhaps to its end. Without workers the first batch begins it.
        self._has_workers = loader.num_workers > 0
        self._number = self._sampler.current.begin() if self._has_workers else None
        self._left = False
        self._lost: set[int] = set()  # batches that raised an error

    def __next__(self) -> tuple[Tensor, Any]:
        try:
            batch = next(self._batches)
        except StopIteration:
            if not self._left and not (self._number is None and self._lost):
                self._sampler.finish(self._begun(), self._lost)
            self._leave()
            raise
        except Exception as error:
            if self._has_workers:
                # torch raises it from a local variable: a cycle that would keep the workers alive, and that the garbage
                # collector frees only after five seconds a worker (torch 2.13).
                traceback.clear_frames(error.__traceback__)
            if self._sampler.current.under_way:
                self._begun()
            self._lost.add(self._received)
            self._received += 1
            raise
        self._begun()
        if self._expected is not None and self._expected != len(self._sampler):
            self._batches = iter(())  # ends the workers
            raise RuntimeError(wrong_length(self._expected, len(self._sampler)))
        self._received += 1
        self._accelerate.yields(last=self._received == self._sampler.in_pass)
        index, samples = batch
        return index, self._preparation.placed(samples)

    def __del__(self) -> None:
        self._leave()

    def _begun(self) -> int:
        """Returns the number of the pass; it has begun."""
        if self._number is None:
            self._number = self._sampler.current.number
        return self._number

    def _leave(self) -> None:
        self._accelerate.leave()
        self._left = True
        if self._number is not None:
            self._sampler.current.end(self._number)
