"""The rows of the data sets, and what a recipe says of them."""

import inspect

import pytest

from orderdp.data.base import DataSetRow
from orderdp.data.registry import DATASETS, load_dataset
from orderdp.training.recipe import Recipe

each_row = pytest.mark.parametrize("row", DATASETS.values(), ids=list(DATASETS))


@each_row
def test_a_row_takes_what_its_function_takes(row):
    parameters = inspect.signature(row.load).parameters
    assert tuple(parameters) == row.takes
    assert all(parameter.kind == parameter.KEYWORD_ONLY for parameter in parameters.values())


@each_row
def test_the_recipe_lists_each_row_with_its_summary(row):
    description = Recipe.model_fields["dataset"].description
    assert f"{row.name} ({row.summary})" in description
    assert "MODULE:FUNCTION" in description


def test_a_name_with_none_near_gets_the_list():
    line = (
        "^no data set named 'zzz'; choose from digits, fashion_mnist, rotated_fashion_mnist, cifar10, cifar100, sst2, "
        "letters, shuttle, wikipedia, solubility, freesolv, folder, or write MODULE:FUNC"
    )
    with pytest.raises(ValueError, match=line):
        load_dataset("zzz")


def test_a_new_row_is_a_data_set_like_the_others(monkeypatch):
    digits = DATASETS["digits"].load()
    given = []

    def load(*, image_size):
        given.append(image_size)
        return digits

    monkeypatch.setitem(DATASETS, "numbers", DataSetRow("numbers", "digits again", load, ("image_size",)))
    assert len(load_dataset("numbers", image_size=8, train_size=10).train) == 10
    assert Recipe(dataset="numbers", image_size=8).image_size == given.pop() == 8
    with pytest.raises(ValueError, match=r"no data set named 'number'; did you mean 'numbers'\?"):
        load_dataset("number")
