"""Chances in proportion to sizes, against fractions."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderdp import Memory, Proportional
from orderdp.theory import proportional_draw, proportional_probabilities, proportional_sizes
from reference.proportional import chances


@given(sizes=st.lists(st.floats(0, 1e6), min_size=1, max_size=40), data=st.data())
def test_they_are_those_in_fractions(sizes, data):
    q = data.draw(st.integers(1, len(sizes)))
    found = proportional_probabilities(sizes, q)
    np.testing.assert_allclose(found, chances(sizes, q), rtol=1e-9, atol=1e-15)
    assert math.fsum(found) == pytest.approx(q)


def test_few_sizes_above_zero_are_certain_and_the_rest_share_what_is_left():
    assert proportional_probabilities([0, 5, 0, 0, 2], 4).tolist() == [2 / 3, 1, 2 / 3, 2 / 3, 1]
    assert proportional_probabilities([0, 0, 0, 0], 1).tolist() == [0.25] * 4
    assert proportional_probabilities([3, 0.5, 1], 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("sizes", "q", "message"),
    [
        ([1, -2], 1, "sizes must be finite and at least 0, got -2.0 at 1; write the loss above its floor"),
        ([1, math.nan], 1, "sizes must be finite and at least 0, got nan at 1; write the loss above its floor"),
        ([[1]], 1, "sizes must have the shape (n,), got (1, 1); write one size for each sample"),
        ([1, 2], 3, "q must be at most n, got q=3 and n=2; each sample is drawn at most once"),
    ],
)
def test_bad_sizes_are_refused(sizes, q, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        proportional_probabilities(sizes, q)


@pytest.mark.parametrize(
    "settings",
    [{}, {"ceiling": 0.9, "uniform_share": 0.3}, {"floor": 0.2, "uniform_share": 0.0}, {"power": 4.0, "ceiling": 0.9}],
)
def test_a_draw_does_what_the_method_does(settings):
    losses = np.random.default_rng(0).gamma(1.0, 0.5, 60).astype(np.float32)
    strategy, epochs, runs = Proportional(prune_ratio=0.7, **settings), 5, 3_000
    rng = np.random.default_rng(1)
    kept = np.zeros((runs, epochs, 60), dtype=bool)
    for run in range(runs):
        for epoch in range(epochs):
            kept[run, epoch, strategy.select(Memory(60, 1, {"loss": losses}), rng).indices] = True
    draw = proportional_draw(losses, 18, epochs=epochs, **settings)
    order = np.argsort(-losses)
    for expected, rank in ((draw.largest, 1), (draw.median, 30), (draw.smallest, 60)):
        found = kept[:, :, order[rank - 1]].mean()
        assert abs(found - expected) <= 5 * math.sqrt(max(expected * (1 - expected), 1e-9) / (runs * epochs))
    assert kept.all(axis=(0, 1)).mean() == pytest.approx(draw.share_certain)
    assert abs((~kept.any(axis=1)).mean() - draw.dormant) < 0.005
    ages = np.where(kept.any(axis=1), np.argmax(kept[:, ::-1], axis=1), epochs)
    assert abs(ages.mean() - draw.mean_age) < 0.02
    frequencies = kept.mean(axis=(0, 1))
    assert abs(frequencies.sum() ** 2 / (frequencies**2).sum() - draw.effective_samples) < 0.5


def test_the_median_is_the_larger_of_two_middle_losses():
    draws = [proportional_draw(losses, 1, epochs=1, uniform_share=0.0) for losses in ([0, 4, 1, 3], [3, 0, 1])]
    assert [draw.median for draw in draws] == [3 / 8, 1 / 4]


def test_equal_losses_are_a_uniform_draw():
    draw = proportional_draw(np.full(10, 2.0), 3, epochs=4)
    assert [draw.largest, draw.median, draw.smallest] == pytest.approx([0.3] * 3)
    assert draw.effective_samples == pytest.approx(10)
    assert draw.dormant == pytest.approx(0.7**4)


def test_a_sample_at_the_floor_is_never_drawn_without_a_uniform_share():
    draw = proportional_draw([0.0, 1.0, 2.0, 3.0], 2, epochs=7, uniform_share=0.0)
    assert (draw.largest, draw.smallest) == (1.0, 0.0)
    assert draw.dormant > 0.25


@pytest.mark.parametrize(
    ("losses", "settings", "message"),
    [
        ([1.0, math.inf], {}, "losses must be finite and of shape (n,), got shape (2,); leave unknown ones out"),
        ([[1.0]], {}, "losses must be finite and of shape (n,), got shape (1, 1); leave unknown ones out"),
        (
            [1.0],
            {"uniform_share": 20},
            "uniform_share is a fraction and must lie in [0, 1], got 20; for 20 % write 0.2",
        ),
        (
            [1.0],
            {"floor": 1.0, "ceiling": 0.5},
            "ceiling must lie above the floor, got 0.5 and 1.0; write inf for none",
        ),
        ([1.0], {"floor": math.nan}, "floor must be finite, got nan; leave it out for the lowest loss"),
        ([1.0], {"power": 0}, "power must be finite and above 0, got 0; write 1 for the excess itself"),
    ],
)
def test_losses_that_do_not_fit_are_refused(losses, settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        proportional_sizes(losses, **settings)
