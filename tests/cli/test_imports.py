"""Which commands import modules of the user: those that train, and they say so. Reading results imports nothing."""

import importlib
import sys
from pathlib import Path

import pytest

from orderdp.comparison.archive import read_archive
from orderdp.comparison.outcome import outcome
from orderdp.comparison.results import read_results
from orderdp.report.outline import collect, load_outline
from orderdp.report.overview import write_overview
from orderdp.report.page import write_report
from orderdp.training.run_folder import RunFolder
from reference.command_line import TINY

MARKED = """
from pathlib import Path
Path("imported.txt").write_text("imported")
from dataclasses import dataclass
from orderdp import DynamicRandom
from orderdp.data.digits import load_digits as load

@dataclass(frozen=True, kw_only=True, repr=False)
class Mine(DynamicRandom):
    window: int = 2

class Breaks(Mine):
    def select(self, memory, rng):
        return {}["losses"]

class DividesBefore(Mine):
    def num_selected(self, num_samples, epoch):
        return num_samples // 0

@dataclass(frozen=True, kw_only=True)
class Needs(Mine):
    strength: float

class BreaksEarly(Needs):
    def __post_init__(self):
        assert self.strength < 5, "too strong"

class BreaksBefore(Mine):
    def num_selected(self, num_samples, epoch):
        return {}["size"]
"""
CUSTOM = ["--dataset", "marked:load", "--train-size=200", "--epochs=1", "--model=small_cnn", "--device=cpu"]
CUSTOM += ["--num-threads=1", "--batch-size=32", "--prune-ratio=0.5"]
PLAN_0_1 = """\
seeds = [0]
against = ["full", "short"]
num_samples = 200
num_test_samples = 360
num_ranks = 1
methods = [
    { strategy = "marked:Mine", prune_ratio = 0.5, settings = { window = 3 } },
    { strategy = "dynamic_random", prune_ratio = 0.5 },
]
"""


@pytest.fixture
def marked(here, monkeypatch):
    """A module that writes a marker when it is imported."""
    (here / "marked.py").write_text(MARKED)
    monkeypatch.setattr(sys, "path", [*sys.path, str(here)])
    yield
    sys.modules.pop("marked", None)


@pytest.fixture
def trained(call):
    """Trains as a new process would, which leaves the marker of the import; removes it and returns what was told."""

    def train(*arguments):
        sys.modules.pop("marked", None)
        status, _, err = call(*arguments)
        assert status == 0, err
        sys.modules.pop("marked")
        Path("imported.txt").unlink()
        return err

    return train


@pytest.fixture
def folder(marked, trained):
    """A comparison of a custom strategy on a custom data set, as this release writes it."""
    trained("compare", *CUSTOM, "--methods", "marked:Mine,window=3", "--seed", "0", "--run", "run")
    return Path("run")


@pytest.fixture
def folder_0_1(folder):
    """The same as release 0.1 wrote it: methods in flat keys, and no list of runs."""
    (folder / "comparison.toml").unlink()
    (folder / "plan.toml").write_text(PLAN_0_1)
    for recipe in folder.rglob("recipe.toml"):
        keys, _, strategy = recipe.read_text().partition("[strategy]\n")
        flat = strategy.replace("name =", "strategy =").replace("window = 3", "[settings]\nwindow = 3")
        recipe.write_text(flat.partition("[settings]")[0] + keys + "".join(flat.partition("[settings]")[1:]))
    return folder


LABELS = ["Mine 50 % window 3", "dynamic random 50 %", "full data", "full data, steps of Mine 50 % window 3"]
READERS = {
    "the results": read_results,
    "the outcome": outcome,
    "all of it": collect,
    "the outline": load_outline,
    "the overview": write_overview,
    "the report": write_report,
}


def test_training_says_what_it_imports_before_its_code_runs(marked, trained, call, here):
    told = trained("train", *CUSTOM, "--strategy", "marked:Mine", "--against", "--run", "run")
    assert told.splitlines()[0] == f"orderdp: imports marked from {here / 'marked.py'}"
    assert told.count("imports") == 1
    (here / "stops.py").write_text("raise SystemExit(7)")
    assert call("train", "--dataset", "stops:load") == (7, "", f"orderdp: imports stops from {here / 'stops.py'}\n")


@pytest.mark.parametrize(
    ("strategy", "line"),
    [
        ("marked:Breaks", "[1/1] Breaks 50 %, seed 0 failed: KeyError: 'losses', in marked.py, line 14\n"),
        (
            "per_class:marked:Breaks",
            "Breaks 50 % per class, seed 0 failed: KeyError: 'losses', in marked.py, line 14\n",
        ),
        ("scheduled:marked:Breaks", "Breaks 50 %, seed 0 failed: KeyError: 'losses', in marked.py, line 14\n"),
        ("marked:BreaksBefore", "orderdp: KeyError: 'size', in marked.py, line 30\n"),
        (
            "marked:DividesBefore",
            "orderdp: ZeroDivisionError: integer division or modulo by zero, in marked.py, line 18\n",
        ),
    ],
)
def test_a_custom_strategy_that_fails_is_named_with_the_error_and_its_line(marked, call, strategy, line):
    status, _, err = call("train", *CUSTOM, "--strategy", strategy, "--against", "--run", "run")
    assert status == 1
    assert line in err


