from fractions import Fraction

import numpy as np
import pytest

from orderdp import DynamicRandom, Memory
from reference.gamma import assert_frequencies


def test_every_sample_is_chosen_alike():
    strategy, rng, epochs = DynamicRandom(prune_ratio=0.7), np.random.default_rng(0), 5000
    counts = np.zeros(10, dtype=np.int64)
    for epoch in range(epochs):
        counts[strategy.select(Memory(10, epoch, {}), rng).indices] += 1
    assert_frequencies(counts, [Fraction(3, 10)] * 10, epochs)


@pytest.mark.parametrize(("ratio", "n", "size"), [(0.3, 11, 8), (0.7, 11, 3), (0.9, 10, 1), (0.45, 9, 5)])
def test_the_size_is_rounded_to_the_nearest(ratio, n, size):
    assert DynamicRandom(prune_ratio=ratio).num_selected(n, epoch=0) == size


def test_a_ratio_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"must leave at least one of the 4 samples, got 0.9; write at most 0.75"):
        DynamicRandom(prune_ratio=0.9).num_selected(4, epoch=0)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(-0.1, "got -0.1; write a number such as 0.5"), (1.0, "got 1.0"), (30, "got 30; for 30 % write 0.3")],
)
def test_what_is_no_ratio_is_refused(ratio, text):
    with pytest.raises(ValueError, match=r"prune_ratio is a fraction and must lie in \[0, 1\), " + text):
        DynamicRandom(prune_ratio=ratio)


def test_nothing_is_remembered():
    assert DynamicRandom(prune_ratio=0.5).columns == {}
