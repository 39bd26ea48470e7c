"""Runs that another comparison has made are copied, if they are the same in everything."""

import json

import pytest
import torch

from orderdp.comparison import taken, workers
from orderdp.comparison.grid import Comparison
from orderdp.comparison.planned import Sizes
from orderdp.comparison.taken import take_over
from orderdp.output.files import new_folder
from orderdp.training import provenance
from orderdp.training.run_folder import RunFolder

SIZES = Sizes(200, 360)
METHOD = {"strategy": "infobatch", "prune_ratio": 0.5}


@pytest.fixture(autouse=True)
def committed(monkeypatch):
    """The checkout has no changes, whatever it has."""
    monkeypatch.setattr(provenance, "commit", lambda: "0123456789ab")


def planned(path, recipe, *, sizes=SIZES, methods=(), seeds=(0,)):
    with new_folder(path) as folder:
        Comparison(recipe, methods, seeds).write(folder, sizes)
    return path


@pytest.fixture
def made(tiny, tmp_path):
    """InfoBatch with full data and its shorter schedule, finished."""
    path = tmp_path / "made"
    workers.start(Comparison(tiny(**METHOD)), path, show=False)
    return path


def files_in(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_all_runs_in_common_are_copied_whole(tiny, tmp_path, made):
    path = planned(
        tmp_path / "new",
        tiny(),
        methods=({"name": "dynamic_random", "prune_ratio": 0.5}, {"name": "infobatch", "prune_ratio": 0.5}),
        seeds=(0, 1),
    )
    runs = take_over(path, [path, made])
    assert [title for title, _ in runs] == [
        "InfoBatch 50 %, seed 0",
        "full data, seed 0",
        "full data, steps of InfoBatch 50 %, seed 0",  # whose steps were known only by then
    ]
    assert {there for _, there in runs} == {made}
    for name in ("InfoBatch-50-seed0", "full-data-seed0", "full-data-steps-of-InfoBatch-50-seed0"):
        copied = {file: data for file, data in files_in(made / name).items() if file.name != "lock"}
        assert files_in(path / name) == copied
        assert copied
    assert take_over(path, [made]) == []
    outcome = workers.resume([path], show=False)[0]
    assert (dict(outcome.failed), dict(outcome.damaged)) == ({}, {})
    assert RunFolder(path / "dynamic-random-50-seed1").result()
    assert RunFolder(path / "full-data-seed0").result() == RunFolder(made / "full-data-seed0").result()


def test_each_run_comes_from_the_first_folder_that_has_it(tiny, tmp_path, made):
    """Whatever the folders before lack."""
    half = planned(tmp_path / "half", tiny(**METHOD))
    assert [there for _, there in take_over(half, [made])] == [made] * 3
    (half / "full-data-seed0" / "result.json").unlink()
    path = planned(tmp_path / "new", tiny(**METHOD))
    assert dict(take_over(path, [half, made])) == {
        "InfoBatch 50 %, seed 0": half,
        "full data, seed 0": made,
        "full data, steps of InfoBatch 50 %, seed 0": half,
    }


OTHERS = {
    "learning rate": {"max_lr": 0.05},
    "measurements": {"alignment": 1},
    "threads": {"num_threads": 2},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_another_recipe_is_not_taken(tiny, tmp_path, made, changes):
    assert take_over(planned(tmp_path / "new", tiny(**{**METHOD, **changes})), [made]) == []


def test_runs_have_the_threads_of_their_recipe_whatever_this_process_has(tiny, tmp_path, made):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert len(take_over(planned(tmp_path / "new", tiny(**METHOD)), [made])) == 3
    finally:
        torch.set_num_threads(threads)


def test_a_folder_of_the_same_size_elsewhere_may_hold_other_data(tiny, tmp_path, made):
    recipe = tiny(**METHOD)
    path = planned(tmp_path / "elsewhere", recipe.model_copy(update={"data_root": "elsewhere"}))
    assert take_over(path, [made]) == []
    path = planned(tmp_path / "loaded", recipe.model_copy(update={"download": True}))
    assert len(take_over(path, [made])) == 3


def test_another_method_or_setting_of_it_is_not_taken(tiny, tmp_path, made):
    path = planned(tmp_path / "random", tiny(strategy="dynamic_random", prune_ratio=0.5))
    assert [title for title, _ in take_over(path, [made])] == ["full data, seed 0"]
    file = made / "InfoBatch-50-seed0" / "recipe.toml"
    recipe = file.read_text()
    assert recipe.count("prune_ratio = 0.5") == 1
    file.write_text(recipe.replace("prune_ratio = 0.5", "prune_ratio = 0.5\ndelta = 0.5"))
    path = planned(tmp_path / "new", tiny(**METHOD))
    assert [title for title, _ in take_over(path, [made])] == ["full data, seed 0"]


def test_data_of_another_size_are_not_taken(tiny, tmp_path, made):
    path = planned(tmp_path / "new", tiny(**METHOD), sizes=Sizes(200, 361))
    assert take_over(path, [made]) == []


@pytest.mark.parametrize("key", ["device", "threads", "commit", "versions"])
def test_a_run_of_another_machine_or_code_is_not_taken(tiny, tmp_path, made, key):
    file = made / "full-data-seed0" / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: "another"}))
    path = planned(tmp_path / "new", tiny(**METHOD))
    assert "full data, seed 0" not in [title for title, _ in take_over(path, [made])]


