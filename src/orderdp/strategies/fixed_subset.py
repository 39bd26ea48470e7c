"""The same samples in every epoch: what static pruning trains on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from orderdp.strategies.base import Indices, Memory, Selection, Strategy, Weights
from orderdp.strategies.draws import shuffle

_MOST_SHOWN = 1_000  # as arrays of NumPy and PyTorch, whose repr is shortened beyond


@dataclass(frozen=True)
class FixedSubset(Strategy):
    """Visits the given samples in every epoch, in a fresh random order.

    With weights, the loss of each sample is multiplied by its weight over the mean weight. So the loss keeps its scale,
    and the learning rate fits as without weights.

    With more than a thousand positions, `repr` shows their number and a digest. It then distinguishes subsets but does
    not evaluate back.

    Args:
        indices: distinct positions in the data set; anything that iterates over whole numbers, kept as a tuple.
        weights: how many samples each one stands for, in the order of the indices, kept as a tuple; None where all
            count the same. A sample of weight 0 takes its place in a batch and trains nothing.

    Raises:
        TypeError: positions that are no whole numbers, or weights that are no numbers.
        ValueError: no position, negative ones or repeated ones; weights of another number, that are not finite or
            negative, or all zero.

    >>> FixedSubset([4, 2]).num_selected(10, epoch=0)
    2
    """

    name = "fixed_subset"
    label = "fixed subset"
    names_samples = True
    ratio_means = "none; the samples given"
    ratio_setting = None

    indices: tuple[int, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.indices, Iterable):
            kind = type(self.indices).__name__
            raise TypeError(
                f"indices must be positions, got {kind}; for a subset write FixedSubset(subset.indices, subset.weights)"
            )
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
        if self.weights is not None:
            object.__setattr__(self, "weights", _checked_weights(self.weights, len(positions)))

    @cached_property
    def _highest(self) -> int:
        return max(self.indices)

    @cached_property
    def _positions(self) -> Indices:
        return np.array(self.indices, dtype=np.int32 if self._highest < 2**31 else np.int64)

    @cached_property
    def _factors(self) -> Weights | None:
        """Returns the factor of each position's loss, of mean one."""
        if self.weights is None:
            return None
        weights = np.array(self.weights)
        factors: Weights = (weights / weights.mean()).astype(np.float32)
        return factors

    @cached_property
    def _digest(self) -> str:
        content = np.array(self.indices, dtype="<i8").tobytes()
        if self.weights is not None:
            content += np.array(self.weights, dtype="<f8").tobytes()
        return hashlib.sha256(content).hexdigest()

    def __repr__(self) -> str:
        if len(self.indices) <= _MOST_SHOWN:
            return super().__repr__()
        return (
            f"<{type(self).__name__} of {len(self.indices)} positions up to {self._highest}, "
            f"{'' if self.weights is None else 'with weights, '}sha256 {self._digest[:32]}>"
        )

    def _describe(self, settings: dict[str, Any]) -> list[str]:
        weighted = "" if self.weights is None else "weighted "
        return [f"of {len(self.indices)} {weighted}samples, {self._digest[:8]}"]

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
        if self._factors is None:
            order = self._positions.copy()
            shuffle(order, rng)
            return Selection(order)
        places = np.arange(len(self._positions), dtype=self._positions.dtype)
        shuffle(places, rng)  # so the order is the same as without weights
        return Selection(self._positions[places], self._factors[places])


def _checked_weights(given: Any, size: int) -> tuple[float, ...]:
    """Returns weights as a tuple of floats.

    Raises:
        TypeError: they are no numbers. ValueError: another number of them, or values out of range.
    """
    weights = np.asarray(given if isinstance(given, np.ndarray) else list(given))
    if weights.dtype.kind not in "iuf":
        raise TypeError(f"weights must be numbers, got dtype {weights.dtype}; write one for each position")
    if weights.shape != (size,):
        raise ValueError(f"weights must have one entry a position, got shape {weights.shape} for {size} positions")
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.max() > 0):
        raise ValueError(
            f"weights must be finite, at least 0 and not all 0, got {weights.min():g} to {weights.max():g}; "
            "write how many samples each position stands for"
        )
    return tuple(weights.astype(np.float64).tolist())
