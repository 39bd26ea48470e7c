"""The same samples in every epoch: what static pruning trains on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from orderdp.strategies.base import Indices, Memory, Selection, Strategy
from orderdp.strategies.draws import shuffle

_MOST_SHOWN = 1_000  # as arrays of NumPy and PyTorch, whose repr is shortened beyond


@dataclass(frozen=True)
class FixedSubset(Strategy):
    """Visits the given samples in every epoch, in a fresh random order.

    With more than a thousand positions, `repr` shows their number and a digest. It then distinguishes subsets but does
    not evaluate back.

    Args:
        indices: distinct positions in the data set; anything that iterates over whole numbers, kept as a tuple.

    Raises:
        TypeError: positions that are no whole numbers. ValueError: none, negative ones or repeated ones.

    >>> FixedSubset([4, 2]).num_selected(10, epoch=0)
    2
    """

    name = "fixed_subset"
    label = "fixed subset"
    ratio_means = "none; the samples given"
    ratio_setting = None

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        positions = np.asarray(self.indices if isinstance(self.indices, np.ndarray) else list(self.indices))
        if positions.ndim != 1 or not len(positions):
            raise ValueError(f"indices holds at least one position, got shape {positions.shape}; write (0, 5, 7)")
        if positions.dtype.kind not in "iu":
            hint = "; write np.flatnonzero(mask)" if positions.dtype.kind == "b" else "; write whole numbers"
            raise TypeError(f"indices holds positions in the data set, got dtype {positions.dtype}{hint}")
        if positions.min() < 0 or len(np.unique(positions)) < len(positions):
            raise ValueError(
                f"indices must be distinct and not negative, got {len(positions)} of which "
                f"{len(np.unique(positions))} differ and the least is {positions.min()}; leave repeats out"
            )
        object.__setattr__(self, "indices", tuple(positions.tolist()))

    @cached_property
    def _highest(self) -> int:
        return max(self.indices)

    @cached_property
    def _positions(self) -> Indices:
        return np.array(self.indices, dtype=np.int32 if self._highest < 2**31 else np.int64)

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(np.array(self.indices, dtype="<i8").tobytes()).hexdigest()

    def __repr__(self) -> str:
        if len(self.indices) <= _MOST_SHOWN:
            return super().__repr__()
        return (
            f"<{type(self).__name__} of {len(self.indices)} positions up to {self._highest}, "
            f"sha256 {self._digest[:32]}>"
        )

    def _describe(self, settings: dict[str, Any]) -> list[str]:
        return [f"of {len(self.indices)} samples, {self._digest[:8]}"]

    def num_selected(self, num_samples: int, epoch: int) -> int:
        """Returns how many positions were given.

        Raises:
            ValueError: one of them is not in the data set.
        """
        if self._highest >= num_samples:
            raise ValueError(
                f"indices must lie in 0 .. {num_samples - 1}, got {self._highest}; write positions in this data set"
            )
        return len(self.indices)

    def size_changes(self) -> tuple[int, ...] | None:
        """Returns no epoch."""
        return ()

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the samples in random order."""
        order = self._positions.copy()
        shuffle(order, rng)
        return Selection(order)
