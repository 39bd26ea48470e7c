"""Two processes train one run together: each sample once, the metrics of all, resumable."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from accelerate import PartialState

from orderdp import Pruner
from orderdp.comparison.grid import Comparison
from orderdp.comparison.outcome import outcome
from orderdp.comparison.results import read_results
from orderdp.comparison.workers import resume, start
from orderdp.paper.study import Study, start_study
from orderdp.report.outline import Outline
from orderdp.training import loop, models, passes
from orderdp.training.loop import Run
from orderdp.training.models import build_model
from orderdp.training.run_folder import RunFolder
from reference.log_lines import begun_or_failed

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

KILLED = -signal.SIGKILL


# Settings, then steps and samples of 3 epochs of batches of 2 x 16; the last step of 100 samples has 2 on each rank.
COUNTS = {
    "full": ({"strategy": "full"}, 21, 600),
    "orderdp": ({"prune_ratio": 0.5}, 12, 300),
    "orderdp, drop_last": ({"prune_ratio": 0.5, "drop_last": True}, 9, 288),
    "dynamic random, odd": ({"strategy": "dynamic_random", "prune_ratio": 0.515}, 12, 291),
}


def test_two_ranks_together_visit_each_chosen_sample_once(tmp_path, tiny, digits, on_two_ranks):
    folders = {
        name: RunFolder.create(tmp_path / name, tiny(**settings, batch_size=16))
        for name, (settings, _, _) in COUNTS.items()
    }
    assert on_two_ranks(
        lambda: [Run(folder.recipe(), digits, folder, show=False).train() for folder in folders.values()]
    ) == [0, 0]
    for name, (_, steps, samples) in COUNTS.items():
        result, lines = folders[name].result(), folders[name].metrics()
        assert (result["ranks"], result["steps"], result["processor_s"]) == (2, steps, None), name
        assert [result[key] for key in ("samples_forward", "samples_backward")] == [samples, samples], name
        assert [line["samples_backward"] for line in lines] == [samples * k // 3 for k in (1, 2, 3)], name
        assert (lines[0]["never_seen"], lines[0]["max_age"]) == (200 - samples // 3, 0), name


def test_two_ranks_make_the_choices_of_one_process(train, train_on_two_ranks):
    settings = {"strategy": "dynamic_random", "prune_ratio": 0.5}
    one, two = train("one", **settings), train_on_two_ranks("two", **settings, batch_size=16)
    assert two.result()["digests"]["choices"] == one.result()["digests"]["choices"]
    # The first step is the same up to the statistics of batch normalisation, which each rank takes of its half.
    assert two.metrics()[0]["loss"] == pytest.approx(one.metrics()[0]["loss"], rel=0.05)


MEASURED = ("gradient_norm", "gradient_norm_deviation", "jaccard", "alignment")


def test_two_ranks_measure_the_same(tmp_path, tiny, digits, on_two_ranks):
    """The folder also holds gradient norms of both ranks, sets of samples, and alignment over full data."""
    recipe = tiny(prune_ratio=0.5, batch_size=4, alignment=2)
    folder = RunFolder.create(tmp_path / "run", recipe)

    def work():
        run = Run(recipe, digits, folder, show=False)
        coverage = run.train()["coverage"]
        torch.save((run.progress.gradient_norms, run.progress.history, coverage), tmp_path / os.environ["RANK"])

    assert on_two_ranks(work) == [0, 0]
    (norms, history, coverage), (other_norms, other_history, other) = (torch.load(tmp_path / rank) for rank in "01")
    assert len(norms) == 3 * 13
    assert torch.equal(norms, other_norms)
    assert np.array_equal(np.load(folder.path / "gradient_norms.npy"), norms.numpy())
    for line, other_line, written in zip(history, other_history, folder.metrics(), strict=True):
        assert [line[name] for name in MEASURED] == [other_line[name] for name in MEASURED]
        assert line == written
        assert set(line["alignment"] or ()) == ({"full", "surrogate"} if line["epoch"] > 1 else set())
    assert coverage == other == folder.result()["coverage"]


def test_two_ranks_measure_what_one_process_does(train, train_on_two_ranks, monkeypatch):
    """With a model that does not look at its batch as a whole, as batch normalisation does."""
    monkeypatch.setattr(
        models, "build_model", lambda name, **sizes: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    )
    settings = {"prune_ratio": 0.5, "alignment": 3, "augment": "crop"}
    one, two = train("one", **settings, batch_size=10), train_on_two_ranks("two", **settings, batch_size=5)
    assert two.result()["digests"]["choices"] == one.result()["digests"]["choices"]
    assert two.result()["coverage"] == one.result()["coverage"]
    norms = [np.load(folder.path / "gradient_norms.npy") for folder in (one, two)]
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-4)
    assert [line["gradient_norm_deviation"] is None for line in two.metrics()] == [True, False, False]
    for line, expected in zip(two.metrics(), one.metrics(), strict=True):
        for name in ("gradient_norm", "gradient_norm_deviation", "jaccard"):
            assert line[name] == (expected[name] and pytest.approx(expected[name], rel=1e-4))
        for name, values in expected["alignment"].items():
            assert line["alignment"][name] == pytest.approx(values, rel=1e-4)


def test_two_ranks_average_the_weights_as_one_process_does(train, train_on_two_ranks, monkeypatch):
    monkeypatch.setattr(
        models, "build_model", lambda name, **sizes: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    )
    settings = {"strategy": "full", "ema": 0.75, "epochs": 2}
    one, two = train("one", **settings, batch_size=10), train_on_two_ranks("two", **settings, batch_size=5)
    plain = train("plain", **{**settings, "ema": 0.0}, batch_size=10)
    for line, expected, other in zip(two.metrics(), one.metrics(), plain.metrics(), strict=True):
        assert line["test_loss"] == pytest.approx(expected["test_loss"], rel=1e-4)
        assert line["test_loss"] != pytest.approx(other["test_loss"], rel=1e-3)


def test_two_ranks_evaluate_by_one_second_stage(train_on_two_ranks):
    settings = {"model": "tiny_vit", "optimizer": "adamw", "max_lr": 0.003, "prune_ratio": 0.5, "batch_size": 25}
    folder = train_on_two_ranks("run", **settings, epochs=1, finetune={"epochs": 1, "ema": 0.5, "mixup": 0.8})
    second = RunFolder(folder.path / "finetune").result()
    assert (folder.result()["steps"], folder.result()["ranks"]) == (2, 2)
    assert (second["steps"], second["ranks"], second["samples_backward"]) == (4, 2, 200)
    assert folder.result()["accuracy_last"] == folder.metrics()[-1]["accuracy"] == second["accuracy_last"]


def test_two_ranks_evaluate_a_test_set_that_they_cannot_halve(train_on_two_ranks, digits):
    data = dataclasses.replace(digits, test=digits.test.subset(np.arange(121)))
    folder = train_on_two_ranks("run", data, strategy="full", eval_batch_size=60, batch_size=16)  # two batches and one
    model = build_model("small_cnn", num_classes=10, in_channels=1, image_size=8)
    model.load_state_dict(folder.load_checkpoint()[0])
    model.eval()
    with torch.no_grad():
        logits = model((data.test.images.float() / 255 - data.mean[0]) / data.std[0])
    last = folder.metrics()[-1]
    assert last["accuracy"] == pytest.approx(100 * (logits.argmax(1) == data.test.labels).double().mean().item())
    expected = torch.nn.functional.cross_entropy(logits, data.test.labels).item()
    assert last["test_loss"] == pytest.approx(expected, rel=1e-5)


def test_two_ranks_killed_inside_an_epoch_go_on_to_the_same_end(
    tmp_path, tiny, digits, outcome, train_on_two_ranks, on_two_ranks, kill_at
):
    settings = {"prune_ratio": 0.3, "batch_size": 8, "checkpoint_steps": 4, "augment": "crop"}  # 9 steps an epoch
    expected = outcome(train_on_two_ranks("unbroken", **settings))
    folder = RunFolder.create(tmp_path / "run", tiny(**settings))

    def work():
        kill_at(Pruner, "update", 15)
        Run(folder.recipe(), digits, folder, show=False).train()

    assert on_two_ranks(work) == [KILLED, KILLED]
    assert sorted(path.name for path in (folder.path / "checkpoint").glob("0*")) == ["000000009", "000000012"]
    assert outcome(train_on_two_ranks("run")) == expected


ORDERED = {"strategy": "ordered_sgd", "prune_ratio": 0.75, "batch_size": 16, "augment": "crop"}


def test_two_ranks_make_both_passes_of_a_choice_within_the_batch(train_on_two_ranks, outcome, monkeypatch):
    """Each chooses within its own part. Both measure the passes, which changes nothing."""
    plain = train_on_two_ranks("plain", **ORDERED)
    monkeypatch.setattr(passes, "_STEPS_A_ROUND", 7)
    folder = train_on_two_ranks("measured", **ORDERED)
    # 7 steps an epoch of 28 or 29 samples: each rank keeps 4 of its 14 or 15.
    for line, epochs in zip(folder.metrics(), (1, 2, 3), strict=True):
        assert [line["samples_forward"], line["samples_backward"]] == [256 * epochs, 56 * epochs]
    assert plain.result()["pass_s"] is None
    assert all(seconds > 0 for seconds in folder.result()["pass_s"].values())
    assert outcome(folder) == outcome(plain)


def test_two_ranks_agree_on_what_a_pass_costs(tmp_path, tiny, digits, on_two_ranks, monkeypatch):
    """The mean of what each measured."""
    monkeypatch.setattr(loop, "measure_passes", lambda *_, **named: {"full": 1.0 + 2 * int(os.environ["RANK"])})
    recipe = tiny(**ORDERED, epochs=1)
    folder = RunFolder.create(tmp_path / "run", recipe)

    def work():
        assert Run(recipe, digits, folder, show=False).train()["pass_s"] == {"full": 2.0}

    assert on_two_ranks(work) == [0, 0]


def test_a_first_pass_of_two_ranks_exchanges_nothing(tmp_path, tiny, digits, on_two_ranks):
    def work():
        run = Run(tiny(**ORDERED), digits, RunFolder(tmp_path), show=False)
        assert run.chooser is run.model
        assert run.net is not run.model

    assert on_two_ranks(work) == [0, 0]


def test_two_ranks_killed_between_two_passes_go_on_to_the_same_end(
    tmp_path, tiny, digits, outcome, train_on_two_ranks, on_two_ranks, kill_at
):
    settings = {**ORDERED, "checkpoint_steps": 4}
    expected = outcome(train_on_two_ranks("unbroken", **settings))
    folder = RunFolder.create(tmp_path / "run", tiny(**settings))

    def work():
        kill_at(Pruner, "update", 13)  # the sixth step of the second epoch, whose fourth wrote a checkpoint
        Run(folder.recipe(), digits, folder, show=False).train()

    assert on_two_ranks(work) == [KILLED, KILLED]
    assert sorted(path.name for path in (folder.path / "checkpoint").glob("0*")) == ["000000008", "000000012"]
    assert outcome(train_on_two_ranks("run")) == expected


PAIR = ({"name": "infobatch", "prune_ratio": 0.5}, {"name": "orderdp", "prune_ratio": 0.5})


def test_two_ranks_make_a_comparison_together(tmp_path, tiny, on_two_ranks):
    plan = Comparison(tiny(epochs=2, batch_size=16), methods=PAIR)
    path, told = tmp_path / "rank0", tmp_path / "told"

    def work():
        # A folder named after the time may have another name on each rank: the first one's counts.
        with told.open("a") as file:
            found = start(
                plan,
                tmp_path / f"rank{os.environ['RANK']}",
                show=False,
                log=lambda line: print(line, file=file, flush=True),
            )
        assert [label for label, entry in found.results.entries.items() if entry.results] == labels
        assert (found.failed, found.open) == ({}, [])

    labels = ["InfoBatch 50 %", "OrderDP 50 %", "full data"]
    labels += [f"full data, steps of {label}" for label in labels[:2]]
    assert on_two_ranks(work) == [0, 0]
    assert [file.name for file in tmp_path.iterdir() if file.is_dir()] == ["rank0"]
    assert begun_or_failed(told.read_text()) == [
        f"[{number}/5] {label}, seed 0" for number, label in enumerate(labels, 1)
    ]
    results = {member.label: RunFolder(path / member.name).result() for member in plan.members(200)}
    assert {result["ranks"] for result in results.values()} == {2}
    assert results["full data, steps of InfoBatch 50 %"]["steps"] == results["InfoBatch 50 %"]["steps"]
    assert len(json.loads((path / "result.json").read_text())["runs"]) == 5


def test_what_two_ranks_made_is_read_by_one_and_made_by_two_only(tmp_path, tiny, on_two_ranks):
    plan, path = Comparison(tiny(epochs=2, batch_size=16), methods=PAIR[1:]), tmp_path / "run"
    assert on_two_ranks(lambda: start(plan, path, show=False)) == [0, 0]
    results = read_results(path)
    steps = {entry.label: [run["steps"] for run in entry.results.values()] for entry in results.entries.values()}
    assert steps == {"OrderDP 50 %": [8], "full data": [14], "full data, steps of OrderDP 50 %": [8]}
    assert outcome(path).open == []
    (path / "full-data-seed0" / "result.json").unlink()
    message = rf"^the runs in {path} must be trained on 2 rank\(s\), as the first of them were, got 1; start as many"
    with pytest.raises(ValueError, match=message):
        resume([path], show=False)
    assert outcome(path).open == ["full data, seed 0"]


def test_two_ranks_stop_at_a_run_that_fails_and_say_why(tmp_path, tiny, on_two_ranks):
    plan = Comparison(tiny(epochs=1, batch_size=16, max_lr=1e30), against=())
    assert on_two_ranks(lambda: start(plan, tmp_path / "run", show=False)) == [1, 1]
    assert "must stay finite" in RunFolder(tmp_path / "run" / "OrderDP-seed0").failure()


def test_two_ranks_are_no_several_processes(tmp_path, tiny, on_two_ranks):
    def work():
        message = "^processes must be a whole number from 1, and 1 under several ranks, got 2; write --processes 1$"
        with pytest.raises(ValueError, match=message):
            start(Comparison(tiny()), tmp_path / "run", processes=2, show=False)
        PartialState().wait_for_everyone()  # a rank that ends first takes the group's store with it

    assert on_two_ranks(work) == [0, 0]
    assert not list(tmp_path.iterdir())


def test_two_ranks_make_a_study_together(tmp_path, tiny, on_two_ranks):
    plans = {name: Comparison(tiny(epochs=1, batch_size=16, prune_ratio=0.5), against=("full",)) for name in ("a", "b")}
    study = Study("both", "smoke", Outline("both"), plans, {"title": "both"})

    def work():
        found = start_study(study, tmp_path / "study", log=lambda line: None)
        assert [len(each.finished) for each in found] == [2, 2]

    assert on_two_ranks(work) == [0, 0]
    assert {path.name for path in (tmp_path / "study").iterdir()} == {"a", "b", "study.toml"}


@pytest.mark.slow
def test_torchrun_trains_and_resumes_and_prints_one_table(tmp_path, outcome, on_two_ranks):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"]
    torchrun += ["--standalone", "-m", "orderdp", "train"]
    options = (
        "--device cpu --train-size 200 --epochs 2 --batch-size 16 --model small_cnn --num-threads 1 --against short"
    )

    done = subprocess.run([*torchrun, *options.split()], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("OrderDP 50 %, seed 0\n") == 2  # one line for the run, one for its reference
    table, _, _, where = done.stdout.split("\n\n")
    labels = ["run", "OrderDP 50 %", "full data, steps of OrderDP 50 %"]
    assert [line.split("  ")[0] for line in table.splitlines()] == labels
    path = tmp_path / re.fullmatch(r"settings, metrics, checkpoints and plots: (\S+)\n", where)[1]
    members = [RunFolder(path / name) for name in ("OrderDP-50-seed0", "full-data-steps-of-OrderDP-50-seed0")]
    assert [member.result()["samples_forward"] for member in members] == [200, 228]
    assert [member.result()["ranks"] for member in members] == [2, 2]
    expected = [outcome(member) for member in members]
    for member in members:
        (member.path / "result.json").unlink()
    assert on_two_ranks(lambda: resume([path], show=False)) == [0, 0]
    assert [outcome(member) for member in members] == expected
    assert len(json.loads((path / "result.json").read_text())["runs"]) == 2
