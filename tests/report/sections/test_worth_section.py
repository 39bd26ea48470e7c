"""Worth beside stopping early, on folders whose numbers are known."""

import math

import pytest

from orderdp.comparison.results import read_results
from orderdp.comparison.worth import Worth
from orderdp.report.sections.worth import more_steps, saved_steps
from reference.reported import SHORT, make_section, methods, without_results


def test_worth_stands_in_a_grid_of_methods_and_ratios(made):
    grid = tuple({"name": name, "prune_ratio": 0.5} for name in ("orderdp", "dynamic_random"))
    folder = made(methods=grid, seeds=(0, 1, 2))
    folder.finish("full data", (90.0, 92.0, 91.0)).finish(SHORT, (86.0, 88.0, 87.0))
    folder.finish("OrderDP 50 %", (88.0, 90.0, 89.0)).finish("dynamic random 50 %", (86.0, 88.0, 85.0))
    schedules, worth, saved = make_section("worth", read_results(folder.path)).tables
    assert schedules.lines == [
        ["run", "steps", "accuracy, %"],
        [SHORT, "12", "87.00 ± 1.00"],
        ["full data", "21", "91.00 ± 1.00"],
    ]
    # Half of the way from 12 to 21 steps: √(21/12) = 1.32, with the same in every seed but for rounding.
    assert worth.lines == [
        ["method", "50 %"],
        ["OrderDP (prunes 43 %)", "+32 % [+27, +38]"],
        ["dynamic random (prunes 43 %)", "less than +0 % (−100, +36]"],
    ]
    assert saved.lines == [
        ["method", "50 %"],
        ["OrderDP (prunes 43 %)", "24 % [21, 27]"],
        ["dynamic random (prunes 43 %)", "less than 0 % (−∞, 27]"],
    ]


def test_a_method_with_no_seed_in_common_has_a_blank(made):
    grid = tuple({"name": name, "prune_ratio": 0.5} for name in ("orderdp", "dynamic_random"))
    folder = made(methods=grid, seeds=(0, 1))
    folder.finish("full data", (90.0, 90.0)).finish(SHORT, (86.0, 86.0))
    folder.finish("OrderDP 50 %", (88.0, 88.0)).finish("dynamic random 50 %", (88.0, 88.0))
    without_results(folder, "dynamic random 50 %", 0)
    without_results(folder, SHORT, 1)
    _, worth, _ = make_section("worth", read_results(folder.path)).tables
    assert worth.lines[1:] == [["OrderDP (prunes 43 %)", "+32 % (1 of 2 seeds)"], ["dynamic random (prunes 43 %)", ""]]


def test_worth_is_also_priced_where_proxies_were_trained(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1))
    folder.finish("full data", (90.0, 90.0)).finish(SHORT, (86.0, 86.0))
    folder.finish("OrderDP 50 %", (88.0, 88.0), also={"samples_before": 384})
    *_, priced = make_section("worth", read_results(folder.path)).tables
    # 384 samples of its own and 384 before; full data is as accurate after √(384·672) = 508.
    assert (priced.name, priced.lines[1]) == ("worth_priced", ["OrderDP (prunes 43 %)", "−34 %"])


def test_worth_is_also_priced_where_a_first_pass_was_not_measured(made):
    folder = made(methods=methods("ordered_sgd,prune_ratio=0.5"), against=("full",), budgets=(0.5,))
    folder.finish("full data", (90.0,)).finish("full data, 50 % of the steps", (86.0,))
    chosen = {"samples_forward": lambda seed, epoch: 224 * epoch, "samples_backward": lambda seed, epoch: 112 * epoch}
    folder.finish("ordered SGD 50 %", (90.0,), also={"pass_s": None}, **chosen)
    *_, priced = make_section("worth", read_results(folder.path)).tables
    # 672 samples of full data have its accuracy; it costs 336 in first passes of a third, and 336.
    assert (priced.name, priced.lines[1][1]) == ("worth_priced", "+50 %")


def test_each_schedule_shows_the_learning_rate_that_was_chosen_for_it(made):
    own = ({"name": "orderdp", "prune_ratio": 0.5},)
    folder = made(methods=own, seeds=(0, 1), max_lrs=(0.1, 0.3), tuned={"full data": 0.1, SHORT: 0.3})
    folder.finish("full data", (90.0, 90.0)).finish(SHORT, (86.0, 86.0)).finish("OrderDP 50 %", (88.0, 88.0))
    schedules, *_ = make_section("worth", read_results(folder.path)).tables
    assert [(line[0], line[-1]) for line in schedules.lines] == [
        ("run", "learning rate"),
        (SHORT, "0.3"),
        ("full data", "0.1"),
    ]


def test_without_a_shorter_schedule_there_is_no_section(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), against=("full",))
    folder.finish("OrderDP 50 %", (90.0,)).finish("full data", (91.0,))
    assert make_section("worth", read_results(folder.path)) is None


@pytest.mark.parametrize(
    ("worth", "more", "saved"),
    [
        (Worth(1.0, 0.0, math.inf, 2, ""), "+0 %", "0 %"),
        (Worth(1.2, 0.0, math.inf, 3, ""), "+20 % (−100, ∞)", "17 % (−∞, 100)"),
        (Worth(0.8, 0.5, 1.0, 3, ""), "−20 % [−50, +0]", "−25 % [−100, 0]"),
        (Worth(2.0, 1.5, math.inf, 3, ""), "+100 % [+50, ∞)", "50 % [33, 100)"),
        (Worth(0.5, 0.0, 0.8, 3, "less than"), "less than −50 % (−100, −20]", "less than −100 % (−∞, −25]"),
    ],
)
def test_cells(worth, more, saved):
    assert (more_steps(worth), saved_steps(worth)) == (more, saved)


def test_a_method_that_left_nothing_out_has_no_worth(made):
    grid = tuple({"name": name, "prune_ratio": 0.5} for name in ("orderdp", "dynamic_random"))
    folder = made(methods=grid, seeds=(0, 1, 2))
    folder.finish("full data", (90.0, 92.0, 91.0)).finish(SHORT, (86.0, 88.0, 87.0))
    samples = read_results(folder.path).entries["full data"].results[0]["samples_backward"]
    folder.finish("OrderDP 50 %", (90.0, 92.0, 91.0), also={"samples_backward": samples})
    folder.finish("dynamic random 50 %", (86.0, 88.0, 85.0))
    _, worth, saved = make_section("worth", read_results(folder.path)).tables
    assert worth.lines[1][1] == saved.lines[1][1] == "left nothing out"
    assert worth.lines[2][1] == "less than +0 % (−100, +36]"


@pytest.mark.parametrize(
    ("worth", "sign"),
    [
        (Worth(1.2, 1.1, math.inf, 3, ""), 1),
        (Worth(1.0, 1.0, math.inf, 3, "more than"), 1),
        (Worth(0.9, 0.0, 0.95, 3, ""), -1),
        (Worth(1.0, 0.0, 1.0 + 1e-15, 3, "less than"), -1),
        (Worth(0.94, 0.53, math.inf, 3, ""), 0),
        (Worth(1.2, 1.1, 1.3, 2, ""), 0),
    ],
)
def test_the_sign_of_a_worth_is_that_of_its_whole_interval(worth, sign):
    assert worth.sign == sign
