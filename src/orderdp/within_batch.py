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
        self._chosen: Tensor | None = None  # ids that `choose` returned last
        # The batch from which it chose, as `EpochRecord.add` takes it, until `update` has trained the choice.
        self._offered: tuple[Tensor, Tensor, Tensor] | None = None

    def choose(self, index: Tensor, losses: Tensor, scores: Tensor, record: EpochRecord) -> Tensor:
        """Returns (k,) int64, the positions in the batch to train, ascending; waits for the device.

        The batch counts as seen when `reduce` gets the choice, so a loop that stops in between meets it again.

        Args:
            index: (b,) ids.
            losses: (b,) of a forward pass, without gradient.
            scores: (b,) to choose by, on the device of the losses.
            record: remembers a batch of which nothing is chosen, since no loss is finite.
        """
        self._chosen = self._offered = None
        factors = self._by_strategy(index, losses, scores)
        if factors is None:
            return torch.arange(len(index), device=losses.device)
        values = torch.where(torch.isfinite(losses), scores, torch.nan)
        offered = index, values, ~torch.isfinite(values)  # not trained, but a loss that is not finite has failed
        kept = factors.nonzero().flatten()
        if len(kept):
            self._chosen, self._offered = index.to(kept.device)[kept], offered
        else:
            record.add(*offered)
        return kept

    def reduce(
        self, index: Tensor, losses: Tensor, scores: Tensor, weights: Tensor | None, record: EpochRecord
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Returns the losses, what to remember, which samples count as trained, and the weights.

        The losses are multiplied by the factors of the choice, or the weights are if there are any. So the mean by
        these weights is that of the samples kept.

        Args:
            index: (b,) ids: a whole batch, or the samples that `choose` returned.
            losses: (b,) with gradient.
            scores: (b,) to choose by and to remember.
            weights: (b,) of the user; None for all one.
            record: remembers the batch from which `choose` chose.

        Raises:
            ValueError: other samples than `choose` returned.
        """
        seen = losses.detach()
        finite = torch.isfinite(seen)
        factors: Tensor | None
        if self._was_chosen(index, record):
            factors = finite * (len(index) / finite.sum().clamp(min=1)).to(torch.float32)
        else:
            factors = self._by_strategy(index, seen, scores)
        if factors is None:
            return losses, scores, None, weights
        # Zero times a loss that is not finite would be NaN. Such a sample is left out of the step, and counted.
        losses = torch.where(factors != 0, losses, 0)
        if weights is None:
            losses = losses * factors
        else:  # if nothing is kept, the result is 0
            weights = torch.where(factors.any(), weights * factors, 1)
        values = torch.where(finite, scores, torch.nan)
        return losses, values, (factors != 0) | ~torch.isfinite(values), weights

    def _was_chosen(self, index: Tensor, record: EpochRecord) -> bool:
        """Whether these are the samples that `choose` returned; raises if it returned others and waits for them."""
        chosen = self._chosen
        if chosen is None:
            return False
        if len(chosen) == len(index) and torch.equal(index.to(chosen.device, chosen.dtype), chosen):
            if self._offered is not None:
                record.add(*self._offered)
                self._offered = None
            return True
        if self._offered is not None:
            raise ValueError(
                f"index must hold the {len(chosen)} samples that choose returned, got {len(index)} or others; "
                "write update(index[kept], losses of the same samples)"
            )
        self._chosen = None  # the next batch
        return False

    def _by_strategy(self, index: Tensor, losses: Tensor, scores: Tensor) -> Tensor | None:
        ids = index.to(losses.device, non_blocking=not losses.is_cpu)
        masked = torch.where(torch.isfinite(losses), scores.to(torch.float32), torch.nan)
        return self.strategy.batch_weights(masked, lambda: uniforms(ids, self.seed, self.epoch))
