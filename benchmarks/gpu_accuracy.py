"""The last part of gpu.py: a recipe pruned, on full data and on the shorter schedule, in the time that is left.

Four processes on the card each train three epochs of full data at once, and then one of them does so alone. Four
models are trained at once if their epochs together take less than four times that of one alone; else they are trained
one by one. The plan follows from the seconds of that epoch, and from those that a run takes beside its epochs: as many
seeds as possible, from three to ten, with 30 epochs each. If three seeds with 30 epochs do not fit, three seeds have
fewer epochs, and if that is below 4, one seed is trained.
Long runs begin first. The runs are those of `orderdp compare`, with their names. What is unfinished at the end of the
time is left out.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from gpu_parts import compile_all

from orderdp.comparison.checks import LoadedData
from orderdp.comparison.grid import FULL, Comparison, Member
from orderdp.comparison.verdicts import FEWEST_SEEDS, paired_difference
from orderdp.strategies import FullData
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder, spent_s
from orderdp.training.steps import total_steps

WORKERS = 4
TRIAL_EPOCHS = 3  # of which the second neither compiles nor evaluates
MOST_EPOCHS, FEWEST_EPOCHS = 30, 4
MOST_SEEDS = 10
UNITS_OF_A_SEED = (1.0, 0.5, 0.5)  # full data, OrderDP and the shorter schedule, in epochs of full data
SPARE = 0.9  # share of the time that is planned
RESERVE_S = 10.0  # to write and to end
REST = "rest"  # the seed of a row that stands for all unfinished runs

_loaded = LoadedData()  # in each process


class Cost(NamedTuple):
    """The seconds of a run on full data.

    Args:
        once_s: of all but its epochs, such as to build the model, to compile it and to evaluate.
        epoch_s: of an epoch, with its checkpoint.
    """

    once_s: float
    epoch_s: float

    def of(self, epochs: float) -> float:
        """Returns the seconds of a run of so many epochs."""
        return self.once_s + epochs * self.epoch_s


class ClockedRun(Run):
    """A run that notes when each of its epochs ended."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.ended_s: list[float] = []

    def _close_epoch(self, *, lr: float) -> None:
        super()._close_epoch(lr=lr)
        self.ended_s.append(time.perf_counter())


def train_arms(
    recipe: Recipe,
    folder: Path,
    left_s: Callable[[], float],
    keep: Callable[[dict[str, Any]], None],
    *,
    workers: int = WORKERS,
    most_epochs: int = MOST_EPOCHS,
    most_seeds: int = MOST_SEEDS,
) -> None:
    """Trains as many seeds and epochs as fit.

    Args:
        recipe: settings of all runs, with the method to compare.
        folder: for the files of the runs.
        left_s: returns the seconds that are left.
        keep: takes what is found so far, after each run.
        workers: models at once, if that is faster.
        most_epochs: of a run on full data.
        most_seeds: to train.

    Raises:
        RuntimeError: too little time, or a process that ended.
    """
    found: dict[str, Any] = {"dataset": recipe.dataset, "train_size": recipe.train_size, "model": recipe.model}
    begin = compile_all if recipe.compile else None
    pool, ended = ProcessPoolExecutor(workers, get_context("spawn"), initializer=begin), False
    try:
        alone, together = costs(recipe, pool, workers, folder, left_s)
        at_once, cost = (workers, together) if together.epoch_s < workers * alone.epoch_s else (1, alone)
        found |= {"alone": alone._asdict(), "together": together._asdict(), "workers": workers, "at_once": at_once}
        keep(found)
        seeds, epochs = plan(left_s() - RESERVE_S, cost, at_once, most_epochs, most_seeds)
        found |= {"seeds": seeds, "epochs": epochs, "batch_size": recipe.batch_size, "rows": []}
        data = _loaded.of(recipe)
        comparison = Comparison(recipe.model_copy(update={"epochs": epochs}), seeds=tuple(range(seeds)))
        members = comparison.members(len(data.train))
        members.sort(key=lambda member: -(total_steps(member.recipe, len(data.train)) or 0))
        for row in rows_of(members, pool, folder, at_once, left_s):
            found["rows"].append(row)
            keep({**found, "differences": differences(found["rows"], members, len(data.test))})
            print(f"seed {row['seed']}, {row['label']}: {row.get('accuracy', row.get('error'))}", flush=True)
        ended = found["rows"][-1]["seed"] != REST
    finally:
        pool.shutdown(wait=ended, cancel_futures=True)  # what is still in training ends with this part


