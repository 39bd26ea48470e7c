"""A few numbers of each strategy under seed 0. A difference here is a change of what users reproduce."""

import numpy as np
import pytest
import torch

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
    Pruner,
    RepeatedRandom,
    SelectiveBackprop,
    SeTa,
)
from orderdp.rng import uniforms
from reference.steps import declared_bounds

VISITS = np.array([5, 20, 20, 1, 20, 30, 7, 99, 2, 20, 11, 20], dtype=np.int32)
SCORES = np.array([0.5, 2.0, 2.0, 0.1, 2.0, 3.0, 0.7, np.inf, 0.2, 2.0, 1.1, 2.0], dtype=np.float32)
GOLDEN = [
    (OrderDP(), [1, 9, 2, 11]),
    (OrderDP(prune_ratio=0.5), [9, 4, 1, 11, 10, 2]),
    (OrderDP(explore=1.0, exploit=0.5), [9, 11, 5, 2, 7, 4]),
    (OrderDP(explore=0.5, exploit=1.0), [9, 2, 0, 11, 10, 1]),
    (OrderDP(prune_ratio=0.3, uniform_share=0.2), [4, 2, 9, 6, 1, 10, 11, 8]),
    (OrderDP(prune_ratio=0.3, per="iteration"), [2, 11, 8, 0, 4, 9, 6, 1]),
    (OrderDP(prune_ratio=0.3, per="iteration", uniform_share=0.5), [2, 11, 0, 8, 9, 4, 6, 1]),
    (OrderDP(prune_ratio=0.3, per="iteration", fresh=True), [2, 11, 3, 8, 0, 4, 10, 9, 6, 1]),
    (DynamicRandom(prune_ratio=0.3), [3, 2, 0, 10, 4, 9, 1, 11]),
    (FullData(), [9, 2, 7, 4, 5, 11, 0, 3, 6, 10, 8, 1]),
]
UNIFORMS = [0.9121178, 0.2994893, 0.0630085, 0.761447]
# Methods whose first epoch is on all the data, in their second.
GOLDEN_SECOND = [
    (RepeatedRandom(prune_ratio=0.3), [8, 10, 11, 4, 0, 6, 9, 3]),
    (FixedSubset((3, 0, 7, 11, 2)), [7, 2, 11, 3, 0]),
    (InfoBatch(), [3, 4, 0, 7, 9, 2, 1, 5, 11]),
    (EpsilonGreedy(prune_ratio=0.5, epsilon=0.5), [4, 9, 5, 7, 6, 8]),
    (UCB(prune_ratio=0.5), [9, 11, 5, 2, 7, 4]),
    (SeTa(prune_ratio=0.3, epochs=20), [9, 4, 1, 11, 10, 2]),
    (Kakurenbo(epochs=20), [5, 7, 2, 9, 4, 6, 11, 0, 10, 1]),
    (OrderedSGD(keep=0.5), [9, 2, 7, 4, 5, 11, 0, 3, 6, 10, 8, 1]),
    (SelectiveBackprop(keep=0.5), [9, 2, 7, 4, 5, 11, 0, 3, 6, 10, 8, 1]),
]


@pytest.mark.parametrize(
    ("strategy", "epoch", "indices"),
    [(strategy, 0, indices) for strategy, indices in GOLDEN] + [(*row[:1], 1, *row[1:]) for row in GOLDEN_SECOND],
)
def test_golden_selections(strategy, epoch, indices):
    columns = dict.fromkeys(strategy.columns, SCORES)
    memory = Memory(12, epoch, columns, declared_bounds(strategy, 12, epoch, batch_size=2), visits=VISITS)
    selection = strategy.select(memory, np.random.default_rng(0))
    assert selection.indices.tolist() == indices


def test_golden_uniforms():
    """What choices by chance within a batch are made of."""
    found = uniforms(torch.tensor([0, 1, 2, 2**40]), seed=0, epoch=3)
    np.testing.assert_allclose(found.numpy(), UNIFORMS, rtol=1e-6)


def test_golden_epochs_of_a_pruner():
    """The generator of (seed, epoch) is part of what users reproduce, not only what a strategy makes of it."""
    pruner = Pruner(OrderDP(prune_ratio=0.5), 8, seed=0)
    assert [pruner.begin_epoch().indices.tolist() for _ in range(3)] == [[6, 1, 5, 7], [4, 2, 5, 7], [5, 2, 6, 1]]
