"""Accuracy against cost."""

import re
from statistics import stdev

import pytest

from orderdp.comparison.results import read_results
from orderdp.strategies.registry import parse
from reference.reported import SHORT, make_section, methods, points, rows


def test_the_frontier_has_a_point_for_each_run_by_cost_and_by_seconds(pair, drawn):
    by_cost, by_seconds = make_section("frontier", read_results(pair.path)).charts
    assert points(by_cost, "cost", "accuracy") == {
        "OrderDP 50 %": [(pytest.approx(12 / 21), 91.0)],
        "full data": [(1.0, pytest.approx(91.3666666))],
        SHORT: [(pytest.approx(12 / 21), pytest.approx(90.1666666))],
    }
    assert [float(row["seconds"]) for row in rows(by_seconds)] == [6.0, 6.0, 4.0]
    assert [float(row["standard deviation"]) for row in rows(by_cost)] == [
        pytest.approx(stdev(values)) for values in ((90, 91, 92), (90.5, 91, 92.6), (89, 90.5, 91))
    ]
    assert drawn[0].get_xlabel() == "cost in full training steps, share of full data's"
    labels = drawn[0].get_legend_handles_labels()[1]
    assert sorted(labels) == ["OrderDP", "full data", "full data, other schedules"]


def test_time_is_that_of_the_processor_where_all_runs_measured_it(pair, drawn):
    for number, label in enumerate(("OrderDP 50 %", "full data", SHORT), 1):
        _, by_seconds = make_section("frontier", read_results(pair.path)).charts
        assert (by_seconds.title, drawn[-1].get_xlabel()) == ("Accuracy against seconds", "seconds without evaluation")
        pair.finish(label, (90.0, 91.0, 92.0), also={"processor_s": 10.0 * number})
    _, by_seconds = make_section("frontier", read_results(pair.path)).charts
    assert (by_seconds.name, by_seconds.title) == ("frontier_seconds", "Accuracy against processor seconds")
    assert drawn[-1].get_xlabel() == "processor seconds without evaluation"
    assert [float(row["processor seconds"]) for row in rows(by_seconds)] == [10.0, 20.0, 30.0]
    assert "What else ran on it disturbs them less than the clock." in by_seconds.note


PRICES = {"first": 1e-5, "kept": 5e-5, "full": 4e-5}  # so 0.25 and 1.25 of a training step
RULES = {  # what an ordered SGD of half of each batch costs, and what the chart says of it
    "measured": ({"pass_s": PRICES}, 1.5, 0.25 + 0.5 * 1.25, "count what the run measured on its machine"),
    "not measured": ({"pass_s": None}, 1.5, 1 / 3 + 0.5, "Not measured, since the run was short or compiled: ordered "),
    "masked": ({}, 1.0, 1.0, "masked the loss, so all samples of their batches count 1: ordered SGD 50 %."),
}


@pytest.mark.parametrize("rule", list(RULES))
def test_a_choice_within_the_batch_costs_what_its_passes_do(made, drawn, rule):
    also, forward, cost, note = RULES[rule]
    folder = made(methods=(parse("ordered_sgd,prune_ratio=0.5"),), against=("full",), seeds=(0,))
    folder.finish(
        "ordered SGD 50 %",
        [90],
        also=also,
        samples_forward=lambda seed, epoch: int(forward * 224) * epoch,
        samples_backward=lambda seed, epoch: 112 * epoch,
    ).finish("full data", [91])
    by_cost, _ = make_section("frontier", read_results(folder.path)).charts
    assert points(by_cost, "cost", "accuracy") == {
        "ordered SGD 50 %": [(pytest.approx(cost), 90.0)],
        "full data": [(1.0, 91.0)],
    }
    assert note in by_cost.note
    assert ("priced by this machine's passes" in drawn[0].get_xlabel()) == (rule == "measured")


def test_a_schedule_with_another_augmentation_is_a_curve_of_its_own(made, drawn):
    folder = made(methods=methods("orderdp,prune_ratio=0.5"), seeds=(0, 1), short_augment="crop")
    folder.finish("OrderDP 50 %", (90.0, 91.0)).finish("full data", (91.0, 92.0))
    folder.finish(SHORT, (88.0, 89.0)).finish(f"{SHORT}, augment crop", (78.0, 79.0))
    make_section("frontier", read_results(folder.path))
    lines = {container.get_label(): container[0] for container in drawn[0].containers}
    assert lines["full data, other schedules"].get_ydata().tolist() == [88.5]
    assert lines["full data, other schedules, augment crop"].get_ydata().tolist() == [78.5]
    assert lines["full data, other schedules, augment crop"].get_marker() == "x"


