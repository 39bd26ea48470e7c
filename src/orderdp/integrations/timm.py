"""timm: a training loader of `create_loader` that yields the samples of a pruner, and losses of single samples."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

try:
    from timm.data.loader import PrefetchLoader
    from timm.data.mixup import FastCollateMixup
    from timm.loss.binary_cross_entropy import BinaryCrossEntropy
    from timm.loss.cross_entropy import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "timm":
        raise
    raise ImportError("timm.pruned and timm.per_sample need timm: pip install 'timm>=1.0.9'") from None

from orderdp.loader import PrunedLoader
from orderdp.pruner import Pruner

_ORDERS = (RandomSampler, SequentialSampler, DistributedSampler)  # which the pruner replaces


class PrunedTimmLoader:
    """A timm loader over the samples that a pruner selects. It yields (index, (input, target)).

    Made by `pruned`. Workers, transforms, collate function, Mixup, prefetching and normalisation are those of the
    loader that it was made from. The ids stay on the host.

    Args:
        loader: the pruned loader.
        prefetch: timm's PrefetchLoader to send batches through; None if the loader had none.
    """

    def __init__(self, loader: PrunedLoader, prefetch: PrefetchLoader | None) -> None:
        self.loader: Any = loader
        self._ids: deque[Tensor] = deque()  # of batches that are prefetched
        self._prefetch = None if prefetch is None else copy.copy(prefetch)
        if self._prefetch is not None:
            without_ids: Any = _WithoutIds(loader, self._ids)  # not self: a cycle would keep the workers alive
            self._prefetch.loader = without_ids

    def __len__(self) -> int:
        """Returns the number of batches of the whole epoch, as `len(pruner.loader(...))`."""
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Any, Any]]]:
        if self._prefetch is None:
            for index, batch in self.loader:
                yield index, _checked(index, batch)
            return
        self._ids.clear()
        for batch in self._prefetch:
            yield self._ids.popleft(), batch

    @property
    def dataset(self) -> Any:
        """The data set."""
        return self.loader.dataset.dataset

    @property
    def sampler(self) -> Any:
        """A sampler without `set_epoch`, which timm's script looks for."""
        return self.loader.sampler

    @property
    def mixup_enabled(self) -> bool:
        """Whether the collate function mixes. A change holds from the next pass on, in persistent workers too."""
        mixup = self._mixup
        return mixup is not None and mixup.mixup_enabled

    @mixup_enabled.setter
    def mixup_enabled(self, value: bool) -> None:
        mixup = self._mixup
        if mixup is not None and mixup.mixup_enabled != value:
            mixup.mixup_enabled = value
            self.loader._iterator = None  # persistent workers hold a copy of the function, so others must begin

    @property
    def _mixup(self) -> FastCollateMixup | None:
        collate = self.loader.collate_fn.collate_fn
        collate = collate.mixup if isinstance(collate, _MixCopies) else collate
        return collate if isinstance(collate, FastCollateMixup) else None

    def total_steps(self, epochs: int, *, accumulate: int = 1) -> int:
        """Returns the exact number of optimiser steps of epochs 0 .. epochs - 1, as `PrunedLoader.total_steps`."""
        return int(self.loader.total_steps(epochs, accumulate=accumulate))

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the pruned loader; every rank must call it."""
        return dict(self.loader.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.loader.load_state_dict(state)


class _MixCopies:
    """Mixes copies of the images. In mode "pair", timm 1.0.31 writes CutMix's patches into those of the data set."""

    def __init__(self, mixup: FastCollateMixup) -> None:
        self.mixup = mixup

    def __call__(self, batch: list[Any]) -> Any:
        return self.mixup([(x.clone() if isinstance(x, Tensor) else x.copy(), *rest) for x, *rest in batch])


class _WithoutIds:
    """What the PrefetchLoader reads: batches without their ids, which wait in a queue."""

    def __init__(self, loader: PrunedLoader, ids: deque[Tensor]) -> None:
        self._loader, self._ids = loader, ids

    def __iter__(self) -> Iterator[Any]:
        for index, batch in self._loader:
            self._ids.append(index)
            yield _checked(index, batch)

    def __len__(self) -> int:
        return len(self._loader)


