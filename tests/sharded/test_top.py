"""The exact top of scores by their bits."""

import itertools

import numpy as np
import pytest
from scipy import stats

from orderdp.sharded.top import keys, top
from orderdp.sharded.wire import Wire


def kept(scores, drawn, k, seed=0, cut=None):
    """The mask of what is kept, in two blocks."""
    cut = len(scores) // 2 if cut is None else cut
    mask = np.array(drawn, dtype=bool)
    numbers = [(0, slice(0, cut)), (1, slice(cut, len(scores)))]
    rng_of = lambda number: np.random.default_rng([seed, 99 if number is None else number])  # noqa: E731
    counts = top(np.float32(scores), mask, numbers, k, Wire(), num_blocks=2, rng_of=rng_of)
    assert counts.tolist() == [mask[:cut].sum(), mask[cut:].sum()]
    return mask


def test_keys_are_in_the_order_of_the_scores():
    tiny = np.finfo(np.float32).tiny
    scores = np.float32([-np.inf, -3e38, -1.5, -1, -tiny, -1e-45, 0, 1e-45, tiny, 1, 1.5, 3e38, np.inf])
    found = keys(scores).astype(np.int64)
    assert (np.diff(found) > 0).all()
    assert keys(np.float32([-0.0])) == keys(np.float32([0.0]))


@pytest.mark.parametrize("kind", ["normal", "few values", "unseen", "failed", "close"])
@pytest.mark.parametrize("k", [0, 1, 17, 150, 299, 300])
def test_the_top_is_that_of_a_sort(kind, k):
    rng = np.random.default_rng(k)
    scores = {
        "normal": lambda: rng.normal(size=500),
        "few values": lambda: rng.integers(-3, 3, 500),
        "unseen": lambda: np.where(rng.random(500) < 0.5, np.inf, rng.normal(size=500)),
        "failed": lambda: np.where(rng.random(500) < 0.5, -np.inf, rng.normal(size=500)),
        "close": lambda: 1 + rng.integers(0, 40, 500) * 2.0**-23,  # one upper half of a key
    }[kind]().astype(np.float32)
    drawn = np.zeros(500, dtype=bool)
    drawn[rng.permutation(500)[:300]] = True
    mask = kept(scores, drawn, k)
    assert mask.sum() == k
    assert not (mask & ~drawn).any()
    assert sorted(scores[mask]) == sorted(scores[drawn])[300 - k :]


def test_ties_are_broken_uniformly_over_both_blocks():
    scores, drawn = [5, 1, 1, 9, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1, 1, 0]
    tied = [1, 2, 4, 5]
    pairs = dict.fromkeys(itertools.combinations(tied, 2), 0)
    for seed in range(6000):
        mask = kept(scores, drawn, 3, seed, cut=3)
        assert mask[0]
        pairs[tuple(np.flatnonzero(mask)[1:].tolist())] += 1
    assert stats.chisquare(list(pairs.values())).pvalue > 1e-3


def test_blocks_may_be_empty():
    assert kept([3, 1, 2], [1, 1, 1], 2, cut=0).tolist() == [True, False, True]
