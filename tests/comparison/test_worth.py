"""Steps worth, on curves and folders whose numbers are known."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t, ttest_rel

from orderdp.comparison.planned import REFERENCES, Planned, Sizes
from orderdp.comparison.prices import cost_of
from orderdp.comparison.results import Entry, Results, read_results
from orderdp.comparison.worth import Curve, Worth, worth_of

SHORT = "full data, steps of OrderDP 50 %"


@pytest.mark.parametrize(
    ("accuracy", "steps", "beyond"),
    [
        (80.0, 100.0, ""),
        (82.5, 100 * 2**0.5, ""),
        (85.0, 200.0, ""),
        (88.0, math.sqrt(400 * 800), ""),  # level between them
        (89.0, 800 * 2**0.5, ""),
        (90.0, 1600.0, ""),
        (90.1, 1600.0, "more than"),
        (79.9, 100.0, "less than"),
    ],
)
def test_steps_to_an_accuracy_are_read_off_a_curve_in_logarithms(accuracy, steps, beyond):
    curve = Curve(np.array([100.0, 200, 400, 800, 1600]), np.array([80.0, 85, 88, 88, 90]))
    found, where = curve.steps_to(accuracy)
    assert (found, where) == (pytest.approx(steps), beyond)


def test_a_curve_never_falls_and_is_the_closest_such_one():
    curve = Curve.through([(300, 84.0), (100, 80.0), (200, 86.0), (400, 90.0)])
    assert curve.steps.tolist() == [100, 200, 300, 400]
    assert curve.accuracies.tolist() == [80, 85, 85, 90]


@given(st.lists(st.floats(10, 99), min_size=2, max_size=6), st.floats(0, 1))
def test_steps_grow_with_the_accuracy(accuracies, share):
    curve = Curve.through([(100 * 2**place, value) for place, value in enumerate(accuracies)])
    low, high = curve.accuracies[0], curve.accuracies[-1]
    some = low + share * (high - low)
    assert 100 <= curve.steps_to(some)[0] <= 100 * 2 ** (len(accuracies) - 1) + 1e-6
    assert curve.steps_to(some)[0] <= curve.steps_to(high)[0] + 1e-6


def test_worth_is_that_of_a_hand_computation(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2))
    # Full data makes 21 steps, the others 12; seed 1 is better in all runs, which changes nothing.
    folder.finish("full data", (90.0, 92.0, 91.0))
    folder.finish(SHORT, (86.0, 88.0, 87.0))
    folder.finish("OrderDP 50 %", (88.0, 90.0, 89.0))
    results = read_results(folder.path)
    steps = {label: entry.mean("steps") for label, entry in results.entries.items()}
    assert (steps["full data"], steps[SHORT], steps["OrderDP 50 %"]) == (21, 12, 12)
    worth = worth_of(results, results.entries["OrderDP 50 %"])
    expected = math.sqrt(21 / 12)  # half of the way in accuracy is half of it in the logarithm
    off = (21 / 12) ** (half_width(results, 0.0) / 4)  # of accuracies that are rounded, on a curve of 4 points
    assert worth == pytest.approx((expected, expected / off, expected * off, 3, ""))
    assert worth.saved == pytest.approx(1 - 1 / expected)


def half_width(results, deviation, seeds=3):
    """Half of the paired interval, with the deviation of the rounding at least."""
    least = 100 / (results.sizes.num_test_samples * math.sqrt(6))
    return t.ppf(0.975, seeds - 1) * max(deviation, least) / math.sqrt(seeds)


def test_the_interval_holds_the_steps_of_full_data_that_a_paired_test_does_not_tell_from_the_run(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2))
    folder.finish("full data", (90.0, 91.0, 89.0)).finish(SHORT, (86.0, 87.0, 85.0))
    folder.finish("OrderDP 50 %", (87.5, 89.0, 87.5))  # minus the middle of both: a deviation of 1/2
    results = read_results(folder.path)
    worth = worth_of(results, results.entries["OrderDP 50 %"])
    whole = math.log(21 / 12)
    half = half_width(results, 0.5) / 4 * whole
    assert worth.ratio == pytest.approx(math.exp(whole / 2))
    assert (worth.low, worth.high) == pytest.approx((math.exp(whole / 2 - half), math.exp(whole / 2 + half)), rel=1e-6)


def test_at_each_end_of_the_interval_the_paired_test_is_just_significant_though_seeds_rise_unequally(made):
    short, full, run = (86.0, 88.0, 85.0), (91.0, 93.6, 90.3), (88.5, 90.6, 87.8)
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2))
    folder.finish("full data", full).finish(SHORT, short).finish("OrderDP 50 %", run)
    results = read_results(folder.path)
    worth = worth_of(results, results.entries["OrderDP 50 %"])
    for end, side in ((worth.low, "greater"), (worth.high, "less")):
        share = math.log(end) / math.log(21 / 12)  # of the way from the shorter schedule to full data
        assert 0 < share < 1
        there = [low + share * (high - low) for low, high in zip(short, full, strict=True)]
        assert ttest_rel(run, there, alternative=side).pvalue == pytest.approx(0.025, rel=1e-3)


@pytest.mark.parametrize(
    ("accuracies", "ratio", "beyond", "ends"),
    [
        ((91.0, 91.0, 91.0), 21 / 12, "more than", (21 / 12, math.inf)),
        ((80.0, 80.0, 80.0), 1.0, "less than", (0.0, 1.0)),
        ((89.5, 89.5, 92.0), 21 / 12, "more than", (None, math.inf)),
        ((90.1, 92.0, 90.2), 21 / 12, "more than", (None, math.inf)),  # above without any seed, but not for certain
        ((80.0, 90.0, 94.0), None, "", (0.0, math.inf)),
    ],
)
def test_accuracies_outside_the_curve_say_so(made, accuracies, ratio, beyond, ends):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2))
    folder.finish("full data", (90.0, 90.0, 90.0)).finish(SHORT, (86.0, 86.0, 86.0))
    folder.finish("OrderDP 50 %", accuracies)
    results = read_results(folder.path)
    worth = worth_of(results, results.entries["OrderDP 50 %"])
    assert worth.beyond == beyond
    assert ratio is None or worth.ratio == pytest.approx(ratio)
    low, high = ends
    assert worth.high == pytest.approx(high)
    assert worth.low < 1.7 if low is None else worth.low == pytest.approx(low)


@given(st.lists(st.integers(8000, 9900), min_size=9, max_size=9))
def test_worth_more_than_its_own_steps_is_better_than_the_schedule_of_these_steps(numbers):
    full, short, run = (dict(enumerate(each / 100 for each in numbers[at : at + 3])) for at in (0, 3, 6))
    if fmean(full.values()) <= fmean(short.values()):
        full, short = short, full
    made = {
        "full data": Entry("full data", "full data", None, True, None, {}, results_at(21, full)),
        SHORT: Entry(SHORT, SHORT, 0.5, True, None, {}, results_at(12, short)),
    }
    own = Entry("own", "own", 0.5, False, SHORT, {}, results_at(12, run))
    planned = Planned({}, "", {}, (0, 1, 2), REFERENCES, Sizes(200, 1000), ())
    worth, results = worth_of(Results(planned, made), own), Results(planned, made)
    difference = results.against_short(own)
    if min(abs(difference.low), abs(difference.high)) > 1e-6 and fmean(full.values()) > fmean(short.values()):
        assert (worth.low >= 1 - 1e-9) == (difference.low > 0)
        assert (worth.high <= 1 + 1e-9) == (difference.high < 0)
    assert worth.low <= worth.ratio + 1e-9
    assert worth.ratio <= worth.high + 1e-9


def results_at(steps, accuracies):
    return {seed: {"steps": steps, "accuracy_last": accuracy} for seed, accuracy in accuracies.items()}


def test_a_schedule_with_another_augmentation_is_no_point_of_the_curve(made):
    folders = []
    for name, more in (("plain", {}), ("both", {"short_augment": "crop"})):
        folder = made(name, methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2), **more)
        folder.finish("full data", (90.0, 92.0, 91.0)).finish(SHORT, (86.0, 88.0, 87.0))
        folders.append(folder.finish("OrderDP 50 %", (88.0, 90.0, 89.0)))
    folders[1].finish(f"{SHORT}, augment crop", (66.0, 68.0, 67.0))
    plain, both = (read_results(folder.path) for folder in folders)
    assert [entry.label for entry in both.schedules] == ["full data", SHORT]
    assert both.entries[f"{SHORT}, augment crop"].augment == "crop"
    assert worth_of(both, both.entries["OrderDP 50 %"]) == worth_of(plain, plain.entries["OrderDP 50 %"])


def test_schedules_of_equal_steps_are_averaged():
    curve = Curve.through([(100, 80.0), (200, 82.0), (200, 86.0), (400, 83.0)])
    assert curve.steps.tolist() == [100, 200, 400]
    assert curve.accuracies == pytest.approx([80, (84 * 2 + 83) / 3, (84 * 2 + 83) / 3])


def test_two_seeds_have_no_interval_and_seeds_that_a_reference_lacks_do_not_count(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2))
    folder.finish("full data", (90.0, 90.0, 99.0)).finish(SHORT, (86.0, 86.0, 86.0))
    folder.finish("OrderDP 50 %", (88.0, 88.0, 10.0))
    (folder.folder("full data", 2).path / "result.json").unlink()
    results = read_results(folder.path)
    worth = worth_of(results, results.entries["OrderDP 50 %"])
    assert worth == pytest.approx((math.sqrt(21 / 12), 0.0, math.inf, 2, ""))


def test_the_steps_of_a_run_are_those_of_the_seeds_that_count():
    """A method and its shorter schedule may make other steps with each seed. Full data lacks the third."""
    made = {
        "full data": Entry("full data", "full data", None, True, None, {}, results_at(21, {0: 90.0, 1: 90.0})),
        SHORT: Entry(
            SHORT, SHORT, 0.5, True, None, {}, {**results_at(12, {0: 86.0, 1: 86.0}), **results_at(90, {2: 86.0})}
        ),
    }
    results = {**results_at(10, {0: 88.0}), **results_at(14, {1: 88.0}), **results_at(90, {2: 88.0})}
    own = Entry("own", "own", 0.5, False, SHORT, {}, results)
    planned = Planned({}, "", {}, (0, 1, 2), REFERENCES, Sizes(200, 1000), ())
    worth = worth_of(Results(planned, made), own)
    assert (worth.ratio, worth.seeds) == (pytest.approx(math.sqrt(21 * 12) / 12), 2)


def test_schedules_of_equal_steps_are_one_point_and_no_curve():
    made = {
        label: Entry(label, label, 0.5, True, None, {}, results_at(21, {0: accuracy, 1: accuracy}))
        for label, accuracy in (("full data", 90.0), (SHORT, 89.0))
    }
    own = Entry("own", "own", 0.5, False, SHORT, {}, results_at(21, {0: 88.0, 1: 88.0}))
    planned = Planned({}, "", {}, (0, 1), REFERENCES, Sizes(200, 1000), ())
    assert worth_of(Results(planned, made), own) is None


def test_without_two_schedules_of_full_data_there_is_no_worth(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), against=("full",))
    folder.finish("full data", (90.0,)).finish("OrderDP 50 %", (88.0,))
    results = read_results(folder.path)
    assert worth_of(results, results.entries["OrderDP 50 %"]) is None
    assert worth_of(results, results.entries["full data"]) is None


def test_a_cost_may_stand_for_the_steps(pair):
    results = read_results(pair.path)
    entry = results.entries["OrderDP 50 %"]
    full, short = results.entries["full data"], results.entries[SHORT]
    in_cost = worth_of(results, entry, cost_of)
    curve = Curve.through([(each.mean(cost_of), each.mean("accuracy_last")) for each in (full, short)])
    assert in_cost.ratio == pytest.approx(curve.steps_to(entry.mean("accuracy_last"))[0] / entry.mean(cost_of))


def test_saved_is_the_other_side_of_worth():
    assert Worth(1.25, 1, 2, 3, "").saved == pytest.approx(0.2)
    assert Worth(0.8, 0.5, 1, 3, "").saved == pytest.approx(-0.25)
