"""A study with static methods chooses their subsets first, goes on after a kill anywhere, and each seed has its own."""

import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from orderdp.cli import main
from orderdp.comparison.archive import read_archive, write_archive
from orderdp.comparison.results import read_results, results_of
from orderdp.paper import subsets
from orderdp.paper.study import load_study, resume_study, start_study
from orderdp.report.outline import collect
from orderdp.report.plots import _table
from orderdp.training import coreset_run
from orderdp.training.coreset_run import load
from orderdp.training.loop import Run
from orderdp.training.proxy_training import _Training
from orderdp.training.run_folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

STUDY = """
title = "Static methods"
methods = ["orderdp"]
beside = []
against = ["full"]
prune_ratios = [0.5]
static = ["random", "el2n,epoch=1", "calibrated,scores=el2n-1"]
proxy = { epochs = 2, batch_size = 64 }
[[smoke]]
name = "digits"
recipe = "digits"
changes = { model = "small_cnn", epochs = 1, train_size = 200, device = "cpu" }
seeds = [0, 1]
"""
LABELS = ["OrderDP 50 %", "random 50 %", "EL2N-1 50 %", "calibrated of EL2N-1 50 %", "full data"]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the study with some text replaced, and works where it lies."""
    monkeypatch.chdir(tmp_path)

    def written(*changes):
        text = STUDY
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        (tmp_path / "mine.toml").write_text(text)
        return tmp_path / "mine.toml"

    return written


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a study that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "mine.toml").write_text(STUDY)
    (found,) = start_study(load_study(folder / "mine.toml"), folder / "run", log=quiet)
    assert (found.failed, found.damaged, found.open) == ({}, {}, [])
    return folder / "run"


def quiet(line):
    pass


def accuracies(folder):
    results = read_results(folder / "digits")
    return {label: entry.values("accuracy_last") for label, entry in results.entries.items()}


def raises(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}")


def test_static_methods_stand_beside_the_others_in_one_row_for_all_seeds(whole):
    assert list(accuracies(whole)) == LABELS
    assert all(list(values) == [0, 1] for values in accuracies(whole).values())
    assert read_results(whole / "digits").unplanned == ()
    names = [run.name for run in read_results(whole / "digits").planned.runs]
    assert [int(name[-1]) for name in names] == [0] * len(LABELS) + [1] * len(LABELS)  # one seed after the other


def test_each_seed_trains_on_its_own_subset(whole):
    kept = {}
    for seed in (0, 1):
        subsets = load(whole / "digits" / "coresets", seed).subsets
        for label, key in (("random", "random"), ("EL2N-1", "el2n-1")):
            visits = _table(RunFolder(whole / "digits" / f"{label}-50-seed{seed}"))["visits"]
            kept[key, seed] = np.flatnonzero(visits).tolist()
            assert kept[key, seed] == sorted(subsets[key][0.5].ids)
    assert kept["random", 0] != kept["random", 1]
    assert kept["el2n-1", 0] != kept["el2n-1", 1]


def test_its_results_are_read_without_the_subsets(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("coresets", "checkpoint"))
    write_archive(tmp_path / "runs.xz", collect(tmp_path / "run"))
    assert (tmp_path / "runs.xz").stat().st_size < 10_000
    records = read_archive(tmp_path / "runs.xz").parts["digits"]
    assert list(results_of(records).entries) == LABELS


PLACES = {
    "in the second epoch of the second proxy": (_Training, "train_epoch", 4),
    "before the subsets are joined": (coreset_run, "write_subsets", 1),
    "between subsets and comparison": (subsets, "_add_to_comparison", 1),
    "in the comparison": (Run, "_close_epoch", 7),
}


@pytest.mark.parametrize("place", list(PLACES.values()), ids=list(PLACES))
def test_a_killed_study_goes_on_and_ends_the_same(write, whole, in_child, kill_at, place):
    study = load_study(write())

    def work():
        kill_at(*place)
        start_study(study, Path("run"), log=quiet)

    assert in_child(work) == -signal.SIGKILL
    times = {
        path: path.stat().st_mtime_ns for path in Path("run").rglob("*") if path.suffix in (".npz", ".safetensors")
    }
    (found,) = resume_study(Path("run"), log=quiet)
    assert (found.failed, found.damaged, found.open) == ({}, {}, [])
    assert accuracies(Path("run")) == accuracies(whole)
    assert all(path.stat().st_mtime_ns == at for path, at in times.items() if path.exists())  # no proxy or part again


@pytest.mark.slow
def test_two_processes_choose_and_train(write, whole):
    (found,) = start_study(load_study(write()), Path("run"), processes=2, log=quiet)
    assert (found.failed, found.damaged, found.open) == ({}, {}, [])
    assert accuracies(Path("run")) == accuracies(whole)


def test_seeds_that_are_added_get_their_own_subsets(capsys, write, whole):
    shutil.copytree(whole, write().parent / "run")
    before = {path: path.read_bytes() for path in Path("run/digits").glob("*-seed[01]/*.json*")}
    assert main(["study", "--resume", "run", "--seed", "2"]) == 0
    text, err = capsys.readouterr()
    chosen = [line for line in err.splitlines() if line.startswith("digits ")]
    assert len([line for line in chosen if "/3] " in line]) == 3
    assert all(re.match(r"digits (\[\d/3\] .*|proxy), seed 2: ", line) for line in chosen)
    assert all(list(values) == [0, 1, 2] for values in accuracies(Path("run")).values())
    assert {path: path.read_bytes() for path in before} == before
    assert text.startswith("digits\n")


def test_a_seed_is_added_to_a_study_of_one(write):
    study = load_study(write(("seeds = [0, 1]", "seeds = [0]"), (', "calibrated,scores=el2n-1"', "")))
    start_study(study, Path("run"), log=quiet)
    before = {path: path.read_bytes() for path in Path("run/digits").glob("*-seed0/*.json*")}
    assert main(["study", "--resume", "run", "--seed", "1"]) == 0
    found = accuracies(Path("run"))
    assert all(list(values) == [0, 1] for values in found.values())
    assert len(found) == len(LABELS) - 1
    assert {path: path.read_bytes() for path in before} == before


def test_a_part_says_how_its_subsets_are_chosen(write):
    study = load_study(write(("[[smoke]]", 'quotas = "none"\nproxies = 2\nvalidation = 0.1\n[[smoke]]')))
    plan = study.subsets["digits"]
    assert (plan.quotas, plan.proxies, plan.validation, plan.seeds) == ("none", 2, 0.1, (0, 1))
    assert (plan.recipe.epochs, plan.recipe.batch_size, plan.prune_ratios) == (2, 64, (0.5,))


WRONG = {
    "method": ('"random"', '"randon"', "no static method named 'randon'; did you mean 'random'?"),
    "epoch": ("{ epochs = 2", "{ epochs = 0", "epochs must lie in [1, inf), got 0; write epochs = 30"),
    "epoch of a method": (
        '"random"',
        '"forgetting,epoch=3"',
        "epoch must lie in 0 .. 2, the epochs of the proxy, got 3; write more epochs",
    ),
    "scores": ("scores=el2n-1", "scores=el2n", "calibrated needs the scores of a method asked for, got el2n; did you"),
    "setting of the proxy": ("{ epochs = 2", "{ epoch = 2", "no recipe key 'epoch'; did you mean 'epochs'?"),
    "type": ('"random"', "1", "static in '{path}' must be a list of static methods, got [1, "),
    "validation": ('"random"', '"glister"', "validation needs a share that is held out, got none; write validation ="),
    "ratio": ("[0.5]", "[0.0, 0.5]", "prune_ratio is a fraction and must lie in (0, 1), got 0.0; "),
    "rates": (
        "seeds = [0, 1]",
        "seeds = [0, 1]\nmax_lrs = [0.1, 0.3]",
        "max_lrs are chosen with a tenth of the training images held out, got [0.1, 0.3] beside static, ",
    ),
    "proxies": ("[[smoke]]", "proxies = 0\n[[smoke]]", "proxies must be at least 1, got 0; write a positive"),
}


@pytest.mark.parametrize(("right", "wrong", "message"), list(WRONG.values()), ids=list(WRONG))
def test_a_mistake_gets_one_line_before_anything_is_written(write, right, wrong, message):
    path = write((right, wrong))
    with raises(message.replace("{path}", str(path))):
        start_study(load_study(path), Path("run"), log=quiet)
    assert not Path("run").exists()


def test_the_commit_is_asked_for_before_other_processes_begin(tmp_path, monkeypatch):
    order, plan = [], SimpleNamespace(recipe=None)
    for name in ("_is_in_comparison", "check_subsets", "_add_to_comparison"):
        monkeypatch.setattr(subsets, name, lambda *_: None)
    monkeypatch.setattr(subsets, "_plan_in", lambda part: plan)
    monkeypatch.setattr(subsets, "_left", lambda parts: SimpleNamespace(open={}))
    for name in ("commit", "join"):
        monkeypatch.setattr(subsets, name, lambda *_, name=name: order.append(name))
    engine = SimpleNamespace(share=lambda *_: order.append("work"))
    given = {"engine": engine, "log": print, "data": SimpleNamespace(of=lambda recipe: None)}
    subsets.choose_subsets([tmp_path], processes=2, **given)
    assert order == ["commit", "work", "join"]