def test_without_full_data_steps_are_counted_and_no_share(pair, drawn):
    for seed in (0, 1, 2):
        (pair.folder("full data", seed).path / "result.json").unlink()
    by_cost, _ = make_section("frontier", read_results(pair.path)).charts
    assert {row["cost"] for row in rows(by_cost)} == {"384.0"}
    assert drawn[0].get_xlabel() == "cost in full training steps"


def test_each_ratio_of_a_method_is_drawn_with_its_own_cost_accuracy_and_bar(made, drawn):
    folder = made(methods=methods("orderdp,prune_ratio=0.3", "orderdp,prune_ratio=0.7"), against=(), seeds=(0, 1))
    folder.finish("OrderDP 30 %", (88.0, 89.0)).finish("OrderDP 70 %", (90.0, 94.0))
    by_cost, _ = make_section("frontier", read_results(folder.path)).charts
    dear, cheap = rows(by_cost)
    ((line, _, (upright,)),) = drawn[0].containers
    cells = [(float(row["cost"]), float(row["accuracy"])) for row in (cheap, dear)]
    assert [tuple(point) for point in line.get_xydata()] == cells == [(192, 92), (480, 88.5)]
    spreads = [high - low for low, high in (bar[:, 1] for bar in upright.get_segments())]
    assert spreads == pytest.approx([2 * float(row["standard deviation"]) for row in (cheap, dear)])


def test_every_chart_is_drawn_in_the_colours_of_the_page(pair):
    (chart, _) = make_section("frontier", read_results(pair.path)).charts
    assert "#0072b2" in chart.svg
    assert "#0072b2" not in chart.inline
    assert "var(--series-0)" in chart.inline
    assert "var(--ink)" in chart.inline
    assert not re.findall(r"#[0-9a-f]{6}\b", chart.inline)
    assert chart.inline.startswith("<svg")
    assert 'viewBox="' in chart.inline
    head = chart.inline[: chart.inline.index(">")]
    assert " width=" not in head
    assert " height=" not in head
    assert "<metadata>" not in chart.inline


def test_what_is_drawn_are_the_numbers_that_stand_beside(pair, drawn):
    """The picture, and not only its numbers: places of points, and bars that stand upright."""
    results = read_results(pair.path)
    by_cost, _ = make_section("frontier", results).charts
    for bars, (label, (x, y, spread)) in zip(
        drawn[0].containers,
        ((row["run"], tuple(float(cell) for cell in list(row.values())[1:])) for row in rows(by_cost)),
        strict=True,
    ):
        line, _, (upright,) = bars
        assert (*line.get_xdata(), *line.get_ydata()) == pytest.approx((x, y)), label
        assert (bars.has_xerr, bars.has_yerr) == (False, True)
        assert upright.get_segments()[0][:, 1] == pytest.approx([y - spread, y + spread])
    drawn.clear()
    by_time, by_samples = make_section("curves", results).charts
    for axes, chart in zip(drawn, (by_time, by_samples), strict=True):
        expected = points(chart, axes.get_xlabel(), axes.get_ylabel())
        assert [[tuple(point) for point in line.get_xydata()] for line in axes.lines] == list(expected.values())
    drawn.clear()
    (chart,) = [chart for chart in make_section("gradients", results).charts if chart.name == "joint_50"]
    dots = [tuple(point) for each in drawn[-1].collections for point in each.get_offsets()]
    assert dots == [(float(row["gradient norm"]), float(row["accuracy"])) for row in rows(chart)]


def test_a_curve_says_that_runs_are_missing(pair, drawn):
    (pair.folder("OrderDP 50 %", 1).path / "result.json").unlink()
    make_section("frontier", read_results(pair.path))
    labels = drawn[0].get_legend_handles_labels()[1]
    assert sorted(labels) == ["OrderDP (runs missing)", "full data", "full data, other schedules"]
