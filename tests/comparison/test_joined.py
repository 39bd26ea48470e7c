"""Runs of several machines that share no disk are joined as if one had made them."""

from dataclasses import replace

import pytest

from orderdp.comparison.archive import Archive, read_archive, write_archive
from orderdp.comparison.joined import join
from orderdp.comparison.records import Missing, Record, read_folder
from orderdp.comparison.results import results_of
from orderdp.comparison.searched import searching
from reference.made_runs import SIZES

METHODS = ({"name": "orderdp", "prune_ratio": 0.5},)
LABELS = ("full data", "OrderDP 50 %", "full data, steps of OrderDP 50 %")


@pytest.fixture
def seeds_of(made):
    """Makes a folder of some seeds, all of them finished, with accuracies that tell seeds and labels apart."""

    def make(name, seeds, **plan):
        folder = made(name, methods=METHODS, seeds=seeds, **plan)
        for position, label in enumerate(LABELS):
            folder.finish(label, [80.0 + seed + position / 4 for seed in seeds])
        return folder

    return make


def archive_of(folder, part=""):
    study = {"title": "study", "parts": [part]} if part else None
    return Archive(part and "study", study, {part: read_folder(folder.path)})


def test_seeds_of_two_machines_are_those_of_one(seeds_of):
    apart = [archive_of(seeds_of("b", (2, 0))), archive_of(seeds_of("a", (1,)))]
    whole = read_folder(seeds_of("whole", (0, 1, 2)).path)
    (joined,) = join(apart).parts.values()
    assert joined.planned.seeds == (0, 1, 2)
    assert [run.name for run in joined.planned.runs] == [run.name for run in whole.planned.runs]
    assert joined.planned.runs == whole.planned.runs
    assert joined.runs == whole.runs
    assert results_of(joined) == results_of(whole)


def fixed(file, subsets, **more):
    """The method of a file that holds a subset for each of these seeds; with one seed, a file does not name it."""
    seeds = {"seeds": tuple(subsets)} if len(subsets) > 1 else {}
    about = {"method": "el2n", "prune_ratio": 0.5, "title": "EL2N", "num_samples": SIZES.num_samples, "ratios": (0.5,)}
    return {"name": "fixed", "file": file, **about, "sha256": tuple(subsets.values()), **seeds, **more}


def of_subsets(made, name, method, seeds):
    folder = made(name, methods=(method,), seeds=seeds)
    for label in ("full data", "EL2N 50 %"):
        folder.finish(label, [80.0 + seed for seed in seeds])
    return archive_of(folder)


@pytest.mark.parametrize(
    ("mine", "other", "subsets"),
    [
        ({0: "a"}, {1: "b"}, {0: "a", 1: "b"}),
        ({2: "c", 0: "a"}, {1: "b"}, {0: "a", 1: "b", 2: "c"}),
        ({0: "a", 1: "b"}, {1: "b", 2: "c"}, {0: "a", 1: "b", 2: "c"}),
    ],
)
def test_fixed_subsets_of_other_seeds_are_joined(made, mine, other, subsets):
    parts = [of_subsets(made, name, fixed(name, each), tuple(each)) for name, each in (("a", mine), ("b", other))]
    (joined,) = join(parts).parts.values()
    expected = read_folder(made("whole", methods=(fixed("a", subsets),), seeds=tuple(subsets)).path)
    assert joined.planned.table["methods"] == expected.planned.table["methods"]
    results = results_of(joined)
    assert results.entries["EL2N 50 %"].values("accuracy_last") == {seed: 80.0 + seed for seed in subsets}
    assert {run.seed: run.strategy["sha256"] for run in joined.planned.runs if not run.reference} == {
        seed: [digest] for seed, digest in subsets.items()
    }


def test_a_subset_that_all_seeds_share_stays_one(made):
    parts = [of_subsets(made, name, fixed(name, {0: "a"}), seeds) for name, seeds in (("a", (0,)), ("b", (1, 2)))]
    assert join(parts).parts[""].planned.table["methods"] == parts[0].parts[""].planned.table["methods"]


