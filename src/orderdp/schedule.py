"""Schedules: how strongly to prune at epoch t.

A schedule maps the pruner's strategy and an epoch to the strategy of that epoch. The pruner's own strategy always
decides what is remembered, so an epoch on full data still records every score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from orderdp.strategies import Strategy

Schedule: TypeAlias = Callable[[Strategy, int], Strategy]


@dataclass(frozen=True)
class Constant:
    """Uses the same strategy at every epoch."""

    def __call__(self, strategy: Strategy, epoch: int) -> Strategy:
        """Returns `strategy` itself."""
        return strategy
