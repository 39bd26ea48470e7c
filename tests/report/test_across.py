"""The tables over all tasks of a study, on folders whose numbers are known."""

import math

import pytest
from scipy.stats import t, ttest_ind

from orderdp.cli import main
from orderdp.comparison.results import read_results
from orderdp.comparison.worth import worth_of
from orderdp.report.across import Across, _cells, across, mean_difference
from orderdp.report.page import read_report, write_report
from orderdp.report.tables_file import as_one_file, table_in
from reference.reported import methods, without_results
from report.test_page import study_of

SHORT = "full data, steps of OrderDP 50 %"
FIRST = {"OrderDP 50 %": (88.0, 90.5, 89.5), "full data": (90.0, 92.0, 91.0), SHORT: (86.0, 88.0, 87.0)}
SECOND = {"OrderDP 50 %": (85.0, 86.0, 87.0), "full data": (90.0, 90.5, 92.0), SHORT: (86.0, 86.0, 88.5)}
GAINS, LOSSES = (2.0, 2.5, 2.5), (-1.0, 0.0, -1.5)  # OrderDP minus the shorter schedule
ROWS = {"ours": ["OrderDP"]}


@pytest.fixture
def task(made):
    """The results of a task with OrderDP at the ratios of its runs, and other methods."""

    def make(name, runs, seeds=(0, 1, 2), others=(), **plan):
        ratios = [int(label.split()[1]) / 100 for label in runs if label.startswith("OrderDP")]
        folder = made(
            name, methods=methods(*(f"orderdp,prune_ratio={each}" for each in ratios), *others), seeds=seeds, **plan
        )
        for label, accuracies in runs.items():
            folder.finish(label, accuracies, seeds=seeds)
        return read_results(folder.path)

    return make


@pytest.fixture
def two(task):
    return {"first": task("first", FIRST), "second": task("second", SECOND)}


def cells_of(parts):
    return list(_cells(parts, "ours", ["OrderDP"]))


def short_of(ratio):
    return f"full data, steps of OrderDP {ratio} %"


# The mean difference.


def test_the_mean_over_two_tasks_has_the_interval_of_welch(two):
    found = mean_difference(cells_of(two))
    expected = ttest_ind(GAINS, [-each for each in LOSSES], equal_var=False).confidence_interval()
    assert found.mean == pytest.approx((sum(GAINS) + sum(LOSSES)) / 6)
    assert (found.low, found.high) == pytest.approx((expected.low / 2, expected.high / 2))
    assert found.seeds == 3


def test_tasks_of_other_seeds_count_with_their_own(task):
    more = (2.0, 1.0, -0.5, 1.5)
    runs = {SHORT: (86.0, 87.0, 88.0, 87.5), "full data": (90.0, 91.0, 92.0, 91.5)}
    runs["OrderDP 50 %"] = [short + each for short, each in zip(runs[SHORT], more, strict=True)]
    parts = {"first": task("first", FIRST), "other": task("other", runs, seeds=(1, 2, 3, 4))}
    found = mean_difference(cells_of(parts))
    expected = ttest_ind(GAINS, [-each for each in more], equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low / 2, expected.high / 2))
    assert found.seeds == 3


