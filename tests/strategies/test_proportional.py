"""The proportional choice: chances against a computation by hand, weights, and what comes first and last."""

import math
import re

import numpy as np
import pytest

from orderdp import Memory, Proportional
from reference.proportional import chances

INF = math.inf
LOSSES = np.array([0.5, 0.6, 0.9, 1.5, 0.5, 4.0, 0.7, 2.0], dtype=np.float32)


def selected(strategy, losses, seed=0):
    memory = Memory(len(losses), 3, {"loss": np.array(losses, dtype=np.float32)})
    return strategy.select(memory, np.random.default_rng(seed))


def frequencies(strategy, losses, draws=3_000):
    total = np.zeros(len(losses))
    for seed in range(draws):
        total[selected(strategy, losses, seed).indices] += 1
    return total / draws


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"uniform_share": 0.0}, [0, 0.1, 0.4, 1, 0, 3.5, 0.2, 1.5]),
        ({"uniform_share": 0.0, "floor": 0.0}, [0.5, 0.6, 0.9, 1.5, 0.5, 4, 0.7, 2]),
        ({"uniform_share": 0.0, "floor": 0.65}, [0, 0, 0.25, 0.85, 0, 3.35, 0.05, 1.35]),
        ({"uniform_share": 0.0, "ceiling": 0.9}, [0, 0.1, 0.4, 0.4, 0, 0.4, 0.2, 0.4]),
        ({"uniform_share": 0.5, "ceiling": 0.9}, [0.2375 / 2 + x / 2 for x in (0, 0.1, 0.4, 0.4, 0, 0.4, 0.2, 0.4)]),
        ({"uniform_share": 0.0, "ceiling": 0.4}, [1] * 8),  # all lie above it
        ({"uniform_share": 1.0}, [1] * 8),
        ({"uniform_share": 0.0, "ceiling": 0.9, "power": 2.0}, [0, 1, 16, 16, 0, 16, 4, 16]),
        ({"uniform_share": 0.5, "ceiling": 0.9, "power": 2.0}, [x + 69 / 8 for x in (0, 1, 16, 16, 0, 16, 4, 16)]),
        ({"uniform_share": 0.0, "power": 0.5}, [math.sqrt(x) for x in (0, 0.1, 0.4, 1, 0, 3.5, 0.2, 1.5)]),
        ({"uniform_share": 0.0, "ceiling": 0.4, "power": 2.0}, [1] * 8),
    ],
)
def test_frequencies_are_those_of_sizes_computed_by_hand(settings, sizes):
    found = frequencies(Proportional(prune_ratio=0.5, **settings), LOSSES)
    assert np.abs(found - chances(sizes, 4)).max() < 4.5 * 0.5 / math.sqrt(3_000)


def test_a_high_power_takes_the_highest_with_all_above_the_ceiling_alike():
    kept = [
        set(selected(Proportional(prune_ratio=0.5, power=200.0, uniform_share=0.0), LOSSES, seed).indices.tolist())
        for seed in range(20)
    ]
    assert all(
        {5} <= each for each in kept
    )  # the highest; others have hardly a size, and the rest is uniform among them
    capped = Proportional(prune_ratio=0.5, power=200.0, ceiling=0.9, uniform_share=0.0)
    assert all(set(selected(capped, LOSSES, seed).indices.tolist()) == {2, 3, 5, 7} for seed in range(20))


def test_no_loss_is_too_large_for_a_power():
    losses = [0.0, 1.0, 3e38, INF, -INF, 2.0]
    strategy = Proportional(prune_ratio=0.5, power=8.0, uniform_share=0.0)
    for seed in range(20):
        assert {2, 3} <= set(selected(strategy, losses, seed).indices.tolist())


def test_a_sample_without_a_loss_takes_no_size_from_those_that_have_one_by_a_power():
    """It counts as no largest excess, beside which powers of the others would be 0 and alike."""
    strategy = Proportional(prune_ratio=0.5, power=12.0, uniform_share=0.0)
    chosen = [selected(strategy, [INF, 0.0, 0.5, 1.0], seed).indices.tolist() for seed in range(30)]
    assert all(0 in each for each in chosen)
    assert all(3 in each for each in chosen)  # 4096 times as likely as the second


def test_equal_losses_are_a_uniform_draw():
    for share in (0.0, 0.1):
        found = frequencies(Proportional(prune_ratio=0.5, uniform_share=share), np.full(8, 2.5))
        assert np.abs(found - 0.5).max() < 4.5 * 0.5 / math.sqrt(3_000)


def test_losses_below_zero_count_from_the_lowest():
    found = frequencies(Proportional(prune_ratio=0.5, uniform_share=0.0), LOSSES - 1)
    assert np.abs(found - chances([0, 0.1, 0.4, 1, 0, 3.5, 0.2, 1.5], 4)).max() < 4.5 * 0.5 / math.sqrt(3_000)


def test_full_weights_make_the_mean_of_any_numbers_unbiased():
    strategy = Proportional(prune_ratio=0.5, debias=1.0, uniform_share=0.3)
    numbers = np.array([3.0, -1.0, 2.0, 5.0, 0.0, 1.0, -2.0, 4.0])
    means = []
    for seed in range(4_000):
        selection = selected(strategy, LOSSES, seed)
        means.append((selection.weights * numbers[selection.indices]).mean())
    assert abs(np.mean(means) - numbers.mean()) < 4.5 * np.std(means) / math.sqrt(len(means))


