"""The laws that every strategy keeps; `check_strategy` checks them for custom strategies too."""

from __future__ import annotations

import copy
import math
import pickle
import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import orderdp
from orderdp.ranks import Batching
from orderdp.strategies import Memory, Selection, Strategy

# What a column may hold: spread, equal, two values, one outlier, some or all samples not seen yet or failed.
_SCORES: dict[str, Callable[[int], npt.NDArray[Any]]] = {
    "spread": lambda n: np.random.default_rng(7).normal(size=n),
    "equal": lambda n: np.full(n, 2.5),
    "two values": lambda n: np.arange(n) % 2,
    "one apart": lambda n: np.where(np.arange(n) == n // 2, 1.0, 0.0),
    "some unseen": lambda n: np.where(np.arange(n) % 3, np.arange(n), math.inf),
    "all unseen": lambda n: np.full(n, math.inf),
    "some failed": lambda n: np.where(np.arange(n) % 3, np.arange(n), -math.inf),
    "some unseen and some failed": lambda n: np.where(
        np.arange(n) % 3, np.arange(n), np.where(np.arange(n) % 2, math.inf, -math.inf)
    ),
    "all failed": lambda n: np.full(n, -math.inf),
}
_EPOCHS = (0, 1, 2, 11)
_MOST_EPOCHS = 200  # in which the declared changes of size are compared with the sizes


def check_strategy(strategy: Strategy, *, num_samples: int = 100, names: dict[str, object] | None = None) -> None:
    """Raises unless a strategy keeps the laws that the engine relies on; call it in your tests.

    - A selection is distinct, in range, and of the declared size and dtype; its weights are positive. This holds for
      any columns, and after any strategy.
    - Equal arguments give equal selections and weights, whatever was selected in between. Different generators may give
      equal ones, since a curriculum may be deterministic.
    - `size_changes` names every epoch at which `num_selected` changes, or is None.
    - `select`, `observe` and `batch_weights` do not change their arguments or use a global generator.
    - Settings cannot be changed, and copies and pickles are equal. `repr` evaluates back, or is in angle brackets if it
      would be too long.
    - Columns begin with a number, not NaN, and `observe` returns all of them in float32. A sample that failed has -inf
      in every column; its next loss leaves no -inf and no NaN.
    - `batch_weights` are float32, finite, not negative and not all zero. Equal `uniforms` give equal weights. They are
      finite also where a loss is not.

    Args:
        strategy: what to check.
        num_samples: size of the data set to select from; the settings must keep at least one sample.
        names: what the `repr` needs besides `orderdp`'s public names, such as `{"MyStrategy": MyStrategy}`.

    Raises:
        AssertionError: the first law that is broken, with the scores and the epoch.

    Source: after scikit-learn's `check_estimator`.

    >>> check_strategy(orderdp.OrderDP(prune_ratio=0.5))
    """
    _check_value(strategy, names or {type(strategy).__name__: type(strategy)})
    _check_columns(strategy)
    _check_size_changes(strategy, num_samples)
    for kind, scores in _SCORES.items():
        for epoch in _EPOCHS:
            where = f"with {kind} scores in epoch {epoch}"
            memory = _memory(strategy, scores(num_samples), epoch)
            _check_selection(strategy, memory, where)
            if epoch:  # after another strategy, or after `set_epoch`
                alone = replace(memory, previous=None, previous_epoch=None)
                _check_selection(strategy, alone, f"{where} after an epoch that another strategy chose")
    _check_nothing_kept(strategy, num_samples)
    _check_batch_weights(strategy)


def _law(holds: bool, text: str) -> None:  # noqa: FBT001
    if not holds:
        raise AssertionError(text)


def _check_value(strategy: Strategy, names: dict[str, object]) -> None:
    _law(
        is_dataclass(strategy),
        f"a strategy is a frozen dataclass, got {type(strategy).__name__}; write @dataclass(frozen=True)",
    )
    for field in fields(strategy):  # type: ignore[arg-type]
        try:
            setattr(strategy, field.name, getattr(strategy, field.name))
        except FrozenInstanceError:
            continue
        _law(False, f"settings cannot be changed, but {field.name} can; write @dataclass(frozen=True)")  # noqa: FBT003
    shown = repr(strategy)
    if not shown.startswith("<"):
        public = {name: getattr(orderdp, name) for name in orderdp.__all__}
        back = eval(shown, {**public, "inf": math.inf, **names})
        _law(
            back == strategy,
            f"repr evaluates back, got {back!r} of {shown}; leave __repr__ as it is in orderdp.Strategy",
        )
    for twin in (copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))):
        _law(twin == strategy and hash(twin) == hash(strategy), f"a copy is equal and has the same hash, got {twin!r}")
        _law(
            repr(twin) == shown,
            f"a copy has the same repr, got {twin!r} of {shown}; leave __repr__ as in orderdp.Strategy",
        )


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
        global_state = _global_state()
        new = dict(strategy.observe(old, losses))
        _law(_global_state() == global_state, "observe draws from no global generator")
        _law(set(new) == set(columns), f"observe returns the columns {sorted(columns)}, got {sorted(new)}")
        for name, column in new.items():
            _law(column.shape == losses.shape, f"observe returns one value a sample, got {name} {tuple(column.shape)}")
            _law(column.dtype == torch.float32, f"observe returns float32, got {name} of {column.dtype}")
            _law(not bool(column.isnan().any()), f"observe returns numbers, got nan in {name}")
        unchanged = all(torch.equal(before[name], column) for name, column in old.items())
        _law(unchanged and losses.tolist() == [1.0, 2.0, 0.0], "observe does not change what it is given")
        old = new
        before = {name: column.clone() for name, column in old.items()}
    failed = {name: torch.full((3,), -math.inf) for name in columns}
    for name, column in strategy.observe(failed, losses).items():
        sound = not bool((column.isnan() | (column == -math.inf)).any())
        _law(sound, f"observe starts anew after a failure, from -inf in every column, got {column.tolist()} in {name}")


