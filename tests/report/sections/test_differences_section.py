"""Differences, against folders whose numbers are known."""

import numpy as np
import pytest

from orderdp.comparison.results import read_results
from orderdp.output.subset_file import Kept, write_subsets
from orderdp.strategies.registry import parse
from reference.reported import SHORT, make_section, without_results


def test_differences_are_those_of_a_hand_computation(pair):
    table = make_section("differences", read_results(pair.path)).tables[-1]
    # OrderDP minus full data: -0.5, 0, -0.6; minus the shorter schedule: 1, 0.5, 1; the latter minus full data: -1.5,
    # -0.5, -1.6. Half an interval is 4.3027 · standard deviation / √3. Steps of 32 samples: 12 of 21.
    assert table.lines == [
        ["run", "accuracy, %", "minus full data", "verdict", "minus shorter schedule", "samples backward"],
        [
            "OrderDP 50 %",
            "91.00 ± 1.00",
            "−0.37 [−1.17, +0.43]",
            "inconclusive",
            "+0.83 [+0.12, +1.55]",
            "57.1 %",
        ],
        ["full data", "91.37 ± 1.10", "", "", "", "100.0 %"],
        [SHORT, "90.17 ± 1.04", "−1.20 [−2.71, +0.31]", "inconclusive", "", "57.1 %"],
    ]


def test_a_difference_of_fewer_pairs_than_planned_says_so(pair):
    without_results(pair, "full data", 1)
    table = make_section("differences", read_results(pair.path)).tables[-1]
    # −0.5 and −0.6: half an interval is 12.706·(100/360)/√6/√2.
    assert table.lines[1][1:3] == ["91.00 ± 1.00", "−0.55 [−1.57, +0.47] (2 of 3 pairs)"]
    assert table.lines[1][4] == "+0.83 [+0.12, +1.55]"


def test_differences_say_nothing_where_runs_are_missing(pair):
    without_results(pair, "full data", 0, 1, 2)
    without_results(pair, SHORT, 1, 2)
    table = make_section("differences", read_results(pair.path)).tables[-1]
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
    to_full, to_short, to_first, _ = make_section("differences", read_results(folder.path)).tables
    assert [table.name for table in (to_full, to_short, to_first)] == ["against_full", "against_short", "against_first"]
    # Equal differences: half of the interval is 4.3027·(100/360)/√6/√3 = 0.28.
    # Holm's correction over 4 cells keeps p-values of 0.0005 and 0.004, not 0.07.
    assert [("“lossless”" in table.note, "“better”" in table.note) for table in (to_full, to_short, to_first)] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert "2 of 4 intervals exclude 0." in to_full.note
    assert to_full.note.endswith("over all of them: 2.")
    assert to_full.lines == [
        ["method", "30 %", "60 %"],
        ["OrderDP (prunes 29, 57 %)", "+0.00 [−0.28, +0.28]", "−3.00 [−3.28, −2.72] loses*"],
        ["dynamic random (prunes 29, 57 %)", "−1.03 [−1.32, −0.75] loses*", "−2.00 [−4.48, +0.48]"],
    ]
    assert to_short.lines == [
        ["method", "30 %", "60 %"],
        ["OrderDP (prunes 29, 57 %)", "+1.00 [+0.72, +1.28] better*", "−1.00 [−1.28, −0.72] worse*"],
        ["dynamic random (prunes 29, 57 %)", "−0.03 [−0.32, +0.25]", "+0.00 [−2.48, +2.48]"],
    ]
    assert to_first.title == "Accuracy minus that of OrderDP at the same prune ratio"
    assert to_first.lines == [
        ["method", "30 %", "60 %"],
        ["dynamic random (prunes 29, 57 %)", "−1.03 [−1.32, −0.75] worse*", "+1.00 [−1.48, +3.48]"],
    ]


