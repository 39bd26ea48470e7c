"""OrderDP that keeps other ranks of its draw than the top q: the law, and what comes first and last."""

import math
import re

import numpy as np
import pytest
from scipy.stats import hypergeom

from orderdp import Memory, OrderDP
from orderdp.strategies.draws import draw
from orderdp.theory import window_probabilities

INF = math.inf
N = 12
LOSSES = np.random.default_rng(5).permutation(np.arange(1.0, N + 1)).astype(np.float32)  # all different
RANKS = (N - LOSSES).astype(int)  # from 0, of the largest


def selected(strategy, losses, seed=0, bounds=None):
    memory = Memory(len(losses), 3, {"score": np.array(losses, dtype=np.float32)}, bounds)
    return strategy.select(memory, np.random.default_rng(seed)).indices


def frequencies(strategy, losses, draws=4_000):
    total = np.zeros(len(losses))
    for seed in range(draws):
        total[selected(strategy, losses, seed)] += 1
    return total / draws


# Settings beside explore 0.75 and exploit 0.45, so s = 9 and q = 4, and the positions of the draw that they keep.
RANGES = {
    "a skipped top": ({"skip": 0.2}, [2, 3, 4, 5]),
    "the lowest": ({"skip": 5 / 9}, [5, 6, 7, 8]),
    "both ends": ({"easy_share": 0.5}, [0, 1, 7, 8]),
    "the lowest, by share": ({"easy_share": 1}, [5, 6, 7, 8]),
    "both ends after a skipped top": ({"skip": 0.1, "easy_share": 0.25}, [1, 2, 3, 8]),
}


@pytest.mark.parametrize(("settings", "positions"), RANGES.values(), ids=RANGES)
def test_frequencies_are_those_of_the_window(settings, positions):
    strategy = OrderDP(explore=0.75, exploit=0.45, **settings)
    assert strategy.sizes(N) == (9, 4)
    kept = np.isin(np.arange(9), positions)
    expected = window_probabilities(N, 9, kept)[RANKS]
    assert np.abs(frequencies(strategy, LOSSES) - expected).max() < 4.5 * 0.5 / math.sqrt(4_000)


def test_shares_are_of_the_draw_and_rounded():
    """Of 20 samples 10 are drawn; 2 are left out at the top, then 4 are kept, of which 1.6 are the lowest."""
    strategy = OrderDP(explore=0.5, exploit=0.4, skip=0.2, easy_share=0.4)
    assert strategy.sizes(20) == (10, 4)
    kept = np.isin(np.arange(10), [2, 3, 8, 9])
    assert strategy.window(20).tolist() == kept.tolist()
    losses = np.random.default_rng(1).permutation(np.arange(20.0)).astype(np.float32)
    for seed in range(20):
        drawn = np.flatnonzero(draw(20, 10, np.random.default_rng(seed)))  # the first use of the generator
        expected = drawn[np.argsort(-losses[drawn])][kept]
        assert sorted(selected(strategy, losses, seed).tolist()) == sorted(expected.tolist())


def test_the_law_of_a_skipped_top_is_a_difference_of_hypergeometric_laws():
    n, s, t, q = 40, 25, 6, 9
    position = np.arange(1, s + 1)
    found = window_probabilities(n, s, (position > t) & (position <= t + q))
    above = [hypergeom(n - 1, rank - 1, s - 1) for rank in range(1, n + 1)]
    expected = [s / n * (law.cdf(t + q - 1) - law.cdf(t - 1)) for law in above]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)


def test_losses_above_the_ceiling_rank_alike():
    losses = [0.1, 5.0, 0.2, 2.0, 0.3, 9.0]
    strategy = OrderDP(explore=1.0, exploit=0.5, ceiling=1.0)
    assert np.abs(frequencies(strategy, losses, 500) - [0, 1, 0, 1, 0, 1]).max() == 0
    found = frequencies(OrderDP(explore=1.0, exploit=1 / 3, ceiling=1.0), losses)
    assert np.abs(found - np.array([0, 2, 0, 2, 0, 2]) / 3).max() < 4.5 * 0.5 / math.sqrt(4_000)


