"""Measured numbers held against printed ones, on folders whose accuracies are known."""

from dataclasses import replace

import pytest

from orderdp.comparison.results import read_results
from orderdp.output.text_table import Table
from orderdp.paper.page import Exhibit, Page
from orderdp.paper.page_text import as_html
from orderdp.report.beside_print import (
    MARKS,
    NOT_COMPARABLE,
    OPEN,
    ORDER,
    OTHER,
    OUTSIDE,
    SAME,
    WITHIN,
    _entry,
    differences,
    fitting,
    is_same_task,
    mark_in,
    numbers,
)
from orderdp.report.outline import Published
from orderdp.report.section import EDGES
from orderdp.strategies.registry import parse

METHODS = ("orderdp", "infobatch", "ucb,every=1", "dynamic_random")
ACCURACIES = {
    "OrderDP 50 %": (90.0, 91.0, 92.0),
    "InfoBatch 50 %": (89.0, 90.1, 90.9),  # about 1 below: shown
    "UCB 50 % every 1": (91.1, 92.0, 92.9),  # about 1 above: shown
    "dynamic random 50 %": (89.0, 92.0, 92.0),  # neither is shown
    "full data": (90.5, 91.5, 92.4),
}


@pytest.fixture
def results(made):
    methods = tuple({**parse(method), "prune_ratio": 0.5} for method in METHODS)
    folder = made(methods=methods, against=("full",), seeds=(0, 1, 2))
    for label, accuracies in ACCURACIES.items():
        of = label == "OrderDP 50 %"
        folder.finish(label, accuracies, jaccard=lambda seed, epoch, more=of: more + seed / 100)
    found = read_results(folder.path)
    trained(found, {label: 600 if label == "full data" else 300 for label in ACCURACIES})
    return found


def trained(results, samples):
    """Says how many samples the runs of each entry trained."""
    for label, count in samples.items():
        for result in results.entries[label].results.values():
            result["samples_backward"] = count


def printed(rows, columns=("method", "50 %"), **more):
    return Published("Digits, small_cnn: accuracy, %", columns, {name: [cell] for name, cell in rows.items()}, **more)


ROWS = {"OrderDP": "95.0", "InfoBatch": "94.5", "UCB": "94.0", "dynamic random": "93.0", "full data": "95.0"}


def test_signs_of_differences_are_held_against_the_printed_ones(results):
    held = differences(results, printed(ROWS), EDGES)
    assert held.table.lines[0] == ["OrderDP minus", "50 %, printed", "50 %, here"]
    cells = {row[0]: row[1:] for row in held.table.lines[1:]}
    assert list(cells) == ["InfoBatch", "UCB", "dynamic random", "full data"]
    assert cells["InfoBatch"] == ["+0.5", "+1.00 [+0.72, +1.28] ◐ order only"]
    assert (cells["UCB"][0], mark_in(cells["UCB"][1])) == (
        "+1.0",
        OTHER,
    )  # a method whose settings are not printed
    assert mark_in(cells["dynamic random"][1]) == OPEN
    assert (cells["full data"][0], mark_in(cells["full data"][1])) == ("+0.0", OTHER)  # a printed tie
    assert held.marks == {ORDER: 1, OTHER: 2, OPEN: 1}


@pytest.mark.parametrize(
    ("theirs", "mark"), [("94.5", ORDER), ("94.3", SAME), ("94.0", SAME), ("93.7", SAME), ("93.6", ORDER)]
)
def test_a_printed_difference_outside_the_interval_is_of_the_order_alone(results, theirs, mark):
    """The interval is [+0.72, +1.28], and two rounded numbers may be 0.1 nearer to each other, or further apart."""
    held = differences(results, printed({"OrderDP": "95.0", "InfoBatch": theirs}), EDGES)
    assert held.marks == {mark: 1}


@pytest.mark.parametrize("other", ["full data", "InfoBatch"])
@pytest.mark.parametrize(("digits", "mark"), [("95", OPEN), ("95.0", OTHER)])
def test_a_printed_tie_is_contradicted_by_more_than_its_rounding_hides(results, other, digits, mark):
    """-0.47 is surely below 0, and [+0.72, +1.28] above it; two numbers without decimals may differ by 1."""
    held = differences(results, printed({"OrderDP": digits, other: digits}), EDGES)
    assert held.marks == {mark: 1}


def test_what_prunes_otherwise_than_asked_is_named_and_gets_no_colour(results):
    trained(results, {"InfoBatch 50 %": 420, "UCB 50 % every 1": 311})
    del results.entries["dynamic random 50 %"]
    held = differences(results, printed(ROWS), EDGES)
    assert held.table.note.endswith("paired by seed. Pruned otherwise than asked: InfoBatch (30 % instead of 50 %).")
    cells = {row[0]: mark_in(row[2]) for row in held.table.lines[1:]}
    assert cells == {"InfoBatch": NOT_COMPARABLE, "UCB": OTHER, "full data": OTHER}
    assert held.marks == {OTHER: 2}


