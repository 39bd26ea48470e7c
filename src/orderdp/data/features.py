"""Rows of numbers as a DataLoader reads them: whole batches on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from orderdp.data.base import Features
from orderdp.data.samples import Samples


class ResidentFeatures(Samples):
    """Rows of numbers on the device, where a whole batch is gathered in one call.

    A DataLoader needs a `collate_fn` that passes the batch on, as for `ResidentImages`.

    Args:
        source: values and labels.
        device: that holds the rows and the batches.
    """

    def __init__(self, source: Features, *, device: torch.device | str = "cpu") -> None:
        super().__init__(source.labels.to(device), seed=0)
        self._values = source.values.to(device)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._values[index], self._labels[index]

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Returns a batch: (b, k) float32 and (b,) labels."""
        where = torch.as_tensor(indices).to(self._values.device, non_blocking=True)
        return self._values[where], self._labels[where]
