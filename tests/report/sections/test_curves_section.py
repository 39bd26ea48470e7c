"""Accuracy over seconds and samples."""

import pytest

from orderdp.comparison.results import read_results
from orderdp.strategies.registry import parse
from reference.reported import SHORT, make_section, points


def test_curves_are_means_over_the_seeds_by_seconds_and_by_samples(pair):
    section = make_section("curves", read_results(pair.path))
    assert [chart.name for chart in section.charts] == ["time_to_accuracy_50", "samples_to_accuracy_50"]
    by_time, by_samples = section.charts
    curves = points(by_time, "seconds without evaluation", "test accuracy, %")
    assert curves["OrderDP 50 %"] == [(2.0, 89.0), (4.0, 90.0), (6.0, 91.0)]
    assert len(curves[SHORT]) == 2
    samples = points(by_samples, "samples that went through the model", "test accuracy, %")
    assert samples["full data"] == [(224 * epoch, pytest.approx(91.366666 - 3 + epoch)) for epoch in (1, 2, 3)]


def test_time_is_that_of_the_processor_where_all_runs_measured_it(pair, drawn):
    for label in ("OrderDP 50 %", "full data", SHORT):
        assert "Seconds depend on the machine" in make_section("curves", read_results(pair.path)).text
        epochs = {"processor_s": lambda seed, epoch: 10.0 * epoch}
        pair.finish(label, (90.0, 91.0, 92.0), also={"processor_s": 60.0}, **epochs)
    drawn.clear()
    section = make_section("curves", read_results(pair.path))
    assert section.text.endswith(
        "Processor seconds, of all threads of a run, depend on the machine named below. What else ran on it disturbs "
        "them less than the clock."
    )
    assert drawn[0].get_xlabel() == "processor seconds without evaluation"
    curves = points(section.charts[0], "processor seconds without evaluation", "test accuracy, %")
    assert curves["OrderDP 50 %"] == [(10.0, 89.0), (30.0, 90.0), (60.0, 91.0)]


def test_each_ratio_has_charts_of_its_own_with_full_data_beside(made):
    folder = made(methods=tuple(map(parse, ("orderdp,prune_ratio=0.3", "orderdp,prune_ratio=0.075"))))
    for label in ("OrderDP 30 %", "OrderDP 7.5 %", "full data", "full data, steps of OrderDP 30 %"):
        folder.finish(label, (90.0,))
    section = make_section("curves", read_results(folder.path))
    assert [chart.name for chart in section.charts][::2] == ["time_to_accuracy_7.5", "time_to_accuracy_30"]
    runs = [list(points(chart, "seconds without evaluation", "test accuracy, %")) for chart in section.charts[::2]]
    assert runs == [
        ["OrderDP 7.5 %", "full data"],
        ["OrderDP 30 %", "full data", "full data, steps of OrderDP 30 %"],
    ]


def test_the_shorter_schedule_that_most_methods_share_is_drawn_by_its_name(made, drawn):
    names = ("orderdp,explore=0.8,exploit=0.8", "orderdp,prune_ratio=0.36", "dynamic_random,prune_ratio=0.36")
    folder = made(methods=({"name": "infobatch", "prune_ratio": 0.36}, *map(parse, names)))
    for label in dict.fromkeys(member.label for member in folder.plan.members(200)):
        folder.finish(label, (90.0,))
    make_section("curves", read_results(folder.path))
    labels = drawn[0].get_legend_handles_labels()[1]
    assert labels[-2:] == ["full data", "full data, steps of OrderDP explore 0.8 exploit 0.8"]


def test_the_same_runs_give_the_same_charts(pair):
    first, second = (make_section("curves", read_results(pair.path)).charts for _ in range(2))
    assert [(c.name, c.svg, c.csv, c.note) for c in first] == [(c.name, c.svg, c.csv, c.note) for c in second]


def test_only_the_beginning_of_accuracy_curves_is_outside_the_frame(pair, drawn):
    peaked = (5.0, 99.0, 62.0)
    pair.finish("OrderDP 50 %", (62.0, 62.0, 62.0), epochs=3, accuracy=lambda _seed, epoch: peaked[epoch - 1])
    pair.finish("full data", (60.0, 60.0, 60.0))
    make_section("curves", read_results(pair.path))
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
    by_time, _ = make_section("curves", read_results(folder.path)).charts
    curve = points(by_time, "seconds without evaluation", "test accuracy, %")["InfoBatch 50 %"]
    assert curve == [(3.0, 91.0), (5.0, 92.0)]  # (4 and 2 s, 89 and 93 %), then (6 and 4 s, 90 and 94 %)