def _check_size_changes(strategy: Strategy, num_samples: int) -> None:
    changes = strategy.size_changes()
    if changes is None:
        return
    _law(isinstance(changes, tuple), f"size_changes are a tuple or None, got {type(changes).__name__}")
    ascending = list(changes) == sorted(set(changes)) and all(epoch > 0 for epoch in changes)
    _law(ascending, f"size_changes are epochs after 0, ascending, got {changes}")
    epochs = {*range(_MOST_EPOCHS), *(max(0, change + step) for change in changes for step in (-1, 0, 1))}
    for epoch in sorted(epochs - {0} - set(changes)):
        sizes = strategy.num_selected(num_samples, epoch - 1), strategy.num_selected(num_samples, epoch)
        _law(
            sizes[0] == sizes[1],
            f"size_changes names every change of num_selected, got {sizes[1]} after {sizes[0]} in epoch {epoch}, which "
            f"is not among {changes}; return None if they are not known",
        )


def _memory(strategy: Strategy, scores: npt.NDArray[np.float64], epoch: int) -> Memory:
    columns = {name: scores.astype(np.float32) for name in strategy.columns}
    rng = np.random.default_rng(epoch)
    visits = rng.integers(0, epoch + 1, len(scores), dtype=np.int16)
    failed = np.flatnonzero(scores == -math.inf)
    arrays: list[npt.NDArray[Any]] = [*columns.values(), visits, failed]
    previous = None
    if epoch:
        size = strategy.num_selected(len(scores), epoch - 1) or len(scores)
        previous = rng.permutation(len(scores))[:size].astype(np.int32)
        arrays.append(previous)
    for array in arrays:
        array.flags.writeable = False
    selected = strategy.num_selected(len(scores), epoch)
    bounds = None if selected is None else Batching(8).steps(selected)
    return Memory(len(scores), epoch, columns, bounds, previous, epoch - 1 if epoch else None, visits, failed)


def _select(strategy: Strategy, memory: Memory, where: str, seed: int = 0) -> Selection:
    """Returns a copy of what a strategy selects with a fresh generator; raises if it changes its memory."""
    before = copy.deepcopy(memory)
    try:
        selection = strategy.select(memory, np.random.default_rng(seed))
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise AssertionError(f"select does not change what it is given, got '{error}', {where}") from error
    given = (*memory.columns.values(), memory.previous, memory.visits, memory.failed)
    kept = (*before.columns.values(), before.previous, before.visits, before.failed)
    _law(all(map(_same, given, kept)), f"select does not change what it is given, {where}")
    return copy.deepcopy(selection)  # of an array that the strategy may keep and shuffle again


def _same(first: npt.NDArray[Any] | None, second: npt.NDArray[Any] | None) -> bool:
    return first is second if first is None or second is None else np.array_equal(first, second)


