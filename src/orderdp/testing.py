"""The laws that every strategy keeps, for a strategy of one's own too."""

from __future__ import annotations

import copy
import math
import pickle
import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import orderdp
from orderdp.strategies import Memory, Selection, Strategy

# What a column may hold: spread, equal, two values, one sample apart, some or all not seen yet.
_SCORES: dict[str, Callable[[int], npt.NDArray[Any]]] = {
    "spread": lambda n: np.random.default_rng(7).normal(size=n),
    "equal": lambda n: np.full(n, 2.5),
    "two values": lambda n: np.arange(n) % 2,
    "one apart": lambda n: np.where(np.arange(n) == n // 2, 1.0, 0.0),
    "some unseen": lambda n: np.where(np.arange(n) % 3, np.arange(n), math.inf),
    "all unseen": lambda n: np.full(n, math.inf),
    "negative infinite": lambda n: np.where(np.arange(n) % 3, np.arange(n), -math.inf),
}
_EPOCHS = (0, 1, 2, 11)


def check_strategy(strategy: Strategy, *, num_samples: int = 100, names: dict[str, object] | None = None) -> None:
    """Raises unless a strategy keeps the laws that the engine relies on; run it in a test of your own.

    Selections are distinct, in range, of the declared size and dtype, whatever the columns hold. Equal generators give
    equal selections and different ones may differ. `select` and `observe` write to nothing they are given and to no
    global generator. Settings cannot be changed, `repr` evaluates back, copies and pickles are equal. Columns have a
    first value that is no NaN, and `observe` returns them all. `batch_weights` are finite and not negative.

    Args:
        strategy: what to check.
        num_samples: size of the data set to select from; the settings must leave a sample of it.
        names: what the `repr` needs beside `orderdp`'s own names, such as `{"MyStrategy": MyStrategy}`.

    Raises:
        AssertionError: the first law that is broken, with the scores and the epoch.

    Source: the idea of scikit-learn's `check_estimator`.

    >>> check_strategy(orderdp.OrderDP(prune_ratio=0.5))
    """
    _check_value(strategy, names or {type(strategy).__name__: type(strategy)})
    _check_columns(strategy)
    for kind, scores in _SCORES.items():
        for epoch in _EPOCHS:
            _check_selection(strategy, scores(num_samples), epoch, f"with {kind} scores in epoch {epoch}")
    _check_batch_weights(strategy)


def _law(holds: bool, text: str) -> None:  # noqa: FBT001
    if not holds:
        raise AssertionError(text)


def _check_value(strategy: Strategy, names: dict[str, object]) -> None:
    _law(is_dataclass(strategy), f"a strategy is a frozen dataclass, got {strategy!r}; write @dataclass(frozen=True)")
    for field in fields(strategy):  # type: ignore[arg-type]
        try:
            setattr(strategy, field.name, getattr(strategy, field.name))
        except FrozenInstanceError:
            continue
        _law(False, f"settings cannot be changed, but {field.name} can; write @dataclass(frozen=True)")  # noqa: FBT003
    public = {name: getattr(orderdp, name) for name in orderdp.__all__}
    back = eval(repr(strategy), {**public, "inf": math.inf, **names})
    _law(back == strategy, f"repr evaluates back, got {back!r} of {strategy!r}; write @dataclass(..., repr=False)")
    for twin in (copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))):
        _law(twin == strategy and hash(twin) == hash(strategy), f"a copy is equal and hashes alike, got {twin!r}")