def test_methods_of_one_ratio_each_are_held_against_the_first_at_that_ratio(made):
    splits = ("explore=0.5,exploit=1", "explore=1.0,exploit=0.5", "explore=0.4,exploit=0.5", "explore=0.8,exploit=0.25")
    folder = made(methods=tuple(parse(f"orderdp,{split}") for split in splits), against=("full",), seeds=(0, 1, 2))
    for number, method in enumerate(read_results(folder.path).entries):
        if method != "full data":
            folder.finish(method, [80 + number, 81 + number, 82 + number])
    *_, to_first, _ = make_section("differences", read_results(folder.path)).tables
    assert to_first.title == "Accuracy minus that of the first method at the same prune ratio"
    assert [line[0] for line in to_first.lines[1:]] == [
        "OrderDP explore 1 exploit 0.5",
        "OrderDP explore 0.8 exploit 0.25",
    ]
    assert [[cell[:5] for cell in line[1:]] for line in to_first.lines[1:]] == [["+1.00", ""], ["", "+1.00"]]


@pytest.fixture
def subsets(tmp_path):
    """A file of fixed subsets of 200 samples by two static methods, at two prune ratios."""
    keys = {"herding": "herding", "random": "random"}
    kept = {ratio: Kept(np.arange(round(200 * (1 - ratio))), None) for ratio in (0.3, 0.6)}
    about = {"num_samples": 200, "methods": {key: {"label": label} for key, label in keys.items()}}
    write_subsets(tmp_path / "subsets.parquet", {key: dict.fromkeys((0, 1, 2), kept) for key in keys}, about)
    return str(tmp_path / "subsets.parquet")


def test_methods_are_held_against_a_fixed_uniform_subset(made, subsets):
    fixed = {"name": "fixed", "file": subsets}
    methods = (
        {"name": "orderdp", "prune_ratio": 0.3},
        *({**fixed, "method": "herding", "prune_ratio": ratio} for ratio in (0.3, 0.6)),
        {**fixed, "method": "random", "prune_ratio": 0.6},
        {**fixed, "method": "random", "prune_ratio": 0.3},
    )
    folder = made(methods=methods, against=("full",), seeds=(0, 1, 2))
    folder.finish("OrderDP 30 %", (90.0, 90.5, 91.0))
    folder.finish("herding 30 %", (88.0, 88.5, 89.0)).finish("herding 60 %", (80.0, 80.5, 81.0))
    folder.finish("random 30 %", (89.0, 89.5, 90.0)).finish("random 60 %", (78.0, 78.5, 79.0))
    *_, table, _ = make_section("differences", read_results(folder.path)).tables
    assert (table.name, table.title) == (
        "against_uniform",
        "Accuracy minus that of a fixed uniform subset at the same prune ratio",
    )
    assert table.lines[0] == ["method", "30 %", "60 %"]
    assert [[cell[:5] for cell in line[1:]] for line in table.lines[1:]] == [["+1.00", ""], ["−1.00", "+2.00"]]
    assert [line[0].split(" (")[0] for line in table.lines[1:]] == ["OrderDP", "herding"]
    assert (table.lines[1][1].split()[-1], table.lines[2][1].split()[-1]) == ("better*", "worse*")


def test_a_fixed_uniform_subset_named_first_has_one_table(made, subsets):
    fixed = {"name": "fixed", "file": subsets, "prune_ratio": 0.3}
    folder = made(methods=({**fixed, "method": "random"}, {**fixed, "method": "herding"}), against=("full",))
    folder.finish("herding 30 %", (88.0,)).finish("random 30 %", (89.0,))
    names = [table.name for table in make_section("differences", read_results(folder.path)).tables]
    assert names == ["against_full", "against_short", "against_first", "differences"]


def test_a_grid_claims_nothing_of_two_seeds(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1))
    folder.finish("OrderDP 50 %", (80.0, 80.0)).finish("full data", (90.0, 90.0)).finish(SHORT, (70.0, 70.0))
    to_full, to_short, _ = make_section("differences", read_results(folder.path)).tables
    assert (to_full.lines[1][1], to_short.lines[1][1]) == ("−10.00 [−11.02, −8.98]", "+10.00 [+8.98, +11.02]")


