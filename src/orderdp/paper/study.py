"""A study: comparisons of the same methods under several recipes, at one of four sizes, and its report.

The folder of a study holds a comparison's folder for each part. If a part names static methods, its folder also holds
their subsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from accelerate import PartialState

from orderdp.comparison import workers
from orderdp.comparison.checks import LoadedData, check, sharing_threads
from orderdp.comparison.engines.base import Engine, Log
from orderdp.comparison.engines.local import LOCAL
from orderdp.comparison.grid import Comparison, grid
from orderdp.comparison.outcome import Outcome
from orderdp.comparison.planned import REFERENCES, Sizes
from orderdp.comparison.searched import searching
from orderdp.comparison.workers import same_on_all_ranks
from orderdp.data.registry import PLACE, sharing_folder
from orderdp.output.files import new_folder, write_whole
from orderdp.output.suggestions import did_you_mean
from orderdp.paper.study_file import OF_PAGE, SIZES, name_of, read_study
from orderdp.paper.subsets import check_subsets, choose_subsets, has_subsets, plan_subsets, write_subset_plan
from orderdp.report.outline import Outline, load_outline, outline_of
from orderdp.strategies import DynamicRandom
from orderdp.strategies.registry import parse
from orderdp.theory.sizes import check_once
from orderdp.training.coreset_plan import CoresetPlan
from orderdp.training.recipe import Recipe, read_recipe, shipped_recipes

SEEDS = (0, 1, 2)  # of a study that names none


@dataclass(frozen=True)
class Study:
    """Comparisons of one size, and what to show of them.

    Args:
        name: of the study.
        size: one of `SIZES`.
        outline: what its report shows.
        parts: name of a folder to the comparison in it, without the static methods.
        head: the study's file without the sizes, and without what the page of the paper alone reads.
        subsets: name of a folder to what its static methods are asked for; only of parts with static methods.
    """

    name: str
    size: str
    outline: Outline
    parts: Mapping[str, Comparison]
    head: Mapping[str, Any]
    subsets: Mapping[str, CoresetPlan] = field(default_factory=dict)


def load_study(path: Path, size: str | None = None, *, seeds: Sequence[int] = (), **changes: Any) -> Study:
    """Returns the study in a file at one of its sizes.

    Args:
        path: a TOML file.
        size: one of the file's sizes; None for its first in the order of `SIZES`.
        seeds: seeds to use instead of the file's.
        **changes: keys of every recipe to replace, such as data_root.

    Raises:
        ValueError: an unknown size, method, recipe or section, or settings that a recipe refuses.
    """
    table = read_study(path)
    sizes = [name for name in SIZES if name in table]
    size = sizes[0] if size is None else size
    if size not in sizes:
        hint = did_you_mean(size, sizes) or f"; choose from {', '.join(sizes)}"
        raise ValueError(f"no size named {size!r}{hint}")
    recipes = _recipes(table[size], path.parent, changes)
    parts, subsets = {}, {}
    for part, recipe in zip(table[size], recipes, strict=True):
        setting = {"seeds": SEEDS, "beside": [DynamicRandom.name], **table, **part}
        chosen = tuple(seeds) or tuple(setting["seeds"])
        comparison = (_search if "lossless" in setting else _comparison)(recipe, setting, chosen)
        parts[name_of(part)] = comparison
        if "static" in setting:
            if comparison.max_lrs:
                raise ValueError(
                    f"max_lrs are chosen with a tenth of the training images held out, got {list(comparison.max_lrs)} "
                    "beside static, whose subsets are of all of them; leave one of them out"
                )
            subsets[name_of(part)] = plan_subsets(comparison, setting)
    head = {key: value for key, value in table.items() if key not in (*SIZES, *OF_PAGE)}
    if any("together" in part for part in table[size]):
        given = {name_of(part): {**table, **part} for part in table[size]}
        head["together"] = {name: each["together"] for name, each in given.items() if "together" in each}
    return Study(path.stem, size, outline_of(head), parts, head, subsets)


def _comparison(recipe: Recipe, setting: Mapping[str, Any], seeds: tuple[int, ...]) -> Comparison:
    for name in ("methods", "prune_ratios"):
        check_once(name, setting[name])
    methods = grid(recipe, map(parse, [*setting["methods"], *setting["beside"]]), setting["prune_ratios"])
    budgets, max_lrs = (tuple(setting.get(name, ())) for name in ("budgets", "max_lrs"))
    return Comparison(recipe, methods, seeds, tuple(setting.get("against", REFERENCES)), budgets, max_lrs)


def _search(recipe: Recipe, setting: Mapping[str, Any], seeds: tuple[int, ...]) -> Comparison:
    for name in ("static", "against", "budgets", "max_lrs"):
        if name in setting:
            raise ValueError(
                f"{name} is not for a part with lossless, which compares with full data alone and plans its own runs, "
                f"got {setting[name]!r}; leave one of them out"
            )
    methods = list(map(parse, [*setting["methods"], *setting["beside"]]))
    return searching(recipe, methods, setting["prune_ratios"], seeds, **setting["lossless"])


def _recipes(parts: Sequence[Mapping[str, Any]], folder: Path, changes: Mapping[str, Any]) -> list[Recipe]:
    """Returns the recipe of each part with the changes; the place of the data is given only to parts that use it."""
    tables = [{**read_recipe(_recipe_file(part["recipe"], folder)), **part.get("changes", {})} for part in parts]
    names = [table.get("dataset", Recipe.model_fields["dataset"].default) for table in tables]
    place = {name: changes[name] for name in PLACE if changes.get(name)}
    using = sharing_folder(names, place) if place else set()
    others = {name: value for name, value in changes.items() if name not in place}
    return [
        Recipe(**{**table, **(changes if name in using else others)}) for name, table in zip(names, tables, strict=True)
    ]


def _recipe_file(name: str, folder: Path) -> Path:
    """Returns the file of a recipe: one that comes with the library, or a path relative to the study's folder."""
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    if name.endswith(".toml"):
        return folder / name
    hint = did_you_mean(name, shipped) or f"; choose from {', '.join(sorted(shipped))}, or write the path of a file"
    raise ValueError(f"no recipe named {name!r}{hint}")