def test_what_prunes_an_unequal_share_gets_no_colour_without_full_data_either(results):
    """As in a study that trains none, since it would take most of the time."""
    del results.entries["full data"]
    trained(results, {"InfoBatch 50 %": 420, "UCB 50 % every 1": 301})  # of 200 samples in 3 epochs
    cells = {row[0]: mark_in(row[2]) for row in differences(results, printed(ROWS), EDGES).table.lines[1:]}
    assert cells == {"InfoBatch": NOT_COMPARABLE, "UCB": OTHER, "dynamic random": OPEN}


def test_what_prunes_more_than_asked_is_named_too(results):
    trained(results, {"InfoBatch 50 %": 150})
    assert differences(results, printed(ROWS), EDGES).table.note.endswith("asked: InfoBatch (75 % instead of 50 %).")


def test_two_seeds_show_nothing(results):
    for entry in results.entries.values():
        del entry.results[2]
    assert set(differences(results, printed(ROWS), EDGES).marks) == {OPEN}


def test_full_data_is_printed_once_for_all_ratios(results):
    rows = {"OrderDP": ["95.6", "95.0"], "full data": ["95.5 ± 0.1", ""]}
    held = differences(results, Published("", ("method", "30 %", "50 %"), rows), EDGES)
    assert held.table.lines[1][:2] == ["full data", "−0.5"]


def test_one_seed_has_no_interval(results):
    for entry in results.entries.values():
        del entry.results[1], entry.results[2]
    held = differences(results, printed({"OrderDP": "95.0", "InfoBatch": "94.5"}), EDGES)
    assert held.table.lines[1:] == [["InfoBatch", "+0.5", f"+1.00 {OPEN}"]]


def test_full_data_that_is_printed_in_each_column_is_read_from_its_own(results):
    rows = {"OrderDP": ["96.0", "91.0"], "full data": ["95.5", "90.0"]}
    held = differences(results, Published("", ("method", "30 %", "50 %"), rows), EDGES)
    assert held.table.lines[1][:2] == ["full data", "+1.0"]


@pytest.mark.parametrize(
    ("ours", "theirs", "cells"),
    [("0.950", "0.945", ["+0.005", "+1.000 [+0.718, +1.282]"]), ("−0.5", "−1.0", ["+0.5", "+1.00 [+0.72, +1.28]"])],
)
def test_a_difference_has_the_digits_that_are_printed_and_at_least_two(results, ours, theirs, cells):
    held = differences(results, printed({"OrderDP": ours, "InfoBatch": theirs}), EDGES)
    assert held.table.lines[1:] == [["InfoBatch", cells[0], f"{cells[1]} {ORDER}"]]


def test_numbers_lie_in_the_interval_or_outside(results):
    held = numbers(results, printed({"OrderDP": "93.4", "InfoBatch": "95.0", "another": "90.0"}), EDGES)
    cells = {row[0]: row[1:] for row in held.table.lines[1:]}
    assert cells["OrderDP"] == ["93.4", "91.00 [88.52, 93.48] ✓ within"]
    assert mark_in(cells["InfoBatch"][1]) == OUTSIDE
    assert cells["another"] == ["90.0", ""]


@pytest.mark.parametrize(("text", "mark"), [("93.5", WITHIN), ("93.6", OUTSIDE), ("88.5", WITHIN), ("88.4", OUTSIDE)])
def test_a_printed_number_may_be_rounded_into_the_interval(results, text, mark):
    """Of [88.52, 93.48], to which 93.45 to 93.55 reach."""
    assert numbers(results, printed({"OrderDP": text}), EDGES).marks == {mark: 1}


def test_two_seeds_show_no_number(results):
    del results.entries["OrderDP 50 %"].results[2]
    assert numbers(results, printed({"OrderDP": "91.0"}), EDGES).marks == {OPEN: 1}


def test_parts_of_a_run_are_held_against_columns_of_parts(results):
    rows = {"InfoBatch 50 %": ["0.5", "0.6"], "OrderDP 50 %": ["0.6", "0.5"]}
    table = Published("", ("method and ratio", "60–80 %", "last epoch"), rows, section="stability")
    held = differences(results, table, EDGES)
    (row,) = held.table.lines[1:]
    assert row == [
        "InfoBatch 50 %",
        "+0.1",
        "+1.00 [+1.00, +1.00] ◐ order only",
        "−0.1",
        "+1.00 [+1.00, +1.00] ✗ other order",
    ]


def test_accuracies_by_part_stand_beside_those_printed_and_a_part_without_an_epoch_is_blank(results):
    rows = {"OrderDP": ["60.0", "95.0"], "InfoBatch": ["61.0", "94.5"]}
    table = Published("", ("method", "0–20 %", "final"), rows, section="gradients", measure="accuracy")
    held = differences(results, table, EDGES)
    assert held.table.lines[1:] == [["InfoBatch", "", "", "+0.5", f"+1.00 [+0.72, +1.28] {ORDER}"]]


