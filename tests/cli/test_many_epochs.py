"""A run of very many epochs begins at once, or is refused at once."""

import sys
import time

import pytest

from orderdp.cli import main
from reference.command_line import TINY

MANY = "100000000"
PLAN = ["plan", "--num-samples", "900", "--batch-size", "30", "--prune-ratio", "0.5"]
# Counts the processor time of each call from its beginning to its first step, without the imports. A process of its own
# makes the call, and ends there.
SCRIPT = """
import os, time, warnings
import accelerate, torch._dynamo, torch.distributed.tensor
import orderdp.comparison.workers, orderdp.report.overview, orderdp.report.plots
from orderdp.cli import main
from orderdp.pruner import Pruner

def first_step(*arguments, **named):
    print(time.process_time() - began, flush=True)
    os._exit(0)

Pruner.update = first_step
torch.set_num_threads(1)
warnings.simplefilter("ignore")
for call in CALLS:
    child = os.fork()
    if not child:
        began = time.process_time()
        os._exit(main(call) or 1)
    assert os.waitpid(child, 0)[1] == 0, call
"""
SAME_SIZE = """
from dataclasses import dataclass
from orderdp import Selection, Strategy

@dataclass(frozen=True, kw_only=True, repr=False)
class Mine(Strategy):
    prune_ratio: float

    def num_selected(self, num_samples, epoch):
        return num_samples // 2

    def select(self, memory, rng):
        return Selection(rng.permutation(memory.num_samples)[: memory.num_samples // 2])
"""


@pytest.fixture
def begin_after_s(scripts, here):
    """Seconds of processor time until the first step of each call."""

    def measured(calls):
        done = scripts.run_code(f"CALLS = {[[*call, TINY[0], *TINY[2:]] for call in calls]}\n{SCRIPT}", here)
        assert done.returncode == 0, done.stderr
        return [float(line) for line in done.stdout.split()]

    return measured


CALLS = {
    "train": ["train"],
    "train, sizes that change": ["train", "--strategy", "seta"],
    "train, sizes that depend on the losses": ["train", "--strategy", "infobatch"],
    "compare": ["compare", "--methods", "orderdp", "ucb", "kakurenbo,confidence=0.53", "--seed", "0", "1", "2", "3"],
}


def test_a_hundred_million_epochs_begin_within_a_second(begin_after_s):
    few = [[*call, "--epochs", "30", "--run", f"few {name}"] for name, call in CALLS.items()]
    many = [[*call, "--epochs", MANY, "--run", f"many {name}"] for name, call in CALLS.items()]
    seconds = begin_after_s([*few, *many])
    for name, base_s, begun_s in zip(CALLS, seconds[: len(few)], seconds[len(few) :], strict=True):
        assert begun_s < base_s + 1, name


def test_epochs_that_could_only_be_counted_one_by_one_are_refused_at_once(here, monkeypatch, capsys):
    (here / "same_size.py").write_text(SAME_SIZE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    strategy = ["--strategy", "same_size:Mine", "--prune-ratio", "0.5"]
    began_s = time.process_time()
    try:
        assert main(["train", *strategy, "--epochs", MANY]) == 2
    finally:
        sys.modules.pop("same_size", None)
    assert time.process_time() - began_s < 5
    line = (
        "orderdp: --epochs must be at most 1,000,000 with strategy 'same_size:Mine', whose size may change at any "
        f"epoch, got {MANY}; write fewer, or let its class say when in size_changes"
    )
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert {path.name for path in here.iterdir()} <= {"same_size.py", "__pycache__"}


def test_a_plan_of_many_epochs_is_shown_at_once(call):
    began_s = time.process_time()
    status, out, _ = call(*PLAN, "--epochs", MANY)
    assert (status, out.startswith("900 samples, 100,000,000 epochs")) == (0, True)
    assert time.process_time() - began_s < 5


def test_more_epochs_than_a_number_can_hold_are_refused(call):
    for command in (["train"], PLAN):
        status, _, err = call(*command, "--epochs", "9" * 400)
        assert (status, "--epochs must be a whole number, got inf" in err) == (2, True)