def test_cells_of_one_task_share_their_seeds(task):
    """Two ratios whose differences cancel seed by seed leave no spread; as independent cells they would."""
    runs = {
        "OrderDP 50 %": (88.0, 90.0, 89.0),  # 2, 3, 1 above
        "OrderDP 70 %": (80.0, 79.0, 81.0),  # 4, 3, 5 above
        "full data": (90.0, 92.0, 91.0),
        SHORT: (86.0, 87.0, 88.0),
        short_of(70): (76.0, 76.0, 76.0),
    }
    other = {**SECOND, "OrderDP 50 %": (87.0, 87.0, 90.0)}  # 1, 1, 1.5 above
    parts = {"both": task("both", runs), "other": task("other", other)}
    found = mean_difference(cells_of(parts))
    assert found.mean == pytest.approx((6.0 + 3.5 / 3) / 3)
    # The first task keeps the spread of rounding to a 360th, twice; the second that of 1, 1, 1.5.
    one, two = 2 * (100 / 360) ** 2 / 6 / 3, 1 / 12 / 3
    freedom = (one + two) ** 2 / (one**2 / 2 + two**2 / 2)
    half = t.ppf(0.975, freedom) * math.sqrt(one + two) / 3
    assert (found.high - found.low) / 2 == pytest.approx(half)
    at_half = mean_difference([cell for cell in cells_of(parts) if cell.entry.ratio == 0.5])
    assert at_half.mean == pytest.approx((2.0 + 3.5 / 3) / 2)


def test_a_run_without_a_result_takes_its_seed_from_all_cells_of_its_task(task, made):
    runs = {
        "OrderDP 50 %": (88.0, 90.0, 89.0, 50.0),
        "OrderDP 70 %": (80.0, 79.0, 81.0, 76.5),
        "full data": (90.0, 92.0, 91.0, 91.0),
        SHORT: (86.0, 87.5, 88.0, 88.0),
        short_of(70): (76.0, 76.0, 76.0, 76.0),
    }
    folder = made("lacking", methods=methods("orderdp,prune_ratio=0.5", "orderdp,prune_ratio=0.7"), seeds=(0, 1, 2, 3))
    for label, accuracies in runs.items():
        folder.finish(label, accuracies)
    without_results(folder, "OrderDP 50 %", 3)
    parts = {"lacking": read_results(folder.path), "second": task("second", SECOND)}
    found = mean_difference(cells_of(parts))
    sums = (2 + 4, 2.5 + 3, 1 + 5)
    assert found.mean == pytest.approx((sum(sums) / 3 + sum(LOSSES) / 3) / 3)
    table = across(parts, ROWS).tables[1]
    assert table.lines[1][1].endswith("] (pairs missing)")
    assert table.lines[1][2].endswith("] (pairs missing)")


# The tables and sentences.


def test_the_tables_are_those_of_a_hand_computation(two):
    (may,), (worth, short) = across(two, ROWS)
    # Full data makes 21 steps, the shorter schedule 12. The first run lies 7/12 of the way up; the second below both.
    ratio = math.sqrt((21 / 12) ** (7 / 12))
    assert worth.lines == [["method", "50 %"], ["ours", f"at most +{100 * (ratio - 1):.0f} % (2: 1 more, 0 fewer)"]]
    assert short.lines[0] == ["method", "50 %", "all cells", "worst cell", "0.2 excluded", "0.2 shown"]
    name, at_half, of_all, worst, excluded, shown = short.lines[1]
    assert (name, at_half) == ("ours", of_all)
    assert of_all.startswith("+0.75 [")
    assert worst == "−0.83 [−2.73, +1.06] in second at 50 %"
    assert (excluded, shown) == ("1 of 2", "0 of 2")
    assert may == (
        f"ours is worth at most {100 * (ratio - 1):.0f} % more steps than stopping early at 50 % (2 tasks). Its "
        f"accuracy minus that of the shorter schedule is {of_all} points, the mean over 2 cells of 2 tasks. A loss of "
        "0.2 points is excluded in 1 of them and shown in 0."
    )


@pytest.fixture
def wide(task):
    """Two tasks at 50 and 70 %, with one cell that is worth fewer steps for certain and one above the curve."""
    first = {
        "OrderDP 50 %": (88.0, 90.1, 88.9),
        "OrderDP 70 %": (70.0, 71.1, 71.9),
        "full data": (90.0, 92.0, 91.0),
        SHORT: (86.0, 88.0, 87.0),
        short_of(70): (76.0, 77.0, 78.0),
    }
    second = {**first, "OrderDP 50 %": (95.0, 96.1, 95.9), "OrderDP 70 %": (77.0, 78.1, 78.9)}
    return {"first": task("first", first), "second": task("second", second)}


