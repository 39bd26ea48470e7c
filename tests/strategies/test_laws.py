"""What every strategy keeps: one row for each, and adding a strategy is adding a row."""

import copy
import math
import pickle
import random
from dataclasses import FrozenInstanceError, fields, is_dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import orderdp
from orderdp import DynamicRandom, FullData, Memory, OrderDP, Selection, Strategy

STRATEGIES = [
    OrderDP(),
    OrderDP(prune_ratio=0.5),
    OrderDP(explore=1.0, exploit=0.5),
    OrderDP(explore=0.5, exploit=1.0),
    OrderDP(prune_ratio=0.3, uniform_share=0.2, initial_score=3.0),
    OrderDP(prune_ratio=0.3, per="iteration"),
    OrderDP(prune_ratio=0.3, per="iteration", uniform_share=0.5),
    OrderDP(prune_ratio=0.3, per="iteration", fresh=True),
    DynamicRandom(prune_ratio=0.3),
    FullData(),
]

SCORES = {
    "spread": lambda n: np.random.default_rng(7).normal(size=n),
    "equal": lambda n: np.full(n, 2.5),
    "two values": lambda n: np.arange(n) % 2,
    "single": lambda n: np.where(np.arange(n) == n // 2, 1.0, 0.0),
    "some unseen": lambda n: np.where(np.arange(n) % 3, np.arange(n), math.inf),
    "all unseen": lambda n: np.full(n, math.inf),
    "negative infinite": lambda n: np.where(np.arange(n) % 3, np.arange(n), -math.inf),
}


def settings_of(strategy: Strategy) -> str:
    """The settings that are not at their defaults, as the name of a test."""
    given = [
        f"{f.name}={getattr(strategy, f.name)}" for f in fields(strategy) if getattr(strategy, f.name) != f.default
    ]
    return f"{type(strategy).__name__}({', '.join(given)})"


every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=settings_of)
every_score = pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def memory_of(strategy: Strategy, scores: np.ndarray, epoch: int = 0, batch_size: int = 8) -> Memory:
    columns = {name: scores.astype(np.float32) for name in strategy.columns}
    for column in columns.values():
        column.flags.writeable = False
    return Memory(len(scores), epoch, columns, batch_size)


def assert_valid(selection: Selection, num_samples: int, num_selected: int) -> None:
    indices, weights = selection.indices, selection.weights
    assert indices.dtype == np.int64
    assert indices.shape == (num_selected,)
    assert len(np.unique(indices)) == num_selected
    assert indices.min() >= 0
    assert indices.max() < num_samples
    if weights is not None:
        assert weights.dtype == np.float32
        assert weights.shape == (num_selected,)


def test_every_public_strategy_has_a_row():
    public = {getattr(orderdp, name) for name in orderdp.__all__}
    strategies = {cls for cls in public if isinstance(cls, type) and issubclass(cls, Strategy) and cls is not Strategy}
    assert strategies == {type(strategy) for strategy in STRATEGIES}


@every_strategy
@every_score
def test_the_indices_are_distinct_in_range_and_exactly_as_many_as_declared(strategy, scores):
    for n in (20, 101):
        for epoch in (0, 3):
            selection = strategy.select(memory_of(strategy, scores(n), epoch), rng(epoch))
            assert_valid(selection, n, strategy.num_selected(n, epoch))


@every_strategy
@given(n=st.integers(4, 300), batch_size=st.integers(1, 400), seed=st.integers(0, 2**32))
def test_the_size_is_exact_for_any_data_set_and_batch(strategy, n, batch_size, seed):
    scores = rng(seed).integers(0, 5, n)
    selection = strategy.select(memory_of(strategy, scores, batch_size=batch_size), rng(seed))
    assert_valid(selection, n, strategy.num_selected(n, 0))


@every_strategy
@every_score
def test_equal_generators_give_equal_selections_and_different_ones_differ(strategy, scores):
    memory = memory_of(strategy, scores(100))
    first, again, other = (strategy.select(memory, rng(seed)).indices for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()


@every_strategy
def test_selecting_leaves_global_generators_and_the_memory_alone(strategy):
    columns = memory_of(strategy, SCORES["spread"](50)).columns
    before = random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    bits = {name: column.tobytes() for name, column in columns.items()}
    strategy.select(Memory(50, 0, columns, 8), rng(0))
    after = random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002
    assert before == after
    assert bits == {name: column.tobytes() for name, column in columns.items()}


@every_strategy
def test_repr_evaluates_back(strategy):
    assert eval(repr(strategy), {**vars(orderdp), "inf": math.inf}) == strategy


@every_strategy
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_is_equal_and_selects_alike(strategy, copied):
    memory = memory_of(strategy, SCORES["spread"](50))
    twin = copied(strategy)
    assert twin == strategy
    assert hash(twin) == hash(strategy)
    np.testing.assert_array_equal(twin.select(memory, rng(0)).indices, strategy.select(memory, rng(0)).indices)


@every_strategy
def test_settings_cannot_be_changed(strategy):
    assert is_dataclass(strategy)
    for field in fields(strategy):
        with pytest.raises(FrozenInstanceError):
            setattr(strategy, field.name, 0.1)


@every_strategy
def test_columns_have_a_finite_or_infinite_first_value_and_are_all_observed(strategy):
    losses = torch.tensor([1.0, 2.0])
    old = {name: torch.full((2,), first) for name, first in strategy.columns.items()}
    assert not any(math.isnan(first) for first in strategy.columns.values())
    assert set(strategy.observe(old, losses)) == set(strategy.columns)
    for new in strategy.observe(old, losses).values():
        assert new.shape == losses.shape


@every_strategy
def test_the_size_of_one_epoch_leaves_the_next_as_declared(strategy):
    """num_selected is known ahead: asking twice, or for a late epoch, changes nothing."""
    sizes = [strategy.num_selected(100, epoch) for epoch in (0, 9, 0)]
    assert sizes[0] == sizes[2]
