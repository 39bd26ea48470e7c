"""What every strategy keeps: one row for each, and adding a strategy is adding a row."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orderdp
from orderdp import (
    UCB,
    DynamicRandom,
    EpsilonGreedy,
    FixedSubset,
    FullData,
    InfoBatch,
    Kakurenbo,
    Memory,
    OrderDP,
    OrderedSGD,
    RepeatedRandom,
    SelectiveBackprop,
    SeTa,
    Strategy,
)
from orderdp.testing import check_strategy
from reference.steps import declared_bounds

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
    RepeatedRandom(prune_ratio=0.3),
    FixedSubset((3, 0, 19, 7, 11, 2, 5, 8, 13, 1)),
    InfoBatch(),
    InfoBatch(prune_probability=0.8, epochs=10, delta=0.5),
    EpsilonGreedy(prune_ratio=0.3),
    EpsilonGreedy(prune_ratio=0.7, epsilon=0.5, every=1),
    UCB(prune_ratio=0.3),
    UCB(prune_ratio=0.7, c=10.0, smoothing=0.5, every=2),
    SeTa(prune_ratio=0.3, epochs=20),
    SeTa(prune_ratio=0.3, epochs=10, groups=10, window=0.5),
    Kakurenbo(epochs=20),
    Kakurenbo(epochs=5, hide=0.9, confidence=0.6),
    OrderedSGD(keep=0.5),
    SelectiveBackprop(keep=0.5),
]


def settings_of(strategy: Strategy) -> str:
    """The settings that are not at their defaults, as the name of a test."""
    given = [
        f"{f.name}={getattr(strategy, f.name)}" for f in fields(strategy) if getattr(strategy, f.name) != f.default
    ]
    return f"{type(strategy).__name__}({', '.join(given)})"


every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=settings_of)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def memory_of(strategy: Strategy, scores: np.ndarray, epoch: int = 0, batch_size: int = 8) -> Memory:
    columns = {name: scores.astype(np.float32) for name in strategy.columns}
    for column in columns.values():
        column.flags.writeable = False
    return Memory(len(scores), epoch, columns, declared_bounds(strategy, len(scores), epoch, batch_size))


def test_every_public_strategy_has_a_row():
    public = {getattr(orderdp, name) for name in orderdp.__all__}
    strategies = {cls for cls in public if isinstance(cls, type) and issubclass(cls, Strategy) and cls is not Strategy}
    assert strategies == {type(strategy) for strategy in STRATEGIES}


@every_strategy
@pytest.mark.parametrize("num_samples", [20, 101])
def test_it_keeps_every_law(strategy, num_samples):
    check_strategy(strategy, num_samples=num_samples)


@every_strategy
@pytest.mark.parametrize("scores", [np.full(100, 2.5), np.arange(100.0)], ids=["equal", "spread"])
def test_different_generators_give_different_orders(strategy, scores):
    """Not a law for all, since a curriculum may leave nothing to chance; these methods do not."""
    for epoch in (0, 1, 11):
        memory = memory_of(strategy, scores, epoch)
        orders = {tuple(strategy.select(memory, rng(seed)).indices.tolist()) for seed in range(3)}
        assert len(orders) == 3


@every_strategy
@given(n=st.integers(20, 300), batch_size=st.integers(1, 400), epoch=st.integers(0, 30), seed=st.integers(0, 2**32))
def test_the_size_is_exact_for_any_data_set_batch_and_epoch(strategy, n, batch_size, epoch, seed):
    columns = {name: rng(seed).integers(0, 5, n).astype(np.float32) for name in strategy.columns}
    memory = Memory(n, epoch, columns, declared_bounds(strategy, n, epoch, batch_size))
    indices = strategy.select(memory, rng(seed)).indices
    assert len(indices) == (strategy.num_selected(n, epoch) or len(indices)) > 0
    assert len(np.unique(indices)) == len(indices)
    assert 0 <= indices.min() <= indices.max() < n


@every_strategy
def test_the_size_of_one_epoch_leaves_the_next_as_declared(strategy):
    """num_selected is known ahead: asking twice, or for a late epoch, changes nothing."""
    sizes = [strategy.num_selected(100, epoch) for epoch in (0, 9, 0)]
    assert sizes[0] == sizes[2]
