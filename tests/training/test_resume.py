"""A run that is killed and taken up again ends as one that was never stopped, bit for bit."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from orderdp import Pruner
from orderdp.cli import main
from orderdp.comparison.grid import load_comparison
from orderdp.output import files
from orderdp.training import models, provenance, saved
from orderdp.training.loop import Run
from orderdp.training.run_folder import RunFolder
from reference.log_lines import begun_or_failed

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

KILLED = -signal.SIGKILL
# 140 samples in 9 steps an epoch; checkpoints after steps 4, 8 | 9 | 12, 16 | 18 | 20, 24 | 27.
PLAIN = {"prune_ratio": 0.3, "batch_size": 16, "augment": "crop"}
WITHIN = {**PLAIN, "checkpoint_steps": 4}


def half_a_file(path, data):
    path.write_bytes(data[: len(data) // 2])


HALF = {"first": half_a_file}
OF_A_CHECKPOINT = {"counts": lambda path, **named: path.name.isdigit()}

# Settings, what kills at which call of it, and the checkpoints that are then there. A checkpoint writes the files of
# the model, the state and the manifest; an epoch's end writes the metrics after them.
MOMENTS = {
    "before the first step": (PLAIN, Pruner, "update", 1, {}, []),
    "in the first epoch": (PLAIN, Pruner, "update", 5, {}, []),
    "in the second epoch": (PLAIN, Pruner, "update", 14, {}, [9]),
    "after a checkpoint inside an epoch": (WITHIN, Pruner, "update", 5, {}, [4]),
    "steps after a checkpoint inside an epoch": (WITHIN, Pruner, "update", 16, {}, [9, 12]),
    "at an epoch's end, before its evaluation": (WITHIN, Run, "_evaluate", 2, {}, [12, 16]),
    "at an epoch's end, before its metrics": (WITHIN, RunFolder, "write_metrics", 2, {}, [16, 18]),
    "at the last epoch's end, before its metrics": (PLAIN, RunFolder, "write_metrics", 3, {}, [18, 27]),
    "before the result": (PLAIN, RunFolder, "write_result", 1, {}, [18, 27]),
    "in the result": (PLAIN, files, "write_flushed", 13, HALF, [18, 27]),
    "in the first checkpoint's model": (PLAIN, files, "write_flushed", 1, HALF, []),
    "in a checkpoint's model": (PLAIN, files, "write_flushed", 5, HALF, [9]),
    "in a checkpoint's state": (WITHIN, files, "write_flushed", 5, HALF, [4]),
    "in a checkpoint's manifest": (WITHIN, files, "write_flushed", 6, HALF, [4]),
    "before a checkpoint gets its name": (WITHIN, Path, "rename", 2, {}, [4]),
    "before an old checkpoint is removed": (WITHIN, shutil, "rmtree", 1, OF_A_CHECKPOINT, [4, 8, 9]),
    "in the metrics": (PLAIN, files, "write_flushed", 8, HALF, [9, 18]),
}


@pytest.fixture
def dropout(monkeypatch):
    """Gives every sequential model a layer of dropout, which draws from torch's global generator at each step."""
    build = models.build_model

    def with_dropout(name, **sizes):
        model = build(name, **sizes)
        if not isinstance(model, torch.nn.Sequential):
            return model
        *layers, last = model
        return torch.nn.Sequential(*layers, torch.nn.Dropout(0.3), last)

    monkeypatch.setattr(models, "build_model", with_dropout)


def checkpoints(folder):
    return sorted(int(path.name) for path in (folder.path / "checkpoint").glob("0*"))


@pytest.mark.usefixtures("dropout")
@pytest.mark.parametrize("moment", list(MOMENTS))
def test_a_run_killed_at_any_moment_goes_on_to_the_same_end(
    tmp_path, tiny, digits, train, outcome, in_child, kill_at, moment
):
    settings, owner, name, number, how, left = MOMENTS[moment]
    expected = outcome(train("unbroken", **settings))
    folder = RunFolder.create(tmp_path / "run", tiny(**settings))

    def work():
        kill_at(owner, name, number, **how)
        Run(folder.recipe(), digits, folder, show=False).train()

    assert in_child(work) == KILLED
    assert checkpoints(folder) == left
    assert folder.result() is None
    assert outcome(train()) == expected
    assert checkpoints(folder) == [27]


