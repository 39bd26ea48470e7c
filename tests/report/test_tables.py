"""The tables of a report, against folders whose numbers are known."""

import math

import pytest

from orderdp.comparison.results import read_results
from orderdp.comparison.verdicts import Difference
from orderdp.report import tables
from orderdp.report.outline import Published
from orderdp.report.series import colors_of, percent, place_of, ratios_of
from orderdp.strategies.registry import parse

SHORT = "full data, steps of OrderDP 50 %"


def methods(*given):
    return tuple(map(parse, given))


def without_results(folder, label, *seeds):
    for seed in seeds:
        (folder.folder(label, seed).path / "result.json").unlink()


@pytest.fixture
def many(made):
    """Three methods at two ratios, one with sizes of its own, one that forwards everything."""
    folder = made(
        methods=methods(
            "orderdp,prune_ratio=0.3",
            "dynamic_random,prune_ratio=0.3",
            "ordered_sgd,prune_ratio=0.3",
            "orderdp,prune_ratio=0.7",
            "dynamic_random,prune_ratio=0.7",
            "orderdp,explore=0.5,exploit=0.6",
        ),
        seeds=(0, 1),
    )
    for number, label in enumerate(dict.fromkeys(member.label for member in folder.plan.members(200))):
        folder.finish(label, (90.0 + number, 91.0 + number))
    return folder


def test_accuracy_has_a_row_for_each_method_and_a_column_for_each_ratio(many):
    (table,) = tables.accuracy(read_results(many.path)).tables
    assert table.lines == [
        ["method", "30 %", "70 %"],
        ["OrderDP", "90.50 ± 0.71", "93.50 ± 0.71"],
        ["dynamic random", "91.50 ± 0.71", "94.50 ± 0.71"],
        ["ordered SGD (prunes 0 %)", "92.50 ± 0.71", ""],
        ["OrderDP explore 0.5 exploit 0.6", "", "95.50 ± 0.71"],
        ["full data", "96.50 ± 0.71", "96.50 ± 0.71"],
        ["full data, steps of OrderDP", "97.50 ± 0.71", "98.50 ± 0.71"],
    ]
    assert "over the seeds 0, 1." in table.note


def test_accuracy_marks_what_is_missing(pair):
    without_results(pair, "OrderDP 50 %", 1)
    without_results(pair, SHORT, 0, 1, 2)
    (table,) = tables.accuracy(read_results(pair.path)).tables
    assert table.lines[1:] == [
        ["OrderDP (prunes 43 %)", "91.00 ± 1.41 (2 of 3)"],
        ["full data", "91.37 ± 1.10"],
        ["full data, steps of OrderDP", "missing"],
    ]


def test_accuracy_of_full_data_alone_has_a_column_of_its_own(made):
    folder = made(methods=({"name": "full"},), seeds=(0, 1)).finish("full data", (90.0, 91.0))
    (table,) = tables.accuracy(read_results(folder.path)).tables
    assert table.lines == [["method", ""], ["full data", "90.50 ± 0.71"]]


def test_what_the_paper_printed_stands_beside_as_it_is_printed(pair):
    printed = Published("CIFAR-10", ("method", "30 %"), {"OrderDP": ["95.6"], "UCB": ["95.3"]})
    measured, theirs = tables.beside(tables.accuracy(read_results(pair.path)), [(1, printed)]).tables
    assert "of the paper's own networks, data and schedules" in theirs.note
    assert (measured.name, theirs.name, theirs.title) == ("accuracy", "paper-1", "In the paper: CIFAR-10")
    assert [list(cells) for cells in theirs.lines] == [["method", "30 %"], ["OrderDP", "95.6"], ["UCB", "95.3"]]


def test_differences_are_those_of_a_hand_computation(pair):
    table = tables.differences(read_results(pair.path)).tables[-1]
    # OrderDP less full data: -0.5, 0, -0.6; less the shorter schedule: 1, 0.5, 1; that one less full data: -1.5, -0.5,
    # -1.6. Half an interval is 4.3027 · standard deviation / √3. Steps of 32 samples: 12 of 21.
    assert table.lines == [
        ["run", "last, %", "− full data", "verdict", "− shorter schedule", "samples backward"],
        [
            "OrderDP 50 %",
            "91.00 ± 1.00",
            "−0.37 [−1.17, +0.43]",
            "too few seeds to say",
            "+0.83 [+0.12, +1.55]",
            "57.1 %",
        ],
        ["full data", "91.37 ± 1.10", "", "", "", "100.0 %"],
        [SHORT, "90.17 ± 1.04", "−1.20 [−2.71, +0.31]", "too few seeds to say", "", "57.1 %"],
    ]


