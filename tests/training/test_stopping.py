"""SIGTERM stops a run at the next step of all ranks, with a checkpoint; a lost rank leaves the run to be resumed."""

import logging
import os
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from orderdp import Pruner
from orderdp.cli import main
from orderdp.comparison import workers
from orderdp.comparison.grid import Comparison
from orderdp.comparison.workers import resume, start
from orderdp.stopping import Stopped, StopRequest
from orderdp.training import checkpoints as checkpoints_module
from orderdp.training.loop import Run
from orderdp.training.run_folder import RunFolder

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

STOPPED = 143
# 140 samples in 9 steps an epoch of one rank with batches of 16, or of two ranks with batches of 8; 27 in all.
SETTINGS = {"prune_ratio": 0.3, "batch_size": 16, "augment": "crop"}


def signal_at(owner, name, number, *, which=signal.SIGTERM, rank="0"):
    """Patches a function so that before its n-th call the process gets a signal; for a forked child only."""
    original, calls = getattr(owner, name), []

    def replacement(*arguments, **named):
        calls.append(name)
        if len(calls) == number and os.environ.get("RANK", "0") == rank:
            os.kill(os.getpid(), which)
        return original(*arguments, **named)

    setattr(owner, name, replacement)


def checkpoints(folder):
    return sorted(int(path.name) for path in (folder.path / "checkpoint").glob("0*"))


MOMENTS = {
    "in the first step": (Pruner, "update", 1, [1]),
    "inside an epoch": (Pruner, "update", 13, [9, 13]),
    "in the last step of an epoch": (Pruner, "update", 18, [9, 18]),
    "in an evaluation": (Run, "_evaluate", 2, [9, 18]),
    "while a checkpoint is written": (RunFolder, "write_checkpoint", 1, [9]),
}


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_a_run_stops_after_its_step_with_a_checkpoint_and_goes_on_to_the_same_end(
    tmp_path, tiny, digits, train, outcome, in_child, moment
):
    owner, name, number, left = MOMENTS[moment]
    expected = outcome(train("unbroken", **SETTINGS))
    folder = RunFolder.create(tmp_path / "run", tiny(**SETTINGS))

    def work():
        signal_at(owner, name, number)
        Run(folder.recipe(), digits, folder, show=False).train()

    assert in_child(work) == STOPPED
    assert checkpoints(folder) == left
    assert folder.is_open()
    assert outcome(train()) == expected


def test_a_run_that_is_stopped_in_its_last_step_is_finished(tmp_path, tiny, digits, train, outcome, in_child):
    expected = outcome(train("unbroken", **SETTINGS))
    folder = RunFolder.create(tmp_path / "run", tiny(**SETTINGS))

    def work():
        signal_at(Pruner, "update", 27)
        Run(folder.recipe(), digits, folder, show=False).train()

    assert in_child(work) == STOPPED
    assert outcome(folder) == expected


def test_the_handler_of_before_is_back_after_a_run(train):
    before = signal.getsignal(signal.SIGTERM)
    train(**SETTINGS, epochs=1)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("rank", ["0", "1"])
def test_ranks_of_which_one_is_told_stop_after_the_same_step(
    tmp_path, tiny, digits, outcome, train_on_two_ranks, on_two_ranks, rank
):
    settings = {**SETTINGS, "batch_size": 8}
    expected = outcome(train_on_two_ranks("unbroken", **settings))
    folder = RunFolder.create(tmp_path / "run", tiny(**settings))

    def work():
        signal_at(Pruner, "update", 13, rank=rank)
        Run(folder.recipe(), digits, folder, show=False).train()

    assert on_two_ranks(work) == [STOPPED, STOPPED]
    assert checkpoints(folder) == [9, 14]  # each step tells the next one
    assert outcome(train_on_two_ranks("run")) == expected


