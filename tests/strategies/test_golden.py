"""A few numbers of each strategy under seed 0. A difference here is a change of what users reproduce."""

import numpy as np
import pytest

from orderdp import DynamicRandom, FullData, Memory, OrderDP, Pruner

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


@pytest.mark.parametrize(("strategy", "indices"), GOLDEN)
def test_golden_selections(strategy, indices):
    columns = dict.fromkeys(strategy.columns, SCORES)
    selection = strategy.select(Memory(12, 0, columns, batch_size=2), np.random.default_rng(0))
    assert selection.indices.tolist() == indices


def test_golden_epochs_of_a_pruner():
    """The generator of (seed, epoch) is part of what users reproduce, not only what a strategy makes of it."""
    pruner = Pruner(OrderDP(prune_ratio=0.5), 8, seed=0)
    assert [pruner.begin_epoch().indices.tolist() for _ in range(3)] == [[6, 1, 5, 7], [4, 2, 5, 7], [5, 2, 6, 1]]
