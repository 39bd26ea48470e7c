"""The order of methods against a table of the paper and between seeds, on folders whose order is known."""

import pytest

from orderdp.comparison.results import read_results
from orderdp.report.outline import Published
from orderdp.report.published_order import order_table

METHODS = ("orderdp", "infobatch", "seta", "dynamic_random", "ucb", "epsilon_greedy")


@pytest.fixture
def six(made):
    """Six methods at 30 % and 60 %; a seed has the opposite order of the other at 60 %."""
    grid = tuple({"name": name, "prune_ratio": ratio} for name in METHODS for ratio in (0.3, 0.6))
    folder = made(methods=grid, against=("full",), seeds=(0, 1))
    entries = [entry for entry in read_results(folder.path).entries.values() if not entry.reference]
    for number, entry in enumerate(entries):
        place = number // 2
        second = 90.0 + place if entry.ratio == 0.3 else 80.0 - 2 * place
        folder.finish(entry.label, (80.0 + place, second))
    folder.labels = list(dict.fromkeys(entry.method for entry in entries))
    return folder


def published(labels, first, second=None):
    second = second or [""] * len(first)
    rows = dict(zip(labels, zip(first, second, strict=True), strict=False))
    return Published("CIFAR-10", ("method", "30 %", "60 %"), rows)


def test_the_same_order_is_one_and_seeds_of_opposite_orders_are_minus_one(six):
    table = published(six.labels, ["70", "71", "72 ± 0.1", "73", "74", "75"], ["60", "59", "58", "57", "56", "55"])
    (order,) = order_table(read_results(six.path), [table])
    # Means over the seeds: 85 + place at 30 %, 80 - place / 2 at 60 %.
    assert order.lines == [
        ["held against", "30 %", "60 %"],
        ["CIFAR-10", "1.00 (6)", "1.00 (6)"],
        ["two seeds measured here", "1.00 (6)", "−1.00 (6)"],
    ]


def test_a_correlation_is_that_of_a_hand_computation(six):
    # Ranks 2 1 3 4 6 5 against 1 to 6: differences 1 1 0 0 1 1, so 1 - 6·4/(6·35).
    (order,) = order_table(read_results(six.path), [published(six.labels, ["71", "70", "72", "73", "75", "74"])])
    assert order.lines[1] == ["CIFAR-10", "0.89 (6)", ""]


def test_methods_that_the_paper_does_not_print_are_left_out(six):
    table = published([*six.labels[:5], "another"], ["70", "71", "72", "73", "74", "10"])
    (order,) = order_table(read_results(six.path), [table])
    assert [line[1] for line in order.lines[1:]] == ["1.00 (5)", "1.00 (5)"]


def test_a_seed_without_a_result_is_left_out(six):
    (six.folder(f"{six.labels[4]} 30 %", 1).path / "result.json").unlink()
    (order,) = order_table(read_results(six.path), [published(six.labels, ["70", "71", "72", "73", "74", "75"])])
    assert order.lines[1][1] == "0.43 (6)"  # 84 instead of 89, now the lowest: 1 - 6·20/(6·35)
    assert order.lines[2] == ["two seeds measured here", "1.00 (5)", "−1.00 (6)"]


def test_of_three_seeds_every_two_are_held_against_each_other(made):
    folder = made(
        methods=tuple({"name": name, "prune_ratio": 0.3} for name in METHODS), against=("full",), seeds=(0, 1, 2)
    )
    entries = [entry for entry in read_results(folder.path).entries.values() if not entry.reference]
    for place, entry in enumerate(entries):
        folder.finish(entry.label, (80.0 + place, 80.0 - place, 85.0 + place))
    table = published([entry.method for entry in entries], ["70", "71", "72", "73", "74", "75"])
    (order,) = order_table(read_results(folder.path), [table])
    assert order.lines[2] == ["two seeds measured here", "−0.33 (6)"]  # of −1, 1 and −1


@pytest.mark.parametrize("columns", [("method", "30 %", "60 %"), ("method", "CIFAR-10", "CIFAR-100")])
def test_too_few_methods_or_other_columns_have_no_order(six, columns):
    rows = dict.fromkeys(six.labels if columns[1] == "CIFAR-10" else six.labels[:4], ("70", "60"))
    assert order_table(read_results(six.path), [Published("a table", columns, rows)]) == []
    assert order_table(read_results(six.path), []) == []
