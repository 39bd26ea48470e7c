"""What a comparison's folder holds of each planned run: its result and epochs, or the reason why they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from orderdp.comparison.grid import planned_in
from orderdp.comparison.planned import STRATEGY_KEYS, Planned, PlannedRun, strategy_of
from orderdp.output.toml import read_toml
from orderdp.training.recipe import Recipe, default_of
from orderdp.training.run_folder import RunFolder

_ELSEWHERE = {"data_root", "download"}  # where the data lies may change


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
        kind: "failed", "damaged", or "open" where it is not finished.
        reason: one line for a reader.
    """

    kind: Literal["failed", "damaged", "open"]
    reason: str


class Records(NamedTuple):
    """Everything about the runs of one comparison, before it is put into entries.

    Args:
        planned: which runs were planned.
        runs: name of each planned run to what there is of it.
        unplanned: names of runs in the folder that are not planned.
    """

    planned: Planned
    runs: Mapping[str, Record | Missing]
    unplanned: tuple[str, ...] = ()


def read_folder(path: Path) -> Records:
    """Reads the folder of a comparison. Changes nothing, builds no strategy and imports no user code.

    Raises:
        ValueError: it is no such folder, or it holds a run of another recipe than planned.
    """
    planned = planned_in(path)
    runs = {run.name: _read(RunFolder(path / run.name)) for run in planned.runs}
    for run in planned.runs:
        _check_recipe(run, path, planned, runs)
    unplanned = {file.parent.name for file in path.glob("*/recipe.toml")} - set(runs)
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
    """Raises ValueError where the folder of a run holds another recipe than planned."""
    file = path / run.name / "recipe.toml"
    if not file.exists():
        return
    there = read_toml(file, "a recipe", example="epochs = 30")
    cut: dict[str, Any] = {"max_steps": run.max_steps, "epochs": run.epochs}
    if run.steps_of is not None:
        leader = runs[run.steps_of]
        if isinstance(leader, Missing):
            return
        # How many epochs hold so many steps depends on the data.
        cut = {"max_steps": leader.result["steps"], "epochs": there.get("epochs")}
    expected = {**planned.recipe, "seed": run.seed}
    expected |= {name: value for name, value in cut.items() if value is not None}
    for name in sorted((there.keys() | expected.keys()) - _ELSEWHERE - STRATEGY_KEYS):
        mine, other = _value(there, name), _value(expected, name)
        if mine != other:
            raise another_recipe(file.parent, name, mine, other)
    mine, other = strategy_of(there), dict(run.strategy)
    if mine != other:
        raise another_recipe(file.parent, "strategy", mine, other)


def _value(recipe: Mapping[str, Any], name: str) -> Any:
    """Returns the value of a key in a plain recipe, which leaves out None, and keys of later releases."""
    if name in recipe or name not in Recipe.model_fields:
        return recipe.get(name)
    return default_of(name)


def another_recipe(folder: Path, name: str, mine: Any, planned: Any) -> ValueError:
    """Returns the error to raise where a run's folder holds another recipe than planned."""
    return ValueError(
        f"every run in a folder must have its planned recipe, got {folder} with {name} {mine!r} where "
        f"{planned!r} is planned; move that run elsewhere, and write --resume {folder.parent}"
    )
