"""The tables over all tasks of a study, on folders whose numbers are known."""

import math

import pytest
from scipy.stats import t, ttest_ind

from orderdp.cli import main
from orderdp.comparison.results import read_results
from orderdp.report.across import Across, Cell, across, mean_difference
from orderdp.report.page import read_report, write_report
from orderdp.report.tables_file import as_one_file, table_in
from reference.reported import methods
from report.test_page import study_of

FIRST = {"OrderDP 50 %": (88.0, 90.5, 89.5), "full data": (90.0, 92.0, 91.0), "short": (86.0, 88.0, 87.0)}
SECOND = {"OrderDP 50 %": (85.0, 86.0, 87.0), "full data": (90.0, 92.0, 91.0), "short": (86.0, 86.0, 88.5)}
GAINS, LOSSES = (2.0, 2.5, 2.5), (-1.0, 0.0, -1.5)  # OrderDP minus the shorter schedule
ROWS = {"ours": ["OrderDP"]}


@pytest.fixture
def task(made):
    """Makes the folder of a task with one method at the ratios of its runs."""

    def make(name, runs, seeds=(0, 1, 2)):
        asked = [f"orderdp,prune_ratio={label.split()[-2]}" for label in runs if label.startswith("OrderDP")]
        asked = [text[: text.index("=") + 1] + str(int(text[text.index("=") + 1 :]) / 100) for text in asked]
        folder = made(name, methods=methods(*asked), seeds=seeds)
        for label, accuracies in runs.items():
            folder.finish(label.replace("short", "full data, steps of OrderDP 50 %"), accuracies, seeds=seeds)
        return folder

    return make


@pytest.fixture
def two(task):
    return {"first": read_results(task("first", FIRST).path), "second": read_results(task("second", SECOND).path)}


def cells_of(parts):
    return [
        Cell(name, results, entry)
        for name, results in parts.items()
        for entry in results.entries.values()
        if not entry.reference
    ]


def test_the_mean_over_two_tasks_has_the_interval_of_welch(two):
    found = mean_difference(cells_of(two))
    expected = ttest_ind(GAINS, [-each for each in LOSSES], equal_var=False).confidence_interval()
    assert found.mean == pytest.approx((sum(GAINS) + sum(LOSSES)) / 6)
    assert (found.low, found.high) == pytest.approx((expected.low / 2, expected.high / 2))
    assert found.seeds == 3


def test_cells_of_one_task_share_their_seeds(task):
    """Two ratios whose differences cancel seed by seed leave no spread; as independent cells they would."""
    runs = {
        "OrderDP 50 %": (88.0, 90.0, 89.0),  # 2, 3, 1 above
        "OrderDP 70 %": (80.0, 79.0, 81.0),  # 4, 3, 5 above
        "full data": (90.0, 92.0, 91.0),
        "short": (86.0, 87.0, 88.0),
        "full data, steps of OrderDP 70 %": (76.0, 76.0, 76.0),
    }
    other = {**SECOND, "OrderDP 50 %": (87.0, 87.0, 90.0)}  # 1, 1, 1.5 above
    parts = {"both": read_results(task("both", runs).path), "other": read_results(task("other", other).path)}
    found = mean_difference(cells_of(parts))
    assert found.mean == pytest.approx((6.0 + 3.5 / 3) / 3)
    # The first task keeps the spread of rounding to a 360th, twice; the second that of 1, 1, 1.5.
    one, other = 2 * (100 / 360) ** 2 / 6 / 3, 1 / 12 / 3
    freedom = (one + other) ** 2 / (one**2 / 2 + other**2 / 2)
    half = t.ppf(0.975, freedom) * math.sqrt(one + other) / 3
    assert (found.high - found.low) / 2 == pytest.approx(half)


