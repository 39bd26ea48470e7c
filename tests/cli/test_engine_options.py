"""`--engine`, `--engine-options` and `--log` on the command line."""

import json
import re
import sys
from pathlib import Path

import pytest

from orderdp.comparison import workers
from orderdp.comparison.engines import ray_tasks, slurm_jobs
from orderdp.comparison.engines.local import LOCAL
from orderdp.paper import study
from orderdp.training import trackers
from reference.command_line import SMALL, TINY
from reference.log_lines import begun_or_failed

REFUSED = {
    "an unknown engine": ("--engine rya", "no engine named 'rya'; did you mean 'ray'?"),
    "options of local processes": (
        "--engine-options num_cpus=2",
        "--engine local takes no options, got num_cpus; leave --engine-options out",
    ),
    "an option twice": (
        "--engine ray --engine-options num_cpus=1 num_cpus=2",
        "num_cpus is given twice, as 1 and 2; write it once",
    ),
    "SLURM without a time limit": (
        "--engine slurm --engine-options cluster=local",
        "the engine slurm needs the time limit of a job in minutes, got none; write --engine-options timeout_min=240",
    ),
}


@pytest.fixture
def installed(monkeypatch):
    """Lets the packages of the engines be there."""
    monkeypatch.setattr(ray_tasks, "needing", lambda package, load: None)
    monkeypatch.setattr(slurm_jobs, "needing", lambda package, load: None)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("options", "line"), list(REFUSED.values()), ids=list(REFUSED))
def test_an_engine_that_cannot_be_gets_one_line_and_leaves_no_trace(call, here, options, line):
    assert call(*SMALL, *options.split()) == (2, "", f"orderdp: {line}\n")
    assert not list(here.iterdir())


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_whose_package_is_missing_says_what_to_install(call, here, monkeypatch, engine, package):
    monkeypatch.setitem(sys.modules, package, None)
    line = f"orderdp: this engine needs {package}: pip install {package}\n"
    assert call(*SMALL, "--engine", engine, "--engine-options", "timeout_min=5") == (1, "", line)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("command", "owner", "function"),
    [
        (SMALL, workers, "start"),
        (["compare", "--resume", "run"], workers, "resume"),
        (["study", "table8"], study, "start_study"),
        (["study", "--resume", "run"], study, "resume_study"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_engine_arrives(call, monkeypatch, command, owner, function):
    given = {}

    def trained(*arguments, **named):
        given.update(named)
        raise RuntimeError("enough")

    monkeypatch.setattr(owner, function, trained)
    monkeypatch.setattr("orderdp.report.outline.load_outline", lambda folder: (None, {}))
    options = ["--engine", "ray", "--engine-options", "num_cpus=2", "address=auto", "--processes", "3"]
    assert call(*command, *options)[0] == 1
    assert (given["processes"], repr(given["engine"])) == (3, "RayTasks(num_cpus=2, address='auto')")
    assert call(*command)[0] == 1
    assert (given["processes"], given["engine"]) == (1, LOCAL)


@pytest.mark.parametrize("command", [["train"], SMALL[:-2]], ids=["train", "compare"])
def test_a_job_that_torchrun_may_restart_names_its_folder(call, here, monkeypatch, command):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    line = "--run must name the folder under torchrun --max-restarts, since a restarted job resumes it, got none; write"
    assert call(*command) == (2, "", f"orderdp: {line} --run DIR\n")
    assert not list(here.iterdir())


def test_a_study_that_trains_nothing_takes_no_engine(call):
    line = "orderdp: study figure5 trains nothing, got --engine --engine-options; leave them out\n"
    assert call("study", "figure5", "--engine", "ray", "--engine-options", "num_cpus=2") == (2, "", line)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # TensorBoard's own
def test_train_logs_to_trackers_and_goes_on_in_them(call, monkeypatch):
    pytest.importorskip("tensorboard")
    status, _, err = call("train", *TINY, "--against", "--run", "run", "--log", "tensorboard")
    assert status == 0, err
    lines = ["[1/1] OrderDP 50 %, seed 0", "OrderDP-50-seed0: epoch 1 of 1", "[1/1] OrderDP 50 %, seed 0"]
    assert [re.split(r": loss|: \d", line)[0] for line in err.splitlines()] == lines  # there is no terminal
    assert len(list(Path("run/tensorboard/OrderDP-50-seed0").glob("events.*"))) == 1
    assert json.loads(Path("run/trackers.json").read_text()) == ["tensorboard"]
    status, _, err = call("train", "--resume", "run", "--seed", "1")
    assert (status, begun_or_failed(err)) == (0, ["[2/2] OrderDP 50 %, seed 1"])
    assert len(list(Path("run/tensorboard/OrderDP-50-seed1").glob("events.*"))) == 1
    line = "orderdp: no tracker named 'wandbb'; did you mean 'wandb'?\n"
    assert call("train", "--resume", "run", "--log", "wandbb") == (2, "", line)
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    line = "orderdp: --log wandb needs wandb: pip install wandb\n"
    assert call("train", *TINY, "--run", "other", "--log", "wandb") == (1, "", line)
    assert not Path("other").exists()