def test_a_difference_of_fewer_pairs_than_planned_says_so(pair):
    without_results(pair, "full data", 1)
    table = tables.differences(read_results(pair.path)).tables[-1]
    # −0.5 and −0.6: half an interval is 12.706·(100/360)/√6/√2.
    assert table.lines[1][1:3] == ["91.00 ± 1.00", "−0.55 [−1.57, +0.47] (2 of 3 pairs)"]
    assert table.lines[1][4] == "+0.83 [+0.12, +1.55]"


def test_differences_say_nothing_where_runs_are_missing(pair):
    without_results(pair, "full data", 0, 1, 2)
    without_results(pair, SHORT, 1, 2)
    table = tables.differences(read_results(pair.path)).tables[-1]
    assert table.lines[1:] == [
        ["OrderDP 50 %", "91.00 ± 1.00", "", "", "+1.00 (1 of 3 pairs)", ""],
        ["full data", "missing", "", "", "", ""],
        [SHORT, "89.00 (1 of 3)", "", "", "", ""],
    ]


def test_differences_stand_in_a_grid_with_what_may_be_said(made):
    names = ("orderdp", "dynamic_random")
    grid = tuple({"name": name, "prune_ratio": ratio} for ratio in (0.3, 0.6) for name in names)
    folder = made(methods=grid, seeds=(0, 1, 2))
    folder.finish("full data", (90.0, 90.5, 91.0))
    folder.finish("full data, steps of OrderDP 30 %", (89.0, 89.5, 90.0))
    folder.finish("full data, steps of OrderDP 60 %", (88.0, 88.5, 89.0))
    folder.finish("OrderDP 30 %", (90.0, 90.5, 91.0)).finish("OrderDP 60 %", (87.0, 87.5, 88.0))
    folder.finish("dynamic random 30 %", (89.0, 89.5, 89.9)).finish("dynamic random 60 %", (88.0, 89.5, 88.0))
    to_full, to_short, to_first, _ = tables.differences(read_results(folder.path)).tables
    assert [table.name for table in (to_full, to_short, to_first)] == ["against_full", "against_short", "against_first"]
    # Equal differences: half of the interval is 4.3027·(100/360)/√6/√3 = 0.28.
    assert to_full.lines == [
        ["method", "30 %", "60 %"],
        ["OrderDP (prunes 29, 57 %)", "+0.00 [−0.28, +0.28]", "−3.00 [−3.28, −2.72] loses"],
        ["dynamic random (prunes 29, 57 %)", "−1.03 [−1.32, −0.75] loses", "−2.00 [−4.48, +0.48]"],
    ]
    assert to_short.lines == [
        ["method", "30 %", "60 %"],
        ["OrderDP (prunes 29, 57 %)", "+1.00 [+0.72, +1.28] better", "−1.00 [−1.28, −0.72] worse"],
        ["dynamic random (prunes 29, 57 %)", "−0.03 [−0.32, +0.25]", "+0.00 [−2.48, +2.48]"],
    ]
    assert to_first.title == "Less OrderDP at the same prune ratio"
    assert to_first.lines == [
        ["method", "30 %", "60 %"],
        ["dynamic random (prunes 29, 57 %)", "−1.03 [−1.32, −0.75] worse", "+1.00 [−1.48, +3.48]"],
    ]


