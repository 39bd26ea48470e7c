"""Selective backprop: a weighted draw from every batch, in favour of high losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from orderdp.strategies.order import weights_of_largest
from orderdp.strategies.ordered_sgd import OrderedSGD


@dataclass(frozen=True, kw_only=True)
class SelectiveBackprop(OrderedSGD):
    """Trains each step on a share of its batch, drawn without replacement with weights that grow with the loss.

    The weight of a sample in the draw is percentile^(1/keep - 1), with its percentile (rank + 1/2)/b among the b finite
    losses of the batch. `OrderedSGD` always keeps the highest losses; this method may keep any. What it saves, and what
    it does with several ranks, is as there.

    Args:
        keep: share of each batch that is trained, rounded, at least one sample, in (0, 1].

    Raises:
        ValueError: a fraction outside its interval.

    Source: Jiang et al., "Accelerating deep learning by focusing on the biggest losers", 2019, in the form for one
        batch of MosaicML Composer, which rounds the number kept down. The draw without replacement is by exponential
        keys (Efraimidis and Spirakis, 2006): its law is that of drawing one after the other.

    >>> SelectiveBackprop(keep=0.5).num_selected(1000, epoch=0)
    1000
    """

    name = "selective_backprop"
    label = "selective backprop"
    ratio_means = "fraction of each batch left out of the backward pass, drawn by chance"
    references = (
        """@misc{jiang2019accelerating,
  title = {Accelerating deep learning by focusing on the biggest losers},
  author = {Jiang, Angela H. and others},
  year = {2019},
  eprint = {1910.00762},
  archiveprefix = {arXiv},
}""",
    )

    def batch_weights(self, losses: Tensor, uniforms: Callable[[], Tensor]) -> Tensor | None:
        """Returns b/k for the k samples drawn and 0 for the others."""
        finite = torch.isfinite(losses)
        ranks = torch.argsort(torch.argsort(losses.masked_fill(~finite, -math.inf), stable=True), stable=True)
        places = (ranks - (~finite).sum()).clamp(min=0).to(torch.float32) + 0.5  # among the finite losses
        log_chances = (1 / self.keep - 1) * torch.log(places / finite.sum().clamp(min=1))
        # The largest of log(u)/chance are a draw without replacement. In logarithms, where small chances stay apart.
        keys = (log_chances - torch.log(-torch.log(uniforms()))).clamp(min=torch.finfo(torch.float32).min)
        return weights_of_largest(keys.masked_fill(~finite, math.nan), self.keep)