def start_study(study: Study, folder: Path, *, processes: int = 1, engine: Engine = LOCAL, log: Log) -> list[Outcome]:
    """Creates the folder of a study and trains all comparisons in it.

    Args:
        study: what to train.
        folder: to create.
        processes: how many train at the same time.
        engine: starts these processes.
        log: called with one line as each run begins, ends or fails.

    Raises:
        FileExistsError: the folder exists; nothing in it is changed. Others as `workers.start`.
    """
    data = LoadedData()
    folder = create_study(study, folder, processes=processes, engine=engine, data=data)
    return resume_study(folder, processes=processes, engine=engine, log=log, data=data)


def create_study(study: Study, folder: Path, *, processes: int, engine: Engine = LOCAL, data: LoadedData) -> Path:
    """Creates the folder of a study without training, and returns it by the name that all ranks share.

    Raises:
        FileExistsError: the folder exists; nothing in it is changed. Others as `workers.start`.
    """
    # All checks come first: nothing is written of a study that lacks one of its data sets.
    sizes = {name: check(part, data, processes=processes, engine=engine) for name, part in study.parts.items()}
    for plan in study.subsets.values():
        check_subsets(plan, data)
    folder = same_on_all_ranks(folder)
    if PartialState().is_main_process:
        with new_folder(folder) as unfinished:
            for name, part in study.parts.items():
                (unfinished / name).mkdir()
                _write_part(study, name, sharing_threads(part, processes, engine), sizes[name], unfinished / name, data)
            _write_head(study, unfinished)
    PartialState().wait_for_everyone()
    return folder


def create_part(study: Study, name: str, folder: Path, *, processes: int, data: LoadedData) -> None:
    """Creates one part of a study in a folder that may hold others; a part that is there stays as it is.

    So the parts whose data are there can be trained while those of others are missing.

    Raises:
        ValueError, OSError: as `check`; nothing is written.
    """
    if not (folder / name).exists():
        part = study.parts[name]
        sizes = check(part, data, processes=processes)
        if name in study.subsets:
            check_subsets(study.subsets[name], data)
        with new_folder(folder / name) as unfinished:
            _write_part(study, name, sharing_threads(part, processes), sizes, unfinished, data)
    _write_head(study, folder)


def _write_part(study: Study, name: str, comparison: Comparison, sizes: Sizes, folder: Path, data: LoadedData) -> None:
    comparison.write(folder, sizes)
    if name in study.subsets:
        write_subset_plan(study.subsets[name], comparison, folder, data)


def _write_head(study: Study, folder: Path) -> None:
    """Writes what the folder of a study says of it, with the parts that are there."""
    there = [name for name in study.parts if (folder / name).exists()]
    head = {"study": study.name, "size": study.size, "parts": there}
    write_whole(folder / "study.toml", tomli_w.dumps({**head, **study.head}).encode())


def resume_study(
    folder: Path, *, processes: int = 1, engine: Engine = LOCAL, log: Log, data: LoadedData | None = None
) -> list[Outcome]:
    """Chooses the subsets of a study that are not chosen, and trains its runs that are not finished.

    Raises:
        ValueError: no folder of a study. Others as `workers.resume`.
    """
    parts = list(load_outline(folder)[1].values())
    data = LoadedData() if data is None else data
    static = [part for part in parts if has_subsets(part)]
    choose_subsets(static, processes=processes, engine=engine, log=log, data=data)
    return workers.resume(parts, processes=processes, engine=engine, log=log, data=data)