def test_a_column_without_a_prune_ratio_is_of_no_comparison_of_several(made):
    methods = tuple({"name": "orderdp", "prune_ratio": ratio} for ratio in (0.3, 0.5))
    folder = made(methods=methods, against=("full",), seeds=(0, 1, 2))
    for label in ("OrderDP 30 %", "OrderDP 50 %", "full data"):
        folder.finish(label, (90.0, 91.0, 92.0))
    table = printed({"OrderDP": "95.0", "full data": "95.5"}, ("method", "Acc."))
    assert differences(read_results(folder.path), table, EDGES) is None


def test_the_share_saved_is_shown_beside_a_table_of_it_without_a_colour(results):
    """Its order follows from the prune ratios that the study asks for."""
    for label, samples in {"full data": 600, "OrderDP 50 %": 300, "InfoBatch 50 %": 420}.items():
        for result in results.entries[label].results.values():
            result["samples_backward"] = samples
    table = printed({"OrderDP": "42.6", "InfoBatch": "37.1"}, ("method", "SGD"), section="cost", measure="saved")
    held = differences(results, table, EDGES)
    assert held.table.lines[1:] == [["InfoBatch", "+5.5", f"+20.00 [+20.00, +20.00] {NOT_COMPARABLE}"]]
    assert not held.marks
    del results.entries["full data"].results[2]  # a seed without full data has no share
    assert differences(results, table, EDGES).table.lines[1][2].startswith("+20.00 ")


@pytest.mark.parametrize("optimizer", ["lars", "lars_release"])
def test_a_column_of_an_optimiser_holds_its_runs_in_both_forms(results, optimizer):
    results.recipe["optimizer"] = optimizer
    cells = {"OrderDP": ["95.0", "95.5", "95.4"], "InfoBatch": ["95.0", "94.5", "94.6"]}
    table = Published("", ("method", "SGD", "LARS", "Acc."), cells)
    headings = ["LARS, printed", "LARS, here", "Acc., printed", "Acc., here"]
    assert differences(results, table, EDGES).table.lines[0][1:] == headings


def test_a_printed_method_is_the_one_without_settings_or_the_only_one_with_some(made):
    settings = "orderdp", "orderdp,initial_score=3.0", "ucb,every=1", "infobatch,epochs=2", "infobatch,epochs=3"
    methods = tuple({**parse(method), "prune_ratio": 0.5} for method in settings)
    folder = made(methods=methods, against=(), seeds=(0,))
    labels = [member.label for member in folder.plan.members(200)]
    names = "OrderDP", "UCB", "InfoBatch", "U"
    for finished in (labels[1:], labels[:1]):  # no other stands for one that is not finished
        for label in finished:
            folder.finish(label, (90.0,))
        found = [_entry(read_results(folder.path), name, 0.5) for name in names]
        assert [entry and entry.label for entry in found] == [labels[0], labels[2], None, None]


@pytest.mark.parametrize("section", ["lossless", "cost", "gradients"])
def test_a_table_of_other_numbers_is_not_compared(results, section):
    assert differences(results, printed(ROWS, section=section), EDGES) is None
    assert numbers(results, printed(ROWS, section=section), EDGES) is None


def test_a_task_is_held_against_the_tables_of_its_data_set_and_compared_in_numbers_with_its_network_only(results):
    tables = [
        Published(title, ("method",), {}) for title in ("CIFAR-10, small_cnn", "Digits, R-50", "digits, small-cnn")
    ]
    assert fitting(results, tables) == tables[1:]
    others = [Published(title, ("method",), {}, section=of) for title, of in (("A", "cost"), ("B", ""), ("C", "cost"))]
    assert fitting(results, others) == others[:2]
    results.recipe["model"] = "smallcnn"
    assert [is_same_task(results, table) for table in tables] == [False, False, True]


def test_a_folder_of_as_many_images_as_imagenet_is_held_against_its_tables(results):
    table = Published("ImageNet-1K, ResNet-50: accuracy, %", ("method",), {})
    results.recipe.update(dataset="folder", model="resnet50")
    for size, same in ((1_281_167, True), (1_281_166, False)):
        planned = replace(results.planned, sizes=results.sizes._replace(num_samples=size))
        assert is_same_task(replace(results, planned=planned), table) is same


def test_the_colour_of_a_mark_is_what_it_says():
    colors = {mark.word: mark.color for mark in MARKS}
    assert {word for word, color in colors.items() if color == "contradicts"} == {"other order", "outside"}
    assert {word for word, color in colors.items() if color.startswith("agrees")} == {
        *("order and size", "order only", "within")
    }
    assert (colors["open"], colors["not comparable"]) == ("open", "not-comparable")


def test_every_mark_is_said_in_words_and_has_a_colour():
    lines = [["method", *map(str, range(len(MARKS)))], ["a", *(f"1 {mark}" for mark in MARKS)]]
    html = as_html(Page("cpu", [Exhibit("table1", "Table 1", "run", tables=[Table("a", "a", lines)])], [], []))
    for mark in MARKS:
        whole = str(mark).replace(" ", "\N{NO-BREAK SPACE}").replace("–", "–\N{WORD JOINER}")
        assert f'class="number {mark.color}">1 {whole}</td>' in html
        assert f".{mark.color} {{ " in html