def costs(
    recipe: Recipe, pool: ProcessPoolExecutor, workers: int, folder: Path, left_s: Callable[[], float]
) -> tuple[Cost, Cost]:
    """Returns what a run on full data costs in one process alone, and in the slowest of several at once.

    Raises:
        RuntimeError: the time was over.
    """
    trial = recipe.model_copy(update={"strategy": FullData(), "epochs": TRIAL_EPOCHS})

    def measured(count: int, recipe: Recipe = trial) -> Cost:
        trials = [pool.submit(trained, recipe, folder / f"trial{number}") for number in range(count)]
        if wait(trials, timeout=max(0.0, left_s() - RESERVE_S)).not_done:
            raise RuntimeError("the time was over before an epoch was measured; give more minutes")
        rows = [each.result() for each in trials]
        return Cost(*(max(row[name] for row in rows) for name in Cost._fields))

    measured(workers, trial.model_copy(update={"epochs": 1}))  # each process loads and compiles
    together = measured(workers)
    return measured(1), together


def plan(
    left_s: float, cost: Cost, at_once: int, most_epochs: int = MOST_EPOCHS, most_seeds: int = MOST_SEEDS
) -> tuple[int, int]:
    """Returns the seeds and the epochs of full data that fit.

    Raises:
        RuntimeError: not even two epochs of one seed fit.
    """

    def fitting(seeds: int) -> int:
        def takes_s(epochs: int) -> float:
            return makespan([cost.of(epochs * units) for units in UNITS_OF_A_SEED * seeds], at_once)

        return max((epochs for epochs in range(most_epochs + 1) if takes_s(epochs) <= SPARE * left_s), default=0)

    seeds = next(
        (seeds for seeds in range(most_seeds, FEWEST_SEEDS, -1) if fitting(seeds) == most_epochs), FEWEST_SEEDS
    )
    if most_seeds < FEWEST_SEEDS or fitting(seeds) < min(FEWEST_EPOCHS, most_epochs):
        seeds = 1
    if fitting(seeds) < 2:
        raise RuntimeError(f"{left_s:.0f} s are left, and an epoch takes {cost.epoch_s:.0f} s; give more minutes")
    return seeds, fitting(seeds)


def makespan(lengths: Sequence[float], at_once: int) -> float:
    """Returns when the last of some runs ends, if the longest begin first and so many run at once.

    >>> makespan((1.0, 0.5, 0.5) * 3, 4)
    1.5
    """
    ends = [0.0] * at_once
    for length in sorted(lengths, reverse=True):
        ends[ends.index(min(ends))] += length
    return max(ends)


def rows_of(
    members: Sequence[Member], pool: ProcessPoolExecutor, folder: Path, at_once: int, left_s: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    """Trains runs, so many at once, and yields a row as each ends, until the time is over."""
    waiting, running = list(members), dict[Future[dict[str, Any]], Member]()
    while waiting or running:
        while waiting and len(running) < at_once:
            member = waiting.pop(0)
            running[pool.submit(trained, member.recipe, folder / member.name)] = member
        ended, _ = wait(running, timeout=max(0.0, left_s() - RESERVE_S), return_when=FIRST_COMPLETED)
        if not ended:
            yield {"label": "all", "seed": REST, "error": f"the time was over for {len(running) + len(waiting)} runs"}
            return
        for future in ended:
            member = running.pop(future)
            row: dict[str, Any] = {"label": member.label, "seed": member.recipe.seed}
            error = future.exception()
            yield row | ({"error": f"{type(error).__name__}: {error}"} if error else future.result())


def trained(recipe: Recipe, path: Path) -> dict[str, Any]:
    """Trains a run in a process of the pool, and returns what the file keeps of it."""
    shutil.rmtree(path, ignore_errors=True)
    folder = RunFolder.create(path, recipe)
    began_s = time.perf_counter()
    run = ClockedRun(recipe, _loaded.of(recipe), folder, show=False)
    result = run.train()
    wall_s = time.perf_counter() - began_s
    shutil.rmtree(path)
    epoch_s = statistics.median_low([end - begin for begin, end in pairwise(run.ended_s)] or [wall_s])
    return {
        "accuracy": result["accuracy_last"],
        "steps": result["steps"],
        "epochs": result["epochs"],
        "samples_backward": result["samples_backward"],
        "spent_s": spent_s(result),
        "wall_s": wall_s,
        "epoch_s": epoch_s,
        "once_s": max(0.0, wall_s - len(run.ended_s) * epoch_s),
    }


def differences(rows: Sequence[dict[str, Any]], members: Sequence[Member], test_size: int) -> dict[str, Any]:
    """Returns the pruned run minus each reference, in points of accuracy over the seeds that both have."""
    scores: dict[str, dict[int, float]] = {}
    for row in rows:
        if "accuracy" in row:
            scores.setdefault(row["label"], {})[row["seed"]] = row["accuracy"]
    pruned = next(member for member in members if member.short is not None)
    found = {}
    for reference in (FULL, str(pruned.short)):
        if scores.get(pruned.label, {}).keys() & scores.get(reference, {}).keys():
            difference = paired_difference(scores[pruned.label], scores[reference], test_size=test_size)
            bounded = difference.seeds > 1  # JSON has no infinity
            found[f"{pruned.label} minus {reference}"] = {
                "mean": difference.mean,
                "interval": [difference.low, difference.high] if bounded else None,
                "seeds": difference.seeds,
            }
    return found
