"""The training data in order, as a diagnostic reads it that compares gradients over all the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from orderdp.data.images import AugmentedImages


class InOrder:
    """Batches of a whole data set as (index, batch); each pass reads them again.

    Args:
        images: the data set, without augmentation.
        batch_size: samples in a batch.
        loading: further arguments of the DataLoader.
    """

    def __init__(self, images: AugmentedImages, batch_size: int, loading: dict[str, Any]) -> None:
        self._ids = torch.split(torch.arange(len(images)), batch_size)
        self._images, self._loading = images, loading

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        batches = [ids.tolist() for ids in self._ids]
        loader: Any = DataLoader(self._images, batch_sampler=batches, generator=torch.Generator(), **self._loading)
        return zip(self._ids, loader, strict=True)
