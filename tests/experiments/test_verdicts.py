"""Paired differences against SciPy's own test, and what may be said of them."""

import math

import numpy as np
import pytest
from scipy import stats

from orderdp.experiments.verdicts import Difference, paired_difference


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_interval_is_that_of_the_paired_t_test(seeds):
    rng = np.random.default_rng(seeds)
    run, reference = rng.normal(90, 1, seeds), rng.normal(90.5, 1, seeds)
    found = paired_difference(dict(enumerate(run)), dict(enumerate(reference)))
    expected = stats.ttest_rel(run, reference).confidence_interval(0.95)
    assert found == pytest.approx((float(np.mean(run - reference)), *expected, seeds), rel=1e-9)


def test_seeds_are_paired_by_number_and_only_those_of_both_count():
    found = paired_difference({2: 3.0, 0: 1.0, 7: 9.0}, {0: 0.5, 2: 2.5, 4: 1.0})
    assert found == Difference(0.5, 0.5, 0.5, 2)


def test_one_seed_says_nothing():
    found = paired_difference({0: 91.0}, {0: 90.0})
    assert (found.mean, found.low, found.high, found.verdict) == (1.0, -math.inf, math.inf, "too few seeds to say")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.09, 0.5, "lossless"),
        (0.1, 0.2, "lossless"),
        (-0.09, -0.01, "lossless"),
        (-0.1, 0.3, "too few seeds to say"),
        (-0.5, 0.0, "too few seeds to say"),
        (-0.5, -0.001, "loses"),
        (-3.0, -2.0, "loses"),
    ],
)
def test_the_verdict_needs_the_whole_interval(low, high, verdict):
    assert Difference((low + high) / 2, low, high, 3).verdict == verdict


def test_the_interval_covers_the_truth_19_times_in_20():
    rng = np.random.default_rng(0)
    trials, inside = 2_000, 0
    for _ in range(trials):
        found = paired_difference(dict(enumerate(rng.normal(0.3, 1, 3))), dict.fromkeys(range(3), 0.0))
        inside += found.low <= 0.3 <= found.high
    assert abs(inside - 0.95 * trials) <= 5 * math.sqrt(trials * 0.95 * 0.05)


def test_wrong_runs_get_one_line():
    with pytest.raises(ValueError, match=r"^run and reference must have a seed in common, got \[0\] and \[1\]; train"):
        paired_difference({0: 1.0}, {1: 1.0})
    with pytest.raises(ValueError, match=r"^accuracies must be finite, got nan and 1.0 at seed 0; leave it out$"):
        paired_difference({0: math.nan, 1: 1.0}, {0: 1.0, 1: 1.0})
