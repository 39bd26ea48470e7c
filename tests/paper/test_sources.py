"""Results of several machines joined: all runs of a seed from one source, and only what computes the same."""

import shutil
from dataclasses import replace

import pytest

from orderdp.comparison.archive import Archive, write_archive
from orderdp.comparison.grid import Comparison
from orderdp.comparison.planned import Sizes
from orderdp.comparison.records import read_folder
from orderdp.comparison.results import results_of
from orderdp.comparison.searched import searching
from orderdp.paper.sources import Source, covers, find, has_all_methods, join, other_plan
from reference.made_runs import Made

PLAN = {"methods": ({"name": "orderdp", "prune_ratio": 0.5},), "against": ("full",)}


def source(folder):
    return Source(folder.path, read_folder(folder.path))


@pytest.fixture
def two(made):
    """Seeds 0 and 1 on one machine, 1 and 2 on another, where seed 1 is not finished."""
    first = made("first", seeds=(0, 1), **PLAN)
    first.finish("OrderDP 50 %", (90.0, 91.0)).finish("full data", (92.0, 93.0))
    second = made("second", seeds=(1, 2), **PLAN)
    second.finish("OrderDP 50 %", (80.0, 81.0)).finish("full data", (83.0,), seeds=(2,))
    return first, second


def test_all_runs_of_a_seed_come_from_the_source_with_most_of_them(two):
    joined = join([source(each) for each in two[::-1]])
    assert joined.sources == {0: two[0].path, 1: two[0].path, 2: two[1].path}
    results = results_of(joined.records)
    assert results.seeds == (0, 1, 2)
    assert results.entries["OrderDP 50 %"].values("accuracy_last") == {0: 90.0, 1: 91.0, 2: 81.0}
    assert results.entries["full data"].values("accuracy_last") == {0: 92.0, 1: 93.0, 2: 83.0}
    assert joined.left_out == []


def test_a_seed_without_a_finished_run_keeps_its_planned_runs(two, made):
    third = made("third", seeds=(7,), **PLAN)
    joined = join([*map(source, two), source(third)])
    assert joined.sources[7] == third.path
    assert [run.seed for run in joined.records.planned.runs].count(7) == 2
    assert set(results_of(joined.records).entries["full data"].missing) == {7}


def test_a_source_that_computes_something_else_is_left_out_and_named(two, made, tiny_recipe):
    other = made("other", recipe=tiny_recipe(max_lr=0.07), seeds=(5,), **PLAN).finish("full data", (50.0,))
    joined = join([source(other), *map(source, two)])
    assert set(joined.sources) == {0, 1, 2}
    assert joined.left_out == [f"{other.path}, which has another max_lr, 0.07 instead of {two[0].plan.recipe.max_lr}"]


def test_a_method_of_the_same_label_with_other_settings_is_another_one(made):
    about = {"method": "el2n", "prune_ratio": 0.5, "title": "EL2N", "num_samples": 200}
    plans = [
        {
            "methods": ({"name": "fixed", "file": name, **about, "ratios": ratios, "sha256": (name,)},),
            "against": ("full",),
        }
        for name, ratios in (("a", (0.5,)), ("b", (0.5,)), ("c", (0.3, 0.5)))
    ]
    folders = [made(f"part{seed}", seeds=(seed,), **plan) for seed, plan in enumerate(plans)]
    for seed, folder in enumerate(folders):
        folder.finish("EL2N 50 %", (90.0 + seed,)).finish("full data", (92.0,))
    joined = join([source(folder) for folder in folders])
    assert set(joined.sources) == {0, 1}  # another file with the subset of another seed is the same method
    assert joined.left_out == [f"{folders[2].path}, which has another ratios of EL2N 50 %, [0.3, 0.5] instead of [0.5]"]
    assert [covers([source(folders[2])], replace(each.plan, seeds=(2,)), (), 2) for each in folders] == [
        False,
        False,
        True,
    ]


def test_the_machine_makes_no_difference(two, made, tiny_recipe):
    other = made("other", recipe=tiny_recipe(num_threads=2), seeds=(5,), **PLAN).finish("full data", (50.0,))
    assert set(join([*map(source, two), source(other)]).sources) == {0, 1, 2, 5}


def test_a_seed_is_covered_when_all_its_runs_are_finished_in_one_source(two, tiny_recipe):
    sources = [source(each) for each in two]
    plan = two[0].plan
    three = type(plan)(plan.recipe, plan.methods, (0, 1, 2, 3), plan.against)
    assert [covers(sources, three, (), seed) for seed in range(4)] == [True, True, True, False]
    assert not covers(sources, three, ("EL2N",), 0)
    assert not covers(sources, type(plan)(tiny_recipe(epochs=4), plan.methods, (0,), plan.against), (), 0)
    more = (*plan.methods, {"name": "ucb", "prune_ratio": 0.5})
    assert not covers(sources, type(plan)(plan.recipe, more, (0,), plan.against), (), 0)


