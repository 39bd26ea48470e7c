"""Schedules: how strongly to prune at epoch t, and how many samples that leaves.

A schedule maps the pruner's strategy and an epoch to the strategy of that epoch. The pruner's own strategy always
decides what is remembered, so an epoch on full data still records every score.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

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


def size_of(strategy: Strategy, num_samples: int, epoch: int) -> int | None:
    """Returns how many samples a strategy declares for an epoch; None if that depends on the losses.

    Raises:
        TypeError: it declares no whole number. ValueError: none of the samples, or more than there are.
    """
    size: Any = strategy.num_selected(num_samples, epoch)
    if size is None:
        return None
    whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if not whole or not 1 <= size <= num_samples:
        raise (ValueError if whole else TypeError)(
            f"num_selected of {type(strategy).__name__} must return a whole number in 1 .. {num_samples} or None, got "
            f"{size!r} for epoch {epoch}; write round(...), within these"
        )
    return int(size)
