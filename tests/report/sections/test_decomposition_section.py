"""Exploration against exploitation."""

import math

import pytest

from orderdp.comparison.grid import with_method
from orderdp.comparison.results import read_results
from orderdp.strategies.registry import parse
from orderdp.training.run_folder import spent_s
from reference.reported import make_section, rows

SPLITS = {  # to accuracy; at 50 % and 75 %
    "orderdp,explore=1,exploit=0.5": 92.0,
    "orderdp,explore=0.5,exploit=1": 90.0,
    "orderdp,explore=1,exploit=0.5,initial_score=0": 88.0,
    "orderdp,explore=0.5,exploit=0.5": 80.0,
    "orderdp,prune_ratio=0.5": 85.0,  # split evenly
}


def test_each_ratio_has_a_chart_and_each_first_score_a_curve_over_exploration(made, drawn):
    folder = made(methods=tuple(map(parse, SPLITS)), against=(), seeds=(0, 1))
    for member in folder.plan.members(200):
        found = {with_method(folder.plan.recipe, parse(text)).label: value for text, value in SPLITS.items()}
        folder.finish(member.label, (found[member.label] - 1, found[member.label] + 1))
    charts = make_section("decomposition", read_results(folder.path)).charts
    names = ["decomposition_50", "decomposition_50_seconds", "decomposition_75", "decomposition_75_seconds"]
    assert [chart.name for chart in charts] == [*names, "ratios_accuracy", "ratios_seconds"]
    half, seconds, quarter, _, over_ratios, _ = charts
    columns = ("prune ratio", "explore", "exploit", "initial score", "accuracy", "standard deviation")
    cells = [tuple(float(row[name]) for name in columns) for row in rows(half)]
    deviation = pytest.approx(math.sqrt(2))
    assert cells == [
        (0.5, 0.5, 1.0, math.inf, 90.0, deviation),
        (0.5, 0.707107, 0.707107, math.inf, 85.0, deviation),
        (0.5, 1.0, 0.5, math.inf, 92.0, deviation),
        (0.5, 1.0, 0.5, 0.0, 88.0, deviation),
    ]
    assert [float(row["accuracy"]) for row in rows(quarter)] == [80.0]
    spent = {
        spent_s(result) for entry in read_results(folder.path).entries.values() for result in entry.results.values()
    }
    assert [float(row["seconds"]) for row in rows(seconds)] == [pytest.approx(*spent)] * 4
    assert [(float(row["prune ratio"]), float(row["accuracy"])) for row in rows(over_ratios)] == [(0.5, 85), (0.75, 80)]
    first, zero = drawn[0].containers
    assert (first.get_label(), zero.get_label()) == ("samples without a loss first", "samples without a loss at 0")
    assert first[0].get_xydata().tolist() == [[0.5, 90.0], [0.707107, 85.0], [1.0, 92.0]]
    assert zero[0].get_xydata().tolist() == [[1.0, 88.0]]


def test_time_is_that_of_the_processor_where_all_runs_measured_it(made, drawn):
    folder = made(methods=tuple(map(parse, list(SPLITS)[3:])), against=(), seeds=(0, 1))
    for number, member in enumerate(folder.plan.members(200)):
        folder.finish(member.label, [90.0], seeds=[member.recipe.seed], also={"processor_s": 10.0 * number})
    *_, quarter, _, over_ratios = make_section("decomposition", read_results(folder.path)).charts
    assert (quarter.name, quarter.title) == ("decomposition_75_seconds", "Processor seconds by split at 75 %")
    assert (over_ratios.name, over_ratios.title) == ("ratios_seconds", "Processor seconds by prune ratio")
    assert drawn[-1].get_ylabel() == "processor seconds without\nevaluation"
    assert "What else ran on it disturbs them less than the clock." in quarter.note
    times = [[float(row["processor seconds"]) for row in rows(chart)] for chart in (quarter, over_ratios)]
    assert times == [[10.0], [20.0, 10.0]]


def test_a_split_of_which_one_half_is_given_is_drawn_with_the_other_that_it_has(made):
    folder = made(methods=({"name": "orderdp", "explore": 0.8}, {"name": "orderdp", "exploit": 0.8}), against=())
    for member in folder.plan.members(200):
        folder.finish(member.label, (90.0,))
    charts = make_section("decomposition", read_results(folder.path)).charts[::2]
    columns = ("prune ratio", "explore", "exploit")
    cells = [tuple(float(row[name]) for name in columns) for chart in charts for row in rows(chart)]
    assert cells == [(0.52, 0.8, 0.6), (0.6, 0.5, 0.8)]
    assert [chart.name for chart in charts] == ["decomposition_52", "decomposition_60"]
