"""What runs cost, and what it took to reach accuracies."""

from orderdp.comparison.results import read_results
from reference.reported import SHORT, make_section, without_results


def test_cost_adds_up_samples_steps_and_seconds(pair):
    cost, reached, samples = make_section("cost", read_results(pair.path), accuracies=(89.0, 90.001)).tables
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
    _, reached, _ = make_section("cost", read_results(pair.path), accuracies=()).tables
    assert reached.lines[0] == ["run", "86.3 %", "89.3 %", "90.3 %"]  # full data: 91.37
    without_results(pair, "full data", 0, 1, 2)
    assert [table.name for table in make_section("cost", read_results(pair.path), accuracies=()).tables] == ["cost"]


def test_an_accuracy_that_no_seed_reaches_is_never_reached(pair):
    _, reached, _ = make_section("cost", read_results(pair.path), accuracies=(99.0,)).tables
    assert [row[1] for row in reached.lines[1:]] == ["never", "never", "never"]
    without_results(pair, "OrderDP 50 %", 1)
    without_results(pair, "full data", 0)
    _, reached, _ = make_section("cost", read_results(pair.path), accuracies=(90.0,)).tables
    assert [row[1] for row in reached.lines[1:]] == ["2 of 3 seeds", "2 of 3 seeds", "2 of 3 seeds"]
    _, reached, _ = make_section("cost", read_results(pair.path), accuracies=(99.0,)).tables
    assert [row[1] for row in reached.lines[1:]] == ["0 of 3 seeds", "0 of 3 seeds", "never"]


def test_costs_of_runs_that_are_missing_are_left_blank(pair):
    without_results(pair, "OrderDP 50 %", 0, 1, 2)
    cost, reached, _ = make_section("cost", read_results(pair.path), accuracies=(90.0,)).tables
    assert (cost.lines[1], reached.lines[1]) == (["OrderDP 50 % (0 of 3)", *[""] * 8], ["OrderDP 50 %", ""])
    without_results(pair, "full data", 0, 1, 2)
    cost, *_ = make_section("cost", read_results(pair.path), accuracies=(90.0,)).tables
    assert cost.lines[3][:4] == [SHORT, "384", "384", ""]
    assert "nan" not in str(cost.lines)
