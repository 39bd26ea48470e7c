"""Training the runs of a comparison: each once, by one process or several, whatever stops or fails on the way."""

import contextlib
import errno
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate import PartialState
from accelerate.state import AcceleratorState

from orderdp.comparison import checks, processes, workers
from orderdp.comparison import outcome as outcome_module
from orderdp.comparison.checks import LoadedData, check, sharing_threads
from orderdp.comparison.grid import Comparison, load_comparison
from orderdp.comparison.outcome import outcome, summarize
from orderdp.comparison.planned import Sizes
from orderdp.comparison.processes import joined_by, say
from orderdp.comparison.workers import create_folder, extend, resume, start
from orderdp.data.base import DataSetRow
from orderdp.data.digits import load_digits
from orderdp.data.registry import DATASETS
from orderdp.output import files
from orderdp.training import run_folder
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe, load_recipe
from orderdp.training.run_folder import RunFolder, alone_in
from reference.log_lines import begun_or_failed
from reference.processes import end_when_all_are_told

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

N = 200
ORDERDP, RANDOM = {"name": "orderdp", "prune_ratio": 0.5}, {"name": "dynamic_random", "prune_ratio": 0.5}
OPEN = {"name": "infobatch", "prune_ratio": 0.5}
PATIENCE_S = 120


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def accuracies(outcome):
    """Label to seed to the accuracy of its finished runs, for those that have any."""
    found = {label: entry.values("accuracy_last") for label, entry in outcome.results.entries.items()}
    return {label: values for label, values in found.items() if values}


