"""The sequential test keeps its error rates, and the bisection its own; both without files."""

import itertools
import math
import re

import numpy as np
import pytest
from scipy.stats import t as student

from orderdp.comparison.lossless import Judged, Search, SequentialTest

MARGIN = 0.5


def search(ratios=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), **settings):
    labels = tuple(f"mine {ratio}" for ratio in ratios)
    return Search(ratios, {"mine": labels}, **{"margin": MARGIN, **settings})


def verdicts_of(test, samples):
    """What the test says of each row of differences, and after how many seeds: the whole array at once."""
    count = samples.shape[1]
    low, high = np.full(samples.shape, -np.inf), np.full(samples.shape, np.inf)
    for seeds in range(3, count + 1):
        seen = samples[:, :seeds]
        half = test.critical_value(seeds) * seen.std(axis=1, ddof=1) / np.sqrt(seeds)
        low[:, seeds - 1], high[:, seeds - 1] = seen.mean(axis=1) - half, seen.mean(axis=1) + half
    good, bad = low > -test.margin, high < -test.margin
    first = [np.where(hit.any(axis=1), hit.argmax(axis=1), count) for hit in (good, bad)]
    words = np.where(first[0] < first[1], "lossless", np.where(first[1] < first[0], "not lossless", "undecided"))
    return words, np.minimum(np.minimum(*first) + 1, count)


@pytest.mark.parametrize(("seeds_max", "alpha"), [(3, 0.05), (5, 0.025), (20, 0.05), (20, 0.05 / 3)])
@pytest.mark.parametrize("deviation", [0.2, 2.0])
def test_a_difference_of_the_margin_is_called_either_way_with_probability_alpha_at_most(seeds_max, alpha, deviation):
    runs = 40_000
    rng = np.random.default_rng(5)
    words, _ = verdicts_of(SequentialTest(MARGIN, seeds_max, alpha), rng.normal(-MARGIN, deviation, (runs, seeds_max)))
    spread = (alpha * (1 - alpha) / runs) ** 0.5
    for wrong in ("lossless", "not lossless"):
        share = (words == wrong).mean()
        assert 0.8 * alpha - 3 * spread < share < alpha + 3 * spread, (wrong, share)


@pytest.mark.parametrize(
    ("deviation", "seeds_max", "margin", "power", "most_seeds"),
    [(0.35, 20, 0.5, 0.995, 10), (0.5, 20, 0.5, 0.95, 13), (0.3, 100, 0.1, 0.75, 75)],
)
def test_without_a_difference_the_test_says_lossless(deviation, seeds_max, margin, power, most_seeds):
    rng = np.random.default_rng(6)
    test = SequentialTest(margin, seeds_max, 0.05 / 3)
    words, seeds = verdicts_of(test, rng.normal(0, deviation, (5_000, seeds_max)))
    assert (words == "lossless").mean() > power
    assert (words == "not lossless").mean() == 0
    assert seeds.mean() < most_seeds
    worse, _ = verdicts_of(test, rng.normal(-2 * margin, deviation, (5_000, seeds_max)))
    assert (worse == "not lossless").mean() > power


def test_a_test_of_one_look_is_students():
    assert SequentialTest(MARGIN, 3, 0.05).critical_value(3) == pytest.approx(student.isf(0.05, 2), rel=0.05)
    assert SequentialTest(MARGIN, 3, 0.05).critical_value(3) > student.isf(0.05, 2)


def test_later_looks_ask_for_less():
    values = [SequentialTest(MARGIN).critical_value(seeds) for seeds in range(3, 21)]
    assert values == sorted(values, reverse=True)
    assert student.isf(0.05, 19) < values[-1] < student.isf(0.01, 19)


def test_the_differences_are_judged_one_by_one_and_the_first_end_counts():
    rng = np.random.default_rng(7)
    test = SequentialTest(MARGIN, 8)
    samples = rng.normal(-0.4, 0.5, (300, 8))
    words, seeds = verdicts_of(test, samples)
    assert set(words) == {"lossless", "not lossless", "undecided"}
    for row, word, count in zip(samples.tolist(), words, seeds, strict=True):
        judged = test.judge(row)
        assert (judged.verdict, judged.seeds) == (word, count)
        assert test.judge(row[:count]) == judged  # what comes later changes nothing
        assert test.judge(row[: count - 1]).verdict is None
        assert judged.low < judged.mean < judged.high
        assert judged.mean == pytest.approx(np.mean(row[:count]))


def test_differences_beyond_the_last_look_do_not_count():
    test = SequentialTest(MARGIN, 4)
    judged = test.judge([-9.0, 9.0, -9.0, 9.0])
    assert (judged.verdict, judged.seeds) == ("undecided", 4)
    assert test.judge([-9.0, 9.0, -9.0, 9.0, *[0.0] * 500]) == judged


def test_before_its_first_look_a_test_says_nothing():
    assert SequentialTest(MARGIN).judge([0.5, 0.7]) == Judged(None, 0.6, -np.inf, np.inf, 2)
    assert SequentialTest(MARGIN).judge([]).verdict is None