@pytest.mark.parametrize(
    ("mine", "other", "seeds"),
    [
        ({0: "a"}, {0: "b"}, ((0,), (0,))),
        ({0: "a", 1: "b"}, {1: "c"}, ((0, 1), (1,))),
        ({0: "a"}, {2: "b"}, ((0, 1), (2,))),
    ],
)
def test_two_subsets_of_one_seed_are_refused(made, mine, other, seeds):
    parts = [of_subsets(made, *each) for each in zip("ab", (fixed("a", mine), fixed("b", other)), seeds, strict=True)]
    with pytest.raises(ValueError, match=r"^runs to join must .* two values of sha256 .* method EL2N in ''; report"):
        join(parts)


def test_methods_of_one_label_with_other_settings_are_refused(made):
    parts = [of_subsets(made, "a", fixed("a", {0: "a"}), (0,))]
    parts.append(of_subsets(made, "b", fixed("b", {1: "b"}, ratios=(0.3, 0.5)), (1,)))
    with pytest.raises(ValueError, match=r"^runs to join must be of one comparison, got method 1 .*'ratios': .0.3"):
        join(parts)


def test_parts_of_a_study_are_joined_in_order(seeds_of):
    folder = seeds_of("a", (0,))
    joined = join([archive_of(folder, "first"), archive_of(folder, "second"), archive_of(folder, "first")])
    assert list(joined.parts) == ["first", "second"]
    assert joined.study == {"title": "study", "parts": ["first", "second"]}


def test_what_a_study_has_for_each_part_is_joined(seeds_of):
    folder = seeds_of("a", (0,))
    first, second = archive_of(folder, "first"), archive_of(folder, "second")
    assert first.study is not None
    assert second.study is not None
    first = first._replace(study={**first.study, "together": {"first": 0.5}})
    second = second._replace(study={**second.study, "together": {"first": 0.5, "second": 0.7}})
    for order in ([first, second], [second, first]):
        assert (join(order).study or {})["together"] == {"first": 0.5, "second": 0.7}
    other = second._replace(study={**second.study, "together": {"first": 0.6}})
    with pytest.raises(
        ValueError, match=r"got together \{'first': 0\.5\} and \{'first': 0\.6\} in 'study'; report them"
    ):
        join([first, other])


def test_a_finished_run_counts_before_a_missing_one_and_more_epochs_before_fewer(seeds_of, tmp_path):
    folder = seeds_of("a", (0, 1))
    whole = archive_of(folder)
    assert all(isinstance(record, Record) for record in whole.parts[""].runs.values())
    write_archive(tmp_path / "thin.xz", whole, epochs=False)
    thin = read_archive(tmp_path / "thin.xz")
    (folder.folder("full data", 1).path / "result.json").unlink()
    open_ = archive_of(folder)
    assert isinstance(open_.parts[""].runs["full-data-seed1"], Missing)
    for order in ([open_, thin, whole], [whole, thin, open_]):
        found = join(order).parts[""].runs
        assert found == whole.parts[""].runs
        assert all(len(record.epochs) > 1 for record in found.values() if isinstance(record, Record))
    assert isinstance(join([open_, open_]).parts[""].runs["full-data-seed1"], Missing)


def test_a_damaged_or_failed_run_is_not_hidden_by_one_that_was_not_begun(seeds_of):
    whole = archive_of(seeds_of("a", (0,)))
    kinds = [
        Archive(whole.title, None, {"": whole.parts[""]._replace(runs=dict.fromkeys(whole.parts[""].runs, missing))})
        for missing in (Missing("open", "not finished"), Missing("failed", "no memory"), Missing("damaged", "half"))
    ]
    for worst in range(3):
        for order in (kinds[: worst + 1], kinds[worst::-1]):
            assert {found.kind for found in join(order).parts[""].runs.values()} == {
                ("open", "failed", "damaged")[worst]
            }


def test_runs_that_are_planned_elsewhere_are_not_unplanned(seeds_of):
    one = archive_of(seeds_of("a", (0,)))
    records = one.parts[""]._replace(unplanned=("another", "full-data-seed1"))
    joined = join([Archive(one.title, None, {"": records}), archive_of(seeds_of("b", (1,)))])
    assert joined.parts[""].unplanned == ("another",)


