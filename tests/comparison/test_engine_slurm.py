"""Runs of a comparison as jobs, through submitit: as processes of its local executor, and by a made-up SLURM."""

import json
import os
import re
import signal
import sys
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("submitit")

from orderdp.comparison.engines.assignment import Assignment
from orderdp.comparison.engines.slurm_jobs import SlurmJobs
from orderdp.comparison.grid import Comparison
from orderdp.comparison.workers import start
from orderdp.training.run_folder import RunFolder
from reference.log_lines import begun_or_failed

# submitit leaves files and processes to be closed when it forgets them.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

N = 200
# What is on a login node: sbatch starts the tasks of a job array, srun runs one, sacct says which have ended.
SBATCH = """#!{python}
import os, re, subprocess, sys
from pathlib import Path
home, script = Path(__file__).parent, Path(sys.argv[1])
text = script.read_text()
(home / "script.sh").write_text(text)
array = re.search(r"--array=0-(\\d+)", text)
for task in range(int(array[1]) + 1 if array else 1):
    environment = {{**os.environ, "SLURM_JOB_ID": str(100 + task), "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}}
    if array:
        environment.update(SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID=str(task))
    out = (home / f"job{{task}}.txt").open("w")  # not that of sbatch, whose end submitit waits for
    subprocess.Popen(["bash", str(script)], env=environment, stdout=out, stderr=out)
print("Submitted batch job 7")
"""
SRUN = """#!/bin/bash
while [[ "$1" == -* ]]; do
    case "$1" in --output | --error) shift 2 ;; *) shift ;; esac
done
exec "$@"
"""
SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The commands of SLURM, in the folder that is returned."""
    home = tmp_path / "slurm"
    home.mkdir()
    for name, text in {"sbatch": SBATCH.format(python=sys.executable), "srun": SRUN, "sacct": SACCT}.items():
        (home / name).write_text(text)
        (home / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}{os.pathsep}{os.environ['PATH']}")
    return home


def digests(path):
    return {file.parent.name: json.loads(file.read_text())["digests"] for file in path.glob("*/result.json")}


@pytest.mark.slow
def test_a_job_array_trains_each_run_once_and_the_same_as_local_processes(tmp_path, tiny, slurm):
    plan, told, path = Comparison(tiny(epochs=1, prune_ratio=0.5)), [], tmp_path / "run"
    start(plan, tmp_path / "alone", show=False)
    engine = SlurmJobs(timeout_min=240, gpus_per_node=1, cpus_per_task=3, slurm_partition="short")
    found = start(plan, path, processes=2, engine=engine, show=False, log=told.append)
    assert (found.failed, found.open) == ({}, [])
    assert digests(path) == digests(tmp_path / "alone")
    assert told[0] == "submitted 2 jobs: 7_0, 7_1"
    assert sorted(begun_or_failed(told[1:])) == sorted(
        f"[{number}/3] {member.label}, seed 0" for number, member in enumerate(plan.members(N), 1)
    )
    script = (slurm / "script.sh").read_text()
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, flags=re.MULTILINE))
    expected = {
        "time": "240",
        "gpus-per-node": "1",
        "cpus-per-task": "3",
        "partition": "short",
        "array": "0-1%2",
        "job-name": "orderdp",
    }
    assert {name: asked.get(name) for name in expected} == expected
    assert str(path / "workers") in asked["output"]


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "lost"), [(signal.SIGKILL, True), (signal.SIGUSR2, False)], ids=["lost", "preempted"])
def test_a_run_of_a_job_that_ends_early_is_continued(tmp_path, tiny, stop, lost):
    """The only worker is stopped as it trains. A preempted job is queued again, and for a lost one another is made."""
    plan = Comparison(tiny(epochs=30, prune_ratio=0.5), against=())
    start(plan, tmp_path / "alone", show=False)
    path, told, killed = tmp_path / "run", [], []

    def tell(line):
        told.append(line)
        if line.startswith("[1/1]") and not killed:
            run = RunFolder(path / "OrderDP-50-seed0")
            while not run.last_checkpoint():
                time.sleep(0.01)
            (log,) = (path / "workers").glob("*.log")
            killed.append(int(log.stem.rpartition("-")[2]))
            os.kill(killed[0], stop)

    found = start(plan, path, engine=SlurmJobs(cluster="local", timeout_min=5), show=False, log=tell)
    assert (found.failed, found.open, len(killed)) == ({}, [], 1)
    assert digests(path) == digests(tmp_path / "alone")
    assert [line for line in begun_or_failed(told) if line.startswith("[1/1]")] == ["[1/1] OrderDP 50 %, seed 0"] * 2
    assert any(line.startswith("a worker stopped: job ") and " was lost (" in line for line in told) is lost
    assert sum(line.startswith("submitted 1 job: ") for line in told) == 1 + lost


class Submitted:
    """A job, and the executor that submits it."""

    def __init__(self, job_id, *, done):
        self.job_id, self.ended, self.cancelled = job_id, done, False

    def done(self):
        return self.ended

    def cancel(self, *, check):
        self.cancelled = True

    @contextmanager
    def batch(self):
        yield


def test_only_the_jobs_that_still_run_are_cancelled(tmp_path, monkeypatch):
    jobs = [Submitted("7_0", done=True), Submitted("7_1", done=False)]
    left = iter(jobs)
    jobs[0].submit = lambda assignment: next(left)
    monkeypatch.setattr(SlurmJobs, "_executor", lambda engine, folder: jobs[0])
    assignment = Assignment(print, (tmp_path,), tmp_path / "a.lock", tmp_path)
    with SlurmJobs(timeout_min=5)._started(assignment, 2, [].append):
        pass
    assert [job.cancelled for job in jobs] == [False, True]


REFUSED = {
    "no time limit": (
        {"cluster": "local"},
        "the engine slurm needs the time limit of a job in minutes, got none; write --engine-options timeout_min=240",
    ),
    "an unknown parameter": (
        {"cluster": "local", "timeout_min": 5, "slurm_partitions": "a"},
        "options of the engine slurm must be parameters of submitit, got {'timeout_min': 5, 'slurm_partitions': 'a'} (",
    ),
    "an unknown executor": (
        {"cluster": "slrum", "timeout_min": 5},
        "cluster of the engine slurm must be an executor of submitit, got slrum (",
    ),
    "several tasks in a job": (
        {"cluster": "local", "timeout_min": 5, "tasks_per_node": 2},
        "a worker of the engine slurm is one task on one node, got tasks_per_node=2; leave it out, and write "
        "--processes 2 for as many workers",
    ),
    "several nodes in a job": (
        {"cluster": "local", "timeout_min": 5, "local_nodes": 3},
        "a worker of the engine slurm is one task on one node, got local_nodes=3; leave it out, and write ",
    ),
    "a parameter of another kind": (
        {"cluster": "local", "timeout_min": "long"},
        "options of the engine slurm must be parameters of submitit, got {'timeout_min': 'long'} (",
    ),
}


@pytest.mark.parametrize(("options", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_jobs_that_cannot_be_are_refused_before_anything_is_written(tmp_path, tiny, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        start(Comparison(tiny()), tmp_path / "run", engine=SlurmJobs(**options), show=False)
    assert not list(tmp_path.iterdir())


def test_a_check_of_options_leaves_nothing_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SlurmJobs(cluster="local", timeout_min=5, name="mine", nodes=1).check(1)
    SlurmJobs(cluster="local", slurm_time=5).check(1)
    assert not list(tmp_path.iterdir())


def test_a_machine_without_slurm_is_refused(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"^the engine slurm needs the commands sbatch and srun, which this machine "
    ):
        start(Comparison(tiny()), tmp_path / "run", engine=SlurmJobs(timeout_min=5), show=False)
    assert not list(tmp_path.iterdir())
