"""Means by part of the run."""

from statistics import fmean, stdev

from orderdp.comparison.results import read_results
from reference.reported import SHORT, make_section

EDGES = (0.0, 0.3, 0.5, 0.7, 1.0)


def recount(values, first, last):
    """Mean and deviation over the seeds of the means over epochs `first` to `last`, counted from 1."""
    means = [fmean(row[first - 1 : last]) for row in values]
    return f"{fmean(means):.3f} ± {stdev(means):.3f}"


def test_windows_are_means_over_the_epochs_that_end_in_them(long):
    results, values = long
    tables = {table.name: table.lines for table in make_section("progress", results, edges=EDGES).tables}
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


def test_a_row_says_how_many_of_its_seeds_are_there(pair):
    (pair.folder("OrderDP 50 %", 1).path / "result.json").unlink()
    tables = make_section("progress", read_results(pair.path), edges=EDGES).tables
    assert [line[0] for line in tables[0].lines[1:]] == ["OrderDP 50 % (2 of 3)", "full data", SHORT]
