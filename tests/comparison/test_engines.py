"""What all engines that start workers elsewhere have in common, shown by one that runs them in this process."""

import logging
import os
import re
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from orderdp.comparison.checks import check, check_processes, sharing_threads
from orderdp.comparison.engines import elsewhere
from orderdp.comparison.engines.assignment import Assignment, meeting_place
from orderdp.comparison.engines.base import Left
from orderdp.comparison.engines.elsewhere import Elsewhere, needing
from orderdp.comparison.engines.local import LOCAL
from orderdp.comparison.engines.ray_tasks import RayTasks
from orderdp.comparison.engines.registry import engine_named
from orderdp.comparison.engines.slurm_jobs import SlurmJobs
from orderdp.comparison.grid import Comparison
from orderdp.comparison.workers import create_folder, resume, start
from orderdp.paper import subsets
from orderdp.paper.study import load_study, start_study
from orderdp.training.run_folder import RunFolder
from reference.log_lines import begun_or_failed

HOST = socket.gethostname()
STATIC = (
    'title = "Mine"\nmethods = ["orderdp"]\nbeside = []\nprune_ratios = [0.5]\nstatic = ["random"]\n'
    'against = []\n[[smoke]]\nrecipe = "digits"\nseeds = [0]\n'
    'changes = { model = "small_cnn", train_size = 200, epochs = 1, device = "cpu", num_threads = 1 }\n'
)


class Here(Elsewhere):
    """Runs its workers one after another in this process. Each function in `lost` stands for one that was lost."""

    name = "here"

    def __init__(self, *lost):
        super().__init__()
        self.lost, self.rounds = list(lost), []

    def num_threads(self, processes):
        return 1

    @contextmanager
    def _started(self, assignment, count, log):
        self.rounds.append(count)
        yield [Ended(self._result(assignment)) for _ in range(count)]

    def _result(self, assignment):
        if self.lost:
            self.lost.pop(0)(assignment.folders[0])
            return "lost"
        return assignment()


class Ended:
    def __init__(self, result):
        self.result = result

    def ended(self):
        return True

    def reason(self):
        return self.result


def made(plan, path):
    return create_folder(plan, path, check(plan))


@pytest.fixture
def plan(tiny):
    return Comparison(tiny(epochs=1, prune_ratio=0.5), against=("full",))


def test_workers_elsewhere_train_what_local_processes_do_and_what_they_log_is_told(tmp_path, plan):
    told, engine = [], Here()
    alone = start(plan, tmp_path / "alone", show=False)
    found = start(plan, tmp_path / "run", processes=5, engine=engine, show=False, log=told.append)
    both = [
        {label: entry.values("accuracy_last") for label, entry in of.results.entries.items()} for of in (alone, found)
    ]
    assert both[0] == both[1]
    assert begun_or_failed(told) == ["[1/2] OrderDP 50 %, seed 0", "[2/2] full data, seed 0"]
    assert engine.rounds == [2]  # no more workers than runs
    assert not list((tmp_path / "run" / "workers").glob("*.lock"))
    (log, *_) = (tmp_path / "run" / "workers").glob("*.log")
    assert re.fullmatch(rf"here-[0-9a-f]{{8}}-{re.escape(HOST)}-{os.getpid()}\.log", log.name)
    again = Here()
    resume([tmp_path / "run"], engine=again, show=False)
    assert again.rounds == []


def test_a_worker_that_was_lost_is_made_good_by_another_round(tmp_path, plan):
    def begin(path):
        (path / "full-data-seed0").mkdir()
        RunFolder(path / "full-data-seed0").write_failure("why")

    told, engine = [], Here(begin)
    found = start(plan, tmp_path / "run", engine=engine, show=False, log=told.append)
    assert (engine.rounds, list(found.finished), found.failed) == (
        [1, 1],
        ["OrderDP 50 %"],
        {"full data, seed 0": "why"},
    )
    assert begun_or_failed(told) == ["a worker stopped: lost", "[1/2] OrderDP 50 %, seed 0"]