@pytest.mark.parametrize("commit", ["0123456789ab-dirty", None])
def test_where_no_commit_says_what_ran_nothing_is_taken(tiny, tmp_path, made, monkeypatch, commit):
    monkeypatch.setattr(provenance, "commit", lambda: commit)
    for file in made.glob("*/result.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "commit": commit}))
    assert take_over(planned(tmp_path / "new", tiny(**METHOD)), [made]) == []


def test_what_is_not_finished_or_damaged_is_trained(tiny, tmp_path, made):
    (made / "InfoBatch-50-seed0" / "result.json").unlink()
    (made / "full-data-seed0" / "result.json").write_text("{")
    assert take_over(planned(tmp_path / "new", tiny(**METHOD)), [made]) == []


def test_a_run_that_lost_epochs_is_trained(tiny, tmp_path, made):
    """Else the damage would spread to the next study."""
    metrics = made / "full-data-seed0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0] + "\n")
    path = planned(tmp_path / "new", tiny(**METHOD))
    assert "full data, seed 0" not in [title for title, _ in take_over(path, [made])]


def test_a_folder_that_cannot_be_read_is_passed_over(tiny, tmp_path, made):
    damaged = planned(tmp_path / "damaged", tiny(**METHOD))
    (damaged / "comparison.toml").write_text("seeds = [")
    assert len(take_over(planned(tmp_path / "new", tiny(**METHOD)), [damaged, tmp_path / "none", made])) == 3


def test_what_was_begun_stays(tiny, tmp_path, made):
    path = planned(tmp_path / "new", tiny(**METHOD))
    begun = path / "full-data-seed0"
    begun.mkdir()
    (begun / "recipe.toml").write_bytes((made / "full-data-seed0" / "recipe.toml").read_bytes())
    assert "full data, seed 0" not in [title for title, _ in take_over(path, [made])]
    assert [file.name for file in begun.iterdir()] == ["recipe.toml"]


def test_a_copy_that_breaks_off_leaves_nothing(tiny, tmp_path, made, monkeypatch):
    def break_off(*given, **named):
        raise OSError("no space left")

    monkeypatch.setattr(taken.shutil, "copytree", break_off)
    path = planned(tmp_path / "new", tiny(**METHOD))
    with pytest.raises(OSError, match="no space left"):
        take_over(path, [made])
    assert not [file for file in path.iterdir() if file.is_dir()]
