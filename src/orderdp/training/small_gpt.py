"""A small transformer that predicts the next token, for one processor core."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_WIDTH, _HEADS, _LAYERS = 64, 4, 2


class SmallGPT(nn.Module):
    """Two causal layers of width 64 with four heads; 133 thousand parameters for bytes.

    Positions are sines and cosines, so windows may have any length.

    Args:
        vocabulary: tokens are in [0, vocabulary).

    Source: Vaswani et al., "Attention is all you need", NeurIPS 2017, by PyTorch's layers; with the norm before each
    block, as Radford et al., "Language models are unsupervised multitask learners", 2019.

    >>> SmallGPT(256)(torch.zeros(2, 5, dtype=torch.int64)).shape
    torch.Size([2, 5, 256])
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, _WIDTH)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(_WIDTH, _HEADS, 4 * _WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(_LAYERS)
        )
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, length) int64 to (b, length, vocabulary) logits of the tokens that follow."""
        length = tokens.shape[1]
        x = self.embedding(tokens) + _positions(length, tokens.device)
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        logits: Tensor = self.head(self.norm(x))
        return logits


def _positions(length: int, device: torch.device) -> Tensor:
    """Returns (length, width) sines and cosines, whose periods grow from 2π to nearly 10,000·2π."""
    rates = torch.exp(torch.arange(0, _WIDTH, 2, device=device) * (-math.log(10_000) / _WIDTH))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
