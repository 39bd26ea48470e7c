"""What runs cost, and what it took to reach accuracies."""

from orderdp.comparison.results import read_results
from reference.reported import SHORT, make_section, methods, without_results


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
    without_epochs = read_results(pair.path)
    for entry in without_epochs.entries.values():
        entry.metrics.clear()
    for asked in ((), (89.0,)):
        assert [table.name for table in make_section("cost", without_epochs, accuracies=asked).tables] == ["cost"]
    without_results(pair, "full data", 0, 1, 2)
    assert [table.name for table in make_section("cost", read_results(pair.path), accuracies=()).tables] == ["cost"]


def test_hours_are_shown_where_they_are_asked_for(pair):
    results = read_results(pair.path)
    cost, hours, *_ = make_section("cost", results, hours=True).tables
    assert [table.name for table in (cost, hours)] == ["cost", "hours"]
    # Full data and OrderDP spend 6 seconds, the shorter schedule 4; no run measured processor time.
    assert hours.lines == [
        ["run", "time, h", "node hours"],
        ["OrderDP 50 %", "0.00167", "0.00167"],
        ["full data", "0.00167", "0.00167"],
        [SHORT, "0.00111", "0.00111"],
    ]
    assert "hours" not in [table.name for table in make_section("cost", results).tables]
    without_results(pair, "full data", 0, 1, 2)
    hours = make_section("cost", read_results(pair.path), hours=True).tables[1]
    assert hours.lines[2] == ["full data (0 of 3)", "", ""]


def test_node_hours_are_hours_of_all_devices_and_processor_hours_stand_where_all_runs_measured_them(made):
    folder = made(methods=(), seeds=(0, 1))
    long = {"training_s": 72_000.0, "selection_s": 360.0, "data_s": 3_600.0, "ranks": 2}

    epochs = {"processor_s": lambda seed, epoch: 100.0}

    def hours():
        table = make_section("cost", read_results(folder.path), hours=True).tables[1]
        return [line for line in table.lines if line[0] in ("run", "full data")]

    folder.finish("full data", [90, 91], also={**long, "processor_s": None})
    assert hours() == [["run", "time, h", "node hours"], ["full data", "21.1", "42.2"]]
    folder.finish("full data", [90], seeds=[0], also={**long, "processor_s": 36_000.0}, **epochs)
    assert hours()[0] == ["run", "time, h", "node hours"]
    folder.finish("full data", [91], seeds=[1], also={**long, "processor_s": 38_160.0}, **epochs)
    assert hours() == [["run", "processor hours"], ["full data", "10.3"]]
    *_, reached, _ = make_section("cost", read_results(folder.path)).tables
    assert reached.title == "Processor seconds to an accuracy"
    assert reached.note.startswith("Processor seconds of training, selection and data until")
    assert ["full data", "100.0", "150.0", "250.0"] in reached.lines


def test_hours_say_that_proxies_are_not_in_them(pair):
    def note():
        return make_section("cost", read_results(pair.path), hours=True).tables[1].note

    assert "proxies" not in note()
    pair.finish("OrderDP 50 %", (90.0,), seeds=(0,), also={"samples_before": 400})
    assert note().endswith("The hours of a fixed subset leave out the training of its proxies.")


CHOSEN = {"samples_forward": lambda seed, epoch: 336 * epoch, "samples_backward": lambda seed, epoch: 112 * epoch}


def test_the_passes_of_a_choice_within_the_batch_are_priced_by_what_each_run_measured(made):
    folder = made(methods=methods("ordered_sgd,prune_ratio=0.5"), against=("full",), seeds=(0, 1))
    for seed, first in ((0, 1e-5), (1, 2e-5)):
        also = {"pass_s": {"first": first, "kept": 5e-5, "full": 4e-5}}
        folder.finish("ordered SGD 50 %", [90], seeds=[seed], also=also, **CHOSEN)
    folder.finish("full data", [91, 92])
    _, prices, *_ = make_section("cost", read_results(folder.path)).tables
    # 672 first passes at 0.25 and 0.5 of a step, 336 of the samples kept at 1.25.
    assert prices.lines == [
        ["run", "first pass", "step of those kept", "cost, full training steps", "share of full data's"],
        ["ordered SGD 50 %", "0.38", "1.25", "672", "100.0 %"],
        ["full data", "", "", "672", "100.0 %"],
    ]
    assert "count what the run measured on its machine." in prices.note
    assert "1/3" not in prices.note


def test_passes_that_were_not_measured_are_priced_by_a_rule_which_is_named(made):
    folder = made(methods=methods("ordered_sgd,prune_ratio=0.5"), against=("full",))
    folder.finish("ordered SGD 50 %", [90], also={"pass_s": None}, **CHOSEN).finish("full data", [91])
    _, prices, *_ = make_section("cost", read_results(folder.path)).tables
    assert prices.lines[1] == ["ordered SGD 50 %", "", "", "560", "83.3 %"]  # 672 / 3 + 336
    assert prices.note.endswith(
        "Not measured, since the run was short or compiled: ordered SGD 50 %. There a first pass counts 1/3, a "
        "backward pass as two forward passes."
    )


def test_samples_to_an_accuracy_are_those_that_passed_through_the_model(made):
    """And not those that a step trained: what was only chosen from has passed through it too."""
    folder = made(methods=methods("ordered_sgd,prune_ratio=0.5"), against=("full",))
    folder.finish("ordered SGD 50 %", [90], also={"pass_s": None}, **CHOSEN).finish("full data", [91])
    results = read_results(folder.path)
    assert results.entries["ordered SGD 50 %"].samples_to(89.0) == {0: 2 * 336}
    samples = make_section("cost", results, accuracies=(89.0,)).tables[-1]
    assert samples.lines == [["run", "89 %"], ["ordered SGD 50 %", "672"], ["full data", "224"]]


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
