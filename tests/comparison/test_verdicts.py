"""Paired differences against SciPy's own test, and what may be said of them."""

import math
import sys

import numpy as np
import pytest
from scipy import stats

from orderdp.comparison.grid import FULL
from orderdp.comparison.planned import planned_of
from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import Difference, holm, paired_difference

LARGE = 10**9  # test images, so many that their number widens nothing


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_interval_is_that_of_the_paired_t_test(seeds):
    rng = np.random.default_rng(seeds)
    run, reference = rng.normal(90, 1, seeds), rng.normal(90.5, 1, seeds)
    found = paired_difference(dict(enumerate(run)), dict(enumerate(reference)), test_size=LARGE)
    expected = stats.ttest_rel(run, reference).confidence_interval(0.95)
    assert found == pytest.approx((float(np.mean(run - reference)), *expected, seeds), rel=1e-9)


def test_seeds_are_paired_by_number_and_only_those_of_both_count():
    found = paired_difference({2: 3.0, 0: 1.0, 7: 9.0}, {0: 0.5, 2: 2.5, 4: 1.0}, test_size=LARGE)
    assert found == pytest.approx((0.5, 0.5, 0.5, 2), abs=1e-5)


@pytest.mark.parametrize("test_size", [360, 10_000])
def test_equal_differences_are_as_sure_as_the_number_of_test_images_allows(test_size):
    """The bound is the deviation of the difference of two accuracies that were rounded, here drawn."""
    rng = np.random.default_rng(0)
    step = 100 / test_size
    errors = rng.uniform(-step / 2, step / 2, (2, 200_000))
    half = stats.t.ppf(0.975, 2) * np.std(errors[0] - errors[1]) / math.sqrt(3)
    found = paired_difference({0: 90.0, 1: 91.0, 2: 92.0}, dict.fromkeys(range(3), 90.0), test_size=test_size)
    ties = paired_difference(dict.fromkeys(range(3), 89.95), dict.fromkeys(range(3), 90.0), test_size=test_size)
    assert (ties.mean - ties.low, ties.high - ties.mean) == pytest.approx((half, half), rel=0.01)
    assert ties.verdict == ("lossless" if test_size == 10_000 else "inconclusive")
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 2) / math.sqrt(3))  # spread by more than that


def test_one_seed_says_nothing():
    found = paired_difference({0: 91.0}, {0: 90.0}, test_size=LARGE)
    assert (found.mean, found.low, found.high, found.verdict) == (1.0, -math.inf, math.inf, "inconclusive")


def test_a_comparison_knows_how_many_images_its_accuracies_were_measured_on():
    entries = {
        label: Entry(
            label, label, 0.7, label == FULL, None, {}, {seed: {"accuracy_last": accuracy} for seed in range(3)}
        )
        for label, accuracy in ((FULL, 90.0), ("OrderDP", 89.95))
    }
    table = {"seeds": [0, 1, 2], "against": ["full"], "num_samples": 1_000, "num_ranks": 1, "runs": []}
    sure, unsure = (
        Results(planned_of("", {**table, "num_test_samples": size}), entries).against_full(entries["OrderDP"])
        for size in (10_000, 360)
    )
    assert (sure.verdict, unsure.verdict) == ("lossless", "inconclusive")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.09, 0.5, "lossless"),
        (0.1, 0.2, "lossless"),
        (-0.09, -0.01, "lossless"),
        (-0.1, 0.3, "inconclusive"),
        (-0.5, 0.0, "inconclusive"),
        (-0.5, -0.001, "loses"),
        (-3.0, -2.0, "loses"),
    ],
)
def test_the_verdict_needs_the_whole_interval(low, high, verdict):
    assert Difference((low + high) / 2, low, high, 3).verdict == verdict
    assert Difference((low + high) / 2, low, high, 2).verdict == "inconclusive"


def test_the_interval_covers_the_truth_19_times_in_20():
    rng = np.random.default_rng(0)
    trials, inside = 2_000, 0
    for _ in range(trials):
        run = dict(enumerate(rng.normal(0.3, 1, 3)))
        found = paired_difference(run, dict.fromkeys(range(3), 0.0), test_size=LARGE)
        inside += found.low <= 0.3 <= found.high
    assert abs(inside - 0.95 * trials) <= 5 * math.sqrt(trials * 0.95 * 0.05)


def test_wrong_runs_get_one_line():
    with pytest.raises(ValueError, match=r"^run and reference must have a seed in common, got \[0\] and \[1\]; train"):
        paired_difference({0: 1.0}, {1: 1.0}, test_size=LARGE)
    with pytest.raises(ValueError, match=r"^accuracies must be finite, got nan and 1.0 at seed 0; leave it out$"):
        paired_difference({0: math.nan, 1: 1.0}, {0: 1.0, 1: 1.0}, test_size=LARGE)
    with pytest.raises(ValueError, match=r"^test_size must be at least 1, got 0; write a positive whole number$"):
        paired_difference({0: 1.0}, {0: 1.0}, test_size=0)


def test_without_scipy_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ImportError, match=r"^the interval of a difference needs SciPy: pip install scipy$"):
        paired_difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 1.0}, test_size=LARGE)


def test_a_p_value_is_that_of_the_paired_t_test():
    run, reference = {0: 90.0, 1: 91.0, 2: 92.5, 3: 90.2}, {0: 89.1, 1: 90.8, 2: 91.0, 3: 90.4}
    expected = stats.ttest_rel(list(run.values()), list(reference.values())).pvalue
    assert paired_difference(run, reference, test_size=10_000).p_value == pytest.approx(expected)
    assert paired_difference({0: 90.0}, {0: 80.0}, test_size=100).p_value == 1


@pytest.mark.parametrize(
    ("p_values", "kept"),
    [
        ([], []),
        ([0.04], [True]),
        ([0.05, 0.051], [False, False]),
        ([0.04, 0.01, 0.02], [True, True, True]),  # 0.01 ≤ 0.05/3, 0.02 ≤ 0.05/2, 0.04 ≤ 0.05
        ([0.001, 0.03, 0.0249, 0.9], [True, False, False, False]),  # 0.0249 > 0.05/3 ends it
    ],
)
def test_holm_keeps_the_smallest_as_long_as_each_is_below_its_share(p_values, kept):
    assert holm(p_values) == kept
