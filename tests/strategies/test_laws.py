"""What every strategy keeps: one row for each, and adding a strategy is adding a row."""

import math
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
import torch
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
    PerClass,
    Proportional,
    RepeatedRandom,
    Scheduled,
    SelectiveBackprop,
    SeTa,
    StoredSubset,
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
    OrderDP(prune_ratio=0.3, uniform_share=0.2, debias=0.5),
    OrderDP(prune_ratio=0.3, skip=0.1, easy_share=0.3, ceiling=2.0),
    OrderDP(prune_ratio=0.3, per="iteration"),
    OrderDP(prune_ratio=0.3, per="iteration", uniform_share=0.5),
    OrderDP(prune_ratio=0.3, per="iteration", fresh=True),
    Proportional(prune_ratio=0.3),
    Proportional(prune_ratio=0.7, floor=0.5, ceiling=2.0, uniform_share=0.0, debias=1.0),
    DynamicRandom(prune_ratio=0.3),
    FullData(),
    RepeatedRandom(prune_ratio=0.3),
    FixedSubset((3, 0, 19, 7, 11, 2, 5, 8, 13, 1)),
    FixedSubset((3, 0, 19, 7, 11, 2, 5, 8, 13, 1), weights=(1, 2, 3, 4, 5, 6, 7, 8, 9, 0.5)),
    InfoBatch(),
    InfoBatch(prune_probability=0.8, epochs=10, delta=0.5),
    InfoBatch(prune_probability=0.99, least_kept=0.1),
    EpsilonGreedy(prune_ratio=0.3),
    EpsilonGreedy(prune_ratio=0.7, epsilon=0.5, every=1),
    UCB(prune_ratio=0.3),
    UCB(prune_ratio=0.7, c=10.0, smoothing=0.5, every=2),
    SeTa(prune_ratio=0.3, epochs=20),
    SeTa(prune_ratio=0.3, epochs=10, groups=10, window=0.5),
    Kakurenbo(epochs=20),
    Kakurenbo(epochs=5, hide=0.9, confidence=0.6),
    Kakurenbo(epochs=20, weights_only=True),
    Scheduled(strategy=OrderDP(prune_ratio=0.5), epochs=20, start=0.2, end=0.8),
    Scheduled(strategy=EpsilonGreedy(prune_ratio=0.5, every=2), epochs=20, interval=3, wave=0.2),
    Scheduled(strategy=Proportional(prune_ratio=0.6), epochs=20, rise=0.3, fall=0.3, mastered=2.0),
    Scheduled(strategy=OrderedSGD(keep=0.25), epochs=20, start=0.2, mastered=2.0, halving=True),
    Proportional(prune_ratio=0.6, power=4.0, ceiling=0.9),
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
    # These fit one data set only; their laws are in test_stored_subset.py and test_per_class.py.
    assert strategies - {StoredSubset, PerClass} == {type(strategy) for strategy in STRATEGIES}


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


@every_strategy
@pytest.mark.parametrize("num_samples", [20, 101])
def test_the_size_changes_at_no_other_epoch_than_declared(strategy, num_samples):
    changes = strategy.size_changes()
    sizes = [strategy.num_selected(num_samples, epoch) for epoch in range(150)]
    assert {epoch for epoch in range(1, 150) if sizes[epoch] != sizes[epoch - 1]} <= set(changes)


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        (OrderDP(prune_ratio=0.5, per="iteration", fresh=True), ()),
        (FullData(), ()),
        (UCB(prune_ratio=0.5), (1,)),
        (InfoBatch(), (1,)),
        (InfoBatch(epochs=100, delta=0.55), (1, 55)),  # not 56, though 0.55·100 is more than 55 in floats
        (InfoBatch(epochs=9), (1, 8)),
        (InfoBatch(epochs=10, delta=0.1), ()),  # all of it is annealed
        (InfoBatch(epochs=10, delta=0.11), (1, 2)),
        (InfoBatch(epochs=10, delta=0.0), ()),
        (InfoBatch(epochs=10, delta=1.0), (1, 10)),  # past the end of the run, where it would anneal
        (SeTa(prune_ratio=0.5, epochs=100, delta=0.55), (1, 55)),
        (SeTa(prune_ratio=0.5, epochs=1), ()),
        (Kakurenbo(epochs=20), (1,)),
    ],
)
def test_size_changes_are_the_epochs_that_the_settings_say(strategy, changes):
    assert strategy.size_changes() == changes
    sizes = [strategy.num_selected(1_000, epoch) for epoch in range(120)]
    assert tuple(epoch for epoch in range(1, 120) if sizes[epoch] != sizes[epoch - 1]) == changes


def test_a_subclass_with_sizes_of_its_own_does_not_inherit_their_changes():
    class Growing(DynamicRandom):
        def num_selected(self, num_samples, epoch):
            return min(num_samples, 10 + epoch)

    class Heir(Growing):
        pass

    class Declared(Growing):
        def size_changes(self):
            return tuple(range(1, 91))

    assert [cls(prune_ratio=0.5).size_changes() for cls in (Growing, Heir)] == [None, None]
    assert Declared(prune_ratio=0.5).size_changes() == tuple(range(1, 91))


# Samples that failed: -inf in every column

FAILED, FINITE, UNSEEN = range(3)


