"""The table that `orderdp train` prints and the page shows."""

from orderdp.comparison.results import read_results
from orderdp.output.text_table import as_text
from orderdp.report.overview import overview, write_overview
from reference.reported import SHORT, methods, without_results

HEADER = ["run", "accuracy, %", "best epoch, %", "samples", "cost saved", "steps"]
HEADER += ["train, s", "select, s", "data, s", "evaluate, s", "time saved"]


def test_rows_are_means_over_seeds_and_savings_are_against_full_data(pair):
    table = overview(read_results(pair.path))
    # Epochs of 1.5, 0.25, 0.25 and 0.125 seconds; the shorter schedule has two of them, the others three.
    assert table.lines == [
        HEADER,
        ["OrderDP 50 %", "91.00 ± 1.00", "91.00 ± 1.00", "384", "42.9 %", "12", "4.5", "0.75", "0.8", "0.4", "0.0 %"],
        ["full data", "91.37 ± 1.10", "91.37 ± 1.10", "672", "", "21", "4.5", "0.75", "0.8", "0.4", ""],
        [SHORT, "90.17 ± 1.04", "90.17 ± 1.04", "384", "42.9 %", "12", "3.0", "0.50", "0.5", "0.2", "33.3 %"],
    ]
    assert table.as_text().splitlines()[:4] == as_text(table.lines).splitlines()


def test_a_first_pass_counts_among_the_samples_and_costs_what_was_measured(made):
    folder = made(methods=methods("ordered_sgd,prune_ratio=0.5"), against=("full",))
    samples = {"samples_forward": lambda seed, epoch: 336 * epoch, "samples_backward": lambda seed, epoch: 112 * epoch}
    prices = {"first": 1e-5, "kept": 5e-5, "full": 4e-5}
    folder.finish("ordered SGD 50 %", [90], also={"pass_s": prices}, **samples).finish("full data", [91])
    table = overview(read_results(folder.path))
    # 672 samples of first passes at 1/4 of a training step, 336 of second passes at 5/4; full data has 672 steps of 1.
    assert table.lines[1][3:5] == ["1,008", "12.5 %"]
    assert "First pass: a forward pass without gradient" in table.note


def test_a_row_that_lacks_seeds_is_marked_and_one_without_results_is_blank(pair):
    without_results(pair, "OrderDP 50 %", 1)
    without_results(pair, SHORT, 0, 1, 2)
    _, pruned, _, short = overview(read_results(pair.path)).lines
    assert pruned[:3] == ["OrderDP 50 %", "91.00 ± 1.41 (2 of 3)", "91.00 ± 1.41 (2 of 3)"]
    assert short == [SHORT, "missing", "missing", *[""] * 8]


def test_time_is_that_of_the_processor_where_all_runs_measured_it(pair):
    for label, seconds in (("OrderDP 50 %", 6.0), ("full data", 8.0), (SHORT, 4.0)):
        before = overview(read_results(pair.path))
        assert (before.lines[0][-1], "Time is without evaluation." in before.note) == ("time saved", True)
        pair.finish(label, (90.0, 91.0, 92.0), also={"processor_s": seconds})
    table = overview(read_results(pair.path))
    assert [line[-1] for line in table.lines] == ["processor time saved", "25.0 %", "", "50.0 %"]
    assert "Time is without evaluation; processor time is that of all threads of a run." in table.note


def test_without_full_data_nothing_is_said_to_be_saved(pair):
    without_results(pair, "full data", 0, 1, 2)
    lines = overview(read_results(pair.path)).lines
    assert [(line[4], line[-1]) for line in lines[1:]] == [("", "")] * 3


def test_what_costs_more_than_full_data_is_saved_with_a_minus(pair):
    pair.finish("OrderDP 50 %", (90.0, 91.0, 92.0), training_s=lambda seed, epoch: 3.5)
    pruned = overview(read_results(pair.path)).lines[1]
    assert pruned[-1] == "−100.0 %"


def test_the_table_is_written_into_the_folder(pair):
    results = write_overview(pair.path)
    text = (pair.path / "table.md").read_text()
    assert text == overview(results).as_markdown()
    assert text.splitlines()[0] == f"| {' | '.join(HEADER)} |"
    assert "in comparison with full data" in text.splitlines()[-1]
