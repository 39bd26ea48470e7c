"""How much of an epoch the next one trains again."""

from statistics import fmean, stdev

import pytest

from orderdp.comparison.results import read_results
from orderdp.training.methods import method_of
from reference.reported import make_section, points


def recount(values, first, last):
    """Mean and deviation over the seeds of the means over epochs `first` to `last`, counted from 1."""
    means = [fmean(row[first - 1 : last]) for row in values]
    return f"{fmean(means):.3f} ± {stdev(means):.3f}"


def test_stability_leaves_out_the_first_epoch_which_has_none_before_it(long):
    results, values = long
    section = make_section("stability", results, edges=(0.0, 0.2, 1.0))
    (table,), (chart,) = section.tables, section.charts
    assert table.lines[1] == ["OrderDP 50 %", *(recount(values, *of) for of in ((2, 2), (3, 10), (10, 10)))]
    curve = points(chart, "epoch", "Jaccard similarity to the epoch before")["OrderDP 50 %"]
    assert curve == [(epoch, pytest.approx(values[:, epoch - 1].mean())) for epoch in range(2, 11)]


def test_checkpoints_are_compared_where_runs_have_measured_them(made):
    folder = made(methods=(method_of("orderdp,prune_ratio=0.5"),), against=(), seeds=(0, 1))
    at = {4: 0.3, 6: 0.4, 8: 0.5, 10: 0.6}
    folder.finish(
        "OrderDP 50 %",
        [90, 91],
        epochs=10,
        jaccard_checkpoint=lambda seed, epoch: at.get(epoch) and at[epoch] + seed / 10,
    )
    section = make_section("stability", read_results(folder.path), edges=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert [table.name for table in section.tables] == ["jaccard", "jaccard_checkpoint"]
    spread = "± 0.071"
    expected = [f"{mean:.3f} {spread}" for mean in (0.35, 0.45, 0.55, 0.65, 0.65)]
    assert section.tables[1].lines[1] == ["OrderDP 50 %", "", *expected]
    assert "1/5 of the run apart" in section.tables[1].note


def test_a_window_without_an_epoch_is_left_blank(pair):
    section = make_section("stability", read_results(pair.path), edges=(0.0, 0.1, 1.0))
    assert section.tables[0].lines[1][1] == ""
    assert section.tables[0].lines[1][2] == "0.525 ± 0.000"  # epochs 2 and 3 of three