def test_workers_that_change_nothing_are_not_started_for_ever(tmp_path, plan):
    engine = Here(*[lambda path: None] * 9)
    with pytest.raises(RuntimeError, match=r"^no worker of the engine here could work: lost$"):
        start(plan, tmp_path / "run", processes=2, engine=engine, show=False)
    assert engine.rounds == [2]


def test_the_lock_of_a_lost_worker_is_waited_for(tmp_path, plan, monkeypatch):
    """A network file system keeps the locks of a machine that is gone for a while."""
    monkeypatch.setattr(elsewhere, "POLL_S", 0.05)
    free = threading.Event()

    def hold(path):
        def holding():
            with RunFolder(path / "OrderDP-50-seed0").locked():
                held.set()
                free.wait(60)

        held = threading.Event()
        threading.Thread(target=holding).start()
        held.wait(60)
        threading.Timer(1, free.set).start()
        RunFolder(path / "full-data-seed0").path.mkdir()
        RunFolder(path / "full-data-seed0").write_failure("why")

    found = start(plan, tmp_path / "run", engine=Here(hold), show=False)
    assert (list(found.finished), found.open) == (["OrderDP 50 %"], [])


def test_a_run_that_another_process_trains_is_not_waited_for(tmp_path, plan):
    path, engine = made(plan, tmp_path / "run"), Here()
    with RunFolder(path / "full-data-seed0").locked():
        began = time.monotonic()
        found = resume([path], engine=engine, show=False)[0]
    assert (found.at_work, list(found.finished)) == (["full data, seed 0"], ["OrderDP 50 %"])
    assert time.monotonic() - began < 60


@pytest.fixture
def assignment(tmp_path):
    """An assignment in a folder whose lock another process holds."""
    (tmp_path / "run").mkdir()
    with meeting_place(tmp_path / "run", "here") as place:
        yield Assignment(lambda folders, log: None, (tmp_path / "run",), place, Path.cwd())


def changed(assignment, **changes):
    return Assignment(**{**vars(assignment), **changes})


def test_a_machine_that_does_not_see_the_folder_or_its_locks_says_so(assignment, tmp_path):
    assert assignment() is None
    elsewhere_s = (
        f"which {HOST} does not see as the machine does that started the workers; write a folder on a shared disk"
    )
    runs = f"the folder of the runs must be on a disk that all machines share, got {tmp_path / 'run'}, {elsewhere_s}"
    assert changed(assignment, place=tmp_path / "run" / "workers" / "other.lock")() == runs
    gone = tmp_path / "gone"
    home = f"the working folder must be on a disk that all machines share, got {gone}, {elsewhere_s}"
    assert changed(assignment, home=gone)() == home
    free = tmp_path / "run" / "workers" / "free.lock"
    free.touch()
    assert changed(assignment, place=free)() == (
        f"locks must hold between machines, got one in {free.parent} that {HOST} could take from the process that "
        "started the workers; resume if that process has ended, or else mount the disk with shared locks"
    )


def test_what_a_worker_says_or_warns_of_is_told_in_whole_lines(assignment):
    def work(folders, log):
        log("begun")
        tell()  # at once, not only when the worker ends
        assert told == ["begun"]
        logging.getLogger("orderdp").warning("few are mastered")
        logging.getLogger("orderdp").info("no warning")

    told = []
    tell = assignment.follower(told.append)
    assert changed(assignment, worker=work)() is None
    tell()
    tell()
    assert told == ["begun", "orderdp: few are mastered"]
    (file,) = assignment.place.parent.glob("*.log")
    with file.open("a") as log:
        log.write("half ")
        log.flush()
        tell()
        assert told[2:] == []
        log.write("a line\n")
    tell()
    assert told[2:] == ["half a line"]


def test_a_worker_works_where_the_command_was_started(assignment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "run")  # and is there again after the test
    found = []
    assert changed(assignment, home=tmp_path, worker=lambda *_: found.append(Path.cwd()))() is None
    assert found == [tmp_path]


def test_the_lock_file_goes_also_after_an_interruption(tmp_path, plan):
    class Interrupted(Here):
        @contextmanager
        def _started(self, assignment, count, log):
            assert assignment.place.exists()
            raise KeyboardInterrupt
            yield

    with pytest.raises(KeyboardInterrupt):
        start(plan, tmp_path / "run", engine=Interrupted(), show=False)
    assert list((tmp_path / "run" / "workers").iterdir()) == []