# The kill falls into the second epoch, after a checkpoint inside it.
OTHERS = {
    "two workers": {"data_path": "loader", "num_workers": 2, "explore": 0.9, "epochs": 2},
    "dynamic random": {"strategy": "dynamic_random", "prune_ratio": 0.3},
    "full data": {"strategy": "full"},
    "fresh": {"per": "iteration", "fresh": True, "explore": 0.9},
    "per iteration": {"per": "iteration", "explore": 0.9},
    "steps that depend on the losses": {"strategy": "infobatch", "prune_ratio": 0.3},
    "adamw, bf16": {"optimizer": "adamw", "max_lr": 0.01, "precision": "bf16"},
    "sgd, channels last": {"channels_last": True},  # its fused step reads weights, gradients and momentum in one layout
    "lamb, channels last": {"optimizer": "lamb", "max_lr": 0.01, "channels_last": True},
    "lars of the release": {"optimizer": "lars_release", "max_lr": 1.0},
    "lamb of the release": {"optimizer": "lamb_release", "max_lr": 0.01},
    "max_steps": {"strategy": "full", "max_steps": 21},
    "mixed, erased, averaged": {
        "data_path": "loader",
        "num_workers": 1,
        "augment": "flip_crop_random_erase",
        "mixup": 0.8,
        "cutmix": 1.0,
        "ema": 0.9,
        "clip_norm": 1.0,
        "schedule": "cosine",
        "epochs": 2,
    },
    "masked": {"model": "tiny_vit", "optimizer": "adamw", "max_lr": 0.003, "epochs": 2, "finetune": {"epochs": 1}},
}


@pytest.mark.usefixtures("dropout")
@pytest.mark.parametrize("settings", list(OTHERS.values()), ids=list(OTHERS))
def test_runs_of_every_kind_go_on_to_the_same_end(tmp_path, tiny, digits, train, outcome, in_child, kill_at, settings):
    settings = {"batch_size": 16, "checkpoint_steps": 2, "augment": "crop", **settings}
    folder = train("unbroken", **settings)
    expected, per_epoch = outcome(folder), folder.metrics()[0]["step"]
    folder = RunFolder.create(tmp_path / "run", tiny(**settings))

    def work():
        kill_at(Pruner, "update", per_epoch + 4)
        Run(folder.recipe(), digits, folder, show=False).train()

    assert in_child(work) == KILLED
    assert per_epoch < checkpoints(folder)[-1] < per_epoch + 4
    assert outcome(train()) == expected


@pytest.mark.usefixtures("dropout")
def test_a_run_killed_again_and_again_at_random_times_goes_on_to_the_same_end(
    tmp_path, tiny, digits, train, outcome, in_child
):
    settings = {**PLAIN, "checkpoint_steps": 1, "epochs": 6}
    expected = outcome(train("unbroken", **settings))
    folder = RunFolder.create(tmp_path / "run", tiny(**settings))

    def work():
        Run(folder.recipe(), digits, folder, show=False).train()

    rng = np.random.default_rng(0)
    codes = [in_child(work, kill_after_s=seconds) for seconds in rng.uniform(0.02, 0.3, size=5)]
    assert codes[0] == KILLED
    assert set(codes) <= {KILLED, 0}
    assert outcome(train()) == expected


def test_the_metrics_of_a_killed_epoch_count_once(tmp_path, tiny, digits, train, in_child, kill_at):
    folder = RunFolder.create(tmp_path / "run", tiny(**WITHIN))

    def work():
        kill_at(Pruner, "update", 15)
        Run(folder.recipe(), digits, folder, show=False).train()

    assert in_child(work) == KILLED
    lines = train().metrics()
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["step"] for line in lines] == [9, 18, 27]
    assert [line["samples_forward"] for line in lines] == [140, 280, 420]


def test_a_finished_run_that_is_taken_up_again_stays_as_it_is(train, outcome):
    folder = train()
    expected, seconds = outcome(folder), [line["training_s"] for line in folder.metrics()]
    assert outcome(train()) == expected
    assert [line["training_s"] for line in folder.metrics()] == seconds


def test_the_number_of_ranks_cannot_change(train, monkeypatch):
    ranks = saved.gather_object
    monkeypatch.setattr(saved, "gather_object", lambda values: ranks(values) * 2)
    train()
    message = r"^a run must be resumed on the 2 ranks that it had, got 1; start as many processes$"
    with pytest.raises(ValueError, match=message):
        train()


OPTIONS = "--batch-size=16 --train-size=200 --epochs=3 --device=cpu --prune-ratio=0.3 --model=small_cnn --num-threads=1"
# Killed in the ways in which a comparison of three runs can be: what kills at which call of it, and how many are left.
COMPARISON_MOMENTS = {
    "in its recipe": (files, "write_flushed", 1, HALF, None),
    "in its plan": (files, "write_flushed", 2, HALF, None),
    "before its folder has its name": (files.Path, "rename", 1, {}, None),
    "before the first run has a recipe": (RunFolder, "begin", 1, {}, 3),
    "in the first run": (Pruner, "update", 5, {}, 3),
    "between two runs": (RunFolder, "begin", 2, {}, 2),
    "in the last run": (Pruner, "update", 27 + 39 + 5, {}, 1),
    "in the table": (files, "write_flushed", 1, {**HALF, "counts": lambda path, data: "table" in path.name}, 0),
    "in the plots": (files, "write_flushed", 2, {**HALF, "counts": lambda path, data: ".png" in path.name}, 0),
}