def test_the_lowest_of_losses_above_the_ceiling_are_any_of_them():
    found = frequencies(OrderDP(explore=1.0, exploit=0.5, easy_share=1.0, ceiling=0.5), [1.0, 2.0, 3.0, 4.0])
    assert np.abs(found - 0.5).max() < 4.5 * 0.5 / math.sqrt(4_000)


@pytest.mark.parametrize("settings", [{"skip": 0.5}, {"easy_share": 0.5}, {"ceiling": 0.5}, {"easy_share": 1.0}])
def test_samples_without_a_loss_come_first_and_those_that_failed_last(settings):
    strategy = OrderDP(explore=1.0, exploit=0.5, **settings)
    losses = [INF, 0.5, -INF, 0.9, INF, 1.5, -INF, 2.0]
    for seed in range(50):
        chosen = set(selected(strategy, losses, seed).tolist())
        assert {0, 4} <= chosen
        assert not {2, 6} & chosen
    few = [-INF, INF, -INF, 0.9, -INF, -INF, -INF, 2.0]
    assert all({1, 3, 7} < set(selected(strategy, few, seed).tolist()) for seed in range(50))
    many = [INF] * 6 + [1.0, 2.0]
    assert all(selected(strategy, many, seed).max() < 6 for seed in range(50))


