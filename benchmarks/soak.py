"""Small runs that are killed at random moments, again and again, end as undisturbed ones, bit for bit.

    python benchmarks/soak.py [--kills 200] [--seed 0] [--json results/benchmarks/soak.json]

Half of the digits are chosen by OrderDP for 16 epochs, with a small network on one thread. Half of the kills fall
on runs of one rank, and half on runs of two. `Run` trains them, as `orderdp train` does, with a checkpoint every three
steps. SIGKILL comes after a random time, or while a checkpoint is being written. On two ranks it goes to both, or to
one of them, and the other must end by itself. After one kill in eight, the newest checkpoint is also cut short, as a
power cut may leave it. A killed run is started again in its folder until it ends. Then the next run begins, until all
kills are made.

For one and for two ranks it prints

- the kills, how many fell into the writing of a checkpoint, and how many runs ended;
- the steps that were made again, and what share of all steps they are;
- the checkpoints that were cut short, and how often a start passed over one and used the one before;
- on two ranks, how long the rank that was left alone needed to end, at most.

Target: every run ends with the selections of all epochs, the losses, gradient norms, scores and weights of the
undisturbed run; and no checkpoint is found damaged but those that were cut short. Otherwise it stops with an error. The
processes are forked from one that has imported everything, so a start takes a fraction of a second.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # which optimizers import: once here, not in each forked process
from timing import parser, write
from worker import free_port

from orderdp import OrderDP, Pruner
from orderdp.data.base import DataSets
from orderdp.data.registry import load_dataset
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder

RECIPE = Recipe(
    strategy=OrderDP(prune_ratio=0.5),
    epochs=16,
    batch_size=32,
    augment="crop",
    model="small_cnn",
    device="cpu",
    num_threads=1,
    checkpoint_steps=3,
)
CUT = 8  # one kill in so many is followed by a damaged checkpoint
SURVIVOR_S = 60.0
_FORK = multiprocessing.get_context("fork")
_STEPS = _FORK.RawValue("q")  # made by the first rank, in all its processes
_DAMAGED = re.compile(r"a checkpoint must be complete, got .*?/(run\d+/checkpoint/\d+)")


def outcome(folder: RunFolder) -> str:
    """Returns all that must not depend on interruptions, as text: every number but seconds and dates."""
    names = ("name", "finished", "commit")
    result = {name: value for name, value in (folder.result() or {}).items() if name not in names}
    lines = [{name: value for name, value in line.items() if name[-2:] != "_s"} for line in [result, *folder.metrics()]]
    norms = np.load(folder.path / "gradient_norms.npy", allow_pickle=False)
    return json.dumps([lines, norms.tolist()], sort_keys=True)


def _train(folder: RunFolder, data: DataSets, rank: int, num_ranks: int, port: int) -> None:
    """Trains in a forked process."""
    log = (folder.path.parent / "log.txt").open("a", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    logging.basicConfig(stream=log, force=True)
    if num_ranks > 1:
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks}
        os.environ.update({name: str(value) for name, value in {**ranks, "MASTER_PORT": port}.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", OMP_NUM_THREADS="1")
    update = Pruner.update

    def counting(*arguments: Any, **named: Any) -> torch.Tensor:
        _STEPS.value += rank == 0
        return update(*arguments, **named)

    Pruner.update = counting  # type: ignore[method-assign]
    status = 1
    try:
        Run(folder.recipe(), data, folder, show=False).train()
        status = 0
    except Exception as error:
        print(error, file=sys.stderr)
    os._exit(status)  # a group of which a rank is lost may not be destroyed


@contextmanager
def started(folder: RunFolder, data: DataSets, num_ranks: int) -> Iterator[list[BaseProcess]]:
    """Yields the processes that train a run, one a rank; ends them."""
    port = free_port()
    ranks: list[BaseProcess] = [
        _FORK.Process(target=_train, args=(folder, data, rank, num_ranks, port)) for rank in range(num_ranks)
    ]
    for process in ranks:
        process.start()
    try:
        yield ranks
    finally:
        for process in ranks:
            process.kill()
            process.join()


def _writing_since(folder: RunFolder, began_ns: int) -> Callable[[], bool]:
    """Returns a function that says whether a checkpoint is being written, not only left by an earlier kill."""

    def writing() -> bool:
        with suppress(OSError):
            return (folder.path / "checkpoint" / "unfinished").stat().st_mtime_ns > began_ns
        return False

    return writing


class Soak:
    """Kills runs on a number of ranks, and counts.

    Args:
        num_ranks: ranks of each run.
        data: of the runs.
        home: an empty folder.
        rng: decides when and what is killed.
    """

    def __init__(self, num_ranks: int, data: DataSets, home: Path, rng: np.random.Generator) -> None:
        self.num_ranks, self.data, self.home, self.rng = num_ranks, data, home, rng
        self.found = dict.fromkeys(("kills", "in_checkpoint", "runs", "steps_made", "steps_needed", "cut_short"), 0)
        self.survivor_s: list[float] = []
        self.cut: set[str] = set()  # the checkpoints that were cut short
        self.undisturbed_s = math.inf

    def undisturbed(self) -> str:
        """Trains runs that nothing disturbs and returns their outcome; the fastest says how long a run takes."""
        found = set()
        for number in range(3):
            folder = RunFolder.create(self.home / f"undisturbed{number}", RECIPE)
            began_s = time.perf_counter()
            with started(folder, self.data, self.num_ranks) as ranks:
                for process in ranks:
                    process.join()
            self.undisturbed_s = min(self.undisturbed_s, time.perf_counter() - began_s)
            found.add(outcome(folder))
        if len(found) > 1:
            raise RuntimeError("undisturbed runs ended differently, so there is nothing to compare with")
        return found.pop()

    def run(self, kills: int) -> dict[str, Any]:
        """Makes the kills and returns the counts.

        Raises:
            RuntimeError: a run ended otherwise than the undisturbed one, or a checkpoint was damaged.
        """
        expected = self.undisturbed()
        while self.found["kills"] < kills:
            folder = RunFolder.create(self.home / f"run{self.found['runs']}", RECIPE)
            _STEPS.value = 0
            while folder.result() is None:
                self._attempt(folder, disturb=self.found["kills"] < kills)
            if outcome(folder) != expected:
                raise RuntimeError(f"{folder.name} ended otherwise than the undisturbed run")
            self.found["runs"] += 1
            self.found["steps_made"] += _STEPS.value
            self.found["steps_needed"] += (folder.result() or {})["steps"]
            shutil.rmtree(folder.path)
        passed_over = _DAMAGED.findall((self.home / "log.txt").read_text())
        if others := set(passed_over) - self.cut:
            raise RuntimeError(f"damaged, though nobody cut them short: {others}")
        return {
            **self.found,
            "steps_repeated": self.found["steps_made"] - self.found["steps_needed"],
            "passed_over": len(passed_over),
            "left_alone": len(self.survivor_s),
            "left_alone_s_max": max(self.survivor_s, default=None),
            "undisturbed_s": self.undisturbed_s,
        }

    def _attempt(self, folder: RunFolder, *, disturb: bool) -> None:
        """Starts a run, and kills it at a random moment if it has not ended before."""
        steps, writing = _STEPS.value, _writing_since(folder, time.time_ns())
        with started(folder, self.data, self.num_ranks) as ranks:
            if not disturb:
                for process in ranks:
                    process.join()
                return
            aimed = self.rng.random() < 0.5
            ends_s = time.perf_counter() + self.rng.uniform(0, 0.4 * self.undisturbed_s)
            while all(process.is_alive() for process in ranks):
                if time.perf_counter() > ends_s and (not aimed or writing()):
                    break
                time.sleep(0.0002)
            victims = self.rng.permutation(self.num_ranks)[: self.rng.integers(self.num_ranks) + 1]
            for rank in victims:
                ranks[rank].kill()
            for rank in victims:
                ranks[rank].join()
            if not any(ranks[rank].exitcode == -signal.SIGKILL for rank in victims):
                return  # it had ended
            self.found["kills"] += 1
            self.found["in_checkpoint"] += writing()
            if _STEPS.value > steps:  # before that, there may be no group yet
                self._await([process for rank, process in enumerate(ranks) if rank not in victims])
        self._cut(folder)

    def _await(self, left: list[BaseProcess]) -> None:
        began_s = time.perf_counter()
        for process in left:
            process.join(SURVIVOR_S)
            if process.exitcode is None:
                raise RuntimeError(f"a rank did not end within {SURVIVOR_S:g} s after the other was killed")
            self.survivor_s.append(time.perf_counter() - began_s)

    def _cut(self, folder: RunFolder) -> None:
        checkpoints = sorted((folder.path / "checkpoint").glob("0*"))
        if len(checkpoints) > 1 and not self.rng.integers(CUT) and folder.result() is None:
            file = checkpoints[-1] / ("model.safetensors", "state.pt", "manifest.json")[self.rng.integers(3)]
            data = file.read_bytes()
            file.write_bytes(data[: self.rng.integers(len(data))])
            self.found["cut_short"] += 1
            self.cut.add(str(checkpoints[-1].relative_to(self.home)))


def show(num_ranks: int, found: dict[str, Any]) -> None:
    """Prints the counts of the runs on a number of ranks."""
    print(f"{num_ranks} rank(s): {found['kills']} kills, {found['in_checkpoint']} while a checkpoint was written")
    print(f"    {found['runs']} runs ended as the undisturbed one")
    share = found["steps_repeated"] / found["steps_made"]
    print(f"    {found['steps_repeated']} of {found['steps_made']} steps were made again ({share:.0%})")
    print(f"    {found['cut_short']} checkpoints were cut short; {found['passed_over']} starts used the one before")
    if found["left_alone"]:
        print(f"    {found['left_alone']} ranks were left alone and ended within {found['left_alone_s_max']:.2f} s")


def main() -> None:
    """Runs the soak, prints and writes its numbers."""
    options = parser(__doc__ or "")
    options.add_argument("--kills", type=int, default=200, help="over all, half of them on two ranks; default 200")
    options.add_argument("--seed", type=int, default=0, help="of the moments; default 0")
    given = options.parse_args()
    if given.kills < 2 or given.kills % 2:
        options.error(f"--kills must be even and at least 2, half of them on two ranks, got {given.kills}")
    torch.set_num_threads(1)
    data = load_dataset("digits")
    numbers: dict[str, Any] = {"kills": given.kills, "seed": given.seed, "ranks": {}}
    began_s = time.perf_counter()
    for num_ranks in (1, 2):
        with tempfile.TemporaryDirectory() as home:
            soak = Soak(num_ranks, data, Path(home), np.random.default_rng([given.seed, num_ranks]))
            numbers["ranks"][str(num_ranks)] = found = soak.run(given.kills // 2)
        show(num_ranks, found)
    numbers["seconds"] = time.perf_counter() - began_s
    print(f"{numbers['seconds']:.0f} s")
    write(given.json, torch.device("cpu"), numbers)


if __name__ == "__main__":
    main()