@pytest.mark.parametrize("debias", [0.25, 0.5])
def test_weights_are_a_power_of_the_chance_over_its_mean(debias):
    strategy = Proportional(prune_ratio=0.5, debias=debias, uniform_share=0.0, floor=0.0)
    expected = (0.5 / np.array(chances(LOSSES.tolist(), 4))) ** debias
    for seed in range(20):
        selection = selected(strategy, LOSSES, seed)
        assert selection.weights.dtype == np.float32
        np.testing.assert_allclose(selection.weights, expected[selection.indices], rtol=1e-5)


def test_no_weight_is_larger_than_the_uniform_share_allows_in_any_epoch():
    """An odd number at a ratio of a half leaves one place, in the second epoch, for all samples with a loss."""
    strategy = Proportional(prune_ratio=0.5, debias=1.0, uniform_share=0.1)
    n = 1347
    losses = np.full(n, INF, dtype=np.float32)
    for epoch in range(6):
        selection = strategy.select(Memory(n, epoch, {"loss": losses}), np.random.default_rng(epoch))
        assert selection.weights.max() <= 10.001
        losses = losses.copy()
        losses[selection.indices] = np.random.default_rng(epoch).exponential(size=len(selection.indices))


def test_without_debias_there_are_no_weights():
    assert selected(Proportional(prune_ratio=0.5), LOSSES).weights is None


def test_samples_without_a_loss_come_first():
    strategy = Proportional(prune_ratio=0.5, debias=1.0)
    losses = [0.5, INF, 0.9, INF, 1.5, 4.0, 0.7, 2.0]
    for seed in range(50):
        selection = selected(strategy, losses, seed)
        assert {1, 3} <= set(selection.indices.tolist())
        assert selection.weights.tolist() == [1.0] * 4
    many = [INF] * 6 + [3.0, 4.0]
    assert all(selected(strategy, many, seed).indices.max() < 6 for seed in range(50))
    assert selected(strategy, many).weights.tolist() == [1.0] * 4
    found = frequencies(strategy, many)
    assert np.abs(found[:6] - 4 / 6).max() < 4.5 * 0.5 / math.sqrt(3_000)


def test_samples_that_failed_come_last():
    strategy = Proportional(prune_ratio=0.5, debias=1.0)
    losses = [-INF, 0.5, -INF, 0.9, -INF, 1.5, 1.0, 2.0]
    assert not any({0, 2, 4} & set(selected(strategy, losses, seed).indices.tolist()) for seed in range(50))
    alike = selected(strategy, [-INF, 1.0, -INF, 1.0, -INF, 1.0, 1.0, 1.0]).weights  # chances of 4/5
    assert alike.tolist() == pytest.approx([4 / 8 / (4 / 5)] * 4)
    few = [-INF, INF, -INF, 0.9, -INF, -INF, -INF, 2.0]
    chosen = [selected(strategy, few, seed) for seed in range(50)]
    assert all({1, 3, 7} <= set(selection.indices.tolist()) for selection in chosen)
    assert set().union(*(selection.indices.tolist() for selection in chosen)) == set(range(8))
    assert all(selection.weights.tolist() == [1.0] * 4 for selection in chosen)


def test_the_uniform_share_is_of_the_mean_over_samples_with_a_loss():
    """Of eight samples half failed. Sizes of the others are excesses of 0, 1, 2 and 5, and their mean of 2."""
    strategy = Proportional(prune_ratio=0.75, uniform_share=0.5)
    found = frequencies(strategy, [-INF, 1.0, -INF, 2.0, -INF, 3.0, -INF, 6.0])
    expected = chances([0, 1, 0, 1.5, 0, 2, 0, 3.5], 2)
    assert np.abs(found - expected).max() < 4.5 * 0.5 / math.sqrt(3_000)


def test_nothing_overflows():
    losses = [3.4e38, 3.4e38, 1.0, 2.0, 0.0, 1e-40, -3.4e38, 5.0]
    assert len(selected(Proportional(prune_ratio=0.5, debias=1.0), losses).indices) == 4


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"floor": INF},
            ValueError,
            "floor must be finite in float32, got inf; write None for the lowest loss on record",
        ),
        (
            {"floor": -1e308},
            ValueError,
            "floor must be finite in float32, got -1e+308; write None for the lowest loss on record",
        ),
        ({"floor": "low"}, TypeError, "floor must be a number, got 'low'; write a number such as 0.0"),
        (
            {"floor": 1.0, "ceiling": 1.0},
            ValueError,
            "ceiling must lie above the floor, got 1.0 and 1.0; write inf for no ceiling",
        ),
        (
            {"ceiling": math.nan},
            ValueError,
            "ceiling must lie above the floor, got nan and None; write inf for no ceiling",
        ),
        (
            {"uniform_share": 1.5},
            ValueError,
            "uniform_share is a fraction and must lie in [0, 1], got 1.5; for 1.5 % write 0.015",
        ),
        ({"power": 0.0}, ValueError, "power must be finite and above 0, got 0.0; write 1 for the excess itself"),
        ({"power": INF}, ValueError, "power must be finite and above 0, got inf; write 1 for the excess itself"),
        ({"power": "4"}, TypeError, "power must be a number, got '4'; write a number such as 2"),
        ({"debias": -1}, ValueError, "debias is a fraction and must lie in [0, 1], got -1; write a number such as 0.5"),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Proportional(prune_ratio=0.5, **settings)
