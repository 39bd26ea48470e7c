"""The two forms of an optimiser, held against each other run by run."""

import pytest

from orderdp.comparison.results import read_results
from orderdp.paper.forms import forms
from orderdp.paper.runs_shown import Task


@pytest.fixture
def trained(made, tiny_recipe):
    """Returns a task with an optimiser, whose runs by label end with these accuracies, one for each of three seeds."""

    def task(optimizer, **accuracies):
        recipe = tiny_recipe(optimizer=optimizer)
        folder = made(optimizer, recipe, methods=({"name": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2))
        for label, of_seeds in accuracies.items():
            folder.finish({"orderdp": "OrderDP 50 %", "full": "full data"}[label], of_seeds)
        return Task(read_results(folder.path), None, 3)

    return task


def test_each_run_is_held_against_that_of_the_other_form(trained):
    timm = trained("lars", orderdp=(80.0, 80.0, 80.0), full=(90.0, 90.0, 90.0))
    release = trained("lars_release", orderdp=(81.9, 82.0, 82.1), full=(88.0, 90.0, 92.0))
    alone = trained("lamb_release", orderdp=(1.0, 1.0, 1.0))
    (table,) = forms({"a": timm, "b": release, "c": alone, "d": trained("sgd", full=(1.0, 1.0, 1.0))})
    assert table.lines == [
        ["run", "lars: the release's form minus timm's"],
        ["OrderDP 50 %", "+2.00 [+1.72, +2.28] better"],
        ["full data", "+0.00 [−4.97, +4.97] open"],
    ]


def test_a_run_that_one_form_lacks_has_an_empty_cell(trained):
    tasks = {
        "a": trained("lars", orderdp=(80.0, 80.0, 80.0)),
        "b": trained("lars_release", orderdp=(80.0, 81.0, 82.0)),
        "c": trained("lamb", full=(80.0, 80.0, 80.0)),
        "d": trained("lamb_release", full=(80.0, 81.0, 82.0)),
    }
    lines = {label: cells for label, *cells in forms(tasks)[0].lines[1:]}
    assert {label: [bool(cell) for cell in cells] for label, cells in lines.items()} == {
        "OrderDP 50 %": [True, False],
        "full data": [False, True],
    }


def test_without_both_forms_there_is_no_table(trained):
    release = trained("lars_release", full=(90.0, 90.0, 90.0))
    assert forms({"a": release, "b": trained("adamw", full=(90.0, 90.0, 90.0))}) == []
    assert forms({"a": release, "b": trained("lars", orderdp=(90.0, 90.0, 90.0))}) == []
    assert forms({}) == []
