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


def test_parts_of_a_study_are_joined_in_order(seeds_of):
    folder = seeds_of("a", (0,))
    joined = join([archive_of(folder, "first"), archive_of(folder, "second"), archive_of(folder, "first")])
    assert list(joined.parts) == ["first", "second"]
    assert joined.study == {"title": "study", "parts": ["first", "second"]}


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


def test_the_records_of_the_first_are_left_as_they_are(seeds_of):
    one = archive_of(seeds_of("a", (0,)))
    before = replace(one.parts[""].planned)
    join([one, archive_of(seeds_of("b", (1,)))])
    assert one.parts[""].planned == before
