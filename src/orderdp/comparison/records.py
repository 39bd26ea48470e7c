"""What a comparison's folder holds of each planned run: its result and epochs, or the reason why they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from orderdp.comparison.grid import another_augment, planned_in
from orderdp.comparison.planned import Planned, PlannedRun
from orderdp.strategies.registry import BY_NAME
from orderdp.training.recipe import Recipe, read_recipe
from orderdp.training.run_folder import CORESET_PLAN, RunFolder

ELSEWHERE = {"data_root", "download"}  # the place of the data may change
OF_MACHINE = {*ELSEWHERE, "device", "num_threads"}  # of a recipe; what runs compute stays the same


class Record(NamedTuple):
    """A finished run.

    Args:
        result: what the run ended with.
        epochs: a row of metrics for each epoch.
    """

    result: dict[str, Any]
    epochs: list[dict[str, Any]]


class Missing(NamedTuple):
    """A run without a result to use.

    Args:
        kind: "failed", "damaged", or "open" if it is not finished.
        reason: one line for a reader.
    """

    kind: Literal["failed", "damaged", "open"]
    reason: str


class Records(NamedTuple):
    """Everything about the runs of one comparison, not yet grouped into entries.

    Args:
        planned: which runs were planned.
        runs: name of each planned run to its record, or to why it is missing.
        unplanned: names of runs in the folder that are not planned.
    """

    planned: Planned
    runs: Mapping[str, Record | Missing]
    unplanned: tuple[str, ...] = ()


def read_folder(path: Path) -> Records:
    """Reads the folder of a comparison. Changes nothing and imports no user code.

    Raises:
        ValueError: the folder holds no comparison, or it holds a run of another recipe than planned.
    """
    planned = planned_in(path)
    runs = {run.name: _read(RunFolder(path / run.name)) for run in planned.runs}
    for run in planned.runs:
        _check_recipe(run, path, planned, runs)
    others = [file.parent for file in path.glob("*/recipe.toml") if not (file.parent / CORESET_PLAN).exists()]
    unplanned = {other.name for other in others} - set(runs)
    return Records(planned, runs, tuple(sorted(unplanned)))


def _read(folder: RunFolder) -> Record | Missing:
    try:
        record = folder.record()
    except ValueError as error:
        return Missing("damaged", str(error))
    if record is not None:
        return Record(*record)
    reason = folder.failure()
    return Missing("open", "not finished") if reason is None else Missing("failed", reason)


def _check_recipe(run: PlannedRun, path: Path, planned: Planned, runs: Mapping[str, Record | Missing]) -> None:
    """Raises ValueError if the folder of a run holds another recipe than planned."""
    file = path / run.name / "recipe.toml"
    if not file.exists():
        return
    there = read_recipe(file)
    cut: dict[str, Any] = {"max_steps": run.max_steps, "epochs": run.epochs}
    if run.steps_of is not None:
        leader = runs[run.steps_of]
        if isinstance(leader, Missing):
            return
        # How many epochs hold so many steps depends on the data.
        cut = {"max_steps": leader.result["steps"], "epochs": there.get("epochs")}
    cut["max_lr"] = run.max_lr
    expected = {**planned.recipe, "seed": run.seed}
    expected |= {name: value for name, value in cut.items() if value is not None}
    if run.augment is not None:
        own = value_in(expected, "augment")
        expected |= another_augment(run.augment, own=own, finetune=expected.get("finetune"))
    for name in sorted((there.keys() | expected.keys()) - ELSEWHERE - {"strategy"}):
        mine, other = value_in(there, name), value_in(expected, name)
        if mine != other:
            raise _another_recipe(file.parent, name, mine, other)
    for name in sorted((there["strategy"].keys() | run.strategy.keys()) - _not_compared(run.strategy)):
        mine, other = there["strategy"].get(name), run.strategy.get(name)
        if mine != other:
            raise _another_recipe(file.parent, f"strategy {name}", mine, other)


def _not_compared(strategy: Mapping[str, Any]) -> set[str]:
    """Returns the settings that do not tell two strategies apart, such as where a file lies."""
    known = BY_NAME.get(strategy["name"])
    return set() if known is None else {field.name for field in fields(known) if not field.compare}  # type: ignore[arg-type]


def told_apart(strategy: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that tell two strategies apart whatever the seed of the run."""
    left_out = {*_not_compared(strategy), *by_seed_in(strategy)}
    return {name: value for name, value in strategy.items() if name not in left_out}


def by_seed_in(strategy: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the settings of a strategy that hold a value for each seed."""
    known = BY_NAME.get(strategy["name"])
    return () if known is None else tuple(name for name in known.by_seed if name in strategy)


def value_in(recipe: Mapping[str, Any], name: str) -> Any:
    """Returns the value of a key in a plain recipe, which leaves out None, and keys of later releases."""
    if name in recipe or name not in Recipe.model_fields:
        return recipe.get(name)
    return Recipe.model_fields[name].default


def _another_recipe(folder: Path, name: str, mine: Any, planned: Any) -> ValueError:
    """Returns the error to raise if a run's folder holds another recipe than planned."""
    return ValueError(
        f"every run in a folder must have its planned recipe, got {folder} with {name} {mine!r} instead of "
        f"{planned!r}; move that run elsewhere, and resume with --resume {folder.parent}"
    )