def test_each_column_holds_its_own_ratio(wide):
    may, (worth, short) = across(wide, ROWS)
    assert worth.lines[0] == ["method", "50 %", "70 %"]
    expected = []
    for ratio in (0.5, 0.7):
        found = [worth_of(cell.results, cell.entry) for cell in cells_of(wide) if cell.entry.ratio == ratio]
        expected.append(math.exp(sum(math.log(each.ratio) for each in found) / 2))
    half, hard = (f"{100 * (each - 1):+.0f} %".replace("-", "−") for each in expected)
    assert worth.lines[1] == ["ours", f"at least {half} (2: 2 more, 0 fewer)", f"at most {hard} (2: 1 more, 1 fewer)"]
    assert hard != half
    assert short.lines[1][1].startswith("+5.33 [")  # 2.0 and 8.67
    assert short.lines[1][2].startswith("−2.50 [")  # -6.0 and 1.0
    assert short.lines[1][3].startswith("+1.42 [")
    assert short.lines[1][4].startswith("−6.00 [")
    assert short.lines[1][4].endswith("in first at 70 %")
    assert short.lines[1][5:] == ["3 of 4", "1 of 4"]
    assert f"at least {half[1:]} more steps than stopping early at 50 % (2 tasks)" in may[0]


def test_fewer_steps_are_said_as_fewer(task):
    runs = {**FIRST, "OrderDP 50 %": (70.0, 71.0, 72.0), "full data": (90.0, 92.0, 91.0)}
    extra = {"OrderDP 70 %": (60.0, 61.0, 62.0), short_of(70): (76.0, 77.5, 78.0)}
    parts = {name: task(name, {**runs, **extra}) for name in ("first", "second")}
    (may,), _ = across(parts, ROWS)
    assert "is worth at least " in may
    assert " % fewer steps than stopping early at 50 % (2 tasks)" in may
    assert "shown in 4" in may


def test_a_loss_is_excluded_by_the_whole_interval_and_shown_only_beyond_the_margin_after_holm(task):
    def of(*below):
        parts = {}
        for number, each in enumerate(below):
            runs = {**SECOND, "OrderDP 50 %": [short - each for short in SECOND[SHORT]]}
            parts[str(number)] = task(f"{number} {below}", runs)
        return across(parts, ROWS).tables[1].lines[1][-2:]

    # All seeds are equally far below; the test set of 360 images makes the standard error 0.0655. With two degrees of
    # freedom, one cell needs to lie 2.92 errors below -0.2, and the worst of two cells 4.30.
    assert of(1.0, -1.0) == ["1 of 2", "1 of 2"]
    assert of(0.45, -1.0) == ["1 of 2", "0 of 2"]  # 3.8 errors
    assert of(0.45, 1.0) == ["0 of 2", "2 of 2"]  # the second only needs 2.92
    assert of(0.15, 0.15) == ["0 of 2", "0 of 2"]  # above -0.2, but their intervals reach 0.28 further down


# What does not count.


def test_a_task_whose_full_data_gains_nothing_from_its_steps_is_left_out_of_the_worth(task, two):
    runs = {**SECOND, "full data": (86.5, 86.0, 88.0)}  # 0.5, 0, -0.5 above half of its steps
    parts = {**two, "flat": task("flat", runs)}
    (may,), (worth, short) = across(parts, ROWS)
    _, (without, _) = across(two, ROWS)
    assert worth.lines == without.lines
    assert "Left out: flat, where full data" in worth.note
    assert "Left out" not in without.note
    assert short.lines[1][-1] == "0 of 3"
    assert "(2 tasks)" in may
    assert "3 cells of 3 tasks" in may