@pytest.fixture(scope="module")
def unbroken_comparison(tmp_path_factory):
    """Folder of a comparison that was never stopped."""
    path = tmp_path_factory.mktemp("comparison") / "unbroken"
    assert main(["train", *OPTIONS.split(), f"--run={path}"]) == 0
    return path


@pytest.mark.parametrize("moment", list(COMPARISON_MOMENTS))
def test_a_comparison_killed_at_any_moment_goes_on_to_the_same_end(
    tmp_path, unbroken_comparison, outcome, in_child, kill_at, capsys, moment
):
    owner, name, number, how, left = COMPARISON_MOMENTS[moment]
    killed = tmp_path / "run"

    def work():
        kill_at(owner, name, number, **how)
        main(["train", *OPTIONS.split(), f"--run={killed}"])

    assert in_child(work) == KILLED
    capsys.readouterr()
    status = main(["train", f"--resume={killed}"])
    told = begun_or_failed(capsys.readouterr().err)
    if left is None:  # there is no folder yet, and the same call makes it
        assert (status, killed.exists(), len(list(tmp_path.iterdir()))) == (2, False, 1)
        status = main(["train", *OPTIONS.split(), f"--run={killed}"])
        left, told = 3, begun_or_failed(capsys.readouterr().err)
        assert list(tmp_path.iterdir()) == [killed]
    assert (status, len(told)) == (0, left)
    for member in load_comparison(killed)[0].members(200):
        assert outcome(RunFolder(killed / member.name)) == outcome(RunFolder(unbroken_comparison / member.name))
    found = [sorted(file.relative_to(path) for file in path.rglob("*")) for path in (killed, unbroken_comparison)]
    assert found[0] == found[1]


def test_the_command_goes_on_in_a_new_process_to_the_same_end(tmp_path, train, outcome, in_child, kill_at, scripts):
    path = tmp_path / "killed"
    options = ["--batch-size=16", "--checkpoint-steps=4", "--train-size=200", "--epochs=3", "--device=cpu", "--seed=5"]
    options += ["--prune-ratio=0.3", "--model=small_cnn", "--num-threads=1", f"--run={path}", "--against"]

    def work():
        kill_at(Pruner, "update", 15)
        main(["train", *options])

    assert in_child(work) == KILLED
    resumed = scripts.run_command("train", "--resume", str(path))
    assert (resumed.returncode, begun_or_failed(resumed.stderr)) == (0, ["[1/1] OrderDP 30 %, seed 5"])
    expected = outcome(train("unbroken", **WITHIN, seed=5, channels_last=True))  # as in the recipe digits
    assert outcome(RunFolder(path / "OrderDP-30-seed5")) == expected


def test_a_run_that_goes_on_under_another_commit_names_both(tmp_path, tiny, digits, train, monkeypatch):
    def commit_meanwhile(*given):
        monkeypatch.setattr(provenance, "commit", lambda: "b")

    def stop(run):
        commit_meanwhile()
        raise KeyboardInterrupt

    monkeypatch.setattr(provenance, "commit", lambda: "a")
    with monkeypatch.context() as patched:
        patched.setattr(Run, "_write_metrics", stop)
        folder = RunFolder.create(tmp_path / "run", tiny(**PLAIN))
        with pytest.raises(KeyboardInterrupt):
            Run(folder.recipe(), digits, folder, show=False).train()
    assert train().result()["commit"] == "a and b"
    monkeypatch.setattr(provenance, "commit", lambda: "a")
    with monkeypatch.context() as patched:
        write = RunFolder.write_checkpoint
        patched.setattr(RunFolder, "write_checkpoint", lambda *given: commit_meanwhile() or write(*given))
        assert train("committed meanwhile", **PLAIN).result()["commit"] == "a"


def test_environments_of_two_releases_are_joined_by_what_they_record():
    older, newer = {"versions": {"torch": "2.12"}}, {"versions": {"torch": "2.13", "timm": "1.0"}, "threads": 1}
    joined = provenance.joined([older, newer, older])
    versions = {"torch": "2.12 and 2.13", "timm": "not recorded and 1.0"}
    assert joined == {"versions": versions, "threads": "not recorded and 1"}


def test_a_run_that_goes_on_from_a_checkpoint_without_its_environment_does_not_claim_this_one_alone(
    tmp_path, tiny, digits, train, monkeypatch
):
    write = RunFolder.write_checkpoint

    def as_before(folder, step, model, state):
        del state["progress"]["environments"]
        write(folder, step, model, state)
        raise KeyboardInterrupt

    folder = RunFolder.create(tmp_path / "run", tiny(**PLAIN))
    monkeypatch.setattr(provenance, "commit", lambda: "b")
    run = Run(folder.recipe(), digits, folder, show=False)
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_checkpoint", as_before)
        with pytest.raises(KeyboardInterrupt):
            run.train()
    result = train().result()
    assert (result["commit"], result["versions"]["torch"]) == (
        "not recorded and b",
        f"not recorded and {torch.__version__}",
    )
