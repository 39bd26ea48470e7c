"""Every column of a plan from exact fractions, every budget, every sentence; and the law against a simulated run."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orderdp
from orderdp.theory import plan
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
    assert laid_out.saved == laid_out.prune_ratio == pytest.approx(1 - q / n, abs=1e-15)
    for split in laid_out.decompositions:
        law = gammas(n, split.s, q)
        ages = [sum((1 - gamma) ** k for k in range(epochs)) for gamma in law]
        found = (split.best, split.median, split.worst, split.share_zero, split.mean_age, split.worst_age)
        exact = (law[0], law[(n + 1) // 2 - 1], law[-1], Fraction(law.count(0), n), sum(ages) / n, ages[-1])
        assert found == pytest.approx([float(value) for value in exact], rel=1e-11, abs=1e-13)
        never = sum((1 - gamma) ** epochs for gamma in law) / n
        effective = q * q / sum(gamma**2 for gamma in law)
        rest = (split.never_seen, split.never_drawn, split.effective_samples)
        exact = (never, (1 - Fraction(split.s, n)) ** epochs, effective)
        assert rest == pytest.approx([float(value) for value in exact], rel=1e-11, abs=1e-13)
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


def test_ages_and_never_seen_are_those_of_a_run_whose_ranks_do_not_move():
    n, epochs, runs = 40, 12, 400
    laid_out = plan(n, 0.5, epochs=epochs, batch_size=4)
    split = laid_out.recommended
    strategy = orderdp.OrderDP(explore=split.explore, exploit=split.exploit)
    scores = -np.arange(n, dtype=np.float32)
    rng = np.random.default_rng(0)
    ages, unseen = [], []
    for _ in range(runs):
        last = np.full(n, -1)
        for epoch in range(epochs):
            last[strategy.select(orderdp.Memory(n, epoch, {"score": scores}), rng).indices] = epoch
        ages.append(np.where(last < 0, epochs, epochs - last).mean())
        unseen.append((last < 0).mean())
    for found, expected in ((ages, split.mean_age), (unseen, split.never_seen)):
        assert abs(np.mean(found) - expected) <= 5 * np.std(found, ddof=1) / math.sqrt(runs)


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
        assert eval(call, vars(orderdp)).sizes(n) == (laid_out.recommended.s, laid_out.recommended.q)


def test_the_split_of_the_strategy_is_recommended_with_its_reason():
    laid_out = plan(50_000, 0.7, epochs=200, batch_size=128)
    assert (laid_out.recommended.s, laid_out.recommended.q) == (27_386, 15_000)
    assert laid_out.reason == (
        "OrderDP(prune_ratio=0.7), half way between a uniform draw and plain top-q: training spreads as over 27,443 of "
        "50,000 samples, 200 epochs draw every sample, and while losses keep their order 44.7 % of the samples, those "
        "of lowest loss, are not trained."
    )


def test_what_is_left_undrawn_is_said():
    reason = plan(50_000, 0.7, epochs=8, batch_size=128).reason
    assert "8 epochs draw all but 0.18 % of them, and while" in reason


def test_a_short_run_is_given_a_wider_draw():
    laid_out = plan(50_000, 0.7, epochs=3, batch_size=128)
    assert laid_out.recommended.s == 43_014
    assert [split.never_drawn <= 0.01 for split in laid_out.decompositions].index(
        True
    ) == laid_out.decompositions.index(laid_out.recommended)
    assert laid_out.reason == (
        "OrderDP(explore=0.8603, exploit=0.3487): the split of OrderDP(prune_ratio=0.7) would leave 9.25 % of the "
        "samples undrawn in 3 epochs, this one 0.27 %."
    )


def test_a_single_epoch_is_a_uniform_draw():
    laid_out = plan(50_000, 0.7, epochs=1, batch_size=128)
    assert laid_out.recommended.s == 27_386
    assert laid_out.reason == (
        "OrderDP(prune_ratio=0.7): the only epoch knows no losses yet, so every split is a uniform draw of q samples."
    )


def test_a_budget_of_all_the_data_leaves_nothing_to_prune():
    laid_out = plan(50_000, 0.0, epochs=3, batch_size=128)
    assert [(split.s, split.q) for split in laid_out.decompositions] == [(50_000, 50_000)]
    assert laid_out.reason == "The budget pays for all the data in every epoch: there is nothing to prune."


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
        "hours must be a share of something, got hours=3 without full_hours; give the hours of a run on all the data",
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
