"""What stands for a custom strategy where results are read, so that its module is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from orderdp.strategies.base import Memory, Strategy
from orderdp.theory.sizes import default_sizes

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, kw_only=True)
class StandIn(Strategy):
    """A strategy of which only the settings are known. It is assumed to train q = round((1 - prune_ratio)·n) samples.

    Args:
        prune_ratio: as given; None if it was not.
        others: names and values of the other settings, sorted.
    """

    prune_ratio: float | None = None
    others: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], *, epochs: int | None) -> Self:
        """Returns the stand-in with these settings, which are not checked."""
        others = {name: value for name, value in settings.items() if name != "prune_ratio"}
        return cls(prune_ratio=settings.get("prune_ratio"), others=tuple(sorted(others.items())))

    def settings(self) -> dict[str, Any]:
        """Returns the settings as they were given."""
        size = {} if self.prune_ratio is None else {"prune_ratio": self.prune_ratio}
        return {**size, **dict(self.others)}

    def num_selected(self, num_samples: int, epoch: int) -> int | None:
        """Returns q; None without a prune ratio."""
        return None if self.prune_ratio is None else default_sizes(num_samples, self.prune_ratio)[1]

    def size_changes(self) -> tuple[int, ...]:
        """Returns no epoch: all have the same size."""
        return ()

    def select(self, memory: Memory, rng: np.random.Generator) -> NoReturn:
        """Raises RuntimeError."""
        raise RuntimeError(f"{self.name} was not imported, so it cannot select samples")


@cache
def stand_in(name: str) -> type[Strategy]:
    """Returns the class that stands for a custom strategy.

    Args:
        name: MODULE:CLASS.

    >>> stand_in("my_module:MostMoved").from_settings({"prune_ratio": 0.5, "window": 3}, epochs=None).describe()
    'MostMoved 50 % window 3'
    """
    return type("StandIn", (StandIn,), {"name": name, "label": name.rpartition(":")[2]})
