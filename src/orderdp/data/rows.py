"""Rows of numbers and windows of tokens as a DataLoader reads them: whole batches on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from orderdp.data.base import Features, Windows, inputs_of
from orderdp.data.samples import Samples


class ResidentRows(Samples):
    """Samples of equal size on the device, where a whole batch is gathered in one call.

    A DataLoader needs a `collate_fn` that passes the batch on, as for `ResidentImages`.

    Args:
        source: rows of numbers and their labels, or windows of tokens.
        device: that holds the samples and the batches.
    """

    def __init__(self, source: Features | Windows, *, device: torch.device | str = "cpu") -> None:
        super().__init__(source.labels.to(device), seed=0)
        self._inputs = inputs_of(source).to(device)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._inputs[index], self._labels[index]

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Returns a batch: (b, k) float32 and (b,) labels, or (b, length) int64 tokens and for each the one after."""
        where = torch.as_tensor(indices).to(self._inputs.device, non_blocking=True)
        return self._inputs[where], self._labels[where]