@pytest.mark.parametrize(("number", "left"), [(17, [9, 18]), (18, [9, 18]), (26, []), (27, [])])
def test_ranks_that_are_told_near_the_end_of_an_epoch_agree_too(
    tmp_path, tiny, digits, outcome, train_on_two_ranks, on_two_ranks, number, left
):
    settings = {**SETTINGS, "batch_size": 8}
    expected = outcome(train_on_two_ranks("unbroken", **settings))
    folder = RunFolder.create(tmp_path / "run", tiny(**settings))

    def work():
        signal_at(Pruner, "update", number, rank="1")
        Run(folder.recipe(), digits, folder, show=False).train()

    assert on_two_ranks(work) == [STOPPED, STOPPED]
    if left:
        assert checkpoints(folder) == left
        train_on_two_ranks("run")
    assert outcome(folder) == expected


OPTIONS = "--batch-size=16 --train-size=200 --epochs=3 --device=cpu --prune-ratio=0.3 --model=small_cnn --num-threads=1"


def told_by(call, folder, in_child, before):
    """The exit status of a command in a child process, and its lines on standard error that begin with orderdp."""

    def work():
        before()
        with (folder / "told").open("w") as sys.stderr:
            status = main(call)
        os._exit(status)

    status = in_child(work)
    lines = (folder / "told").read_text().splitlines()
    return status, [line for line in lines if line.startswith("orderdp")]


def test_the_command_says_what_it_kept_and_how_to_resume(tmp_path, in_child):
    path = tmp_path / "run"
    call = ["train", *OPTIONS.split(), f"--run={path}", "--against"]
    status, lines = told_by(call, tmp_path, in_child, lambda: signal_at(Pruner, "update", 13))
    line = f"stopped by SIGTERM, with a checkpoint of step 13; resume with orderdp train --resume {path}"
    assert (status, lines) == (STOPPED, [f"orderdp: {line}"])
    (run,) = path.glob("OrderDP*")
    assert RunFolder(run).failure() is None


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_of_several_ranks_one_says_how_to_resume(tmp_path, monkeypatch, capsys, rank, lines):
    def stopped(*arguments, **named):
        raise Stopped(3)

    monkeypatch.setattr(workers, "start", stopped)
    monkeypatch.setenv("RANK", rank)
    assert main(["train", *OPTIONS.split(), f"--run={tmp_path / 'run'}"]) == STOPPED
    assert capsys.readouterr().err == "orderdp: stopped by SIGTERM, with a checkpoint of step 3\n" * lines


def test_a_command_that_does_not_train_yet_stops_at_once(tmp_path, in_child):
    call = ["train", *OPTIONS.split(), f"--run={tmp_path / 'run'}"]
    status, lines = told_by(call, tmp_path, in_child, lambda: signal_at(workers, "create_folder", 1))
    assert (status, lines) == (STOPPED, ["orderdp: stopped by SIGTERM"])