def content(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def digests(path):
    return {file.parent.name: json.loads(file.read_text())["digests"] for file in path.glob("*/result.json")}


def wait_until(true):
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def failing(monkeypatch):
    """Makes the runs of some names fail, until it is called again."""
    train, names = Run.train, {}

    def trained(run):
        if run.folder.name in names:
            raise names[run.folder.name]
        return train(run)

    def fail(**errors):
        names.clear()
        names.update({name.replace("_", "-"): error for name, error in errors.items()})

    monkeypatch.setattr(Run, "train", trained)
    return fail


def test_a_comparison_writes_everything_that_it_returns(tmp_path, tiny):
    path, told = tmp_path / "run", []
    methods = (ORDERDP, {**ORDERDP, "prune_ratio": 0.25})
    plan = Comparison(tiny(epochs=1), methods=methods, seeds=(0, 1), against=("full",))
    found = start(plan, path, show=False, log=told.append)
    assert load_comparison(path) == (plan, Sizes(200, 360))
    entries = found.results.entries
    assert list(entries) == ["OrderDP 50 %", "OrderDP 25 %", "full data"]
    assert [sorted(entry.results) for entry in entries.values()] == [[0, 1]] * 3
    assert [entry.mean("samples_forward") for entry in entries.values()] == [100, 150, 200]
    assert begun_or_failed(told) == [
        "[1/6] OrderDP 50 %, seed 0",
        "[2/6] OrderDP 25 %, seed 0",
        "[3/6] full data, seed 0",
        "[4/6] OrderDP 50 %, seed 1",
        "[5/6] OrderDP 25 %, seed 1",
        "[6/6] full data, seed 1",
    ]
    summary = json.loads((path / "result.json").read_text())
    in_rows = sorted(plan.members(N), key=lambda member: list(entries).index(member.label))
    assert summary["runs"] == [RunFolder(path / member.name).result() for member in in_rows]
    assert {label: [run.name for run in runs] for label, runs in found.finished.items()} == {
        label: [member.name for member in in_rows if member.label == label] for label in entries
    }
    assert (found.failed, found.open, summary["failed"]) == ({}, [], {})
    names = {member.name for member in in_rows} | {"lock", "comparison.toml", "recipe.toml", "result.json"}
    assert {file.name for file in path.iterdir()} == names


def test_making_again_keeps_finished_runs_byte_for_byte_and_makes_the_others(tmp_path, tiny):
    path, told = tmp_path / "run", []
    plan = Comparison(tiny(epochs=1, prune_ratio=0.5))
    first = start(plan, path, show=False)
    kept, lost = path / "OrderDP-50-seed0", path / "full-data-seed0"
    before = content(kept)
    (lost / "result.json").unlink()
    again = resume([path], show=False, log=told.append)[0]
    assert begun_or_failed(told) == ["[2/3] full data, seed 0"]
    assert content(kept) == before
    assert accuracies(again) == accuracies(first)
    everything = content(path)
    assert resume([path], show=False, log=told.append)[0] == again
    assert (content(path), begun_or_failed(told)) == (everything, ["[2/3] full data, seed 0"])


def test_several_folders_are_made_one_after_another(tmp_path, tiny):
    plans = [Comparison(tiny(epochs=1, prune_ratio=0.5, seed=seed), seeds=(seed,), against=()) for seed in (0, 1)]
    paths = [create_folder(plan, tmp_path / name, check(plan)) for plan, name in zip(plans, "ab", strict=True)]
    told = []
    found = resume(paths, show=False, log=told.append)
    assert begun_or_failed(told) == ["[1/1] OrderDP 50 %, seed 0", "[1/1] OrderDP 50 %, seed 1"]
    assert [each.finished["OrderDP 50 %"][0].path.parent for each in found] == paths


def test_a_folder_that_exists_is_refused_and_left_alone(tmp_path, tiny):
    (tmp_path / "mine").write_text("mine")
    message = f"the run folder must be new, got {tmp_path}, which exists; write another --run, or --resume {tmp_path}"
    with raises(FileExistsError, message):
        start(Comparison(tiny()), tmp_path, show=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


UNFIT = {
    "no sample is left": (
        {"prune_ratio": 0.999},
        {"against": ("full",)},
        "the sizes must keep at least one of the 200 samples, got q = 0 from prune_ratio=0.999; "
        "write larger fractions to keep, or a smaller prune ratio",
    ),
    "no batch is left of one of the ratios": (
        {"drop_last": True},
        {"methods": (ORDERDP, {**ORDERDP, "prune_ratio": 0.9}), "against": ()},
        "drop_last leaves no batch, got 20 selected samples for 1 x 32 a step; "
        "give more samples, or write a smaller batch_size or drop_last=False",
    ),
    "too many steps": (
        {"max_steps": 99},
        {"against": ()},
        "max_steps must be within the 6 steps of 3 epochs, got 99; write more epochs",
    ),
    "unknown model": (
        {"model": "small_cn"},
        {"against": ()},
        "no model named 'small_cn'; did you mean 'small_cnn'? (model_names() and timm.list_models() list them)",
    ),
    "a setting that one of the methods does not take": (
        {},
        {"methods": (ORDERDP, {"name": "ucb", "prune_ratio": 0.5, "epsilon": 0.1})},
        "epsilon does not apply to strategy 'ucb', got 0.1; it takes prune_ratio, c, smoothing, every",
    ),
}


@pytest.mark.parametrize(("settings", "plan", "message"), list(UNFIT.values()), ids=list(UNFIT))
def test_settings_that_do_not_fit_the_data_fail_before_anything_is_written(tmp_path, tiny, settings, plan, message):
    with raises(ValueError, message):
        start(Comparison(tiny(**settings), **plan), tmp_path / "run", show=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("processes", [0, -1, 1.5, "two"])
def test_a_number_of_processes_that_cannot_be_is_refused_before_anything_is_written(tmp_path, tiny, processes):
    message = (
        f"processes must be a whole number from 1, and 1 under several ranks, got {processes}; write --processes 1"
    )
    with raises(ValueError, message):
        start(Comparison(tiny()), tmp_path / "run", processes=processes, show=False)
    assert not list(tmp_path.iterdir())
    plan = Comparison(tiny())
    path = create_folder(plan, tmp_path / "run", check(plan))
    with raises(ValueError, message):
        resume([path], processes=processes, show=False)
    assert sorted(file.name for file in path.iterdir()) == ["comparison.toml", "recipe.toml"]


def test_every_setting_of_the_data_arrives(tmp_path, monkeypatch):
    given = {}

    def load(name, **settings):
        given.update(settings, name=name)
        raise OSError("enough")

    monkeypatch.setattr(checks, "load_dataset", load)
    settings = {"train_size": 50, "image_size": 32, "download": True}
    with raises(OSError, "enough"):
        start(Comparison(Recipe(dataset="folder", data_root="here", **settings)), tmp_path / "run", show=False)
    assert given == {"name": "folder", "data_root": Path("here"), **settings}


@pytest.fixture
def loads(monkeypatch):
    """The data sets that were loaded, one entry for each time."""
    load, found = checks.load_dataset, []

    def loaded(name, **settings):
        found.append((name, settings["train_size"]))
        return load(name, **settings)

    monkeypatch.setattr(checks, "load_dataset", loaded)
    return found


def test_a_process_loads_its_data_once_for_the_check_and_all_runs(tmp_path, tiny, loads, monkeypatch):
    row = DataSetRow("digits", "in a folder", lambda data_root: load_digits(), ("data_root",))
    monkeypatch.setitem(DATASETS, "digits", row)
    start(Comparison(tiny(epochs=1, prune_ratio=0.5), seeds=(0, 1)), tmp_path / "run", show=False)
    assert loads == [("digits", 200)]
    data = LoadedData()
    (tmp_path / "run" / "full-data-seed0" / "result.json").unlink()
    extend(tmp_path / "run", seeds=[2], data_root=str(tmp_path), data=data)
    resume([tmp_path / "run"], show=False, data=data)
    assert loads == [("digits", 200)] * 2


def test_another_method_of_a_label_that_is_there_is_refused(made, monkeypatch):
    def subset(file, digest):
        about = {"method": "el2n", "prune_ratio": 0.5, "title": "EL2N", "num_samples": 200, "ratios": (0.5,)}
        return {"name": "fixed", "file": file, **about, "sha256": (digest,)}

    folder = made(methods=(subset("a", "1"),), seeds=(3,))
    monkeypatch.setattr(workers, "check_recipes", lambda *_: None)  # which would read the file
    before = (folder.path / "comparison.toml").read_text()
    extend(folder.path, methods=[subset("moved", "1")])
    assert (folder.path / "comparison.toml").read_text() == before
    with pytest.raises(
        ValueError, match=r"^a label must stand for one method, got another EL2N 50 % than that in .*run"
    ):
        extend(folder.path, methods=[subset("a", "2")])


def test_only_equal_settings_of_the_data_share_it(tiny, loads):
    data = LoadedData()
    first, again = data.of(tiny()), data.of(tiny(epochs=7, seed=3, strategy="full"))
    assert first is again
    assert len(data.of(tiny(train_size=100)).train) == 100
    assert loads == [("digits", 200), ("digits", 100)]


def test_a_folder_without_a_plan_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"^the folder of a comparison must hold recipe\.toml and comparison\.toml, got "
    ):
        resume([tmp_path], show=False)
    with pytest.raises(
        ValueError, match=r"^the folder of a comparison must hold recipe\.toml and comparison\.toml, got "
    ):
        outcome(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_says_why_and_the_others_go_on(tmp_path, tiny, failing):
    path, told = tmp_path / "run", []
    failing(OrderDP_50_seed0=RuntimeError("out of\n  memory"), full_data_seed1=RuntimeError())
    plan = Comparison(tiny(epochs=1, prune_ratio=0.5), seeds=(0, 1), against=("full",))
    found = start(plan, path, show=False, log=told.append)
    assert begun_or_failed(told) == [
        "[1/4] OrderDP 50 %, seed 0",
        "[1/4] OrderDP 50 %, seed 0 failed: out of memory",
        "[2/4] full data, seed 0",
        "[3/4] OrderDP 50 %, seed 1",
        "[4/4] full data, seed 1",
        "[4/4] full data, seed 1 failed: RuntimeError",
    ]
    assert found.failed == {"OrderDP 50 %, seed 0": "out of memory", "full data, seed 1": "RuntimeError"}
    assert found.open == []
    assert {label: [run.name for run in runs] for label, runs in found.finished.items()} == {
        "OrderDP 50 %": ["OrderDP-50-seed1"],
        "full data": ["full-data-seed0"],
    }
    assert [len(entry) for entry in accuracies(found).values()] == [1, 1]
    assert json.loads((path / "result.json").read_text())["failed"] == found.failed
    assert (path / "OrderDP-50-seed0" / "failure.txt").read_text() == "out of memory\n"
    assert outcome(path) == found


def test_a_run_that_failed_is_tried_again_and_its_failure_goes_away(tmp_path, tiny, failing):
    path, told = tmp_path / "run", []
    failing(OrderDP_50_seed0=RuntimeError("first"))
    start(Comparison(tiny(epochs=1, prune_ratio=0.5), against=("full",)), path, show=False)
    failing(OrderDP_50_seed0=RuntimeError("second"))
    assert resume([path], show=False)[0].failed == {"OrderDP 50 %, seed 0": "second"}
    failing()
    found = resume([path], show=False, log=told.append)[0]
    assert begun_or_failed(told) == ["[1/2] OrderDP 50 %, seed 0"]
    assert (found.failed, found.open, len(accuracies(found))) == ({}, [], 2)
    assert not list(path.rglob("failure.txt"))


def test_training_that_diverges_is_such_a_failure(tmp_path, tiny):
    path = tmp_path / "run"
    found = start(Comparison(tiny(max_lr=1e30, prune_ratio=0.5), against=("full",)), path, show=False)
    assert list(found.failed) == ["OrderDP 50 %, seed 0", "full data, seed 0"]
    reason = r"the (training|test) loss must stay finite, got (nan|inf) .*; write a smaller max_lr than 1e\+30"
    assert all(re.fullmatch(reason, line) for line in found.failed.values())
    assert (accuracies(found), found.finished, found.open) == ({}, {}, [])
    assert not (path / "result.json").exists()


def test_a_run_waits_open_for_the_run_whose_steps_it_takes(tmp_path, tiny, failing):
    path = tmp_path / "run"
    failing(InfoBatch_50_seed0=RuntimeError("no"))
    plan = Comparison(tiny(epochs=2), methods=(OPEN,))
    found = start(plan, path, show=False)
    assert found.failed == {"InfoBatch 50 %, seed 0": "no"}
    assert found.open == ["full data, steps of InfoBatch 50 %, seed 0"]
    assert list(found.finished) == ["full data"]
    failing()
    found = resume([path], show=False)[0]
    assert (found.failed, found.open) == ({}, [])
    steps = {label: runs[0].result()["steps"] for label, runs in found.finished.items()}
    assert steps["full data, steps of InfoBatch 50 %"] == steps["InfoBatch 50 %"] < steps["full data"]


def test_an_interruption_stops_everything_and_is_no_failure(tmp_path, tiny, failing):
    path = tmp_path / "run"
    failing(full_data_seed0=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        start(Comparison(tiny(epochs=1, prune_ratio=0.5)), path, show=False)
    found = outcome(path)
    assert list(found.finished) == ["OrderDP 50 %"]
    assert (found.failed, len(found.open)) == ({}, 2)
    failing()
    assert len(accuracies(resume([path], show=False)[0])) == 3


def full_disk(monkeypatch, refuses):
    """Lets no file of which `refuses` is true be written."""
    whole = files.write_flushed

    def write(path, data):
        if refuses(path.name):
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(path, data)

    monkeypatch.setattr(files, "write_flushed", write)


def test_a_disk_without_room_for_a_checkpoint_fails_the_run_and_is_made_good_later(tmp_path, tiny, monkeypatch):
    path = tmp_path / "run"
    full_disk(monkeypatch, lambda name: name == "model.safetensors")
    found = start(Comparison(tiny(epochs=1, prune_ratio=0.5), against=()), path, show=False)
    (reason,) = found.failed.values()
    assert "checkpoint could not be written (No space left on device); existing files are unchanged" in reason
    monkeypatch.undo()
    assert resume([path], show=False)[0].failed == {}


def test_a_disk_without_room_for_anything_stops_the_comparison_and_harms_nothing(tmp_path, tiny, monkeypatch):
    path, plan = tmp_path / "run", Comparison(tiny(epochs=1, prune_ratio=0.5), against=("full",))
    create_folder(plan, path, check(plan))
    full_disk(monkeypatch, lambda name: "recipe" not in name)
    with pytest.raises(OSError, match=r"failure\.txt could not be written \(No space left on device\)"):
        resume([path], show=False)
    monkeypatch.undo()
    found = resume([path], show=False)[0]
    assert (found.failed, found.open, len(accuracies(found))) == ({}, [], 2)


@pytest.fixture
def small(tmp_path, tiny):
    """Folder of a small comparison that is finished, and its plan."""
    plan = Comparison(tiny(epochs=1, prune_ratio=0.5), against=("full",))
    start(plan, tmp_path / "run", show=False)
    return tmp_path / "run", plan


def test_a_run_of_another_recipe_than_planned_is_named_with_what_differs(small):
    path, _ = small
    changed = path / "full-data-seed0"
    load_recipe(changed / "recipe.toml", max_lr=0.3).write(changed / "recipe.toml")
    message = (
        f"every run in a folder must have its planned recipe, got {changed} with max_lr 0.3 instead of 0.1; "
        f"move that run elsewhere, and resume with --resume {path}"
    )
    for call in (lambda: resume([path], show=False), lambda: outcome(path)):
        with raises(ValueError, message):
            call()


def test_data_of_another_size_is_refused(small, monkeypatch):
    path, _ = small
    load = checks.load_dataset
    monkeypatch.setattr(checks, "load_dataset", lambda name, **given: load(name, **{**given, "train_size": 150}))
    message = (
        f"the data must be that of the runs in {path}, 200 and 360 samples, got 150 and 360; "
        "write the data_root of the first runs"
    )
    before = content(path)
    with raises(ValueError, message):
        resume([path], show=False)
    assert content(path) == before


def test_a_run_that_another_process_holds_is_left_alone_and_reported_as_open(small):
    path, _ = small
    (path / "full-data-seed0" / "result.json").unlink()
    held, told = RunFolder(path / "full-data-seed0"), []
    with held.locked() as mine:
        assert mine
        found = resume([path], show=False, log=told.append)[0]
        assert (found.open, found.failed, told) == (["full data, seed 0"], {}, [])
        assert found.at_work == ["full data, seed 0"]
        assert list(found.finished) == ["OrderDP 50 %"]
    assert outcome(path).at_work == []
    assert resume([path], show=False)[0].open == []


def test_to_look_whether_a_run_is_being_made_keeps_nobody_from_making_it(small):
    """Another process holds the lock for as long as it looks, and the one that would make the run waits for that."""
    path, _ = small
    (path / "full-data-seed0" / "result.json").unlink()
    held, looking = RunFolder(path / "full-data-seed0"), threading.Event()

    def look():
        with held.locked():
            looking.set()
            time.sleep(0.05)

    looker = threading.Thread(target=look)
    looker.start()
    looking.wait()
    found = resume([path], show=False)[0]
    looker.join()
    assert found.open == []


def test_the_failure_of_a_run_that_another_process_holds_is_kept(small):
    path, _ = small
    run = RunFolder(path / "full-data-seed0")
    (run.path / "result.json").unlink()
    run.write_failure("before")
    with run.locked():
        assert resume([path], show=False)[0].failed == {"full data, seed 0": "before"}


def test_the_tables_of_a_folder_are_written_by_one_process_at_a_time(small):
    path, _ = small
    process = multiprocessing.get_context("fork").Process(target=lambda: resume([path], show=False))
    with alone_in(path):
        process.start()
        process.join(2)
        waited = process.is_alive()
    process.join(PATIENCE_S)
    assert (waited, process.exitcode) == (True, 0)


def test_what_a_process_writes_of_a_folder_is_what_it_finds_when_its_turn_comes(small, monkeypatch):
    """A run that ends while another process waits for its turn is in the summary that it writes."""
    path, _ = small
    last = path / "full-data-seed0" / "result.json"
    text, lock = last.read_text(), outcome_module.alone_in

    def ends_meanwhile(folder):
        last.write_text(text)
        return lock(folder)

    last.unlink()
    monkeypatch.setattr(outcome_module, "alone_in", ends_meanwhile)
    summarize(path)
    assert len(json.loads((path / "result.json").read_text())["runs"]) == 2


def test_a_run_that_ended_between_the_look_and_the_lock_is_not_made_again(small, monkeypatch):
    path, _ = small
    last = path / "full-data-seed0" / "result.json"
    text, locked, told = last.read_text(), RunFolder.locked, []
    last.unlink()

    @contextlib.contextmanager
    def after_another_has_finished(folder):
        last.write_text(text)
        with locked(folder) as mine:
            yield mine

    monkeypatch.setattr(RunFolder, "locked", after_another_has_finished)
    found = resume([path], show=False, log=told.append)[0]
    assert (found.open, told) == ([], [])


def test_a_plan_is_changed_by_one_process_at_a_time(small):
    path, _ = small
    process = multiprocessing.get_context("fork").Process(target=lambda: extend(path, seeds=[7]))
    with alone_in(path):
        process.start()
        process.join(2)
        waited = process.is_alive()
    process.join(PATIENCE_S)
    assert (waited, process.exitcode, load_comparison(path)[0].seeds) == (True, 0, (0, 7))


DAMAGE = {
    "a result cut short": ("result.json", '{"a', "result.json must hold JSON, got "),
    "a result of something else": (
        "result.json",
        "{}",
        "result.json must hold the result of a run, got another; ",
    ),
    "metrics that are gone": ("metrics.jsonl", None, "metrics.jsonl lacks epochs: 0 of "),
}


@pytest.mark.parametrize(("name", "text", "why"), list(DAMAGE.values()), ids=list(DAMAGE))
def test_a_run_whose_files_are_damaged_keeps_no_other_from_being_made_and_is_named(small, name, text, why):
    path, _ = small
    damaged, told = path / "OrderDP-50-seed0" / name, []
    damaged.unlink()
    if text is not None:
        damaged.write_text(text)
    (path / "full-data-seed0" / "result.json").unlink()
    found = resume([path], show=False, log=told.append)[0]
    assert begun_or_failed(told) == ["[2/2] full data, seed 0"]
    assert (list(found.finished), found.failed, list(found.damaged)) == (["full data"], {}, ["OrderDP 50 %, seed 0"])
    assert why in found.damaged["OrderDP 50 %, seed 0"]
    # What the message says to do mends it.
    (path / "OrderDP-50-seed0" / "result.json").unlink()
    found = resume([path], show=False)[0]
    assert (list(found.finished), found.damaged) == (["OrderDP 50 %", "full data"], {})


def test_a_file_that_another_process_takes_away_meanwhile_is_no_error(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.write_failure("why")
    exists = Path.exists

    def and_then_gone(path):
        there = exists(path)
        path.unlink(missing_ok=True)
        return there

    monkeypatch.setattr(run_folder.Path, "exists", and_then_gone)
    assert run.failure() in ("why", None)


@pytest.fixture
def larger(tiny):
    """A plan of eight short runs, one of which waits for another."""
    return Comparison(tiny(epochs=1), methods=(ORDERDP, OPEN, RANDOM), seeds=(0, 1), against=("short",))


@pytest.fixture
def alone(tmp_path, larger):
    """What one process makes of it."""
    start(larger, tmp_path / "alone", show=False)
    return digests(tmp_path / "alone")


def test_processes_that_meet_in_a_folder_make_each_run_once_and_the_same_as_one(tmp_path, larger, alone):
    path = create_folder(larger, tmp_path / "run", check(larger))
    context = multiprocessing.get_context("fork")
    together = context.Barrier(3)

    def work(number):
        together.wait(PATIENCE_S)
        with (tmp_path / f"told{number}").open("w") as told:
            resume([path], show=False, log=lambda line: print(line, file=told, flush=True))

    processes = [context.Process(target=work, args=(number,)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    told = [line for number in range(3) for line in (tmp_path / f"told{number}").read_text().splitlines()]
    members = larger.members(N)
    expected = [f"[{number}/{len(members)}] {m.label}, seed {m.recipe.seed}" for number, m in enumerate(members, 1)]
    assert sorted(begun_or_failed(told)) == sorted(expected)
    found = outcome(path)
    assert (found.failed, found.open) == ({}, [])
    assert digests(path) == alone
    assert not list(path.rglob("*.unfinished"))


def waiting_for(path, told):
    """Tells a line, and at the first waits until another process has made a run."""

    def tell(line):
        told.append(line)
        if len(told) == 1:
            wait_until(lambda: list(path.glob("*/result.json")))

    return tell


@pytest.fixture
def forked(monkeypatch):
    """Makes helpers that are forked, while those of other tests import everything anew, as in use."""
    fork = multiprocessing.get_context("fork")
    forking = SimpleNamespace(get_context=lambda method: fork, parent_process=multiprocessing.parent_process)
    monkeypatch.setattr(processes, "multiprocessing", forking)


def test_helpers_make_each_run_once_and_the_same_as_one_process(tmp_path, larger, alone, capfd):
    path, told = tmp_path / "run", []
    found = start(larger, path, processes=2, show=False, log=waiting_for(path, told))
    helped = capfd.readouterr().err.splitlines()
    assert (found.failed, found.open) == ({}, [])
    assert len(helped) >= 1
    members = larger.members(N)
    assert sorted(begun_or_failed(told + helped)) == sorted(
        f"[{number}/{len(members)}] {m.label}, seed {m.recipe.seed}" for number, m in enumerate(members, 1)
    )
    assert digests(path) == alone
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("forked")
def test_helpers_can_read_by_worker_processes(tmp_path, tiny, capfd):
    path, told = tmp_path / "run", []
    plan = Comparison(tiny(epochs=1, data_path="loader", num_workers=1, prune_ratio=0.5), against=("full",))
    found = start(plan, path, processes=2, show=False, log=waiting_for(path, told))
    assert (found.failed, found.open, len(accuracies(found))) == ({}, [], 2)
    assert begun_or_failed(capfd.readouterr().err) == ["[2/2] full data, seed 0"]


@pytest.mark.usefixtures("forked")
def test_what_a_killed_helper_leaves_is_made_all_the_same(tmp_path, larger, alone):
    path, killed = tmp_path / "run", []

    def tell(line):
        if not killed:
            wait_until(lambda: len(list(path.glob("*/recipe.toml"))) > 1)  # it has begun a run
            (helper,) = multiprocessing.active_children()
            os.kill(helper.pid, signal.SIGKILL)
            killed.append(helper)

    found = start(larger, path, processes=2, show=False, log=tell)
    assert killed[0].exitcode == -signal.SIGKILL
    assert (found.failed, found.open) == ({}, [])
    assert digests(path) == alone


@pytest.mark.usefixtures("forked")
def test_helpers_end_with_the_process_that_they_help(tmp_path, larger):
    before = signal.getsignal(signal.SIGINT)

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(larger, tmp_path / "run", processes=2, show=False, log=stop)
    assert multiprocessing.active_children() == []
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("forked")
def test_helpers_are_all_told_to_end_before_any_is_waited_for(tmp_path):
    helpers = []

    def interrupted():
        with joined_by(2, end_when_all_are_told, tmp_path):
            wait_until(lambda: len(list(tmp_path.glob("begun*"))) == 2)
            helpers.extend(multiprocessing.active_children())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [helper.exitcode for helper in helpers] == [0, 0]


@pytest.mark.usefixtures("forked")
def test_helpers_end_when_the_process_that_they_help_is_killed(tmp_path, larger):
    path, context = tmp_path / "run", multiprocessing.get_context("fork")
    slow = replace(larger, recipe=larger.recipe.model_copy(update={"epochs": 20_000}))
    told = context.Queue()

    def work():
        def tell(line):
            wait_until(lambda: len(list(path.glob("*/recipe.toml"))) == 1)  # the helper has begun a run
            told.put(line)
            time.sleep(PATIENCE_S)

        start(slow, path, processes=2, show=False, log=tell)

    process = context.Process(target=work)
    process.start()
    told.get(timeout=PATIENCE_S)
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE_S)
    (begun,) = (RunFolder(path / run.name) for run in larger.members(N) if (path / run.name / "recipe.toml").exists())
    wait_until(lambda: is_free(begun))


def is_free(folder):
    """Whether no process holds a run."""
    with folder.locked() as mine:
        return mine


def test_a_helper_that_cannot_go_on_says_so_in_one_line(tmp_path, capfd):
    with joined_by(1, partial(workers._help, budget=None), [tmp_path], say):
        pass
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"a helper process stopped: the folder of a comparison must hold .*\n", err)


def test_several_processes_share_the_threads_of_the_machine(tiny, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    plan = Comparison(tiny(num_threads=None), methods=(ORDERDP,), seeds=(3,), against=("short",))
    assert [sharing_threads(plan, count).recipe.num_threads for count in (1, 2, 3, 100)] == [None, 4, 2, 1]
    assert sharing_threads(plan, 2) == Comparison(tiny(num_threads=4), plan.methods, plan.seeds, plan.against)
    assert sharing_threads(Comparison(tiny(num_threads=3)), 2).recipe.num_threads == 3


def test_the_recipes_device_counts_from_the_first_moment_also_of_a_resumed_folder(small, in_child):
    """Accelerate settles on a device when it is first asked for anything."""
    path, _ = small

    def work():
        AcceleratorState._reset_state(reset_partial_state=True)
        resume([path], show=False)
        assert PartialState()._cpu is True

    assert in_child(work) == 0