def test_a_task_is_flat_beside_the_schedule_of_half_its_steps_and_no_other(task, two):
    """Full data hardly gains from its last tenth of the steps, and much from the second half."""
    most = "full data, 90 % of the steps"
    gains = task("gains", {**SECOND, most: (90.0, 90.5, 92.0)}, budgets=(0.9,))
    assert {entry.label for entry in gains.schedules} == {"full data", SHORT, most}
    worth, _ = across({**two, "gains": gains}, ROWS).tables
    assert "Left out" not in worth.note
    assert "(3: " in worth.lines[1][1]


def test_accuracies_above_one_curve_and_below_another_are_worth_about_their_ends(task):
    above = task("above", {**FIRST, "OrderDP 50 %": (95.0, 96.1, 95.9)})
    below = task("below", {**FIRST, "OrderDP 50 %": (70.0, 71.1, 71.9)})
    (may,), (worth, _) = across({"above": above, "below": below}, ROWS)
    # The ends are 21 steps and 12, of 12 of its own.
    assert worth.lines[1][1] == f"about +{100 * (math.sqrt(21 / 12) - 1):.0f} % (2: 1 more, 1 fewer)"
    assert "is worth about 32 % more steps" in may


def test_high_ratios_few_seeds_and_other_methods_are_left_out(task, two):
    runs = {
        "OrderDP 50 %": (88.0, 90.0, 89.0),
        "OrderDP 70 %": (88.0, 90.0, 89.0),
        "OrderDP 80 %": (10.0, 10.0, 10.0),
        "full data": (90.0, 92.0, 91.0),
        SHORT: (86.0, 88.0, 87.0),
        short_of(70): (76.0, 76.0, 76.0),  # also the steps of 80 %
    }
    few = {label: values[:2] for label, values in SECOND.items()}
    hard = task("hard", runs)
    parts = {"first": two["first"], "hard": hard, "few": task("few", few, seeds=(0, 1))}
    _, (_, short) = across(parts, {**ROWS, "none": ["UCB"]})
    assert [line[0] for line in short.lines] == ["method", "ours"]
    assert short.lines[0][1:3] == ["50 %", "all cells"]  # the only ratio of all tasks
    assert short.lines[1][-1] == "0 of 3"  # 50 % twice, and 70 %
    assert "few" not in str(short.lines)
    assert across({"first": two["first"]}, ROWS) == Across()
    assert across(two, {}) == Across()
    assert across(two, {"none": ["UCB"]}) == Across()


def test_a_method_that_left_nothing_out_is_left_out(made, two):
    folder = made("idle", methods=methods("kakurenbo,confidence=0.53,prune_ratio=0.5"), seeds=(0, 1, 2))
    for label, accuracies in (
        ("KAKURENBO 50 % confidence 0.53", (89.0, 90.0, 91.0)),
        ("full data", (90.0, 92.0, 91.0)),
        ("full data, steps of KAKURENBO 50 % confidence 0.53", (10.0, 10.0, 10.0)),
    ):
        folder.finish(label, accuracies, samples_backward=lambda _, epoch: 10_000 * epoch)
    parts = {**two, "idle": read_results(folder.path)}
    assert across(parts, {**ROWS, "theirs": ["KAKURENBO confidence 0.53"]}) == across(two, ROWS)


def test_a_row_that_names_two_methods_of_a_part_is_refused(task, two):
    others = ("dynamic_random,prune_ratio=0.5",)
    parts = {**two, "both": task("both", FIRST, others=others)}
    message = (
        "^a row of across must name one method of each part, got OrderDP and dynamic random of both in 'ours'; give"
    )
    with pytest.raises(ValueError, match=message):
        across(parts, {"ours": ["OrderDP", "dynamic random"]})


# Where they stand.


def test_a_study_shows_them_on_its_page_in_its_files_and_beside_its_archive(task, tmp_path, capsys):
    task("first", FIRST), task("second", SECOND)
    study_of(tmp_path, "first", "second", across=ROWS)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("All tasks together") == 2  # a link and a heading
    assert "in second at 50" in page
    assert "A loss of 0.2 points is excluded" in page
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
