"""Accuracy by method and prune ratio."""

import pytest

from orderdp.comparison.results import read_results
from orderdp.report.overview import overview
from orderdp.report.summary import summary_of
from reference.reported import SHORT, make_section, without_results


def test_accuracy_has_a_row_for_each_method_and_a_column_for_each_ratio(many):
    (table,) = make_section("accuracy", read_results(many.path)).tables
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
    (table,) = make_section("accuracy", read_results(pair.path)).tables
    assert table.lines[1:] == [
        ["OrderDP (prunes 43 %)", "91.00 ± 1.41 (2 of 3)"],
        ["full data", "91.37 ± 1.10"],
        ["full data, steps of OrderDP", "missing"],
    ]


def test_accuracy_of_full_data_alone_has_a_column_of_its_own(made):
    folder = made(methods=({"name": "full"},), seeds=(0, 1)).finish("full data", (90.0, 91.0))
    (table,) = make_section("accuracy", read_results(folder.path)).tables
    assert table.lines == [["method", ""], ["full data", "90.50 ± 0.71"]]


def test_the_worst_class_has_a_table_if_every_run_measured_it(pair):
    for label in ("OrderDP 50 %", "full data", SHORT):
        assert len(make_section("accuracy", read_results(pair.path)).tables) == 1
        for seed, worst in enumerate((50.0, 60.0, 70.0)):
            run = pair.folder(label, seed)
            run.write_result({**run.result(), "accuracy_worst_class": worst})
    _, table = make_section("accuracy", read_results(pair.path)).tables
    assert table.lines[:2] == [["method", "50 %"], ["OrderDP (prunes 43 %)", "60.00 ± 10.00"]]


def test_mean_and_rare_classes_have_tables_where_they_say_something_else(pair):
    def tables_with(mean, rare):
        for label in ("OrderDP 50 %", "full data", SHORT):
            for seed in range(3):
                run = pair.folder(label, seed)
                found = run.result()
                own = {"accuracy_mean_class": found["accuracy_last"] + mean, "accuracy_rare_classes": rare}
                run.write_result({**found, **own})
        return make_section("accuracy", read_results(pair.path)).tables

    assert [table.name for table in tables_with(0.4, None)] == ["accuracy"]
    of_all, of_mean, of_rare = tables_with(-1, 40.0)
    assert (of_mean.title, of_rare.title) == ("Mean accuracy of the classes", "Accuracy of the rare classes")
    assert (of_all.lines[1][1], of_mean.lines[1][1]) == ("91.00 ± 1.00", "90.00 ± 1.00")
    assert of_rare.lines[1][1] == "40.00 ± 0.00"


def test_where_labels_are_numbers_the_tables_say_what_accuracy_is(pair):
    results = read_results(pair.path)
    for table in (overview(results), *make_section("accuracy", results).tables):
        assert "R²" not in table.note
    for label in ("OrderDP 50 %", "full data", SHORT):
        for seed in range(3):
            run = pair.folder(label, seed)
            run.write_result({**run.result(), "num_classes": 0, "accuracy_worst_class": None})
    results = read_results(pair.path)
    tables = make_section("accuracy", results).tables
    assert [table.name for table in tables] == ["accuracy"]  # no worst class
    for table in (overview(results), *tables):
        assert "Accuracy here is R², the share of the variance of the labels that the model explains." in table.note


@pytest.mark.parametrize(
    ("predicted", "cell", "says"),
    [
        ("tokens", "1.7000 ± 0.1000 (5.47)", "nats a token; in brackets the perplexity"),
        ("numbers", "1.7000 ± 0.1000", "squared error"),
    ],
)
def test_the_test_loss_stands_beside_its_other_form(pair, predicted, cell, says):
    for label in ("OrderDP 50 %", "full data", SHORT):
        for seed, loss in enumerate((1.6, 1.7, 1.8)):
            run = pair.folder(label, seed)
            result = {"predicted": predicted, "num_classes": 0, "accuracy_worst_class": None, "test_loss_last": loss}
            run.write_result({**run.result(), **result})
    table, losses = make_section("accuracy", read_results(pair.path)).tables
    assert losses.lines[:2] == [["method", "50 %"], ["OrderDP (prunes 43 %)", cell]]
    assert "lower is better" in losses.note
    assert says in losses.note
    assert ("the share of the entropy of the test tokens" in table.note) == (predicted == "tokens")
    assert ("R²" in table.note) == (predicted == "numbers")


def test_rates_that_were_chosen_have_a_table(made):
    tuned = {"OrderDP 50 %": 0.3, "full data": 0.1}
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), max_lrs=(0.1, 0.3), tuned=tuned)
    folder.finish("OrderDP 50 %", (90.0,)).finish("full data", (91.0,)).finish(SHORT, (89.0,))
    results = read_results(folder.path)
    *_, table = make_section("accuracy", results).tables
    assert (table.name, [line[1] for line in table.lines[1:]]) == ("max_lr", ["0.3", "0.1", ""])
    facts = dict(summary_of(results).facts)
    assert facts["Learning rate"] == "of 0.1 and 0.3, for each run the best on held-out training samples"