def test_the_tables_are_those_of_a_hand_computation(two):
    (may,), (worth, short) = across(two, ROWS)
    # Full data makes 21 steps, the shorter schedule 12. At first OrderDP lies 7/12 of the way up, then 25/33 below it.
    assert worth.lines[0] == ["method", "50 %"]
    share = (268 / 3 - 87) / (91 - 87)
    ratio = math.sqrt((21 / 12) ** share * 1.0)
    assert worth.lines[1] == ["ours", f"+{100 * (ratio - 1):.0f} % (2: 1 more, 0 fewer)"]
    assert short.lines[0] == ["method", "50 %", "all cells", "worst cell", "worse by 0.2"]
    name, at_half, of_all, worst, worse = short.lines[1]
    assert (name, at_half) == ("ours", of_all)
    assert of_all.startswith("+0.75 [")
    assert worst == "−0.83 [−2.73, +1.06] in second at 50 %"
    assert worse == "0 of 2"
    assert may == (
        f"Over 2 tasks, ours is worth {100 * (ratio - 1):.0f} % more steps than stopping early at 50 %. Its accuracy "
        f"minus that of the shorter schedule is {of_all} points, the mean over 2 cells; worse by 0.2 points for "
        "certain: 0 of 2."
    )


def test_a_cell_is_worse_only_if_it_is_so_beyond_the_margin_after_holm(task):
    def of(*below):
        parts = {}
        for number, each in enumerate(below):
            runs = {**SECOND, "OrderDP 50 %": [short - each for short in SECOND["short"]]}
            parts[str(number)] = read_results(task(f"{number} {below}", runs).path)
        return across(parts, ROWS).tables[1].lines[1][-1]

    # All seeds are equally far below; the test set of 360 images makes the standard error 0.0655. With two degrees of
    # freedom, one cell needs to lie 2.92 errors below -0.2, and the worst of two cells 4.30.
    assert of(1.0, -1.0) == "1 of 2"
    assert of(0.45, -1.0) == "0 of 2"  # 3.8 errors
    assert of(0.45, 1.0) == "2 of 2"  # the second only needs 2.92
    assert of(0.15, 0.15) == "0 of 2"


def test_what_does_not_count_is_left_out(task, two):
    runs = {
        "OrderDP 50 %": (88.0, 90.0, 89.0),
        "OrderDP 90 %": (10.0, 10.0, 10.0),
        "full data": (90.0, 92.0, 91.0),
        "short": (86.0, 88.0, 87.0),
        "full data, steps of OrderDP 90 %": (76.0, 76.0, 76.0),
    }
    hard = read_results(task("hard", runs).path)
    _, (_, short) = across({"first": two["first"], "hard": hard}, {**ROWS, "none": ["UCB"]})
    assert [line[0] for line in short.lines] == ["method", "ours"]
    assert "90 %" not in str(short.lines)
    assert across({"first": two["first"]}, ROWS) == Across()
    assert across(two, {}) == Across()
    assert across(two, {"none": ["UCB"]}) == Across()


def test_one_seed_has_no_mean(task):
    parts = {
        name: read_results(task(name, {label: values[:1] for label, values in runs.items()}, seeds=(0,)).path)
        for name, runs in (("first", FIRST), ("second", SECOND))
    }
    may, (worth, short) = across(parts, ROWS)
    assert may == []
    assert short.lines[1][1:] == ["", "", "", ""]
    assert worth.lines[1][1].endswith("% (2: 0 more, 0 fewer)")


def test_a_study_shows_them_on_its_page_in_its_files_and_beside_its_archive(task, tmp_path, capsys):
    task("first", FIRST), task("second", SECOND)
    study_of(tmp_path, "first", "second", across=ROWS)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("All tasks together") == 2  # a link and a heading
    assert "in second at 50" in page
    assert "in second at 50 %" in (tmp_path / "report" / "tables" / "across-against_short.csv").read_text("utf-8")
    text = as_one_file(read_report(tmp_path))
    assert table_in(text, "across-worth").count("\n") == 2
    archive = tmp_path / "archive.jsonl.xz"
    assert main(["report", str(tmp_path), "--archive", str(archive)]) == 0
    assert as_one_file(read_report(archive)) == text


def test_a_study_without_rows_shows_none(task, tmp_path):
    task("first", FIRST), task("second", SECOND)
    study_of(tmp_path, "first", "second")
    assert "All tasks together" not in write_report(tmp_path).read_text(encoding="utf-8")
    assert read_report(tmp_path).across == Across()
