"""The contract between a pruning method and the engine that runs it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

Indices: TypeAlias = npt.NDArray[np.int64]
Weights: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Selection:
    """What one epoch visits, in training order.

    Args:
        indices: (q,) int64, distinct positions in the data set.
        weights: (q,) float32, factor of each sample's loss; None where all are one.
    """

    indices: Indices
    weights: Weights | None = None


@dataclass(frozen=True, eq=False)
class Memory:
    """What a strategy is told when it chooses an epoch.

    Args:
        num_samples: size n of the data set.
        epoch: number of the epoch to choose, from 0.
        columns: the columns that the strategy declared, each (n,) float32; not to be written to.
        batch_size: samples of one optimiser step over all ranks; None where the loop forms its own batches.
    """

    num_samples: int
    epoch: int
    columns: Mapping[str, npt.NDArray[np.float32]]
    batch_size: int | None = None


class Strategy(ABC):
    """A pruning method: a frozen dataclass of settings with a pure `select`.

    All that is random or remembered comes in as an argument, so equal arguments give equal selections. What the engine
    must know of a method, the method declares here; the engine never asks which method it holds. Write
    `@dataclass(frozen=True, repr=False)` to keep this class's `repr`, which evaluates back.
    """

    def __repr__(self) -> str:
        settings = ((field, getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        given = (f"{field.name}={_literal(value)}" for field, value in settings if value != field.default)
        return f"{type(self).__name__}({', '.join(given)})"

    @property
    def columns(self) -> dict[str, float]:
        """Columns to remember for each sample: name to first value."""
        return {}

    @abstractmethod
    def num_selected(self, num_samples: int, epoch: int) -> int:
        """Returns how many samples `select` returns at this epoch, exactly.

        Raises:
            ValueError: the settings leave no sample of `num_samples`.
        """

    @abstractmethod
    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        """Returns the samples of one epoch in training order; writes to nothing but the generator."""

    def observe(self, old: Mapping[str, Tensor], losses: Tensor) -> dict[str, Tensor]:
        """Returns the new values of every column for the samples just trained.

        Args:
            old: the declared columns of these samples, each (b,) float32.
            losses: (b,) float32, what was just seen, without gradient.
        """
        return dict.fromkeys(self.columns, losses)

    def batch_weights(self, losses: Tensor) -> Tensor | None:
        """Returns (b,) factors that choose within a batch by its fresh losses; None where all samples count alike.

        A sample with factor zero was looked at, not trained: it counts as no visit and is not recorded.

        Args:
            losses: (b,) float32, without gradient, on the device of the model.
        """
        return None


def _literal(value: object) -> str:
    """Returns Python source of a setting: infinities have none of their own, nor do NumPy's numbers in ours."""
    if not isinstance(value, float):
        return repr(value)
    return float.__repr__(value) if math.isfinite(value) else f"float('{float.__repr__(value)}')"
