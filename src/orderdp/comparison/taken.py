"""Runs that another comparison has made already: they are copied, not trained again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accelerate import PartialState

from orderdp.comparison.grid import load_comparison
from orderdp.comparison.planned import Sizes, read_planned
from orderdp.output.files import new_folder
from orderdp.output.toml import parse_toml
from orderdp.training.provenance import DIRTY, environment
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder


def take_over(path: Path, others: Iterable[Path]) -> list[tuple[str, Path]]:
    """Copies into a comparison's folder the runs that others have finished and that it would only repeat.

    They have the same recipe with all its settings, data of the same size, and this machine, number of threads, commit
    and versions, from their first step to the last. Where no commit says what ran, nothing is copied: in a checkout
    with changes, and outside one. What was begun in the folder stays.

    Args:
        path: folder of the comparison.
        others: folders of other comparisons; those that cannot be read are passed over.

    Returns:
        Each run that was copied, as tables call it, and where it was found.

    Raises:
        ValueError: the folder holds no comparison. OSError: it cannot be written.
    """
    comparison, sizes = load_comparison(path)
    here = _origin(environment(PartialState(cpu=comparison.recipe.device == "cpu").device))
    here["threads"] = comparison.recipe.num_threads or here["threads"]
    if here["commit"] is None or here["commit"].endswith(DIRTY):
        return []
    found = [other for other in others if other.resolve() != path.resolve() and _sizes_in(other) == sizes]
    taken = []
    for member in comparison.members(sizes.num_samples, sizes.num_ranks):
        recipe = None if (path / member.name).exists() else member.recipe_in(path, sizes.num_samples, sizes.num_ranks)
        if recipe is None:
            continue
        there = next((other for other in found if _has(other / member.name, recipe, here)), None)
        if there is not None:
            with new_folder(path / member.name) as folder:
                shutil.copytree(there / member.name, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("lock"))
            taken.append((f"{member.title}, seed {recipe.seed}", there))
    return taken


def _sizes_in(path: Path) -> Sizes | None:
    """Returns the sizes of a comparison's data; None if its folder cannot be read, which is no fault of this one."""
    try:
        return read_planned(path).sizes
    except ValueError:
        return None


def _has(path: Path, recipe: Recipe, here: dict[str, Any]) -> bool:
    """Returns whether a folder holds a finished run of this recipe, made on this machine by this code."""
    run = RunFolder(path)
    try:
        found = run.record()
        return found is not None and _origin(found[0]) == here and _settings(run.recipe()) == _settings(recipe)
    except ValueError:  # damaged, or of a method that is not known here
        return False


def _origin(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result.get(name) for name in ("device", "threads", "versions", "commit")}


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Returns all settings, also the place of the data and the strategy's files, which may hold something else."""
    return {name: value for name, value in parse_toml(recipe.to_toml()).items() if name != "download"}
