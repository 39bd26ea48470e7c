"""Methods that choose within a batch: which samples of a step are trained, in one forward pass or in two."""

from __future__ import annotations

import torch
from torch import Tensor

from orderdp.record import EpochRecord
from orderdp.rng import uniforms
from orderdp.strategies import Strategy


class WithinBatch:
    """The choice within each batch of one epoch.

    Args:
        strategy: chooses by the losses of the batch.
        seed: decides the draws.
        epoch: number of the epoch.
    """

    def __init__(self, strategy: Strategy, seed: int, epoch: int) -> None:
        self.strategy, self.seed, self.epoch = strategy, seed, epoch
        self._chosen: Tensor | None = None  # ids for the next update

    def choose(self, index: Tensor, losses: Tensor, scores: Tensor, record: EpochRecord) -> Tensor:
        """Returns (k,) int64, the positions in the batch to train, ascending; waits for the device.

        Args:
            index: (b,) ids.
            losses: (b,) of a forward pass, without gradient.
            scores: (b,) to choose by, on the device of the losses.
            record: remembers that the batch was seen.
        """
        self._chosen = None
        factors = self._by_strategy(index, losses, scores)
        if factors is None:
            return torch.arange(len(index), device=losses.device)
        values = torch.where(torch.isfinite(losses), scores, torch.nan)
        record.add(index, values, ~torch.isfinite(values))  # not trained yet, but a loss that is not finite has failed
        kept = factors.nonzero().flatten()
        self._chosen = index.to(kept.device)[kept]
        return kept

    def reduce(self, index: Tensor, losses: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns the losses times their factors, what to remember, and which samples count as trained.

        Args:
            index: (b,) ids: a whole batch, or the samples that `choose` returned.
            losses: (b,) with gradient.
            scores: (b,) to choose by and to remember.

        Raises:
            ValueError: other samples than `choose` returned.
        """
        seen = losses.detach()
        finite = torch.isfinite(seen)
        if self._chosen is None:
            factors = self._by_strategy(index, seen, scores)
            if factors is None:
                return losses, scores, None
        else:
            chosen, self._chosen = self._chosen, None
            if len(chosen) != len(index) or not torch.equal(index.to(chosen.device, chosen.dtype), chosen):
                raise ValueError(
                    f"index must hold the {len(chosen)} samples that choose returned, got {len(index)} or others; "
                    "write update(index[kept], losses of the same samples)"
                )
            factors = finite * (len(index) / finite.sum().clamp(min=1)).to(torch.float32)
        # Zero times a loss that is not finite would be NaN. Such a sample is left out of the step, and counted.
        reduced = torch.where(factors != 0, losses, 0) * factors
        values = torch.where(finite, scores, torch.nan)
        return reduced, values, (factors != 0) | ~torch.isfinite(values)

    def _by_strategy(self, index: Tensor, losses: Tensor, scores: Tensor) -> Tensor | None:
        ids = index.to(losses.device, non_blocking=not losses.is_cpu)
        masked = torch.where(torch.isfinite(losses), scores.to(torch.float32), torch.nan)
        return self.strategy.batch_weights(masked, lambda: uniforms(ids, self.seed, self.epoch))
