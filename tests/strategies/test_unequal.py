"""Draws with unequal chances: the chances, counted over many draws, against a plain computation."""

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderdp.strategies.order import Computed
from orderdp.strategies.unequal import draw_proportional
from reference.proportional import chances

CASES = {
    "some certain": ([8, 4, 2, 1, 1, 1, 0.001, 0, 0], 4),
    "none certain": ([3, 4, 5, 6, 7], 2),
    "one outweighs all": ([1e30, 1, 1, 1, 1], 3),
    "no sizes": ([0, 0, 0, 0], 2),
    "fewer sizes than samples": ([5, 0, 0, 0], 2),
    "all": ([3, 1, 0], 3),
    "one": ([0.5, 0.25, 0.25], 1),
}


def everything(sizes):
    return np.ones(len(sizes), dtype=np.bool_)


@pytest.mark.parametrize(("sizes", "count"), CASES.values(), ids=CASES)
def test_frequencies_are_the_chances(sizes, count):
    rng, draws = np.random.default_rng(0), 4_000
    total = np.zeros(len(sizes))
    expected = np.array(chances(sizes, count))
    for _ in range(draws):
        drawn = draw_proportional(np.array(sizes, dtype=np.float32), count, rng, among=everything(sizes))
        assert drawn.kept.sum() == count
        total += drawn.kept
    assert np.abs(total / draws - expected).max() < 4.5 * 0.5 / math.sqrt(draws)
    assert (total[expected == 1] == draws).all()
    assert (total[expected == 0] == 0).all()
    np.testing.assert_allclose(drawn.chances(np.arange(len(sizes))), expected, rtol=1e-6)


def test_equal_sizes_make_every_set_equally_likely():
    rng, draws = np.random.default_rng(1), 6_000
    found = Counter(
        tuple(np.flatnonzero(draw_proportional(np.full(5, 0.3), 2, rng, among=np.ones(5, bool)).kept))
        for _ in range(draws)
    )
    assert set(found) == set(combinations(range(5), 2))
    assert max(abs(count / draws - 0.1) for count in found.values()) < 4.5 * math.sqrt(0.09 / draws)


def test_every_two_samples_of_positive_size_may_come_together():
    """In a fixed order, neighbours of small size never would; the order is random."""
    rng, sizes = np.random.default_rng(2), np.array([5.0, 4, 3, 2, 2, 1, 1])
    pairs = set()
    for _ in range(2_000):
        kept = np.flatnonzero(draw_proportional(sizes, 3, rng, among=everything(sizes)).kept)
        pairs |= set(combinations(kept.tolist(), 2))
    assert pairs == set(combinations(range(7), 2))


@given(
    sizes=st.lists(st.floats(0, 2**127, width=32), min_size=1, max_size=60),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_any_sizes_give_exactly_the_count_and_the_certain_ones(sizes, share, seed):
    count = round(share * len(sizes))
    drawn = draw_proportional(
        np.array(sizes, dtype=np.float32), count, np.random.default_rng(seed), among=everything(sizes)
    )
    assert drawn.kept.sum() == count
    expected = np.array(chances(sizes, count)) if count else np.zeros(len(sizes))
    assert drawn.kept[expected == 1].all()
    if count:
        np.testing.assert_allclose(drawn.chances(np.arange(len(sizes))), expected, rtol=1e-5, atol=1e-7)


def test_samples_outside_the_mask_are_never_drawn_and_change_nothing():
    sizes, among = np.array([1e9, 3.0, 2.0, 1.0, 7.0]), np.array([False, True, True, True, False])
    drawn = draw_proportional(sizes, 2, np.random.default_rng(3), among=among)
    assert not drawn.kept[[0, 4]].any()
    np.testing.assert_allclose(drawn.chances(np.array([1, 2, 3])), [1, 2 / 3, 1 / 3])
    alone = draw_proportional(sizes[1:4], 2, np.random.default_rng(3), among=np.ones(3, dtype=np.bool_))
    np.testing.assert_array_equal(alone.kept, drawn.kept[1:4])


@pytest.mark.filterwarnings("error")
def test_sizes_of_any_range_do_not_overflow():
    sizes = np.array([1e300, 1e-300, 2e-300, 1e-300])
    rng = np.random.default_rng(4)
    drawn = draw_proportional(sizes, 2, rng, among=everything(sizes))
    assert drawn.kept.sum() == 2
    np.testing.assert_allclose(drawn.chances(np.arange(4)), [1, 0.25, 0.5, 0.25])


def test_many_blocks_give_the_count_and_the_mean_chances():
    n, count = 300_000, 90_000
    values = ((np.arange(n) * 7919) % 100_003).astype(np.float32) ** 3
    sizes = Computed(n, lambda part: values[part])
    kept = [draw_proportional(sizes, count, np.random.default_rng(seed), among=np.ones(n, bool)) for seed in range(20)]
    assert {int(drawn.kept.sum()) for drawn in kept} == {count}
    frequency = np.mean([drawn.kept for drawn in kept], axis=0)
    expected = kept[0].chances(np.arange(n))
    assert expected.sum() == pytest.approx(count, rel=1e-7)
    for low, high in ((0, 0.2), (0.2, 0.6), (0.6, 0.9999)):
        inside = (expected >= low) & (expected < high)
        error = math.sqrt((expected * (1 - expected))[inside].mean() / (20 * inside.sum()))
        assert abs((frequency - expected)[inside].mean()) < 4.5 * error
    assert (frequency[expected == 1] == 1).all()