def test_equal_differences_are_no_proof_of_certainty():
    test = SequentialTest(MARGIN)
    assert test.judge([-0.4] * 3).verdict == "lossless"
    assert test.judge([-0.4] * 3, least_deviation=0.1).verdict is None


WRONG = {
    "margin 0": ({"margin": 0}, "margin is in percentage points and must be above 0, got 0; write 0.5"),
    "negative margin": ({"margin": -0.5}, "margin is in percentage points and must be above 0, got -0.5; write 0.5"),
    "no margin": ({"margin": float("nan")}, "margin is in percentage points and must be above 0, got nan; write 0.5"),
    "seeds": (
        {"seeds_max": 2},
        "seeds_max must be a whole number from 3, which a test needs for its first look, got 2; write 20",
    ),
    "part of a seed": (
        {"seeds_max": 4.5},
        "seeds_max must be a whole number from 3, which a test needs for its first look, got 4.5; write 20",
    ),
    "alpha": ({"alpha": 1}, "alpha is a probability of error and must lie in (0, 0.5), got 1; write 0.05"),
    "ratio 0": ({"ratios": (0, 0.5)}, "prune_ratio is a fraction and must lie in (0, 1), got 0; write a number such"),
    "ratio in percent": ({"ratios": (30,)}, "prune_ratio is a fraction and must lie in (0, 1), got 30; for 30 % wri"),
    "falling": ({"ratios": (0.5, 0.3)}, "prune_ratios of a search must ascend, got [0.5, 0.3]; write 0.3 0.5 0.7"),
    "no ratios": ({"ratios": ()}, "prune_ratios of a search must ascend, got []; write 0.3 0.5 0.7"),
}


@pytest.mark.parametrize(("settings", "message"), list(WRONG.values()), ids=list(WRONG))
def test_what_is_wrong_is_said_in_one_line(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as caught:
        search(**settings)
    assert "\n" not in str(caught.value)


def test_a_margin_in_words_is_refused():
    with pytest.raises(TypeError, match=r"^margin must be a number, got 'small'; write a number such as 0\.5$"):
        search(margin="small")


def made(verdict):
    """Differences that end a test of at most 4 seeds with this verdict."""
    return {"lossless": [1, 1.1, 0.9], "not lossless": [-9, -9.1, -8.9], "undecided": [-9, 9, -9, 9]}[verdict]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_bisection_ends_at_a_ratio_it_has_seen_whatever_the_others_are(count):
    mine = search(tuple((place + 1) / 10 for place in range(count)), seeds_max=4)
    for verdicts in itertools.product(("lossless", "not lossless", "undecided"), repeat=count):
        differences = dict(zip(mine.arms["mine"], map(made, verdicts), strict=True))
        trail = mine.follow("mine", differences)
        assert trail.asks is None
        assert len(trail.probes) <= mine.tests == count.bit_length()
        seen = {probe.ratio: probe.judged.verdict for probe in trail.probes}
        assert [seen[ratio] for ratio in seen] == [verdicts[mine.prune_ratios.index(ratio)] for ratio in seen]
        # Above what is named, the next ratio of the grid was tried and was not lossless; below it, nothing is claimed.
        place = -1 if trail.largest is None else mine.prune_ratios.index(trail.largest.ratio)
        assert place == -1 or verdicts[place] == "lossless"
        assert place == count - 1 or seen[mine.prune_ratios[place + 1]] != "lossless"
        assert {probe.ratio for probe in trail.at("undecided")} == {r for r in seen if seen[r] == "undecided"}


def test_a_search_asks_for_one_ratio_after_another_and_one_seed_after_another():
    mine = search((0.3, 0.5, 0.7), seeds_max=4)
    known = {}
    asked = []
    while (asks := mine.follow("mine", known).asks) is not None:
        label, count = asks
        asked.append((label[-3:], count))
        known[label] = made("undecided" if label == "mine 0.5" else "lossless")[:count]
    assert asked == [("0.5", 3), ("0.5", 4), ("0.3", 3)]


def test_the_ratio_named_is_lossless_but_for_the_chance_stated():
    """Every ratio of the grid loses exactly the margin, so that any ratio named is wrong."""
    mine, runs = search(seeds_max=6, alpha=0.1), 1_500
    rng = np.random.default_rng(8)
    named = 0
    for _ in range(runs):
        draws = rng.normal(-MARGIN, 1.0, (7, 6)).tolist()
        named += mine.follow("mine", dict(zip(mine.arms["mine"], draws, strict=True))).largest is not None
    assert 0.05 < named / runs < 0.1 + 3 * (0.1 * 0.9 / runs) ** 0.5


def test_a_search_is_the_same_after_it_was_written():
    mine = search(seeds_max=7, alpha=0.1, seeds_of={"mine 0.4": 3})
    assert Search.from_table(mine.table()) == mine
    assert mine.wants("full data", 99)
    assert [mine.wants("mine 0.4", place) for place in (2, 3)] == [True, False]
    assert not mine.wants("mine 0.5", 0)


def test_a_difference_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"^differences must be finite, got nan; leave that seed out"):
        SequentialTest(0.5, 20, 0.05).judge([0.1, math.nan, 0.2])
