"""Comparisons to read and to report on."""

import pytest

from orderdp.training.comparison import Plan
from orderdp.training.recipe import Recipe
from reference.made_runs import SIZES, Made


@pytest.fixture(scope="session")
def tiny_recipe():
    """Makes a recipe of three epochs on 200 digits, with some settings changed."""
    common = {"train_size": SIZES.num_samples, "epochs": 3, "batch_size": 32, "device": "cpu", "num_threads": 1}
    return lambda **settings: Recipe(**{**common, **settings})


@pytest.fixture
def made(tmp_path, tiny_recipe):
    """Makes the folder of a plan, with no runs in it yet."""

    def make(name="run", recipe=None, **plan):
        return Made(tmp_path / name, Plan(recipe or tiny_recipe(), **plan))

    return make


@pytest.fixture
def pair(made):
    """OrderDP at 50 %, full data and the shorter schedule, of three seeds each."""
    folder = made(methods=({"strategy": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2))
    folder.finish("OrderDP 50 %", (90.0, 91.0, 92.0))
    folder.finish("full data", (90.5, 91.0, 92.6))
    return folder.finish("full data, steps of OrderDP 50 %", (89.0, 90.5, 91.0))
