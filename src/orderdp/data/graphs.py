"""Graphs as a DataLoader reads them: whole batches on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from orderdp.data.base import Graphs
from orderdp.data.samples import Samples


class ResidentGraphs(Samples):
    """Graphs on the device, where a whole batch is gathered in one call and cut to its largest graph.

    A DataLoader needs a `collate_fn` that passes the batch on, as for `ResidentImages`.

    Args:
        source: matrices and labels.
        device: that holds the graphs and the batches.
    """

    def __init__(self, source: Graphs, *, device: torch.device | str = "cpu") -> None:
        super().__init__(source.labels.to(device), seed=0)
        self._matrices = source.matrices.to(device)
        self._sizes = (source.matrices.diagonal(dim1=1, dim2=2) != 0).sum(dim=1)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        matrices, labels = self.__getitems__([index])
        return matrices[0], labels[0]

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Returns a batch: (b, m, m) int64 matrices, m the nodes of its largest graph, and (b,) labels."""
        ids = torch.as_tensor(indices)
        largest = max(1, int(self._sizes[ids].max()))
        where = ids.to(self._matrices.device, non_blocking=True)
        return self._matrices[where, :largest, :largest].to(torch.int64), self._labels[where]
