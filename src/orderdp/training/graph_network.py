"""A small network for graphs, for one processor core."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orderdp.data.base import EDGE_KINDS

_WIDTH, _ROUNDS = 64, 4


class GraphNetwork(nn.Module):
    """Four rounds in which each node hears from its neighbours; then the mean over the nodes, and two layers.

    A message is the neighbour's state times a matrix of the kind of edge, the same in all rounds. A recurrent unit
    takes the sum of the messages. 47 thousand parameters for the atoms of molecules.

    Args:
        vocabulary: kinds of nodes are in [1, vocabulary).
        num_outputs: of a graph.

    Source: Gilmer et al., "Neural message passing for quantum chemistry", ICML 2017, section 2, with the messages of Li
    et al., "Gated graph sequence neural networks", ICLR 2016. Departure: the mean over the nodes, not a gated sum.

    >>> GraphNetwork(3, 1)(torch.tensor([[[2, 1], [1, 2]]])).shape
    torch.Size([1, 1])
    """

    def __init__(self, vocabulary: int, num_outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, _WIDTH, padding_idx=0)
        self.messages = nn.Linear(_WIDTH, EDGE_KINDS * _WIDTH, bias=False)
        self.update = nn.GRUCell(_WIDTH, _WIDTH)
        self.readout = nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, num_outputs))

    def forward(self, matrices: Tensor) -> Tensor:
        """(b, m, m) int64 as in `Graphs` to (b, num_outputs)."""
        batch, size = matrices.shape[:2]
        nodes = matrices.diagonal(dim1=1, dim2=2)
        there = (nodes != 0).to(self.embedding.weight.dtype)[:, :, None]
        kinds = F.one_hot(matrices - torch.diag_embed(nodes), EDGE_KINDS + 1)[..., 1:]
        edges = kinds.to(there.dtype).flatten(2)  # (b, m, m · kinds), 1 for an edge of that kind to that node
        x = self.embedding(nodes)
        for _ in range(_ROUNDS):
            said = self.messages(x).view(batch, size * EDGE_KINDS, _WIDTH)
            heard = torch.bmm(edges, said)
            x = self.update(heard.flatten(0, 1), x.flatten(0, 1)).view_as(x)
        mean = (x * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
        outputs: Tensor = self.readout(mean)
        return outputs
