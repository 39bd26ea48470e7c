"""What the ranks of a sharded table send to each other: sums, one rank's numbers, and parts of arrays."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from orderdp.lost_ranks import meeting
from orderdp.ranks import ranks, wire
from orderdp.sharded.blocks import Counts

_CALLS = "the calls of its pruner"  # for the message if a rank is lost
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
        with meeting(_CALLS):
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
        with meeting(_CALLS):
            dist.broadcast(sent, src=first, group=self.group)
            received: Counts = sent.cpu().numpy()
        return received

    def swap(self, parts: list[npt.NDArray[Number]], sizes: Counts) -> npt.NDArray[Number]:
        """Sends a part to each rank and returns what came, in the order of the ranks.

        Args:
            parts: one vector for each rank, all of one type; the list is emptied, so that they can be freed.
            sizes: (num_ranks,) lengths of the parts that come.
        """
        lengths, joined = [len(part) for part in parts], np.concatenate(parts)
        parts.clear()
        if self.num_ranks == 1:
            return joined
        device = wire(self.group)
        sent = torch.from_numpy(joined).to(device)
        del joined
        received = torch.empty(int(sizes.sum()), dtype=sent.dtype, device=device)
        with meeting(_CALLS):
            dist.all_to_all_single(received, sent, sizes.tolist(), lengths, group=self.group)
            came: npt.NDArray[Number] = received.cpu().numpy()
        return came

    def lengths(self, parts: list[npt.NDArray[Any]]) -> Counts:
        """Returns how much comes from each rank, if it sends a part to each; (num_ranks,)."""
        sent = [np.array([len(part)], dtype=np.int64) for part in parts]
        return self.swap(sent, np.ones(self.num_ranks, dtype=np.int64))