def mixed(parts: int = 3, each: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Scores and kinds of samples in no order: failed ones, finite ones and, as a third part, unseen ones."""
    kind = rng(5).permutation(np.repeat(np.arange(parts), each))
    finite = rng(6).random(len(kind)) - 0.5
    return np.choose(kind, [np.full(len(kind), -math.inf), finite, np.full(len(kind), math.inf)][:parts]), kind


def counts_of(strategy: Strategy, scores: np.ndarray, epoch: int, trials: int = 256) -> np.ndarray:
    counts = np.zeros(len(scores))
    memory = memory_of(strategy, scores, epoch)
    for seed in range(trials):
        counts[strategy.select(memory, rng(seed)).indices] += 1
    return counts / trials


MORE = [
    UCB(prune_ratio=0.5, c=-3.0),
    UCB(prune_ratio=0.5, c=0.0),
    UCB(prune_ratio=0.5, c=-1e38),
    OrderDP(prune_ratio=0.5, initial_score=-3.0),
    EpsilonGreedy(prune_ratio=0.5, epsilon=1.0),
]


@pytest.mark.parametrize("strategy", [each for each in STRATEGIES + MORE if each.columns], ids=settings_of)
@pytest.mark.parametrize("parts", [2, 3])
def test_a_failed_sample_is_not_preferred_to_a_finite_one_nor_that_to_an_unseen_one(strategy, parts):
    """Over some epochs together, since a window of SeTa leaves out the hardest in some and the easiest in others."""
    scores, kind = mixed(parts)
    counts = sum(counts_of(strategy, scores, epoch) for epoch in (1, 2, 11)) / 3
    means = [counts[kind == part].mean() for part in range(parts)]
    slack = 4 * math.sqrt(0.25 / 20 / 256)  # of a mean of 20 samples in 256 trials
    assert all(low <= high + slack for low, high in pairwise(means)), means


@pytest.mark.parametrize(
    "strategy",
    [
        OrderDP(explore=1.0, exploit=0.5),
        EpsilonGreedy(prune_ratio=0.5, epsilon=0.0),
        *(UCB(prune_ratio=0.5, c=c) for c in (1.0, 0.0, -1.0, 1e38, -1e38)),
    ],
    ids=settings_of,
)
@pytest.mark.parametrize("var", [0.0, 20.0])
def test_a_ranking_takes_the_unseen_then_the_finite_then_the_failed(strategy, var):
    scores, kind = mixed()
    columns = {name: scores.astype(np.float32) for name in strategy.columns}
    if "var" in columns:
        columns["var"] = np.where(kind == FAILED, -math.inf, np.where(kind == UNSEEN, 0, var)).astype(np.float32)
    chosen = strategy.select(Memory(60, 1, columns), rng(0)).indices
    assert np.bincount(kind[chosen], minlength=3).tolist() == [0, 10, 20]
    failing = {name: np.where(kind == FINITE, -math.inf, column).astype(np.float32) for name, column in columns.items()}
    chosen = strategy.select(Memory(60, 1, failing), rng(0)).indices  # only ten places are left for the failed
    assert set(np.flatnonzero(kind == UNSEEN)) <= set(chosen.tolist())
    assert len(chosen) == 30


def test_infobatch_counts_a_failed_sample_below_the_mean_and_not_in_it():
    losses = np.array([-math.inf] * 10 + [1.0] * 5 + [2.0] * 5 + [math.inf] * 10)
    strategy = InfoBatch(prune_probability=0.4)  # of fifteen below the mean of 1.5, nine stay
    selection = strategy.select(memory_of(strategy, losses, 1), rng(0))
    assert len(selection.indices) == 15 + 9
    below = selection.indices < 15
    np.testing.assert_allclose(selection.weights[below], 1 / 0.6, rtol=1e-6)
    assert (selection.weights[~below] == 1).all()


@pytest.mark.parametrize("n", [1, 2, 30])
def test_infobatch_keeps_a_sample_where_all_have_failed(n):
    strategy = InfoBatch(prune_probability=0.9)
    assert len(strategy.select(memory_of(strategy, np.full(n, -math.inf), 1), rng(0)).indices) == max(1, n // 10)


def test_seta_counts_a_failed_sample_among_the_easiest():
    strategy = SeTa(prune_ratio=0.0, epochs=100, groups=2, window=0.5)
    losses = np.array([-math.inf] * 3 + [1.0] * 4 + [2.0] * 5 + [math.inf] * 6)
    kinds = [sorted(strategy.select(memory_of(strategy, losses, epoch), rng(0)).indices.tolist()) for epoch in (1, 2)]
    assert kinds == [[*range(7, 18)], [*range(7), *range(12, 18)]]  # the hard window, then the easy one


def test_kakurenbo_hides_the_failed_first():
    strategy = Kakurenbo(hide=0.3, epochs=100)
    losses = np.array([-math.inf] * 20 + [0.01] * 40 + [math.inf] * 40)
    shown = strategy.select(memory_of(strategy, losses, 1), rng(0)).indices
    assert len(shown) == 70
    assert shown.min() >= 20


def test_repeated_random_takes_the_failed_last():
    strategy = RepeatedRandom(prune_ratio=0.5)
    visits, failed = np.array([0] * 5 + [3] * 15, dtype=np.int16), np.array([0, 1, 2, 7])
    memory = Memory(20, 4, {}, visits=visits, failed=failed)
    before = visits.copy()
    chosen = strategy.select(memory, rng(0)).indices
    assert {3, 4} <= set(chosen.tolist())
    assert not set(failed.tolist()) & set(chosen.tolist())
    np.testing.assert_array_equal(visits, before)


@every_strategy
def test_a_failed_sample_starts_anew_with_its_next_finite_loss(strategy):
    """As a sample does that was not seen yet."""
    losses = torch.tensor([0.5, -2.0, 3.0])
    failed, unseen = (
        strategy.observe({name: torch.full((3,), value) for name in strategy.columns}, losses)
        for value in (-math.inf, math.inf)
    )
    for name, column in failed.items():
        assert column.isfinite().all()
        assert torch.equal(column, unseen[name])