def test_static_methods_are_covered_by_all_their_runs_of_the_seed(made):
    """Not by those of another seed, nor by one of two prune ratios."""
    about = {"name": "fixed", "method": "el2n", "title": "EL2N", "num_samples": 200, "file": "a"}
    about |= {"seeds": (0, 1), "sha256": ("a", "b")}
    static = tuple({**about, "prune_ratio": ratio, "ratios": (0.3, 0.5)} for ratio in (0.3, 0.5))
    folder = made(methods=(*PLAN["methods"], *static), against=("full",), seeds=(0, 1))
    for label in ("OrderDP 50 %", "full data", "EL2N 30 %"):
        folder.finish(label, (90.0, 91.0))
    folder.finish("EL2N 50 %", (90.0,), seeds=(0,))
    plan = replace(folder.plan, methods=PLAN["methods"])
    assert [covers([source(folder)], plan, ("EL2N",), seed) for seed in (0, 1)] == [True, False]
    assert covers([source(folder)], plan, (), 1)
    assert not covers([source(folder)], plan, ("EL2N", "GraNd"), 0)


def test_a_search_is_covered_when_it_has_ended_and_is_the_same_one(tiny_recipe, tmp_path):
    def asked(**settings):
        settings = {"margin": 1.0, "seeds_max": 3, **settings}
        return searching(tiny_recipe(), [{"name": "orderdp"}, {"name": "ucb"}], (0.3, 0.5), **settings)

    folder = Made(tmp_path / "run", asked())
    for label, accuracies in {"full data": (90.0, 91.0, 92.0), "UCB 30 %": (80.0, 81.1, 81.9)}.items():
        folder.finish(label, accuracies)
    assert not covers([source(folder)], asked(), (), 0)  # one of two methods has ended
    folder.finish("OrderDP 30 %", (80.0, 81.1, 81.9))
    assert covers([source(folder)], asked(), (), 0)
    assert not covers([source(folder)], asked(margin=2.0), (), 0)
    assert not covers([source(folder)], replace(folder.plan, lossless=None), (), 0)


def test_a_search_and_a_comparison_are_not_joined(two, tiny_recipe, tmp_path):
    plan = searching(tiny_recipe(), [{"name": "orderdp"}], (0.3, 0.5), margin=1.0)
    search = Made(tmp_path / "search", plan).finish("full data", (90.0,), seeds=(0,))
    assert join([source(two[0]), source(search)]).left_out == [f"{search.path}, which has a search of its own"]


def test_fresh_numbers_of_the_theory_come_before_archived_ones_and_those_of_other_studies_are_none(tmp_path):
    for file in ("run/theorem1/theorem1.csv", "archives/theorem1.csv", "archives/figure8.csv", "archives/worth.csv"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = find("cpu", tmp_path / "run", [tmp_path / "archives"])
    assert found.computed == {"theorem1": tmp_path / "run" / "theorem1", "figure8": tmp_path / "archives"}


def test_data_of_another_size_are_left_out(two, made):
    other = source(made("other", seeds=(5,), **PLAN).finish("full data", (50.0,)))
    planned = replace(other.records.planned, sizes=Sizes(200, 361))
    joined = join([*map(source, two), other._replace(records=other.records._replace(planned=planned))])
    assert joined.left_out == [f"{other.path}, which has data of another size"]


def test_a_folder_can_go_on_with_more_methods_and_budgets_and_with_no_other_rates_or_search(made, tiny_recipe):
    there = source(made(**PLAN)).records.planned
    plan = Comparison(tiny_recipe(), **PLAN)
    assert (other_plan(plan, there), has_all_methods(plan, there)) == ("", True)
    for more in ({"methods": (*plan.methods, {"name": "ucb", "prune_ratio": 0.5})}, {"budgets": (0.5,)}):
        assert (other_plan(replace(plan, **more), there), has_all_methods(replace(plan, **more), there)) == ("", False)
    assert other_plan(replace(plan, max_lrs=(0.1, 0.2)), there) == "max_lrs [] instead of [0.1, 0.2]"
    search = searching(tiny_recipe(), [{"name": "orderdp"}], (0.3, 0.5), margin=1.0)
    assert other_plan(search, there).startswith("lossless {} instead of {")


def test_archives_are_found_by_study_and_size_beside_fresh_runs(two, tmp_path):
    head = {"study": "table8", "size": "smoke", "title": "Table 8", "parts": ["digits"]}
    place = tmp_path / "archives" / "deep"
    place.mkdir(parents=True)
    for number, (changes, folder) in enumerate([({}, two[1]), ({"size": "cpu"}, two[0]), ({"study": "mine"}, two[0])]):
        archive = Archive("Table 8", {**head, **changes}, {"digits": read_folder(folder.path)})
        write_archive(place / f"{number}.jsonl.xz", archive)
    fresh = tmp_path / "paper" / "table8"
    shutil.copytree(two[0].path, fresh / "digits")
    (fresh / "study.toml").write_text('study = "table8"\nsize = "smoke"\ntitle = "Table 8"\nparts = ["digits"]\n')
    found = find("smoke", tmp_path / "paper", [tmp_path / "archives"])
    assert list(found.tasks) == ["table8"]
    assert set(found.joined("table8")["digits"].sources) == {0, 1, 2}
    assert find("gpu", tmp_path / "paper", [tmp_path / "archives"]).tasks == {}
    (place / "wrong.jsonl.xz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"^an archive must be a complete file .*wrong\.jsonl\.xz"):
        find("smoke", None, [tmp_path / "archives"])
