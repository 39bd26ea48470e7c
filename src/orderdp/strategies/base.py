"""The contract between a pruning method and the engine that runs it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from orderdp.theory.sizes import check_fraction, default_sizes

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
    """What a strategy knows when it chooses an epoch. Its arrays are read-only.

    Args:
        num_samples: size n of the data set.
        epoch: number of the epoch to choose, from 0.
        columns: the columns that the strategy declared, each (n,) float32.
        step_bounds: where each optimiser step of all ranks together begins and ends in the selection: half-open
            intervals that follow each other from 0. With `drop_last` they end before the selection does. None where
            the training loop forms its own batches, and where the strategy does not declare its size.
        previous: (p,) int64, what the epoch begun before this one visited, if this strategy chose it. None at the first
            epoch and after another strategy.
        previous_epoch: number of that epoch, which need not be `epoch` - 1 after `set_epoch`. None where `previous` is
            None.
        visits: (n,) int32, in how many epochs each sample was trained, whichever strategy chose them. None where they
            were not counted.
    """

    num_samples: int
    epoch: int
    columns: Mapping[str, npt.NDArray[np.float32]]
    step_bounds: tuple[tuple[int, int], ...] | None = None
    previous: Indices | None = None
    previous_epoch: int | None = None
    visits: npt.NDArray[np.int32] | None = None


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
    def num_selected(self, num_samples: int, epoch: int) -> int | None:
        """Returns how many samples `select` returns at this epoch, exactly; None where that depends on the losses.

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

    def batch_weights(self, losses: Tensor, uniforms: Callable[[], Tensor]) -> Tensor | None:
        """Returns (b,) factors that choose within a batch by its fresh losses; None where all samples count alike.

        A sample with factor zero was looked at, not trained: it counts as no visit and is not recorded.

        Args:
            losses: (b,) float32, without gradient, on the device of the model; under several ranks those of this rank's
                part of the batch, since choosing among all would take a collective in every step.
            uniforms: returns (b,) float32 in (0, 1) for a choice by chance, decided by seed, epoch and id of each
                sample, so alike on every device and after a restart; costs nothing unless called.
        """
        return None


@dataclass(frozen=True, kw_only=True, repr=False)
class FixedRatio(Strategy):
    """A method that visits q = round((1 - prune_ratio)·n) samples in every epoch.

    A method with settings of its own checks them in its `__post_init__` before it calls this one's, which makes floats
    of all that are declared so.

    Args:
        prune_ratio: fraction of the data left out of each epoch, in [0, 1).

    Raises:
        ValueError: `prune_ratio` outside [0, 1).
    """

    prune_ratio: float

    def __post_init__(self) -> None:
        check_fraction("prune_ratio", self.prune_ratio, low_open=False, high_open=True)
        for field in fields(self):  # 1 and 1.0 are the same setting, and give the same repr
            if field.type == "float":
                object.__setattr__(self, field.name, float(getattr(self, field.name)))

    def num_selected(self, num_samples: int, epoch: int) -> int:
        """Returns q.

        Raises:
            ValueError: that is zero.
        """
        size = default_sizes(num_samples, self.prune_ratio)[1]
        if size < 1:
            raise ValueError(
                f"prune_ratio must leave at least one of the {num_samples} samples, got {self.prune_ratio}; "
                f"write at most {1 - 1 / num_samples!r}"
            )
        return size


def _literal(value: object) -> str:
    """Returns Python source of a setting: infinities have none of their own, nor do NumPy's numbers in ours."""
    if not isinstance(value, float):
        return repr(value)
    return float.__repr__(value) if math.isfinite(value) else f"float('{float.__repr__(value)}')"