REFUSED = {
    "train --strategy marked:Needs": (
        "strength is needed by strategy 'marked:Needs', got None; write --settings strength=..."
    ),
    "compare --methods ucb scheduled:marked:Needs,prune_ratio=0.3": (
        "strength is needed by strategy 'marked:Needs', got None; write "
        "scheduled:marked:Needs,prune_ratio=0.3,strength=..."
    ),
    "train --strategy scheduled:marked:Mine,mastered=0.69": (
        "mastered needs a method that remembers losses, got Mine(prune_ratio=0.5); write "
        "scheduled:orderdp,mastered=0.69"
    ),
    "train --strategy marked:BreaksEarly,strength=9": (
        "making strategy 'marked:BreaksEarly' failed (AssertionError: too strong, in marked.py, line 26); mend that "
        "line"
    ),
    "train --strategy per_class:marked:BreaksBefore": (
        "a method within classes must have a prune ratio and a fixed size, and choose before an epoch, got "
        "BreaksBefore(prune_ratio=0.5) without size_changes; write def size_changes(self): return () in its class, if "
        "its size is the same in every epoch"
    ),
}


@pytest.mark.parametrize("typed", list(REFUSED))
def test_a_custom_strategy_that_does_not_fit_gets_one_line(marked, call, typed):
    status, _, err = call(*typed.split())
    assert (status, err.splitlines()[1:]) == (2, [f"orderdp: {REFUSED[typed]}"])


@pytest.mark.parametrize("release", ["folder", "folder_0_1"])
def test_no_reader_imports_what_a_folder_names(request, release):
    path = request.getfixturevalue(release)
    for name, read in READERS.items():
        read(path)
        assert not Path("imported.txt").exists(), name
    assert list(read_results(path).entries) == LABELS
    assert not any(entry.missing for entry in read_results(path).entries.values())


@pytest.mark.parametrize("release", ["folder", "folder_0_1"])
def test_no_command_that_reads_imports_what_a_folder_names(request, release, call):
    path = request.getfixturevalue(release)
    reading = [
        ["report", str(path)],
        ["report", str(path), "--archive", "a.xz"],
        ["report", str(path), "--tables", "tables.md"],
        ["report", "a.xz"],
        ["report", "a.xz", "--tables", "tables.md"],
        ["plan", "--num-samples=100", "--epochs=3", "--batch-size=10", "--prune-ratio=0.5"],
        ["methods"],
        *(
            [command, "--help"]
            for command in ("train", "compare", "coreset", "study", "report", "plan", "methods", "images")
        ),
    ]
    for arguments in reading:
        status, _, err = call(*arguments)
        assert (status, err) == (0, ""), arguments
        assert not Path("imported.txt").exists(), arguments
    assert all(f"| {label} |" in Path("tables.md").read_text() for label in LABELS)
    assert list(read_archive(Path("a.xz")).parts[""].planned.runs[0].strategy.items()) == [
        ("name", "marked:Mine"),
        ("prune_ratio", 0.5),
        ("window", 3),
    ]


def test_a_folder_of_release_0_1_without_the_module_is_read_and_not_resumed(folder_0_1, call):
    Path("marked.py").unlink()
    importlib.invalidate_caches()
    assert call("report", "run")[0] == 0
    status, _, err = call("train", "--resume", "run")
    assert (status, err.count("\n")) == (2, 1)
    assert "must be of a module that can be imported, got 'marked:Mine'" in err


def test_resuming_a_folder_of_release_0_1_writes_down_its_runs(folder_0_1, trained):
    result = RunFolder(folder_0_1 / "full-data-seed0")
    before = read_results(folder_0_1)
    (result.path / "result.json").unlink()
    (result.path / "checkpoint").rename(result.path / "kept")
    assert trained("compare", "--resume", "run").startswith("orderdp: imports marked from ")
    assert (folder_0_1 / "plan.toml").read_text() == PLAN_0_1
    after = read_results(folder_0_1)
    assert [after.planned.runs, list(after.entries)] == [before.planned.runs, list(before.entries)]


def test_resuming_says_what_it_imports_once_also_with_helpers(folder, scripts):
    (folder / "full-data-seed0" / "result.json").unlink()
    done = scripts.run_command("compare", "--resume", "run", "--processes", "2")
    assert (done.returncode, done.stderr.count("imports marked from ")) == (0, 1)


def test_without_a_module_of_the_user_nothing_is_said(call):
    status, _, err = call("train", *TINY, "--against", "--run", "run")
    assert (status, "imports" in err) == (0, False)