def test_what_a_method_really_prunes_stands_beside_its_name(made):
    """In all tables by method and ratio, where it is not the ratio asked for."""
    names = ("ucb", "ordered_sgd", "orderdp,per=iteration,fresh=true")
    folder = made(
        methods=tuple(parse(f"{name},prune_ratio={ratio}") for ratio in (0.3, 0.5) for name in names),
        against=("full",),
        seeds=(0, 1, 2),
    )
    samples = {  # forward and backward
        "UCB 30 %": (500, 500),
        "UCB 50 %": (336, 336),
        "ordered SGD 30 %": (672, 470),
        "ordered SGD 50 %": (672, 336),
        "OrderDP 30 % per iteration, fresh": (562, 470),
        "OrderDP 50 % per iteration, fresh": (475, 336),
    }
    for label, (forward, backward) in samples.items():
        folder.finish(label, (90, 91, 92), samples_forward=until(forward), samples_backward=until(backward))
    folder.finish("full data", (90, 91, 92))  # 672 samples
    found = [tables.accuracy(read_results(folder.path)), tables.differences(read_results(folder.path))]
    grids = {table.name: table for section in found for table in section.tables if table.name != "differences"}
    rows = {name: {line[0] for line in grid.lines[1:]} - {"full data"} for name, grid in grids.items()}
    others = {"ordered SGD (forward over all of it)", "OrderDP per iteration, fresh (forward over 84, 71 %)"}
    assert rows.pop("against_first") == others
    assert list(rows.values()) == [{"UCB (prunes 26, 50 %)", *others}] * 3


def until(samples):
    """So many samples by the third and last epoch."""
    return lambda _seed, epoch: samples * epoch // 3


def test_methods_of_one_ratio_each_are_held_against_the_first_at_that_ratio(made):
    splits = ("explore=0.5,exploit=1", "explore=1.0,exploit=0.5", "explore=0.4,exploit=0.5", "explore=0.8,exploit=0.25")
    folder = made(methods=tuple(parse(f"orderdp,{split}") for split in splits), against=("full",), seeds=(0, 1, 2))
    for number, method in enumerate(read_results(folder.path).entries):
        if method != "full data":
            folder.finish(method, [80 + number, 81 + number, 82 + number])
    *_, to_first, _ = tables.differences(read_results(folder.path)).tables
    assert to_first.title == "Less the first method at the same prune ratio"
    assert [line[0] for line in to_first.lines[1:]] == [
        "OrderDP explore 1 exploit 0.5",
        "OrderDP explore 0.8 exploit 0.25",
    ]
    assert [[cell[:5] for cell in line[1:]] for line in to_first.lines[1:]] == [["+1.00", ""], ["", "+1.00"]]


def test_a_grid_claims_nothing_of_two_seeds(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1))
    folder.finish("OrderDP 50 %", (80.0, 80.0)).finish("full data", (90.0, 90.0)).finish(SHORT, (70.0, 70.0))
    to_full, to_short, _ = tables.differences(read_results(folder.path)).tables
    assert (to_full.lines[1][1], to_short.lines[1][1]) == ("−10.00 [−11.02, −8.98]", "+10.00 [+8.98, +11.02]")


def test_cost_adds_up_samples_steps_and_seconds(pair):
    cost, reached, samples = tables.cost(read_results(pair.path), (89.0, 90.001)).tables
    assert cost.lines[0] == [
        *("run", "samples forward", "samples backward", "realised prune ratio", "steps"),
        *("train, s", "select, s", "data, s", "evaluate, s"),
    ]
    # Epochs of 1.5, 0.25, 0.25 and 0.125 seconds; the shorter schedule has two.
    assert cost.lines[1:] == [
        ["OrderDP 50 %", "384", "384", "42.9 %", "12", "4.5", "0.75", "0.8", "0.4"],
        ["full data", "672", "672", "0.0 %", "21", "4.5", "0.75", "0.8", "0.4"],
        [SHORT, "384", "384", "42.9 %", "12", "3.0", "0.50", "0.5", "0.2"],
    ]
    # OrderDP's epochs end at 88, 89, 90 and a point more with each seed. A mean of the quick ones would flatter.
    assert reached.lines == [
        ["run", "89 %", "90.001 %"],
        ["OrderDP 50 %", "2.7", "2 of 3 seeds"],
        ["full data", "2.7", "4.7"],
        [SHORT, "2.7", "2 of 3 seeds"],
    ]
    assert samples.lines == [
        ["run", "89 %", "90.001 %"],
        ["OrderDP 50 %", "171", "2 of 3 seeds"],
        ["full data", "299", "523"],
        [SHORT, "256", "2 of 3 seeds"],
    ]