def test_two_results_of_one_run_are_refused(seeds_of, made):
    one = archive_of(seeds_of("a", (0,)))
    other = made("b", methods=METHODS, seeds=(0,))
    other.finish("full data", (12.5,))
    with pytest.raises(ValueError, match=r"got two different results of full-data-seed0 in ''; leave one"):
        join([one, archive_of(other)])


def test_other_recipes_plans_and_studies_are_refused(seeds_of, tiny_recipe):
    one = archive_of(seeds_of("a", (0,)), "part")
    other = archive_of(seeds_of("b", (1,), recipe=tiny_recipe(max_lr=0.7)), "part")
    with pytest.raises(ValueError, match=r"must be of one recipe, got max_lr .* and 0\.7 in 'part'; report them apart"):
        join([one, other])
    moved = seeds_of("d", (1,), recipe=tiny_recipe(data_root="elsewhere", seed=5, num_threads=3))
    assert join([one, archive_of(moved, "part")]).parts["part"].planned.seeds == (0, 1)
    other = archive_of(seeds_of("c", (1,), budgets=(0.5,)), "part")
    with pytest.raises(ValueError, match=r"must be of one comparison, got budgets .* in 'part'; report them apart"):
        join([one, other])
    assert one.study is not None
    with pytest.raises(ValueError, match=r"must be of one study, got title 'study' and 'other' in 'study'"):
        join([one, one._replace(study={**one.study, "title": "other"})])
    assert join([one, one._replace(study={**one.study, "about": "reworded"})]).study == one.study
    with pytest.raises(ValueError, match=r"got one of each, 'study' and 'mine'; join those of one kind"):
        join([one, Archive("mine", None, {})])


def test_two_searches_of_other_seeds_are_refused(tmp_path, tiny_recipe):
    parts = []
    for seeds in ((2, 0, 1), (3, 4, 5)):
        plan = searching(tiny_recipe(), [{"name": "orderdp"}], (0.3, 0.5), seeds, margin=0.5)
        folder = tmp_path / f"{seeds[0]}"
        folder.mkdir()
        plan.write(folder, SIZES)
        parts.append(Archive("search", None, {"": read_folder(folder)}))
    assert join([parts[0], parts[0]]).parts[""].planned.seeds == (2, 0, 1)
    with pytest.raises(ValueError, match=r"one comparison, got seeds \[2, 0, 1\] and \[3, 4, 5\] in 'search'"):
        join(parts)


def test_an_earlier_state_of_a_search_is_joined_with_a_later_one(tmp_path, tiny_recipe):
    plan = searching(tiny_recipe(), [{"name": "orderdp"}], (0.3, 0.5), (2, 0, 1), margin=0.5)
    assert plan.lossless is not None
    label, other = plan.lossless.arms["OrderDP"]
    counts = {"begun": {label: 3}, "later": {label: 3, other: 4}, "apart": {label: 4}}
    states = {}
    for name, seeds_of in counts.items():
        (tmp_path / name).mkdir()
        seeds = (2, 0, 1, 3)[: max(seeds_of.values())]
        search = replace(plan.lossless, seeds_of=seeds_of)
        replace(plan, seeds=seeds, lossless=search).write(tmp_path / name, SIZES)
        states[name] = Archive("search", None, {"": read_folder(tmp_path / name)})
    later = states["later"].parts[""]
    for order in (["begun", "later"], ["later", "begun"]):
        joined = join([states[name] for name in order]).parts[""]
        assert (joined.planned.table, joined.runs) == (later.planned.table, later.runs)
    with pytest.raises(ValueError, match=r"one comparison, got lossless .* in 'search'; report them apart"):
        join([states["later"], states["apart"]])


def test_the_records_of_the_first_are_left_as_they_are(seeds_of):
    one = archive_of(seeds_of("a", (0,)))
    before = replace(one.parts[""].planned)
    join([one, archive_of(seeds_of("b", (1,)))])
    assert one.parts[""].planned == before
