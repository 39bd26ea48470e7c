"""Schedules: how strongly to prune at epoch t.

A schedule maps the pruner's strategy and an epoch to the strategy of that epoch. The pruner's own strategy always
decides what is remembered, so an epoch on full data still records every score.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from orderdp.strategies import Strategy

Schedule: TypeAlias = Callable[[Strategy, int], Strategy]

_EXAMPLE = "schedule=lambda strategy, epoch: FullData() if epoch < 2 else strategy"


@dataclass(frozen=True)
class Constant:
    """Uses the same strategy at every epoch."""

    def __call__(self, strategy: Strategy, epoch: int) -> Strategy:
        """Returns `strategy` itself."""
        return strategy


def check_schedule(schedule: Any) -> None:
    """Raises TypeError unless a schedule can be called with a strategy and an epoch."""
    if isinstance(schedule, Strategy):
        raise TypeError(
            f"schedule must be a function of (strategy, epoch), got a strategy, {schedule!r}; pass it as the strategy"
        )
    if not callable(schedule):
        raise TypeError(f"schedule must be a function of (strategy, epoch), got {schedule!r}; write {_EXAMPLE}")
    try:
        signature = inspect.signature(schedule)
    except ValueError:  # of some callables in C, which have none
        return
    try:
        signature.bind(None, 0)
    except TypeError:
        raise TypeError(
            f"schedule must be a function of (strategy, epoch), got one of {signature}; write {_EXAMPLE}"
        ) from None


def strategy_of(schedule: Schedule, strategy: Strategy, epoch: int) -> Strategy:
    """Returns the strategy that a schedule names for an epoch.

    Raises:
        TypeError: it returned something else.
    """
    named: Any = schedule(strategy, epoch)
    if not isinstance(named, Strategy):
        raise TypeError(
            f"schedule must return a strategy, got {named!r} for epoch {epoch}; write OrderDP(prune_ratio=0.5)"
        )
    return named
