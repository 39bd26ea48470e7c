"""The static methods of a study: their subsets are chosen first, and then join the comparison.

The folder of a part holds its comparison without the static methods, and a folder as of `orderdp coreset`. When all
subsets are chosen, the comparison is extended by them. So a study that was stopped goes on wherever it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orderdp.comparison.checks import LoadedData, check_recipes
from orderdp.comparison.engines.base import Engine, Left, Log, Work
from orderdp.comparison.engines.local import LOCAL
from orderdp.comparison.grid import Comparison, grid, load_comparison
from orderdp.strategies import StoredSubset
from orderdp.training.coreset_plan import CoresetPlan, Request, load_plan
from orderdp.training.coreset_run import SUBSETS, check, join, open_tasks, work
from orderdp.training.provenance import commit
from orderdp.training.proxy import proxy_recipe
from orderdp.training.run_folder import CORESET_PLAN, alone_in

FOLDER = "coresets"  # in the folder of a part
_NUMBERS = ("proxies", "quotas", "validation")


def plan_subsets(comparison: Comparison, setting: Mapping[str, Any]) -> CoresetPlan:
    """Returns what the static methods of a part are asked for.

    Args:
        comparison: of the part.
        setting: keys of the study's file for the part, `static` among them.

    Raises:
        ValueError: an unknown method, or a setting that it or the proxy refuses.
    """
    try:
        requests = tuple(map(Request.parse, setting["static"]))
        recipe = proxy_recipe(comparison.recipe, **setting.get("proxy", {}))
        numbers = {name: setting[name] for name in _NUMBERS if name in setting}
        return CoresetPlan(recipe, requests, tuple(setting["prune_ratios"]), comparison.seeds, **numbers)
    except TypeError as error:
        raise ValueError(str(error)) from None


def check_subsets(plan: CoresetPlan, data: LoadedData) -> None:
    """Raises ValueError unless a plan fits its data and the machine. Writes nothing."""
    check(plan, data.of(plan.recipe))


def write_subset_plan(plan: CoresetPlan, comparison: Comparison, part: Path, data: LoadedData) -> None:
    """Writes a plan into the folder of its part.

    Args:
        plan: what to choose.
        comparison: of the part, as it is written there.
        part: the folder.
        data: the data that is already loaded.

    Raises:
        OSError: a file cannot be written.
    """
    (part / FOLDER).mkdir()
    recipe = plan.recipe.model_copy(update={"num_threads": comparison.recipe.num_threads})
    replace(plan, recipe=recipe, home="proxies", data_sha256=data.of(plan.recipe).sha256).write(part / FOLDER)


def has_subsets(part: Path) -> bool:
    """Returns whether a part of a study has static methods."""
    return (part / FOLDER / CORESET_PLAN).exists()


def add_seeds(part: Path, seeds: Sequence[int]) -> None:
    """Adds seeds to the static methods of a part; the comparison gets them when their subsets are chosen.

    Raises:
        ValueError: what is no seed.
    """
    with alone_in(part / FOLDER):
        plan = load_plan(part / FOLDER)
        more = [seed for seed in dict.fromkeys(seeds) if seed not in plan.seeds]
        if more:
            replace(plan, seeds=(*plan.seeds, *more)).write(part / FOLDER)


def choose_subsets(
    parts: Sequence[Path], *, processes: int, engine: Engine = LOCAL, log: Log, data: LoadedData
) -> None:
    """Trains the proxies of these parts, chooses the subsets, and adds them to the comparisons.

    Args:
        parts: folders of parts with static methods.
        processes: how many processes do this at the same time.
        engine: starts these processes.
        log: called with one line as each method ends.
        data: the data that is already loaded.

    Raises:
        ValueError: other data than that of the first call, or several ranks. OSError: a file cannot be written.
        FloatingPointError: the loss of a proxy is not finite.
    """
    open_parts = [part for part in parts if not _is_in_comparison(part)]
    for part in open_parts:
        check_subsets(_plan_in(part), data)
    if not open_parts:
        return
    commit()  # asked now, also where other processes do the work: `join` writes it at the end

    def here(*, alone: bool) -> None:
        _choose(open_parts, data, show=alone, log=log)

    engine.share(Work(open_parts, _help, here, lambda: _left(open_parts)), processes, log)
    if missing := _left(open_parts).open:
        raise RuntimeError(
            f"subsets are still to be chosen, {len(missing)} of them: a worker was lost; resume the study"
        )
    for part in open_parts:
        plan = _plan_in(part)
        join(plan, data.of(plan.recipe), part / FOLDER)
        _add_to_comparison(plan, part)


def _plan_in(part: Path) -> CoresetPlan:
    """Returns the plan of a part, with the data where the comparison has it and the proxies beside the subsets."""
    recipe = load_comparison(part)[0].recipe
    plan = load_plan(part / FOLDER, data_root=recipe.data_root, download=recipe.download)
    return replace(plan, home=str(part / FOLDER / "proxies"))


def _help(parts: Sequence[Path], log: Log) -> None:
    _choose(parts, LoadedData(), show=False, log=log)


def _left(parts: Sequence[Path]) -> Left:
    """Returns the methods whose scores and subsets are still to be made. A worker waits for those of other workers."""
    return Left({str(file): "" for part in parts for file in open_tasks(_plan_in(part), part / FOLDER)})


def _choose(parts: Sequence[Path], data: LoadedData, *, show: bool, log: Log) -> None:
    for part in parts:
        plan = _plan_in(part)
        work(plan, data.of(plan.recipe), part / FOLDER, show=show, log=_naming(part, log))


def _naming(part: Path, log: Log) -> Log:
    return lambda line: log(f"{part.name} {line}")


def _is_in_comparison(part: Path) -> bool:
    """Returns whether the comparison of a part has all static methods with all their seeds, and finds their file."""
    comparison, plan = load_comparison(part)[0], load_plan(part / FOLDER)
    names = ("file", "method", "prune_ratio")
    there = {tuple(map(method.get, names)) for method in comparison.methods}
    asked = {(_file_of(part), request.key, ratio) for request in plan.requests for ratio in plan.prune_ratios}
    return asked <= there and set(plan.seeds) <= set(comparison.seeds)


def _add_to_comparison(plan: CoresetPlan, part: Path) -> None:
    file = _file_of(part)
    asked = [{"name": StoredSubset.name, "file": file, "method": request.key} for request in plan.requests]
    keys = {request.key for request in plan.requests}
    with alone_in(part):
        comparison, sizes = load_comparison(part)
        recipe = comparison.recipe.model_copy(update={"seed": plan.seeds[0]})
        others = [table for table in comparison.methods if table.get("method") not in keys]
        methods = (*others, *grid(recipe, asked, plan.prune_ratios))
        extended = replace(comparison, methods=methods, seeds=plan.seeds)
        check_recipes(extended, sizes)
        extended.write(part, sizes)


def _file_of(part: Path) -> str:
    return str(part / FOLDER / SUBSETS)
