"""A custom study: a TOML file, with clear errors."""

import re

import pytest

from orderdp.comparison.grid import load_comparison
from orderdp.paper.studies import find_study
from orderdp.paper.study import load_study, start_study
from orderdp.paper.study_file import read_study
from orderdp.report.outline import SECTIONS, collect, load_outline
from orderdp.training.recipe import Recipe

MINE = """\
title = "Does it help on my data?"
methods = ["orderdp"]
prune_ratios = [0.5]

[[cpu]]
recipe = "digits"
changes = { model = "small_cnn", train_size = 200, epochs = 1, device = "cpu", num_threads = 1 }
seeds = [0]

[[cpu]]
name = "own"
recipe = "recipes/own.toml"
against = ["full"]
beside = []
prune_ratios = [0.3, 0.7]
"""


def raises(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


@pytest.fixture
def mine(tmp_path):
    """A study of two parts, one of which names a recipe's file beside it."""
    (tmp_path / "recipes").mkdir()
    Recipe(train_size=200, epochs=1, device="cpu", num_threads=1).write(tmp_path / "recipes/own.toml")
    path = tmp_path / "mine.toml"
    path.write_text(MINE, encoding="utf-8")
    return path


def test_a_custom_study_is_found_by_the_path_of_its_file(mine):
    row = find_study(str(mine))
    assert (row.name, row.shows, row.file) == ("mine", "Does it help on my data?", mine)


def test_a_custom_study_needs_few_keys_and_may_name_recipes_by_file(mine):
    study = load_study(mine)
    assert (study.name, study.size, list(study.parts)) == ("mine", "cpu", ["digits", "own"])
    assert study.outline.sections == tuple(SECTIONS)
    first, second = study.parts.values()
    assert [recipe.label for recipe in first.pruned()] == ["OrderDP 50 %", "dynamic random 50 %"]
    assert [recipe.label for recipe in second.pruned()] == ["OrderDP 30 %", "OrderDP 70 %"]
    assert (first.seeds, second.seeds, second.against) == ((0,), (0, 1, 2), ("full",))
    assert (first.recipe.train_size, second.recipe.train_size) == (200, 200)


def test_seeds_of_the_study_are_those_of_each_part_without_its_own(mine):
    mine.write_text(f"seeds = [4, 5]\n{MINE}", encoding="utf-8")
    assert [part.seeds for part in load_study(mine).parts.values()] == [(0,), (4, 5)]


def test_a_custom_study_trains_and_its_folder_says_what_to_show(mine, tmp_path):
    folder = tmp_path / "run"
    found = start_study(load_study(mine, seeds=(3,)), folder, log=lambda line: None)
    assert [(each.failed, each.open) for each in found] == [({}, [])] * 2
    outline, parts = load_outline(folder)
    assert (outline.title, list(parts)) == ("Does it help on my data?", ["digits", "own"])
    assert load_comparison(parts["own"])[0].seeds == (3,)
    archive = collect(folder)
    assert list(archive.parts) == ["digits", "own"]
    assert archive.study["title"] == outline.title


WRONG = {
    "no title": ('title = "Does it help on my data?"\n', "", "title is needed in '{}', got none; write title = "),
    "no methods": ('methods = ["orderdp"]\n', "", "methods is needed in a [[cpu]] of '{}', got none; write methods = "),
    "no recipe": ('recipe = "digits"\n', "", "recipe is needed in a [[cpu]] of '{}', got none; write recipe = "),
    "a mistyped key": ("prune_ratios = [0.5]", "prune_ratio = [0.5]", "no key 'prune_ratio' in '{}'; did you mean 'pr"),
    "a mistyped key of a part": ("seeds = [0]", "seed = [0]", "no key 'seed' in a [[cpu]] of '{}'; did you mean 'see"),
    "another type": ('["orderdp"]', '"orderdp"', "methods in '{}' must be a list of methods, got 'orderdp'; write m"),
    "a list of another type": (
        "[0.5]",
        '["0.5"]',
        "prune_ratios in '{}' must be a list of numbers, got ['0.5']; write prune_ratios = [0.3, 0.5]",
    ),
    "a word for true": (
        "prune_ratios = [0.5]",
        'prune_ratios = [0.5]\nhours = "yes"',
        "hours in '{}' must be true or false, got 'yes'; write hours = true",
    ),
    "an empty list": (
        "seeds = [0]",
        "seeds = []",
        "seeds in a [[cpu]] of '{}' must be a list of whole numbers",
    ),
    "a size without list": ("[[cpu]]\nname", "[cpu2]\nname", "no key 'cpu2' in '{}'; did you mean 'cpu'?"),
    "a name that is no folder's": ('"own"', '"../own"', "name in a [[cpu]] of '{}' must be the name of a folder, got"),
    "two parts of one name": ('"own"', '"digits"', "each [[cpu]] of '{}' must have its own name, got ['digits', "),
    "no size": ("[[cpu]]", "[[published]]", "a study must have parts of at least one size, got none in '{}'; write "),
}


@pytest.mark.parametrize(("right", "wrong", "message"), list(WRONG.values()), ids=list(WRONG))
def test_a_mistake_in_the_file_is_named_with_what_to_write(mine, right, wrong, message):
    assert right in MINE
    mine.write_text(MINE.replace(right, wrong), encoding="utf-8")
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(mine))}") as caught:
        read_study(mine)
    assert "\n" not in str(caught.value)


def test_settings_that_are_given_replace_those_of_a_part(mine):
    parts = load_study(mine, train_size=100, epochs=2).parts
    assert [(part.recipe.train_size, part.recipe.epochs) for part in parts.values()] == [(100, 2)] * 2
    assert [part.recipe.num_threads for part in parts.values()] == [1, 1]


def test_the_smallest_size_is_the_default_wherever_it_stands_in_the_file(mine):
    mine.write_text(f'{MINE}\n[[smoke]]\nrecipe = "digits"\n', encoding="utf-8")
    assert load_study(mine).size == "smoke"
    assert load_study(mine, "cpu").size == "cpu"


def test_a_recipe_is_read_beside_the_study_and_not_in_the_working_directory(mine, tmp_path, monkeypatch):
    (tmp_path / "here" / "recipes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    Recipe(train_size=100).write("recipes/own.toml")
    assert load_study(mine).parts["own"].recipe.train_size == 200


def test_the_parts_of_a_run_are_divided_where_the_study_says(mine):
    mine.write_text(f"edges = [0, 0.25, 1]\n{MINE}", encoding="utf-8")
    assert load_study(mine).outline.edges == (0, 0.25, 1)


def test_a_size_or_recipe_that_is_not_there_is_named(mine, tmp_path):
    with raises("no size named 'smoke'; choose from cpu"):
        load_study(mine, "smoke")
    mine.write_text(MINE.replace("recipes/own.toml", "none.toml"), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^a recipe must be a readable file, got '{tmp_path}/none.toml' \(No such "):
        load_study(mine)
    mine.write_text(MINE.replace('"digits"', '"digts"'), encoding="utf-8")
    with raises("no recipe named 'digts'; did you mean 'digits'?"):
        load_study(mine)


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "none.toml"
    message = (
        f"a study must be a readable file, got '{path}' (No such file or directory); write the path of a TOML file"
    )
    with raises(message):
        find_study(str(path))