def test_an_error_of_a_worker_is_its_reason(assignment):
    def work(folders, log):
        raise ValueError("no\n  data")

    assert changed(assignment, worker=work)() == "no data"


def test_workers_are_those_of_one_process(plan):
    class State:
        num_processes = 2

    message = (
        "an engine must be started by one process, got 2 ranks and engine=ray; leave the launcher of ranks out, or "
    )
    with pytest.raises(ValueError, match=f"^{message}write --engine local$"):
        check_processes(1, State, RayTasks())
    check_processes(1, State, LOCAL)


def test_an_engine_sets_the_threads_of_a_run_alike_on_all_machines(tiny):
    plan = Comparison(tiny(num_threads=None))
    engines = [RayTasks(), RayTasks(num_cpus=4), RayTasks(num_cpus=0.5), SlurmJobs(), SlurmJobs(cpus_per_task=3)]
    assert [sharing_threads(plan, 8, engine).recipe.num_threads for engine in engines] == [1, 4, 1, 1, 3]
    assert sharing_threads(Comparison(tiny(num_threads=7)), 8, RayTasks()).recipe.num_threads == 7


def test_what_a_worker_would_wait_for_is_said():
    told = []
    RayTasks(num_cpus=8)._tell_of({"CPU": 4.0, "GPU": 2.0}, told.append)
    RayTasks(num_gpus=1)._tell_of({"CPU": 4.0}, told.append)
    RayTasks(num_gpus=1)._tell_of({"CPU": 4.0, "GPU": 2.0}, told.append)
    assert told == [
        "Ray has 2 GPUs, and the workers ask for none; write --engine-options num_gpus=1 to train on them",
        "Ray has 4 CPUs now, and a worker asks for 8; it waits",
        "Ray has 0 GPUs now, and a worker asks for 1; it waits",
    ]


def test_engines_by_name():
    assert engine_named("local") is LOCAL
    assert repr(engine_named("ray", num_gpus=1)) == "RayTasks(num_gpus=1)"
    assert engine_named("slurm", cluster="local", timeout_min=5).cluster == "local"
    assert repr(engine_named("ray", name="mine")) == "RayTasks(name='mine')"  # a name of theirs
    for name, options, message in (
        ("rya", {}, "no engine named 'rya'; did you mean 'ray'?"),
        ("kubernetes", {}, "no engine named 'kubernetes'; choose from local, ray, slurm"),
        ("local", {"num_cpus": 1}, "engine local takes no options, got num_cpus; leave --engine-options out"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            engine_named(name, **options)


def test_a_missing_package_is_named_with_what_to_install():
    def load(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    with pytest.raises(ImportError, match=r"^this engine needs ray: pip install ray$"):
        needing("ray", lambda: load("ray"))
    with pytest.raises(ModuleNotFoundError, match="No module named 'yaml'"):
        needing("ray", lambda: load("yaml"))


def test_the_subsets_of_a_study_are_chosen_by_workers_too(tmp_path):
    (tmp_path / "mine.toml").write_text(STATIC)
    told, engine = [], Here()
    (found,) = start_study(
        load_study(tmp_path / "mine.toml"), tmp_path / "run", processes=4, engine=engine, log=told.append
    )
    assert (found.failed, found.open, len(found.finished)) == ({}, [], 2)
    assert engine.rounds == [1, 2]  # a subset, then the runs
    assert told[0].startswith("digits [1/1] random: ")


def test_subsets_that_were_not_all_chosen_are_said(tmp_path, monkeypatch):
    """Of two workers one is lost, and the other one ends early."""
    monkeypatch.setattr(subsets, "_left", lambda parts: Left({"a": "", "b": ""}))
    (tmp_path / "mine.toml").write_text(STATIC)
    message = r"^subsets are still to be chosen, 2 of them: a worker was lost; resume the study$"
    with pytest.raises(RuntimeError, match=message):
        start_study(
            load_study(tmp_path / "mine.toml"),
            tmp_path / "run",
            processes=2,
            engine=Here(lambda folder: None),
            log=[].append,
        )
