"""The charts of a report, by the numbers that they were drawn from, and the tables that stand with them."""

import csv
import io
import math
from statistics import fmean, stdev

import numpy as np
import pytest

from orderdp.comparison.grid import with_method
from orderdp.comparison.results import read_results
from orderdp.report import charts
from orderdp.report.charts import Canvas
from orderdp.strategies.registry import parse

SHORT = "full data, steps of OrderDP 50 %"
EDGES = (0.0, 0.3, 0.5, 0.7, 1.0)


def rows(chart):
    return list(csv.DictReader(io.StringIO(chart.csv)))


def points(chart, x, y):
    """Run to its points."""
    found = {}
    for row in rows(chart):
        found.setdefault(row["run"], []).append((float(row[x]), float(row[y])))
    return found


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the charts drawn so far."""
    axes, finish = [], Canvas.finish

    def keep(canvas, *arguments, **named):
        axes.append(canvas.axes)
        return finish(canvas, *arguments, **named)

    monkeypatch.setattr(Canvas, "finish", keep)
    return axes


def test_the_frontier_has_a_point_for_each_run_by_passes_and_by_seconds(pair, drawn):
    by_passes, by_seconds = charts.frontier(read_results(pair.path)).charts
    assert points(by_passes, "passes", "accuracy") == {
        "OrderDP 50 %": [(pytest.approx(12 / 21), 91.0)],
        "full data": [(1.0, pytest.approx(91.3666666))],
        SHORT: [(pytest.approx(12 / 21), pytest.approx(90.1666666))],
    }
    assert [float(row["seconds"]) for row in rows(by_seconds)] == [6.0, 6.0, 4.0]
    assert [float(row["standard deviation"]) for row in rows(by_passes)] == [
        pytest.approx(stdev(values)) for values in ((90, 91, 92), (90.5, 91, 92.6), (89, 90.5, 91))
    ]
    assert drawn[0].get_xlabel() == "forward and backward passes, share of full data's"
    labels = drawn[0].get_legend_handles_labels()[1]
    assert sorted(labels) == ["OrderDP", "all data, shorter", "full data"]


def test_a_choice_within_the_batch_spares_backward_passes_only(made):
    folder = made(methods=(parse("ordered_sgd,prune_ratio=0.5"),), against=("full",), seeds=(0,))
    half = lambda seed, epoch: 224 * epoch // 2  # noqa: E731
    folder.finish("ordered SGD 50 %", [90], samples_backward=half).finish("full data", [91])
    by_passes, _ = charts.frontier(read_results(folder.path)).charts
    assert points(by_passes, "passes", "accuracy") == {
        "ordered SGD 50 %": [(pytest.approx(2 / 3), 90.0)],  # a third forward, two thirds backward, half of those left
        "full data": [(1.0, 91.0)],
    }


def test_without_full_data_passes_are_counted_and_no_share(pair, drawn):
    for seed in (0, 1, 2):
        (pair.folder("full data", seed).path / "result.json").unlink()
    by_passes, _ = charts.frontier(read_results(pair.path)).charts
    assert {row["passes"] for row in rows(by_passes)} == {"384.0"}
    assert drawn[0].get_xlabel() == "forward and backward passes, in samples"


def test_curves_are_means_over_the_seeds_by_seconds_and_by_samples(pair):
    section = charts.curves(read_results(pair.path))
    assert [chart.name for chart in section.charts] == ["time_to_accuracy_50", "samples_to_accuracy_50"]
    by_time, by_samples = section.charts
    curves = points(by_time, "seconds without evaluation", "test accuracy, %")
    assert curves["OrderDP 50 %"] == [(2.0, 89.0), (4.0, 90.0), (6.0, 91.0)]
    assert len(curves[SHORT]) == 2
    samples = points(by_samples, "samples that went through the model", "test accuracy, %")
    assert samples["full data"] == [(224 * epoch, pytest.approx(91.366666 - 3 + epoch)) for epoch in (1, 2, 3)]


def test_each_ratio_has_charts_of_its_own_with_full_data_beside(made):
    folder = made(methods=tuple(map(parse, ("orderdp,prune_ratio=0.3", "orderdp,prune_ratio=0.075"))))
    for label in ("OrderDP 30 %", "OrderDP 7.5 %", "full data", "full data, steps of OrderDP 30 %"):
        folder.finish(label, (90.0,))
    section = charts.curves(read_results(folder.path))
    assert [chart.name for chart in section.charts][::2] == ["time_to_accuracy_7.5", "time_to_accuracy_30"]
    runs = [list(points(chart, "seconds without evaluation", "test accuracy, %")) for chart in section.charts[::2]]
    assert runs == [
        ["OrderDP 7.5 %", "full data"],
        ["OrderDP 30 %", "full data", "full data, steps of OrderDP 30 %"],
    ]


@pytest.fixture
def long(made):
    """Ten epochs of three seeds, of values that differ in every epoch and seed."""
    folder = made(recipe=None, methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2), against=())
    values = np.random.default_rng(0).uniform(0.2, 0.9, size=(3, 10))
    folder.finish(
        "OrderDP 50 %",
        (90.0, 91.0, 92.0),
        epochs=10,
        jaccard=lambda seed, epoch: None if epoch == 1 else values[seed, epoch - 1],
        gradient_norm=lambda seed, epoch: values[seed, epoch - 1],
        gradient_norm_deviation=lambda seed, epoch: values[seed, epoch - 1] / 2,
    )
    return read_results(folder.path), values


def recount(values, first, last):
    """Mean and deviation over the seeds of the means over epochs `first` to `last`, counted from 1."""
    means = [fmean(row[first - 1 : last]) for row in values]
    return f"{fmean(means):.3f} ± {stdev(means):.3f}"


def test_windows_are_means_over_the_epochs_that_end_in_them(long):
    results, values = long
    tables = {table.name: table.lines for table in charts.progress(results, EDGES).tables}
    names = ("accuracy", "loss", "gradient_norm", "gradient_norm_deviation")
    assert list(tables) == [f"progress_{name}" for name in names]
    header, row = tables["progress_gradient_norm"]
    assert header == ["run", "0–30 %", "30–50 %", "50–70 %", "70–100 %", "last epoch"]
    assert row == ["OrderDP 50 %", *(recount(values, *of) for of in ((1, 3), (4, 5), (6, 7), (8, 10), (10, 10)))]
    halves = tables["progress_gradient_norm_deviation"][1]
    assert halves[1:] == [recount(values / 2, *of) for of in ((1, 3), (4, 5), (6, 7), (8, 10), (10, 10))]
    # Accuracy rises by a point an epoch to 90, 91 and 92; the loss is one over the epoch.
    assert tables["progress_accuracy"][1][1:] == [f"{mean:.2f} ± 1.00" for mean in (83, 85.5, 87.5, 90, 91)]
    losses = [1 / epoch for epoch in range(1, 11)]
    assert tables["progress_loss"][1][1] == f"{fmean(losses[:3]):.3f} ± 0.000"


def test_stability_leaves_out_the_first_epoch_which_has_none_before_it(long):
    results, values = long
    section = charts.stability(results, (0.0, 0.2, 1.0))
    (table,), (chart,) = section.tables, section.charts
    assert table.lines[1] == ["OrderDP 50 %", *(recount(values, *of) for of in ((2, 2), (3, 10), (10, 10)))]
    curve = points(chart, "epoch", "Jaccard similarity to the epoch before")["OrderDP 50 %"]
    assert curve == [(epoch, pytest.approx(values[:, epoch - 1].mean())) for epoch in range(2, 11)]


def test_checkpoints_are_compared_where_runs_have_measured_them(made):
    folder = made(methods=(parse("orderdp,prune_ratio=0.5"),), against=(), seeds=(0, 1))
    at = {4: 0.3, 6: 0.4, 8: 0.5, 10: 0.6}
    folder.finish(
        "OrderDP 50 %",
        [90, 91],
        epochs=10,
        jaccard_checkpoint=lambda seed, epoch: at.get(epoch) and at[epoch] + seed / 10,
    )
    section = charts.stability(read_results(folder.path), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert [table.name for table in section.tables] == ["jaccard", "jaccard_checkpoint"]
    spread = "± 0.071"
    expected = [f"{mean:.3f} {spread}" for mean in (0.35, 0.45, 0.55, 0.65, 0.65)]
    assert section.tables[1].lines[1] == ["OrderDP 50 %", "", *expected]
    assert "1/5 of the run apart" in section.tables[1].note


def test_a_window_without_an_epoch_is_left_blank(pair):
    section = charts.stability(read_results(pair.path), (0.0, 0.1, 1.0))
    assert section.tables[0].lines[1][1] == ""
    assert section.tables[0].lines[1][2] == "0.525 ± 0.000"  # epochs 2 and 3 of three


def test_gradients_stand_with_their_correlation(long):
    results, values = long
    section = charts.gradients(results)
    assert [chart.name for chart in section.charts] == ["gradient_norm_50", "gradient_norm_deviation_50", "joint_50"]
    correlations = [np.corrcoef(row, np.arange(10))[0, 1] for row in values]
    shown = f"{fmean(correlations):+.2f}".replace("-", "−")
    assert section.tables[0].lines[1:] == [["OrderDP 50 %", shown]]
    joint = {(int(row["seed"]), float(row["gradient norm"])) for row in rows(section.charts[2])}
    assert joint == {(seed, value) for seed in range(3) for value in values[seed]}


def measured(seed, epoch, *, surrogate):
    full = {"cosine": 0.9 + seed / 100, "norm_ratio": 1.5}
    return {"full": full, **({"surrogate": {"cosine": 0.99, "norm_ratio": 1.0}} if surrogate else {})}


def test_alignment_is_shown_where_it_was_measured(made):
    folder = made(methods=tuple(map(parse, ("orderdp,prune_ratio=0.5", "infobatch,prune_ratio=0.5"))), seeds=(0, 1))
    for label, surrogate in (("OrderDP 50 %", True), ("InfoBatch 50 %", False)):
        folder.finish(
            label,
            (90.0, 91.0),
            epochs=10,
            alignment=lambda seed, epoch, surrogate=surrogate: (
                measured(seed, epoch, surrogate=surrogate) if epoch % 5 == 0 else None
            ),
        )
    section = charts.alignment(read_results(folder.path), (0.0, 0.5, 1.0))
    tables = {table.name: table.lines for table in section.tables}
    assert tables["cosine_full"][1:] == [
        [label, *["0.905 ± 0.007"] * 3] for label in ("OrderDP 50 %", "InfoBatch 50 %")
    ]
    assert tables["norm_ratio_full"][1] == ["OrderDP 50 %", *["1.500 ± 0.000"] * 3]
    assert tables["cosine_surrogate"][1:] == [["OrderDP 50 %", *["0.990 ± 0.000"] * 3]]
    assert set(tables) == {"cosine_full", "norm_ratio_full", "cosine_surrogate", "norm_ratio_surrogate"}
    by_name = {chart.name: chart for chart in section.charts}
    assert set(by_name) == {"cosine_full_50", "cosine_surrogate_50"}
    curves = points(by_name["cosine_full_50"], "epoch", "cosine to the full gradient")
    assert curves["InfoBatch 50 %"] == [(5.0, pytest.approx(0.905)), (10.0, pytest.approx(0.905))]


def test_alignment_without_a_surrogate_shows_none(made):
    folder = made(methods=({"name": "infobatch", "prune_ratio": 0.5},), against=())
    folder.finish("InfoBatch 50 %", (90.0,), alignment=lambda seed, epoch: measured(seed, epoch, surrogate=False))
    section = charts.alignment(read_results(folder.path), (0.0, 1.0))
    assert [table.name for table in section.tables] == ["cosine_full", "norm_ratio_full"]
    assert [chart.name for chart in section.charts] == ["cosine_full_50"]


def test_what_was_not_measured_is_left_out(pair):
    results = read_results(pair.path)
    assert charts.alignment(results, (0.0, 1.0)) is None
    assert charts.decomposition(results) is None


def test_usage_is_the_share_of_the_samples_by_visits(pair):
    folder = pair.folder("OrderDP 50 %", 1)
    other = {"never_seen": 0.0, "gini": 0.5, "histogram": [0, 0, 0, 200], "class_shares": [0.1] * 10}
    folder.write_result({**folder.result(), "coverage": other})
    section = charts.usage(read_results(pair.path))
    (chart,), (table,) = section.charts, section.tables
    shares = {int(row["epochs"]): float(row["share of the samples"]) for row in rows(chart)}
    # Two seeds have 10, 90 and 100 samples of 0, 1 and 2 visits; one has 200 of 3.
    assert shares == pytest.approx({0: 0.1 / 3, 1: 0.9 / 3, 2: 1 / 3, 3: 1 / 3})
    assert {row["run"] for row in rows(chart)} == {"OrderDP 50 %"}
    assert table.lines[1] == ["OrderDP 50 %", "3.33 %", "0.333", "2.3", "2.0", "8.7–11.3 %"]
    assert [line[0] for line in table.lines[1:]] == ["OrderDP 50 %", "full data", SHORT]


SPLITS = {  # to accuracy; at 50 % and 75 %
    "orderdp,explore=0.5,exploit=1": 90.0,
    "orderdp,explore=1,exploit=0.5": 92.0,
    "orderdp,explore=1,exploit=0.5,initial_score=0": 88.0,
    "orderdp,explore=0.5,exploit=0.5": 80.0,
    "orderdp,prune_ratio=0.5": 85.0,  # of no split of its own
}


def test_each_split_is_a_cell_in_the_row_of_its_ratio_and_each_first_score_a_chart(made, drawn):
    folder = made(methods=tuple(map(parse, SPLITS)), against=())
    for member in folder.plan.members(200):
        text = next(text for text in SPLITS if with_method(folder.plan.recipe, parse(text)) == member.recipe)
        folder.finish(member.label, (SPLITS[text],))
    section = charts.decomposition(read_results(folder.path))
    first, zero = section.charts
    assert (first.name, zero.name) == ("decomposition_inf", "decomposition_0")
    cells = [
        tuple(float(row[name]) for name in ("prune ratio", "explore", "exploit", "accuracy")) for row in rows(first)
    ]
    assert cells == [(0.5, 0.5, 1.0, 90.0), (0.5, 1.0, 0.5, 92.0), (0.75, 0.5, 0.5, 80.0)]
    assert [row["initial score"] for row in rows(first)] == ["inf"] * 3
    assert [float(row["accuracy"]) for row in rows(zero)] == [88.0]
    axes = drawn[0]
    assert [text.get_text().split("\n")[-1] for text in axes.texts] == ["90.00", "92.00", "80.00"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["50 %", "75 %"]
    image = axes.images[0].get_array()
    assert image.shape == (2, 2)
    assert (image[0, 0], image[0, 1], image[1, 0]) == (0.0, 1.0, 0.0)
    assert math.isnan(image.filled(np.nan)[1, 1])


def test_a_split_of_which_one_half_is_given_is_drawn_with_the_other_that_it_has(made):
    folder = made(methods=({"name": "orderdp", "explore": 0.8}, {"name": "orderdp", "exploit": 0.8}), against=())
    for member in folder.plan.members(200):
        folder.finish(member.label, (90.0,))
    (chart,) = charts.decomposition(read_results(folder.path)).charts
    cells = [tuple(float(row[name]) for name in ("prune ratio", "explore", "exploit")) for row in rows(chart)]
    assert cells == [(0.52, 0.8, 0.6), (0.6, 0.5, 0.8)]


def test_the_shorter_schedule_that_most_methods_share_is_drawn_by_its_name(made, drawn):
    names = ("orderdp,explore=0.8,exploit=0.8", "orderdp,prune_ratio=0.36", "dynamic_random,prune_ratio=0.36")
    folder = made(methods=({"name": "infobatch", "prune_ratio": 0.36}, *map(parse, names)))
    for label in dict.fromkeys(member.label for member in folder.plan.members(200)):
        folder.finish(label, (90.0,))
    charts.curves(read_results(folder.path))
    labels = drawn[0].get_legend_handles_labels()[1]
    assert labels[-2:] == ["full data", "full data, steps of OrderDP explore 0.8 exploit 0.8"]


def test_every_chart_is_drawn_in_the_colours_of_the_page(pair):
    (chart, _) = charts.frontier(read_results(pair.path)).charts
    assert "#0072b2" in chart.svg
    assert "#0072b2" not in chart.inline
    assert "var(--series-0)" in chart.inline
    assert chart.inline.startswith("<svg")
    assert 'viewBox="' in chart.inline
    head = chart.inline[: chart.inline.index(">")]
    assert " width=" not in head
    assert " height=" not in head
    assert "<metadata>" not in chart.inline


def test_the_same_runs_give_the_same_charts(pair):
    first, second = (charts.curves(read_results(pair.path)).charts for _ in range(2))
    assert first == second


def test_what_is_drawn_are_the_numbers_that_stand_beside(pair, drawn):
    """The picture, and not only its numbers: places of points, and bars that stand upright."""
    results = read_results(pair.path)
    by_passes, _ = charts.frontier(results).charts
    for bars, (label, (x, y, spread)) in zip(
        drawn[0].containers,
        ((row["run"], tuple(float(cell) for cell in list(row.values())[1:])) for row in rows(by_passes)),
        strict=True,
    ):
        line, _, (upright,) = bars
        assert (*line.get_xdata(), *line.get_ydata()) == pytest.approx((x, y)), label
        assert (bars.has_xerr, bars.has_yerr) == (False, True)
        assert upright.get_segments()[0][:, 1] == pytest.approx([y - spread, y + spread])
    drawn.clear()
    by_time, by_samples = charts.curves(results).charts
    for axes, chart in zip(drawn, (by_time, by_samples), strict=True):
        expected = points(chart, axes.get_xlabel(), axes.get_ylabel())
        assert [[tuple(point) for point in line.get_xydata()] for line in axes.lines] == list(expected.values())
    drawn.clear()
    (chart,) = [chart for chart in charts.gradients(results).charts if chart.name == "joint_50"]
    dots = [tuple(point) for each in drawn[-1].collections for point in each.get_offsets()]
    assert dots == [(float(row["gradient norm"]), float(row["accuracy"])) for row in rows(chart)]


def test_the_bars_of_usage_are_centred_on_their_number_of_epochs_and_inside_the_frame(pair, drawn):
    charts.usage(read_results(pair.path))
    (stairs,) = drawn[0].patches
    values, edges, _ = stairs.get_data()
    assert list((edges[:-1] + edges[1:]) / 2) == [0, 1, 2]
    assert drawn[0].get_ylim()[0] == 0
    assert drawn[0].get_ylim()[1] > max(values)  # one method alone is no spike among others


def test_only_the_beginning_of_accuracy_curves_is_outside_the_frame(pair, drawn):
    peaked = (5.0, 99.0, 62.0)
    pair.finish("OrderDP 50 %", (62.0, 62.0, 62.0), epochs=3, accuracy=lambda _seed, epoch: peaked[epoch - 1])
    pair.finish("full data", (60.0, 60.0, 60.0))
    charts.curves(read_results(pair.path))
    for axes in drawn:
        low, high = axes.get_ylim()
        curves = [tuple(line.get_ydata()) for line in axes.lines]
        assert peaked in curves
        assert 5 < low < min(curve[-1] for curve in curves)
        assert high > 99


def test_runs_of_fewer_epochs_are_averaged_by_the_epochs_counted_from_their_end(made):
    folder = made(methods=(parse("infobatch,prune_ratio=0.5"),), against=(), seeds=(0, 1))
    folder.finish("InfoBatch 50 %", (90.0,), seeds=(0,), epochs=3)
    folder.finish("InfoBatch 50 %", (94.0,), seeds=(1,), epochs=2)
    by_time, _ = charts.curves(read_results(folder.path)).charts
    curve = points(by_time, "seconds without evaluation", "test accuracy, %")["InfoBatch 50 %"]
    assert curve == [(3.0, 91.0), (5.0, 92.0)]  # (4 and 2 s, 89 and 93 %), then (6 and 4 s, 90 and 94 %)
