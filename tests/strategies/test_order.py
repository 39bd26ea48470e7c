"""Draws, orders and the k largest: the slow twins, the exact laws, and the same across many blocks."""

import math
import tracemalloc
from contextlib import contextmanager
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orderdp import EpsilonGreedy, InfoBatch, Memory, OrderDP
from orderdp.strategies import draws, order
from orderdp.strategies.draws import draw, draw_among, permutation, positions, shuffle, shuffled
from orderdp.strategies.order import Computed, first_after, largest, least_float32, weights_of_largest
from reference import paper_loop
from reference.gamma import assert_frequencies

TRIALS = 12_800


@contextmanager
def small(*, block=8, sample=5, spread=6, at_once=3 * 2**17, few=10_000):
    """With blocks, parts and samples so small that a dozen numbers need several of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "_BLOCK", block)
        patch.setattr(order, "_SAMPLE", sample)
        patch.setattr(draws, "_SPREAD", spread)
        patch.setattr(draws, "_MOST_AT_ONCE", at_once)
        patch.setattr(draws, "_FEW", few)
        yield


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def chosen(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def assert_uniform(outcomes, possible) -> None:
    """Raises unless each possible outcome, and no other, is as frequent as the others."""
    possible = list(possible)
    counts = dict.fromkeys(possible, 0)
    for outcome in outcomes:
        counts[outcome] += 1
    assert_frequencies(list(counts.values()), [Fraction(1, len(possible))] * len(possible), sum(counts.values()))


# The twins

few_values = st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, np.inf]), min_size=1, max_size=60)


@given(
    values=few_values | st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60),
    share=st.floats(0, 1),
    data=st.data(),
)
@pytest.mark.parametrize("block", [8, 16, 65_536])
def test_largest_is_the_slow_sort(values, share, data, block):
    among = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    seed = data.draw(st.integers(0, 2**32))
    with small(block=block):
        k = round(share * len(values))
        found = largest(np.array(values, dtype=np.float32), k, rng(seed))
        assert list(chosen(found)) == paper_loop.largest(values, k, rng(seed))
        k = round(share * among.sum())
        found = largest(np.array(values, dtype=np.float32), k, rng(seed), among=among)
        inside = np.flatnonzero(among)
        slow = paper_loop.largest([values[i] for i in inside], k, rng(seed)) if k else []
        assert list(chosen(found)) == inside[slow].tolist()


@given(n=st.integers(1, 400), share=st.floats(0, 1), spread=st.sampled_from([0, 1, 6]), seed=st.integers(0, 2**32))
@pytest.mark.parametrize("block", [8, 64, 65_536])
def test_draw_is_the_slow_draw(n, share, spread, seed, block):
    size = round(share * n)
    with small(block=block, spread=spread):
        found = draw(n, size, rng(seed))
    assert found.dtype == np.bool_
    assert list(chosen(found)) == paper_loop.draw(n, size, rng(seed), spread)


@given(n=st.integers(0, 200), at_once=st.integers(10, 100), few=st.integers(5, 300), seed=st.integers(0, 2**32))
def test_shuffle_is_the_slow_shuffle(n, at_once, few, seed):
    with pytest.MonkeyPatch.context() as patch, small(at_once=at_once, few=few):
        patch.setattr(paper_loop, "FEW", few)
        values, slow = np.arange(n, dtype=np.int32), list(range(n))
        shuffle(values, rng(seed))
        paper_loop.shuffle(slow, rng(seed), at_once)
    assert values.tolist() == slow


@given(mask=st.lists(st.booleans(), min_size=1, max_size=70), seed=st.integers(0, 2**32))
def test_positions_of_a_mask_come_from_all_blocks(mask, seed):
    with small(block=8):
        found = positions(np.array(mask))
        order_of_them = shuffled(np.array(mask), rng(seed))
    assert found.dtype == order_of_them.dtype == np.int32
    assert found.tolist() == [number for number, inside in enumerate(mask) if inside]
    assert sorted(order_of_them.tolist()) == found.tolist()


# The laws


@pytest.mark.parametrize(("n", "size"), [(9, 4), (9, 5), (10, 2), (6, 3)])
@pytest.mark.parametrize("spread", [0, 1, 6])  # with 0, the first round often keeps too many
def test_every_set_is_drawn_alike_across_blocks(n, size, spread):
    with small(spread=spread):
        generator = rng()
        outcomes = [chosen(draw(n, size, generator)) for _ in range(TRIALS)]
    assert_uniform(outcomes, combinations(range(n), size))


def test_every_set_of_a_mask_is_drawn_alike_across_blocks():
    mask = np.array([1, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1], dtype=bool)
    with small():
        generator = rng()
        outcomes = [chosen(draw_among(mask, 3, generator)) for _ in range(TRIALS)]
    assert_uniform(outcomes, combinations(np.flatnonzero(mask).tolist(), 3))


def test_ties_are_broken_alike_and_jointly_across_blocks():
    """Six tie for three places, in three blocks: each set of three, and so each number of them in a block."""
    values = np.array([1, 9, 1, 0, 1, 0, 9, 0, 1, 1, 0, 1], dtype=np.float32)
    with small():
        generator = rng()
        outcomes = [chosen(largest(values, 5, generator)) for _ in range(TRIALS)]
    tied = np.flatnonzero(values == 1).tolist()
    assert_uniform(outcomes, [tuple(sorted((1, 6, *some))) for some in combinations(tied, 3)])


@pytest.mark.parametrize("settings", [{"at_once": 3, "few": 1}, {"at_once": 2, "few": 2}, {"few": 1}, {}], ids=str)
def test_every_order_is_equally_frequent_in_parts_and_at_once(settings):
    with small(**settings):
        generator = rng()
        outcomes = [tuple(permutation(5, generator).tolist()) for _ in range(TRIALS)]
    assert_uniform(outcomes, permutations(range(5)))


@pytest.mark.parametrize("size", [150_000, 299_990, 17])
def test_a_draw_of_many_blocks_is_uniform_over_the_blocks(size):
    """Counts in blocks are multivariate hypergeometric: their mean, their variance and their covariance."""
    n, cuts, trials = 300_000, 12, 400
    generator = rng()
    counts = np.array([draw(n, size, generator).reshape(cuts, -1).sum(1) for _ in range(trials)])
    assert (counts.sum(1) == size).all()
    p = 1 / cuts
    variance = size * p * (1 - p) * (n - size) / (n - 1)
    assert (np.abs(counts.mean(0) - size * p) <= 5 * math.sqrt(variance / trials)).all()
    statistic = ((counts - size * p) ** 2).sum(1).mean() / (size * p * (n - size) / (n - 1))  # chi-square of 11 degrees
    assert abs(statistic - (cuts - 1)) <= 5 * math.sqrt(2 * (cuts - 1) / trials) + 0.5 * (size < 100)


def test_a_shuffle_of_many_parts_puts_each_number_anywhere_alike():
    n, cuts, trials = 400_000, 10, 30
    counts = np.zeros((cuts, cuts))
    generator = rng()
    for _ in range(trials):
        order_of_all = permutation(n, generator)
        assert np.array_equal(np.sort(order_of_all), np.arange(n))
        np.add.at(counts, (np.arange(n) * cuts // n, order_of_all * cuts // n), 1)
    expected = trials * n / cuts**2
    statistic, degrees = ((counts - expected) ** 2 / expected).sum(), (cuts - 1) ** 2
    assert abs(statistic - degrees) <= 5 * math.sqrt(2 * degrees)


def test_neighbours_of_a_shuffle_of_many_parts_are_as_often_in_order_as_not():
    order_of_all = permutation(1_000_000, rng())
    ascents = int((np.diff(order_of_all) > 0).sum())
    assert abs(ascents - 499_999.5) <= 5 * math.sqrt(1_000_001 / 12)


# The threshold

N = 200_000
SEEN = np.isin(np.arange(N), order._places(N))
VALUES = {
    "spread": lambda: rng(1).standard_exponential(N, dtype=np.float32),
    "few values": lambda: rng(1).integers(0, 4, N).astype(np.float32),
    "equal": lambda: np.full(N, 2.5, dtype=np.float32),
    "unseen and failed": lambda: rng(1).choice(np.array([np.inf, 1.0, 2.0, 3.0, -np.inf], dtype=np.float32), N),
    "sorted": lambda: np.arange(N, dtype=np.float32),
    "the sample sees the highest only": lambda: np.where(SEEN, 2.0, rng(1).random(N)).astype(np.float32),
    "the sample sees the lowest only": lambda: np.where(SEEN, -2.0, rng(1).random(N)).astype(np.float32),
    "visits": lambda: -rng(1).integers(0, 3, N).astype(np.int16),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("mask", [None, "most", "where the sample does not look"])
def test_the_threshold_of_many_blocks_is_that_of_a_sort(kind, mask):
    values = VALUES[kind]()
    among = {None: None, "most": rng(2).random(N) < 0.7, "where the sample does not look": ~SEEN}[mask]
    counting = values if among is None else values[among]
    ordered = np.sort(counting)[::-1]
    for k in (1, 2, len(ordered) // 3, len(ordered) // 2, len(ordered) - 1, len(ordered)):
        kept = largest(values, k, rng(), among=among)
        assert int(kept.sum()) == k
        assert among is None or not (kept & ~among).any()
        np.testing.assert_array_equal(np.sort(values[kept])[::-1], ordered[:k])
    assert not largest(values, 0, rng(), among=among).any()


def test_values_may_be_computed_when_they_are_read():
    values = VALUES["spread"]()
    computed = Computed(N, lambda part: 1 - values[part])
    assert len(computed) == N
    np.testing.assert_array_equal(largest(computed, 1_000, rng()), largest(1 - values, 1_000, rng()))


@pytest.mark.parametrize(
    ("values", "k"), [([3.0, 1.0, 2.0], 2), ([1.0, 1.0], 2), ([1.0, 1.0], 0), ([2.0, 1.0, 1.0], 1)]
)
def test_the_generator_is_left_alone_where_no_tie_crosses_the_threshold(values, k):
    generator = rng()
    largest(np.array(values), k, generator)
    assert generator.bit_generator.state == rng().bit_generator.state


@pytest.mark.parametrize("size", [0, 300_000])
def test_all_and_nothing_are_drawn_without_the_generator(size):
    generator = rng()
    assert int(draw(300_000, size, generator).sum()) == size
    assert generator.bit_generator.state == rng().bit_generator.state


# Memory


def peak_bytes_a_sample(strategy, n=1_500_000):
    scores = rng(1).standard_exponential(n, dtype=np.float32)
    memory = Memory(n, 1, dict.fromkeys(strategy.columns, scores))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        selection = strategy.select(memory, rng())
        return (tracemalloc.get_traced_memory()[1] - before) / n, selection
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("strategy", "most"),
    [(OrderDP(prune_ratio=0.5), 7), (EpsilonGreedy(prune_ratio=0.5), 7), (InfoBatch(prune_probability=0.5), 10)],
    ids=str,
)
def test_a_selection_takes_a_few_bytes_a_sample_its_result_included(strategy, most):
    peak, selection = peak_bytes_a_sample(strategy)
    assert selection.indices.dtype == np.int32
    assert peak <= most


# Small parts


@given(st.floats(-1e30, 1e30))
def test_the_least_float32_compares_as_the_bound_does(bound):
    least = least_float32(bound)
    around = [np.nextafter(least, np.float32(side)) for side in (-np.inf, np.inf)]
    for value in (least, *around):
        assert (float(value) < bound) == bool(value < least)


@given(share=st.floats(0, 1), epochs=st.integers(1, 10**6))
def test_the_first_epoch_after_a_share_is_the_first_that_reaches_it(share, epochs):
    first = first_after(share, epochs)
    assert first >= share * epochs - 1e-9 > first - 1


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("values", "share", "weights"),
    [
        ([1, 3, 2, 0], 0.5, [0, 2, 2, 0]),
        ([1, NAN, 2, 0], 0.5, [2, 0, 2, 0]),  # NaN would sort highest
        ([1, INF, 2, -INF], 0.5, [2, 0, 2, 0]),
        ([NAN, INF, 2, -INF], 0.75, [0, 0, 4, 0]),  # three are asked for, one is finite: the mean is its loss
        ([NAN, INF, 5, 4], 0.75, [0, 0, 2, 2]),
        ([NAN, INF, -INF], 1.0, [0, 0, 0]),
        ([NAN], 1.0, [0]),
        ([2, 2, 2, NAN], 0.5, [2, 2, 0, 0]),
        ([-5, -1e30, NAN], 1.0, [1.5, 1.5, 0]),
    ],
)
def test_values_that_are_not_finite_have_no_weight(values, share, weights):
    assert weights_of_largest(torch.tensor(values, dtype=torch.float32), share).tolist() == weights