def test_what_is_skipped_is_a_share_of_the_draw_with_the_samples_that_failed():
    strategy = OrderDP(explore=1.0, exploit=0.25, skip=0.25)  # two of eight, then two are kept
    losses = [-INF, -INF, -INF, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert all(set(selected(strategy, losses, seed).tolist()) == {4, 5} for seed in range(20))


def test_each_step_keeps_a_range_of_its_own_candidates():
    strategy = OrderDP(explore=1.0, exploit=0.5, per="iteration", skip=0.5)
    bounds = [(0, 3), (3, 6)]
    for seed in range(20):
        chosen = selected(strategy, LOSSES, seed, bounds)
        order = OrderDP(explore=1.0, exploit=0.5, per="iteration")
        hard = selected(order, LOSSES, seed, bounds)
        assert set(chosen) | set(hard) == set(range(N))
        for begin, end in bounds:
            assert LOSSES[chosen[begin:end]].max() < LOSSES[hard[begin:end]].min()


def test_other_ranks_and_weights_have_no_surrogate_of_the_top_q():
    assert OrderDP(prune_ratio=0.5).surrogate_sizes(100) is not None
    for settings in ({"skip": 0.1}, {"easy_share": 0.5}, {"ceiling": 1.0}, {"debias": 0.5}):
        assert OrderDP(prune_ratio=0.5, **settings).surrogate_sizes(100) is None


def test_names_say_what_is_kept():
    assert OrderDP(prune_ratio=0.5, skip=0.1, ceiling=0.9).describe() == "OrderDP 50 % skip 0.1 ceiling 0.9"
    assert OrderDP(prune_ratio=0.5, easy_share=0.5).describe() == "OrderDP 50 % easy share 0.5"


WINDOWS = [
    *(settings for settings, _ in RANGES.values()),
    {},
    {"uniform_share": 0.5},
    {"skip": 0.2, "uniform_share": 0.3},
]


@pytest.mark.parametrize("settings", WINDOWS, ids=str)
def test_the_window_gives_the_law_of_the_selection(settings):
    strategy = OrderDP(explore=0.75, exploit=0.45, **settings)
    expected = window_probabilities(N, 9, strategy.window(N))[RANKS]
    assert expected.sum() == pytest.approx(4)
    assert np.abs(frequencies(strategy, LOSSES) - expected).max() < 4.5 * 0.5 / math.sqrt(4_000)


@pytest.mark.parametrize("settings", [{}, {"skip": 0.2}, {"easy_share": 0.5}, {"ceiling": 4.5}], ids=str)
def test_full_weights_make_the_mean_of_any_numbers_unbiased(settings):
    strategy = OrderDP(explore=0.75, exploit=0.45, uniform_share=0.5, debias=1.0, **settings)
    numbers = np.random.default_rng(1).normal(size=N)
    memory = Memory(N, 3, {"score": LOSSES})
    means = []
    for seed in range(2_000):
        selection = strategy.select(memory, np.random.default_rng(seed))
        means.append((selection.weights * numbers[selection.indices]).mean())
    assert abs(np.mean(means) - numbers.mean()) < 4.5 * np.std(means) / math.sqrt(len(means))


def test_weights_are_a_power_of_the_chance_over_its_mean():
    strategy = OrderDP(explore=0.75, exploit=0.45, uniform_share=0.5, debias=0.5)
    gammas = window_probabilities(N, 9, strategy.window(N))[RANKS]
    selection = strategy.select(Memory(N, 3, {"score": LOSSES}), np.random.default_rng(0))
    np.testing.assert_allclose(selection.weights, (4 / N / gammas[selection.indices]) ** 0.5, rtol=1e-6)
    equal = strategy.select(Memory(N, 3, {"score": np.full(N, 2.5, np.float32)}), np.random.default_rng(0))
    np.testing.assert_allclose(equal.weights, 1)
    unseen = OrderDP(explore=0.75, exploit=0.45, skip=0.1, debias=0.5)
    first = unseen.select(Memory(N, 0, {"score": np.full(N, INF, np.float32)}), np.random.default_rng(0))
    assert first.weights.tolist() == [1.0] * 4


def test_losses_above_the_ceiling_weigh_alike():
    strategy = OrderDP(explore=0.75, exploit=0.45, uniform_share=0.5, debias=1.0, ceiling=4.5)
    chosen = strategy.select(Memory(N, 3, {"score": LOSSES}), np.random.default_rng(0))
    gammas = window_probabilities(N, 9, strategy.window(N))
    above = LOSSES[chosen.indices] > 4.5
    assert above.sum() > 1
    np.testing.assert_allclose(chosen.weights[above], 4 / N / gammas[:8].mean(), rtol=1e-6)  # losses 5 to 12


@pytest.mark.parametrize("unknown", [INF, -INF])
def test_weights_are_one_beside_a_range_of_ranks_while_a_loss_is_not_known_but_not_of_the_top(unknown):
    losses = np.where(LOSSES == 1, np.float32(unknown), LOSSES)
    memory = Memory(N, 3, {"score": losses})
    for settings, alike in (({"skip": 0.1}, True), ({"ceiling": 4.5}, True), ({}, False)):
        strategy = OrderDP(explore=0.75, exploit=0.45, uniform_share=0.5, debias=1.0, **settings)
        weights = strategy.select(memory, np.random.default_rng(0)).weights
        assert (weights.tolist() == [1.0] * 4) == alike


def test_without_debias_there_are_no_weights():
    assert OrderDP(prune_ratio=0.5).select(Memory(N, 3, {"score": LOSSES}), np.random.default_rng(0)).weights is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"per": "iteration", "debias": 0.5},
            "debias is for one draw an epoch, got 0.5 with per='iteration'; leave it out",
        ),
        ({"skip": 1.0}, "skip is a fraction and must lie in [0, 1), got 1.0; write a number such as 0.5"),
        ({"easy_share": -0.1}, "easy_share is a fraction and must lie in [0, 1], got -0.1; write a number such as 0.5"),
        ({"ceiling": math.nan}, "ceiling must be a number that can be compared, got nan; write inf for no ceiling"),
        (
            {"per": "iteration", "fresh": True, "skip": 0.1},
            "skip is for stored scores, got 0.1 with fresh=True; leave it out",
        ),
        (
            {"per": "iteration", "fresh": True, "ceiling": 2.0},
            "ceiling is for stored scores, got 2.0 with fresh=True; leave it out",
        ),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        OrderDP(prune_ratio=0.5, **settings)


def test_a_skip_that_leaves_too_few_is_refused():
    message = "skip must leave 50 of the 71 samples drawn, got 0.4 beside prune_ratio=0.5; write at most 0.2958"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        OrderDP(prune_ratio=0.5, skip=0.4).sizes(100)