def test_without_accuracies_to_reach_three_below_full_datas_are_taken(pair):
    _, reached, _ = tables.cost(read_results(pair.path), ()).tables
    assert reached.lines[0] == ["run", "86.3 %", "89.3 %", "90.3 %"]  # full data: 91.37
    without_results(pair, "full data", 0, 1, 2)
    assert [table.name for table in tables.cost(read_results(pair.path), ()).tables] == ["cost"]


def test_an_accuracy_that_no_seed_reaches_is_never_reached(pair):
    _, reached, _ = tables.cost(read_results(pair.path), (99.0,)).tables
    assert [row[1] for row in reached.lines[1:]] == ["never", "never", "never"]
    without_results(pair, "OrderDP 50 %", 1)
    without_results(pair, "full data", 0)
    _, reached, _ = tables.cost(read_results(pair.path), (90.0,)).tables
    assert [row[1] for row in reached.lines[1:]] == ["2 of 3 seeds", "2 of 3 seeds", "2 of 3 seeds"]
    _, reached, _ = tables.cost(read_results(pair.path), (99.0,)).tables
    assert [row[1] for row in reached.lines[1:]] == ["0 of 3 seeds", "0 of 3 seeds", "never"]


def test_costs_of_runs_that_are_missing_are_left_blank(pair):
    without_results(pair, "OrderDP 50 %", 0, 1, 2)
    cost, reached, _ = tables.cost(read_results(pair.path), (90.0,)).tables
    assert (cost.lines[1], reached.lines[1]) == (["OrderDP 50 % (0 of 3)", *[""] * 8], ["OrderDP 50 %", ""])
    without_results(pair, "full data", 0, 1, 2)
    cost, *_ = tables.cost(read_results(pair.path), (90.0,)).tables
    assert cost.lines[3][:4] == [SHORT, "384", "384", ""]
    assert "nan" not in str(cost.lines)


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (None, ""),
        (Difference(-0.25, -math.inf, math.inf, 1), "−0.25"),
        (Difference(0.25, -0.5, 1.0, 3), "+0.25 [−0.50, +1.00]"),
        (Difference(0.0, -0.004, 0.004, 3), "+0.00 [−0.00, +0.00]"),
    ],
)
def test_a_difference_is_shown_with_its_signs_and_its_interval(difference, text):
    assert tables.interval(difference, 1 if difference is None else difference.seeds) == text


def test_every_run_has_a_place_by_method_and_ratio(many):
    results = read_results(many.path)
    assert ratios_of(results) == [0.3, 0.7]
    assert {label: tuple(place_of(entry, results)) for label, entry in results.entries.items()} == {
        "OrderDP 30 %": ("OrderDP", 0.3),
        "dynamic random 30 %": ("dynamic random", 0.3),
        "ordered SGD 30 %": ("ordered SGD", 0.3),
        "OrderDP 70 %": ("OrderDP", 0.7),
        "dynamic random 70 %": ("dynamic random", 0.7),
        "OrderDP explore 0.5 exploit 0.6": ("OrderDP explore 0.5 exploit 0.6", 0.7),
        "full data": ("full data", None),
        "full data, steps of OrderDP 30 %": ("full data, steps of OrderDP", 0.3),
        "full data, steps of OrderDP 70 %": ("full data, steps of OrderDP", 0.7),
    }


def test_each_method_has_a_colour_and_all_the_data_is_grey(many):
    colors = colors_of(read_results(many.path))
    pruned = {color for method, color in colors.items() if not method.startswith("full data")}
    assert len(pruned) == 4
    assert {color for method, color in colors.items() if method.startswith("full data")} == {"#767676"}
    assert "#767676" not in pruned


def test_the_ratio_of_sizes_is_what_they_leave_out(made):
    folder = made(
        methods=methods(
            "orderdp,explore=0.775,exploit=0.903226", "orderdp", "orderdp,exploit=0.5", "orderdp,explore=1"
        ),
        against=(),
    )
    entries = read_results(folder.path).entries.values()
    assert [entry.ratio for entry in entries] == [0.3, 0.7, 0.75, 0.4]
    assert [percent(ratio) for ratio in (0.3, 0.125, None)] == ["30 %", "12.5 %", ""]