def _check_columns(strategy: Strategy) -> None:
    columns = strategy.columns
    _law(
        not any(math.isnan(first) for first in columns.values()),
        f"columns begin with a number, got {columns}; write inf for unseen first",
    )
    losses = torch.tensor([1.0, 2.0, 0.0])
    old = {name: torch.full((3,), first) for name, first in columns.items()}
    before = {name: column.clone() for name, column in old.items()}
    for _ in range(2):
        new = dict(strategy.observe(old, losses))
        _law(set(new) == set(columns), f"observe returns the columns {sorted(columns)}, got {sorted(new)}")
        for name, column in new.items():
            _law(column.shape == losses.shape, f"observe returns one value a sample, got {name} {tuple(column.shape)}")
            _law(not bool(column.isnan().any()), f"observe returns numbers, got nan in {name}")
        unchanged = all(torch.equal(before[name], column) for name, column in old.items())
        _law(unchanged and losses.tolist() == [1.0, 2.0, 0.0], "observe leaves what it is given as it was")
        old = {name: column.to(torch.float32) for name, column in new.items()}
        before = {name: column.clone() for name, column in old.items()}


def _memory(strategy: Strategy, scores: npt.NDArray[np.float64], epoch: int) -> Memory:
    columns = {name: scores.astype(np.float32) for name in strategy.columns}
    size = strategy.num_selected(len(scores), max(epoch - 1, 0)) or len(scores)
    previous = np.random.default_rng(epoch).permutation(len(scores))[:size] if epoch else None
    for column in columns.values():
        column.flags.writeable = False
    if previous is not None:
        previous.flags.writeable = False
    return Memory(len(scores), epoch, columns, 8, previous)


def _check_selection(strategy: Strategy, scores: npt.NDArray[np.float64], epoch: int, where: str) -> None:
    memory = _memory(strategy, scores, epoch)
    size = strategy.num_selected(len(scores), epoch)
    _law(size == strategy.num_selected(len(scores), epoch), f"num_selected answers alike when asked twice, {where}")
    before = _global_state()
    first, again, other = (strategy.select(memory, np.random.default_rng(seed)) for seed in (0, 0, 1))
    _law(_global_state() == before, f"select draws from its generator only, {where}")
    _check_shape(first, len(scores), size, where)
    _law(np.array_equal(first.indices, again.indices), f"equal generators give equal selections, {where}")
    alike = len(first.indices) > 8 and np.array_equal(first.indices, other.indices)
    _law(not alike, f"different generators give different orders, {where}")


def _global_state() -> tuple[object, ...]:
    return random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


def _check_shape(selection: Selection, num_samples: int, size: int | None, where: str) -> None:
    indices, weights = selection.indices, selection.weights
    _law(indices.dtype == np.int64 and indices.ndim == 1, f"indices are (q,) int64, got {indices.dtype}, {where}")
    if size is not None:
        _law(len(indices) == size, f"as many samples as num_selected says, got {len(indices)} for {size}, {where}")
    _law(len(indices) > 0, f"at least one sample, {where}")
    _law(len(np.unique(indices)) == len(indices), f"indices are distinct, {where}")
    _law(bool((indices >= 0).all() and (indices < num_samples).all()), f"indices lie in the data set, {where}")
    if weights is not None:
        _law(weights.dtype == np.float32, f"weights are float32, got {weights.dtype}, {where}")
        _law(weights.shape == indices.shape, f"weights are one a sample, got {weights.shape}, {where}")
        _law(bool(np.isfinite(weights).all() and (weights >= 0).all()), f"weights are finite and positive, {where}")


def _check_batch_weights(strategy: Strategy) -> None:
    rng = torch.Generator().manual_seed(0)
    for size in (1, 7, 64):
        losses = torch.rand(size, generator=rng)
        before, uniforms = losses.clone(), torch.rand(size, generator=rng).clamp(1e-6, 1 - 1e-6)
        weights = strategy.batch_weights(losses, lambda given=uniforms: given)  # type: ignore[misc]
        _law(torch.equal(before, losses), "batch_weights leaves the losses as they were")
        if weights is not None:
            fair = weights.shape == losses.shape and bool(weights.isfinite().all() and (weights >= 0).all())
            _law(fair, f"batch_weights are finite and not negative, one a sample, got {weights}")