def _check_selection(strategy: Strategy, memory: Memory, where: str) -> None:
    asked = memory.num_samples, memory.epoch
    size = strategy.num_selected(*asked)
    _law(size == strategy.num_selected(*asked), f"num_selected gives the same number when asked twice, {where}")
    before = _global_state()
    first, again = (_select(strategy, memory, where) for _ in range(2))
    _law(_global_state() == before, f"select draws from its generator only, {where}")
    _check_shape(first, memory.num_samples, size, where)
    _law(_same(first.indices, again.indices), f"equal generators give equal selections, {where}")
    _law(_same(first.weights, again.weights), f"equal generators give equal weights, {where}")


def _check_nothing_kept(strategy: Strategy, num_samples: int) -> None:
    """A selection with other losses and another generator in between must make no difference."""
    for epoch in _EPOCHS:
        where = f"in epoch {epoch}"
        mine, theirs = (_memory(strategy, sign * _SCORES["spread"](num_samples), epoch) for sign in (1, -1))
        first = _select(strategy, mine, where)
        _select(strategy, theirs, where, seed=1)
        again = _select(strategy, mine, where)
        equal = _same(first.indices, again.indices) and _same(first.weights, again.weights)
        _law(equal, f"a strategy keeps nothing from one selection to the next, {where}")


def _global_state() -> tuple[object, ...]:
    return random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


def _check_shape(selection: Selection, num_samples: int, size: int | None, where: str) -> None:
    _law(isinstance(selection, Selection), f"select returns a Selection, got {type(selection).__name__}, {where}")
    indices, weights = selection.indices, selection.weights
    _law(isinstance(indices, np.ndarray), f"indices are a NumPy array, got {type(indices).__name__}, {where}")
    fits = indices.dtype in (np.int64, np.int32) and indices.ndim == 1
    _law(fits, f"indices are (q,) int64 or int32, got {indices.dtype} of shape {indices.shape}, {where}")
    if size is not None:
        _law(len(indices) == size, f"as many samples as num_selected says, got {len(indices)} for {size}, {where}")
    _law(len(indices) > 0, f"at least one sample, {where}")
    _law(len(np.unique(indices)) == len(indices), f"indices are distinct, {where}")
    _law(bool((indices >= 0).all() and (indices < num_samples).all()), f"indices lie in the data set, {where}")
    if weights is not None:
        _law(isinstance(weights, np.ndarray), f"weights are a NumPy array, got {type(weights).__name__}, {where}")
        _law(weights.dtype == np.float32, f"weights are float32, got {weights.dtype}, {where}")
        _law(weights.shape == indices.shape, f"weights are one a sample, got {weights.shape}, {where}")
        _law(bool(np.isfinite(weights).all() and (weights > 0).all()), f"weights are finite and positive, {where}")


def _check_batch_weights(strategy: Strategy) -> None:
    rng = torch.Generator().manual_seed(0)
    for size in (1, 7, 64):
        uniforms = torch.rand(size, generator=rng).clamp(1e-6, 1 - 1e-6)
        for losses in (torch.rand(size, generator=rng), torch.full((size,), 2.5)):
            _check_weights_of(strategy, losses, uniforms)
        for broken in (math.nan, math.inf, -math.inf):
            losses = torch.full((size,), 2.5)
            losses[size // 2 :] = broken
            weights = strategy.batch_weights(losses, lambda: uniforms)  # noqa: B023
            fair = weights is None or bool(weights.isfinite().all() and (weights >= 0).all())
            _law(fair, f"batch_weights are finite and not negative where a loss is {broken}, got {weights}")


def _check_weights_of(strategy: Strategy, losses: torch.Tensor, uniforms: torch.Tensor) -> None:
    given, drawn, before = losses.clone(), uniforms.clone(), _global_state()
    weights, again = (strategy.batch_weights(given, lambda: drawn) for _ in range(2))
    _law(_global_state() == before, "batch_weights draws from no global generator")
    unchanged = torch.equal(given, losses) and torch.equal(drawn, uniforms)
    _law(unchanged, "batch_weights changes neither the losses nor the uniforms")
    _law(
        weights is None or strategy.chooses_in_batch,
        "batch_weights are None where chooses_in_batch is False; leave that property as it is in orderdp.Strategy",
    )
    if weights is None or again is None:
        _law(weights is again, "batch_weights are equal for equal losses and uniforms")
        return
    _law(weights.dtype == torch.float32, f"batch_weights are float32, got {weights.dtype}")
    fair = weights.shape == losses.shape and bool(weights.isfinite().all() and (weights >= 0).all())
    _law(fair, f"batch_weights are finite and not negative, one a sample, got {weights}")
    _law(bool((weights > 0).any()), f"batch_weights keep at least one sample, got {weights}")
    _law(torch.equal(weights, again), "batch_weights are equal for equal losses and uniforms")
