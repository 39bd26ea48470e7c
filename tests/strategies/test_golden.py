"""A few numbers of each strategy under seed 0. A difference here is a change of what users reproduce."""

import zlib

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
    Proportional,
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
    (OrderDP(), [10, 6, 7, 2]),
    (OrderDP(prune_ratio=0.5), [11, 5, 4, 9, 2, 1]),
    (OrderDP(explore=1.0, exploit=0.5), [5, 4, 9, 7, 1, 2]),
    (OrderDP(explore=0.5, exploit=1.0), [10, 3, 7, 6, 2, 0]),
    (OrderDP(prune_ratio=0.3, uniform_share=0.2), [5, 9, 3, 11, 4, 6, 2, 1]),
    (OrderDP(prune_ratio=0.3, per="iteration"), [4, 2, 8, 3, 5, 11, 9, 1]),
    (OrderDP(prune_ratio=0.3, per="iteration", uniform_share=0.5), [6, 2, 8, 3, 5, 0, 9, 1]),
    (OrderDP(prune_ratio=0.3, per="iteration", fresh=True), [4, 6, 2, 8, 3, 5, 11, 0, 9, 1]),
    (Proportional(prune_ratio=0.5), [6, 5, 0, 10, 7, 1]),
    (Proportional(prune_ratio=0.5, floor=0.5, ceiling=1.5, uniform_share=0.0), [7, 5, 1, 11, 9, 4]),
    (DynamicRandom(prune_ratio=0.3), [5, 9, 2, 11, 4, 8, 1, 0]),
    (FullData(), [9, 2, 7, 4, 5, 11, 0, 3, 6, 10, 8, 1]),
]
UNIFORMS = [0.9121178, 0.2994893, 0.0630085, 0.761447]
# Methods whose first epoch is on all the data, in their second.
GOLDEN_SECOND = [
    (RepeatedRandom(prune_ratio=0.3), [6, 3, 2, 4, 10, 8, 0, 1]),
    (FixedSubset((3, 0, 7, 11, 2)), [7, 2, 11, 3, 0]),
    (InfoBatch(), [7, 8, 4, 9, 5, 11, 10, 1, 2]),
    (EpsilonGreedy(prune_ratio=0.5, epsilon=0.5), [11, 6, 5, 7, 4, 2]),
    (UCB(prune_ratio=0.5), [5, 4, 9, 7, 1, 2]),
    (SeTa(prune_ratio=0.3, epochs=20), [11, 5, 4, 9, 2, 1]),
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


LARGE = {  # checksums of half a million samples: many blocks, several parts, brackets and ties
    OrderDP(prune_ratio=0.2): 1216547375,
    EpsilonGreedy(prune_ratio=0.1): 2522447306,
    Proportional(prune_ratio=0.4): 3790179488,
    InfoBatch(): 550669513,
    UCB(prune_ratio=0.5): 2661074113,
    SeTa(prune_ratio=0.3, epochs=50): 1903768426,
    Kakurenbo(epochs=50): 903516056,
    RepeatedRandom(prune_ratio=0.5): 470405105,
}


@pytest.mark.parametrize("strategy", LARGE, ids=repr)
def test_golden_selections_of_many_blocks(strategy):
    n = 500_000
    scores, visits = ((np.arange(n) * 7919) % 100_003).astype(np.float32), (np.arange(n) % 5).astype(np.int16)
    memory = Memory(n, 1, dict.fromkeys(strategy.columns, scores), visits=visits)
    selection = strategy.select(memory, np.random.default_rng(0))
    assert zlib.crc32(selection.indices.astype("<i4").tobytes()) == LARGE[strategy]


def test_golden_uniforms():
    """What choices by chance within a batch are made of."""
    found = uniforms(torch.tensor([0, 1, 2, 2**40]), seed=0, epoch=3)
    np.testing.assert_allclose(found.numpy(), UNIFORMS, rtol=1e-6)


def test_golden_epochs_of_a_pruner():
    """The generator of (seed, epoch) is part of what users reproduce, not only what a strategy makes of it."""
    pruner, found = Pruner(OrderDP(prune_ratio=0.5), 8, seed=0), []
    for _ in range(3):
        found.append(pruner.begin_epoch().indices.tolist())
        pruner.update(torch.tensor(found[-1]), torch.arange(4.0, requires_grad=True))
    assert found == [[5, 7, 6, 2], [6, 1, 4, 2], [2, 3, 4, 0]]