def test_a_method_of_two_pairs_is_not_among_those_that_are_corrected_together(made):
    names = ("orderdp", "dynamic_random", "ucb")
    folder = made(
        methods=tuple({"name": name, "prune_ratio": 0.5} for name in names), against=("full",), seeds=(0, 1, 2)
    )
    folder.finish("full data", (90.0, 90.0, 90.0))
    # Of three pairs: p-values of 0.0202 and 0.42, so of two 0.0202 is small enough, and of three it is not.
    folder.finish("OrderDP 50 %", (88.5, 88.0, 87.5)).finish("UCB 50 %", (91.0, 89.0, 92.0))
    folder.finish("dynamic random 50 %", (91.0, 89.0), seeds=(0, 1))
    to_full, *_ = make_section("differences", read_results(folder.path)).tables
    assert "1 of 2 intervals exclude 0." in to_full.note
    assert to_full.note.endswith("over all of them: 1.")
    assert to_full.lines[1][1].endswith("loses*")


def test_without_references_there_are_no_differences(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), against=()).finish("OrderDP 50 %", (90.0,))
    assert make_section("differences", read_results(folder.path)) is None


def test_tables_of_mixed_commits_say_so(pair):
    assert not any("commit" in table.note for table in make_section("differences", read_results(pair.path)).tables)
    run = pair.folder("full data", 1)
    run.write_result({**run.result(), "commit": "another"})
    tables = make_section("differences", read_results(pair.path)).tables
    assert [table.name for table in tables] == ["against_full", "against_short", "differences"]
    assert all("1 of 6 pairs joins runs of different commits or processors." in table.note for table in tables)


def test_a_method_that_left_nothing_out_is_not_what_others_are_compared_with(made):
    names = ("ucb", "orderdp", "dynamic_random")
    grid = tuple({"name": name, "prune_ratio": 0.5} for name in names)
    folder = made(methods=grid, against=("full",), seeds=(0, 1, 2)).finish("full data", (90.0, 90.5, 91.0))
    samples = read_results(folder.path).entries["full data"].results[0]["samples_backward"]
    folder.finish("UCB 50 %", (90.0, 90.5, 91.0), also={"samples_backward": samples})
    folder.finish("OrderDP 50 %", (88.0, 88.5, 89.0)).finish("dynamic random 50 %", (86.0, 86.5, 87.0))
    *_, to_first, _ = make_section("differences", read_results(folder.path)).tables
    assert to_first.title == "Accuracy minus that of OrderDP at the same prune ratio"
    assert [line[0].split(" (")[0] for line in to_first.lines[1:]] == ["dynamic random"]


def test_a_second_shorter_schedule_has_a_column_of_differences(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2), short_augment="crop")
    folder.finish("full data", (90.0, 90.5, 91.0)).finish("OrderDP 50 %", (88.0, 88.5, 89.0))
    folder.finish(SHORT, (88.0, 88.5, 89.0)).finish(f"{SHORT}, augment crop", (94.0, 94.5, 95.0))
    table = make_section("differences", read_results(folder.path)).tables[-1]
    assert table.lines[0][4:6] == ["minus shorter schedule", "minus that with augment crop"]
    assert [line[5] for line in table.lines[1:]] == ["−6.00 [−6.28, −5.72]", "", "", ""]


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_share_that_the_last_batch_changes_is_explained(made, tiny_recipe, drop_last):
    folder = made(recipe=tiny_recipe(drop_last=drop_last), methods=({"name": "orderdp", "prune_ratio": 0.5},))
    folder.finish("OrderDP 50 %", (88.0,)).finish("full data", (90.0,))
    note = make_section("differences", read_results(folder.path)).tables[-1].note
    assert ("Each epoch leaves out its last batch if that is not full" in note) == drop_last
