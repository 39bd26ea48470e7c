"""What the ranks of a sharded table send to each other: sums, one rank's numbers, and parts of arrays."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from orderdp.ranks import ranks, wire
from orderdp.sharded.blocks import Counts

Number = TypeVar("Number", bound=np.generic)


class Wire:
    """The collectives of one process group; without one, or with one rank, nothing is sent.

    Args:
        group: the processes that share the data; None is all of them.
    """

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.rank, self.num_ranks = ranks(group)

    def sum(self, numbers: Counts) -> Counts:
        """Returns the sum of the ranks' numbers, of any shape."""
        if self.num_ranks == 1:
            return numbers
        sent = torch.from_numpy(numbers).to(wire(self.group))
        dist.all_reduce(sent, group=self.group)
        summed: Counts = sent.cpu().numpy()
        return summed

    def same(self, numbers: Counts) -> Counts:
        """Returns the first rank's numbers on all ranks.

        All ranks draw them from equal generators. But another processor or version of NumPy may round a chance
        otherwise, and ranks that disagree would wait for each other for ever.
        """
        if self.num_ranks == 1:
            return numbers
        sent = torch.from_numpy(np.ascontiguousarray(numbers)).to(wire(self.group))
        first = 0 if self.group is None else dist.get_global_rank(self.group, 0)
        dist.broadcast(sent, src=first, group=self.group)
        received: Counts = sent.cpu().numpy()
        return received

    def swap(self, parts: list[npt.NDArray[Number]], sizes: Counts) -> list[npt.NDArray[Number]]:
        """Sends a part to each rank and returns the parts that came, in the order of the ranks.

        Args:
            parts: one vector for each rank, all of one type.
            sizes: (num_ranks,) lengths of the parts that come.
        """
        if self.num_ranks == 1:
            return parts
        device = wire(self.group)
        sent = torch.from_numpy(np.concatenate(parts)).to(device)
        received = torch.empty(int(sizes.sum()), dtype=sent.dtype, device=device)
        dist.all_to_all_single(received, sent, sizes.tolist(), [len(part) for part in parts], group=self.group)
        return np.split(received.cpu().numpy(), np.cumsum(sizes)[:-1])

    def swap_unknown(self, *columns: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """As `swap` for several columns with parts of equal lengths, which the receivers do not know.

        Returns:
            Each column as one vector, the parts in the order of the ranks.
        """
        sent = np.array([len(part) for part in columns[0]], dtype=np.int64)
        sizes = np.concatenate(self.swap(np.split(sent, self.num_ranks), np.ones(self.num_ranks, dtype=np.int64)))
        return [np.concatenate(self.swap(column, sizes)) for column in columns]