def pruned(loader: Any, pruner: Pruner) -> PrunedTimmLoader:
    """Returns a training loader of `timm.data.create_loader` with the samples of a pruner.

    Args:
        loader: what `create_loader(..., is_training=True)` returned, with or without prefetcher.
        pruner: of `len(dataset)` samples.

    Raises:
        TypeError: another kind of loader. ValueError: repeated augmentation, scheduled sizes or another order of the
            samples than a random one; `FastCollateMixup` in mode "half".
    """
    prefetch = loader if isinstance(loader, PrefetchLoader) else None
    inner = loader.loader if prefetch is not None else loader
    if not isinstance(inner, DataLoader) or isinstance(inner, PrunedLoader):
        raise TypeError(f"loader must be one of timm's create_loader, got {type(inner).__name__}; give it unpruned")
    order = inner.sampler
    if inner.batch_size is None or not isinstance(order, _ORDERS):
        scheduled = inner.batch_size is None and not isinstance(inner.batch_sampler, BatchSampler)
        got = type(inner.batch_sampler if scheduled else order).__name__
        raise ValueError(
            f"the pruner chooses the samples and their order, got {got}; leave num_aug_repeats and input_size_choices "
            "out"
        )
    collate_fn: Any = inner.collate_fn
    if isinstance(collate_fn, FastCollateMixup) and "half" in collate_fn.mode:
        raise ValueError(
            "mixup mode must give each sample of a batch an input, got 'half'; write 'batch', 'pair' or 'elem'"
        )
    if isinstance(collate_fn, FastCollateMixup) and collate_fn.mode == "pair":
        collate_fn = _MixCopies(collate_fn)
    arguments: dict[str, Any] = {
        name: getattr(inner, name)
        for name in ("num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
    }
    if inner.num_workers:
        arguments |= {name: getattr(inner, name) for name in ("prefetch_factor", "persistent_workers")}
    return PrunedTimmLoader(
        pruner.loader(
            inner.dataset,
            batch_size=inner.batch_size,
            drop_last=inner.drop_last,
            collate_fn=collate_fn,
            **arguments,
        ),
        prefetch,
    )


def _checked(index: Tensor, batch: Any) -> Any:
    """Returns the batch; raises if it has not one target a sample."""
    if len(batch[1]) != len(index):
        raise RuntimeError(
            f"a batch must have one target for each of its {len(index)} samples, got {len(batch[1])}; leave aug_splits "
            "out"
        )
    return batch


class per_sample(nn.Module):  # noqa: N801 it reads as a function: per_sample(criterion)
    """One of timm's losses, without the mean over the batch.

    With Mixup or CutMix, the loss of a sample is that of its mixed input against both targets, weighted as they are
    mixed. So a sample's score also depends on the sample that was mixed into it.

    Args:
        criterion: `SoftTargetCrossEntropy`, `LabelSmoothingCrossEntropy`, `BinaryCrossEntropy` of timm, or torch's
            `CrossEntropyLoss` without class weights.

    Raises:
        TypeError: another loss. ValueError: class weights, for which `pruner.update` has an argument.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        if getattr(criterion, "weight", None) is not None:
            raise ValueError(
                "criterion must have no class weights, got some; write pruner.update(index, losses, weights=weights[y])"
            )
        own: Any = copy.copy(criterion)
        if isinstance(criterion, (BinaryCrossEntropy, nn.CrossEntropyLoss)):
            own.reduction, own.sum_classes = "none", False
        elif not isinstance(criterion, (SoftTargetCrossEntropy, LabelSmoothingCrossEntropy)):
            raise TypeError(
                f"criterion must be a known loss, got {type(criterion).__name__}; compute one loss per sample yourself"
            )
        self.criterion = own
        self._sums_classes = getattr(criterion, "sum_classes", False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Returns (b,) losses of (b, c) outputs; target is (b,) classes or (b, c) shares."""
        criterion = self.criterion
        if isinstance(criterion, BinaryCrossEntropy):
            losses = criterion(output, target)
            return torch.as_tensor(losses.sum(-1) if self._sums_classes else losses.mean(-1))
        if isinstance(criterion, nn.CrossEntropyLoss):
            return torch.as_tensor(criterion(output, target))
        smoothing = getattr(criterion, "smoothing", 0.0)
        return F.cross_entropy(output, target, reduction="none", label_smoothing=smoothing)
