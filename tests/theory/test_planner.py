"""Every column of a plan from exact fractions, every budget, every sentence; and the law against a simulated run."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orderdp
from orderdp.theory import plan
from orderdp.theory.sizes import default_exploration, default_sizes
from reference.gamma import gammas

EPOCHS = {"epochs": 10, "batch_size": 8}


@given(st.integers(1, 60), st.floats(0, 0.99), st.integers(1, 30))
def test_every_column_is_what_exact_fractions_give(n, prune_ratio, epochs):
    if round((1 - prune_ratio) * n) < 1:
        return
    laid_out = plan(n, prune_ratio, epochs=epochs, batch_size=7)
    q = round((1 - prune_ratio) * n)
    assert (laid_out.q, laid_out.samples) == (q, epochs * q)
    assert laid_out.steps == epochs * math.ceil(q / 7)
    assert laid_out.full_steps == epochs * math.ceil(n / 7)
    assert laid_out.prune_ratio == pytest.approx(1 - q / n, abs=1e-15)
    for split in laid_out.decompositions:
        law = gammas(n, split.s, q)
        ages = [sum((1 - gamma) ** k for k in range(1, epochs + 1)) for gamma in law]
        found = (split.best, split.median, split.worst, split.share_zero, split.mean_age, split.worst_age)
        exact = (law[0], law[(n + 1) // 2 - 1], law[-1], Fraction(law.count(0), n), sum(ages) / n, ages[-1])
        assert found == pytest.approx([float(value) for value in exact], rel=1e-11, abs=1e-13)
        dormant = sum((1 - gamma) ** epochs for gamma in law) / n
        effective = q * q / sum(gamma**2 for gamma in law)
        found, exact = (split.dormant, split.effective_samples), (dormant, effective)
        assert found == pytest.approx([float(value) for value in exact], rel=1e-11, abs=1e-13)
        assert (split.q, split.explore, split.exploit) == (q, split.s / n, q / split.s)
        assert split.spectrum_gap == orderdp.theory.spectrum_gap(n, split.s, q)


@given(st.integers(1, 10**7), st.floats(0, 0.999))
def test_the_splits_go_from_a_uniform_draw_to_plain_top_q_and_hold_the_strategy_s_own(n, prune_ratio):
    if round((1 - prune_ratio) * n) < 1:
        return
    laid_out = plan(n, prune_ratio, epochs=100, batch_size=128)
    explorations = [split.s for split in laid_out.decompositions]
    assert explorations == sorted(set(explorations))
    assert (explorations[0], explorations[-1]) == (laid_out.q, n)
    assert orderdp.OrderDP(prune_ratio=prune_ratio).sizes(n) in [
        (split.s, split.q) for split in laid_out.decompositions
    ]
    assert len(explorations) <= 9


def test_the_steps_are_those_of_the_pruner():
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.3), 1_003)
    assert plan(1_003, 0.3, epochs=5, batch_size=32).steps == pruner.total_steps(5, batch_size=32)


def run_with_fixed_losses(split, n: int, epochs: int, seed: int, first: float) -> tuple[np.ndarray, np.ndarray]:
    """(n,) ages as the report counts them, the number of epochs where never, and whether each was never trained."""
    strategy = orderdp.OrderDP(explore=split.explore, exploit=split.exploit)
    rng = np.random.default_rng(seed)
    losses = -np.arange(n, dtype=np.float32)
    scores = losses.copy() if math.isnan(first) else np.full(n, first, dtype=np.float32)
    last = np.full(n, -1)
    for epoch in range(epochs):
        kept = strategy.select(orderdp.Memory(n, epoch, {"score": scores}), rng).indices
        last[kept], scores[kept] = epoch, losses[kept]
    return np.where(last < 0, epochs, epochs - 1 - last), last < 0


def test_ages_and_dormant_are_those_of_known_losses_that_keep_their_order():
    n, epochs, runs = 40, 12, 400
    split = plan(n, 0.5, epochs=epochs, batch_size=4).recommended
    measured = [run_with_fixed_losses(split, n, epochs, seed, math.nan) for seed in range(runs)]
    for column, expected in ((0, split.mean_age), (1, split.dormant)):
        found = [run[column].mean() for run in measured]
        assert abs(np.mean(found) - expected) <= 5 * np.std(found, ddof=1) / math.sqrt(runs)


@pytest.mark.parametrize(
    ("n", "prune_ratio", "epochs"), [(1_000, 0.7, 3), (1_000, 0.95, 30), (400, 0.9, 5), (100, 0.5, 4)]
)
def test_never_seen_is_that_of_a_run_which_begins_without_losses(n, prune_ratio, epochs):
    runs = 60
    for split in plan(n, prune_ratio, epochs=epochs, batch_size=4).decompositions[::2]:
        found = [run_with_fixed_losses(split, n, epochs, seed, math.inf)[1].mean() for seed in range(runs)]
        # The mean of each epoch's draw stands for its spread: about a sample off.
        assert abs(np.mean(found) - split.never_seen) <= 5 * np.std(found, ddof=1) / math.sqrt(runs) + 1.5 / n


def test_a_budget_of_steps_is_used_up():
    laid_out = plan(1_000, epochs=10, batch_size=64, steps=85)
    assert (laid_out.q, laid_out.steps) == (8 * 64, 80)
    assert plan(1_000, epochs=10, batch_size=64, steps=10**9).q == 1_000


def test_a_budget_of_samples_is_used_up():
    laid_out = plan(1_000, epochs=10, batch_size=64, samples=2_509)
    assert (laid_out.q, laid_out.samples) == (250, 2_500)
    assert plan(1_000, epochs=1, batch_size=64, samples=10**9).q == 1_000


def test_a_budget_of_hours_is_a_share_of_the_full_run():
    laid_out = plan(50_000, **EPOCHS, hours=5, full_hours=20)
    assert (laid_out.q, laid_out.hours, laid_out.saved_hours) == (12_500, 5, 15)
    assert plan(100, **EPOCHS, hours=0.29, full_hours=1).q == 29
    assert plan(100, **EPOCHS, hours=3, full_hours=2).q == 100


def test_hours_are_known_only_from_a_full_run():
    assert plan(100, 0.25, **EPOCHS).hours is None
    laid_out = plan(100, 0.25, **EPOCHS, full_hours=8)
    assert (laid_out.hours, laid_out.saved_hours) == (6, 2)


def test_the_recommended_call_has_these_very_sizes():
    for n, budget in (
        (50_000, {"prune_ratio": 0.5}),
        (1_281_167, {"samples": 90 * 512_345}),
        (777, {"samples": 9_000}),
    ):
        laid_out = plan(n, **budget, epochs=90, batch_size=100)
        call = laid_out.reason.partition(", half way")[0]
        assert call.startswith("OrderDP(prune_ratio=0.")
        assert eval(call, {"OrderDP": orderdp.OrderDP}).sizes(n) == (laid_out.recommended.s, laid_out.recommended.q)


def test_the_split_of_the_strategy_is_recommended_with_its_reason():
    laid_out = plan(50_000, 0.7, epochs=200, batch_size=128)
    assert (laid_out.recommended.s, laid_out.recommended.q) == (27_386, 15_000)
    assert laid_out.reason == (
        "OrderDP(prune_ratio=0.7), half way between a uniform draw and plain top-q: 200 epochs train every sample, and "
        "once all are seen the weights spread as over 27,443 of 50,000."
    )


def test_what_the_budget_cannot_reach_is_said_and_widens_nothing():
    laid_out = plan(50_000, 0.9, epochs=5, batch_size=128)
    assert laid_out.recommended.s == 15_811
    assert "5 epochs leave 50.0 % of the samples untrained, and" in laid_out.reason
    assert plan(10**6, epochs=100, batch_size=1, samples=1_000).recommended.s == 3_162


@pytest.mark.parametrize(
    ("n", "budget", "epochs"),
    [
        (50_000, {"prune_ratio": 0.7}, 3),
        (1_281_167, {"prune_ratio": 0.7}, 3),
        (50_000, {"steps": 150}, 3),
        (40, {"prune_ratio": 0.5}, 3),
    ],
)
def test_a_short_run_is_given_a_wider_draw_of_these_very_sizes(n, budget, epochs):
    laid_out = plan(n, **budget, epochs=epochs, batch_size=512)
    split, default = laid_out.recommended, default_exploration(n, laid_out.q)
    call, _, reason = laid_out.reason.partition(": ")
    assert split.s > default
    assert eval(call, {"OrderDP": orderdp.OrderDP}).sizes(n) == (split.s, split.q)
    least = max(1 - epochs * laid_out.q / n, 0)
    enough = [row.never_seen <= least + 0.01 for row in laid_out.decompositions]
    assert enough.index(True) == laid_out.decompositions.index(split)
    assert reason.startswith(f"{epochs} epochs never train {100 * split.never_seen:.1f} % of the samples with it, and ")
    assert reason.endswith(f"; the budget allows {100 * least:.1f} %.")


def test_so_few_samples_that_no_split_lies_between():
    laid_out = plan(3, 0.5, epochs=9, batch_size=2)
    assert laid_out.recommended.s == laid_out.q == 2
    assert (
        laid_out.reason
        == "OrderDP(prune_ratio=0.3): so few samples leave no split between a uniform draw and plain top-q."
    )


def test_a_table_that_would_take_minutes_is_refused():
    with pytest.raises(
        ValueError, match=r"^n and q must leave at most 1,000,000,000 ranks to compute, got 13,\d+,\d+,\d+ "
    ):
        plan(2**53, 0.5, **EPOCHS)
    assert plan(10**12, 0.5, **EPOCHS).recommended.s == 707_106_781_187


def test_a_single_epoch_is_a_uniform_draw():
    laid_out = plan(50_000, 0.7, epochs=1, batch_size=128)
    assert laid_out.recommended.s == 27_386
    assert laid_out.reason == (
        "OrderDP(prune_ratio=0.7): the only epoch knows no losses yet, so every split is a uniform draw of q samples."
    )


def test_a_budget_of_all_the_data_leaves_nothing_to_prune():
    laid_out = plan(50_000, 0.0, epochs=3, batch_size=128)
    assert [(split.s, split.q) for split in laid_out.decompositions] == [(50_000, 50_000)]
    assert laid_out.reason == "The budget covers full data in every epoch, so there is nothing to prune."


REFUSED = {
    "no budget": ({}, ValueError, "one budget is needed, got none; give prune_ratio, steps, samples or hours"),
    "two budgets": (
        {"prune_ratio": 0.5, "steps": 3},
        ValueError,
        "one budget is needed, got prune_ratio and steps; give prune_ratio, steps, samples or hours",
    ),
    "percent": (
        {"prune_ratio": 50},
        ValueError,
        r"prune_ratio is a fraction and must lie in \[0, 1\), got 50; for 50 %",
    ),
    "nan": ({"prune_ratio": math.nan}, ValueError, r"prune_ratio is a fraction and must lie in \[0, 1\), got nan"),
    "nothing kept": (
        {"prune_ratio": 0.999},
        ValueError,
        "the budget must pay for a sample an epoch, got prune_ratio=0.999; write a smaller prune ratio",
    ),
    "too few steps": (
        {"steps": 9},
        ValueError,
        "the budget must pay for a sample an epoch, got steps=9; write at least 10, one an epoch",
    ),
    "too few samples": (
        {"samples": 9},
        ValueError,
        "the budget must pay for a sample an epoch, got samples=9; write at least 10, one an epoch",
    ),
    "half a step": ({"steps": 9.5}, TypeError, "steps must be a whole number, got 9.5; write an int"),
    "no steps": ({"steps": 0}, ValueError, "steps must be at least 1, got 0; write a positive whole number"),
    "hours of what": (
        {"hours": 3},
        ValueError,
        "hours must be a share of something, got hours=3 without full_hours; give the hours of a run on full data",
    ),
    "no hours": (
        {"hours": 0, "full_hours": 3},
        ValueError,
        "hours must be a positive, finite number, got 0; write hours such as 2.5",
    ),
    "nan hours": (
        {"prune_ratio": 0.5, "full_hours": math.nan},
        ValueError,
        "full_hours must be a positive, finite number, got nan; write hours such as 2.5",
    ),
    "hours in words": (
        {"hours": "two", "full_hours": 3},
        ValueError,
        "hours must be a positive, finite number, got 'two'; write hours such as 2.5",
    ),
    "too few hours": (
        {"hours": 1e-9, "full_hours": 3},
        ValueError,
        "the budget must pay for a sample an epoch, got hours=1e-09; write more hours",
    ),
    "no epochs": ({"prune_ratio": 0.5, "epochs": 0}, ValueError, "epochs must be at least 1, got 0; "),
    "no batch": ({"prune_ratio": 0.5, "batch_size": -1}, ValueError, "batch_size must be at least 1, got -1; "),
}


@pytest.mark.parametrize(("given", "kind", "line"), list(REFUSED.values()), ids=list(REFUSED))
def test_a_wrong_budget_gets_one_line(given, kind, line):
    with pytest.raises(kind, match=rf"^{line}"):
        plan(100, **{**EPOCHS, **given})


def test_a_wrong_number_of_samples_gets_one_line():
    with pytest.raises(ValueError, match=r"^n must be at most 2\*\*53, got 9007199254740993; "):
        plan(2**53 + 1, 0.5, **EPOCHS)
    with pytest.raises(TypeError, match=r"^n must be a whole number, got 10.5; write an int$"):
        plan(10.5, 0.5, **EPOCHS)


def test_the_ratio_that_is_recommended_has_the_fewest_digits():
    assert plan(777, samples=9_000, epochs=90, batch_size=100).reason.startswith("OrderDP(prune_ratio=0.871), half way")


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"prune_ratio": 0.5, "full_hours": math.inf}, "full_hours", "inf"),
        ({"hours": True, "full_hours": 2}, "hours", "True"),
    ],
)
def test_hours_are_finite_numbers(given, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be a positive, finite number, got {value}; "):
        plan(100, epochs=1, batch_size=1, **given)


def test_what_a_run_does_not_reach_is_said_from_half_a_sample_on():
    reasons = [plan(1_000, 0.5, epochs=epochs, batch_size=8).reason for epochs in (6, 7)]
    assert "6 epochs leave 0.1 % of the samples untrained, and" in reasons[0]  # 1.1 samples
    assert "7 epochs train every sample, and" in reasons[1]  # 0.3 samples


@pytest.mark.parametrize(("n", "prune_ratio"), [(2_000, 0.3), (2_000, 0.7), (500, 0.9)])
def test_all_seen_is_when_a_run_that_begins_without_losses_has_seen_all(n, prune_ratio):
    split = default_split(n, prune_ratio)
    runs = 60
    left = np.zeros(runs)
    for run in range(runs):
        rng = np.random.default_rng(run)
        unseen = np.ones(n, dtype=bool)
        for _ in range(split.all_seen):
            draw = rng.choice(n, size=split.s, replace=False)
            unseen[draw[np.argsort(~unseen[draw], kind="stable")][: split.q]] = False
        left[run] = unseen.sum()
    assert left.mean() < 0.5 + 5 * left.std(ddof=1) / math.sqrt(runs)
    before = plan(n, prune_ratio, epochs=split.all_seen - 1, batch_size=32)
    assert n * next(row.never_seen for row in before.decompositions if row.s == split.s) >= 0.5


def test_all_seen_at_the_ends():
    whole = plan(100, 0.0, epochs=5, batch_size=10)
    assert [row.all_seen for row in whole.decompositions] == [1]
    rows = plan(1_000, 0.9, epochs=5, batch_size=10).decompositions
    assert rows[-1].all_seen == 10  # top q of all: the unseen first, without a miss
    assert [row.all_seen for row in rows] == sorted((row.all_seen for row in rows), reverse=True)
    assert plan(50_000, 0.7, epochs=20, batch_size=128).recommended.all_seen in range(16, 20)


def default_split(n, prune_ratio):
    laid_out = plan(n, prune_ratio, epochs=200, batch_size=32)
    return next(row for row in laid_out.decompositions if row.s == default_sizes(n, prune_ratio)[0])