def test_in_another_thread_nothing_is_installed():
    found = []

    def look():
        with StopRequest() as stop:
            found.append((signal.getsignal(signal.SIGTERM), stop.agreed()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [(signal.getsignal(signal.SIGTERM), False)]


def test_what_is_raised_ends_a_process_with_the_status_of_sigterm():
    assert Stopped(3).code == STOPPED
    assert str(Stopped()) == "stopped by SIGTERM"


# A rank that is lost.


def test_the_other_rank_says_so_at_once_and_the_run_is_resumed(
    tmp_path, tiny, digits, outcome, train_on_two_ranks, on_two_ranks
):
    settings = {**SETTINGS, "batch_size": 8, "checkpoint_steps": 4}
    plan = Comparison(tiny(**settings), against=())
    assert on_two_ranks(lambda: start(plan, tmp_path / "unbroken", show=False)) == [0, 0]
    path = tmp_path / "run"

    def work():
        signal_at(Pruner, "update", 15, which=signal.SIGKILL, rank="1")
        began_s = time.monotonic()
        with pytest.raises(RuntimeError) as raised:
            start(plan, path, show=False)
        (tmp_path / "raised").write_text(f"{time.monotonic() - began_s:.0f} {raised.value}")
        os._exit(1)

    assert on_two_ranks(work) == [1, -signal.SIGKILL]
    seconds, _, line = (tmp_path / "raised").read_text().partition(" ")
    assert int(seconds) < 20
    assert line.startswith("[1/1] OrderDP 30 %, seed 0: another rank ended, or did not answer in time (")
    assert "onnection" in line  # closed, or reset by peer
    assert line.endswith("its own messages say why, and --resume goes on from the last checkpoint")
    folder = RunFolder(path / "OrderDP-30-seed0")
    assert (folder.is_open(), checkpoints(folder)) == (True, [9, 12])
    assert on_two_ranks(lambda: resume([path], show=False)) == [0, 0]
    assert outcome(folder) == outcome(RunFolder(tmp_path / "unbroken" / "OrderDP-30-seed0"))


def test_ranks_that_read_different_checkpoints_are_refused(tmp_path, tiny, digits, on_two_ranks):
    """As they do where a shared folder is not up to date on one machine."""
    folder = RunFolder.create(tmp_path / "run", tiny(**{**SETTINGS, "batch_size": 8}))

    def stopped():
        signal_at(Pruner, "update", 20)
        Run(folder.recipe(), digits, folder, show=False).train()

    def work():
        if os.environ["RANK"] == "1":
            found = checkpoints_module.all_in
            checkpoints_module.all_in = lambda path: found(path)[:-1]
        with pytest.raises(
            RuntimeError, match=r"^every rank must resume from the same checkpoint, got .* \[21, 18\] by"
        ):
            Run(folder.recipe(), digits, folder, show=False).train()

    assert on_two_ranks(stopped) == [STOPPED, STOPPED]
    assert on_two_ranks(work) == [0, 0]


def test_of_several_ranks_one_says_that_a_checkpoint_is_passed_over(tmp_path, tiny, digits, on_two_ranks):
    folder = RunFolder.create(tmp_path / "run", tiny(**{**SETTINGS, "batch_size": 8}))

    def stopped():
        signal_at(Pruner, "update", 20)
        Run(folder.recipe(), digits, folder, show=False).train()

    def work():
        logging.getLogger("orderdp").addHandler(logging.FileHandler(tmp_path / f"told.{os.environ['RANK']}"))
        Run(folder.recipe(), digits, folder, show=False).train()

    assert on_two_ranks(stopped) == [STOPPED, STOPPED]
    (folder.path / "checkpoint" / "000000021" / "state.pt").write_bytes(b"")
    assert on_two_ranks(work) == [0, 0]
    told = [(tmp_path / f"told.{rank}").read_text() for rank in range(2)]
    assert told[0].count("the one before is used") == 1
    assert told[1] == ""


# A job that torchrun has started again.


def test_a_restarted_job_knows_its_folder_also_after_its_learning_rates_were_chosen(tmp_path, tiny, monkeypatch):
    plan = Comparison(tiny(epochs=1), against=(), max_lrs=(0.1, 0.3))
    chosen = replace(plan, tuned={"OrderDP 50 %": 0.3})
    monkeypatch.setattr(workers, "load_comparison", lambda path: (chosen, None))
    assert workers._holds(tmp_path, plan)
    assert not workers._holds(tmp_path, replace(plan, max_lrs=(0.1,)))


def test_only_a_restarted_job_resumes_the_folder_that_it_made(tmp_path, tiny, monkeypatch):
    plan = Comparison(tiny(epochs=1), against=())
    path = tmp_path / "run"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert len(start(plan, path, show=False).finished) == 1
    (run,) = path.glob("*/result.json")
    run.unlink()
    with pytest.raises(FileExistsError, match="must be new"):
        start(plan, path, show=False)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(FileExistsError, match="must be new"):
        start(Comparison(tiny(epochs=2), against=()), path, show=False)
    assert not run.exists()
    assert len(start(plan, path, show=False).finished) == 1
    assert run.exists()
    (tmp_path / "foreign").mkdir()
    with pytest.raises(FileExistsError, match="must be new"):
        start(plan, tmp_path / "foreign", show=False)
    assert len(start(plan, tmp_path / "new", show=False).finished) == 1
