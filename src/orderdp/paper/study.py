"""A study: comparisons of the same methods under several recipes, at one of four sizes, and what to show of them.

A study is data: a TOML file in `studies/` with a table of recipes for each size, what the paper published, and the
sections of its report. Its folder holds a comparison's folder for each recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from accelerate import PartialState

from orderdp.comparison.grid import REFERENCES, Comparison, grid
from orderdp.comparison.workers import Outcome, begin, check, make, new_folder, sharing_threads
from orderdp.output.files import write_whole
from orderdp.output.suggestions import did_you_mean
from orderdp.output.toml import read_toml
from orderdp.report.outline import Outline, load_outline, outline_of
from orderdp.strategies import DynamicRandom
from orderdp.strategies.registry import parse
from orderdp.training.recipe import load_recipe, shipped_recipes

SIZES = ("smoke", "cpu", "gpu", "paper")


@dataclass(frozen=True)
class Study:
    """Comparisons of one size, by name of their folder, and what to show of them."""

    name: str
    size: str
    outline: Outline
    parts: Mapping[str, Comparison]


def study_files() -> dict[str, Path]:
    """Returns the files of the studies that train, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "studies").glob("*.toml"))}


def read_study(path: Path) -> dict[str, Any]:
    """Returns the table in the file of a study.

    Raises:
        ValueError: it cannot be read or is not TOML.
    """
    return read_toml(path, "a study", example='title = "What it shows"')


def load_study(path: Path, size: str, *, seeds: Sequence[int] = (), **changes: Any) -> Study:
    """Returns the study in a file at one of its sizes.

    Args:
        path: a TOML file.
        size: one of `SIZES`.
        seeds: in place of the file's own.
        **changes: keys of every recipe to replace, such as data_root.

    Raises:
        ValueError: an unknown size, method, recipe or section, or settings that a recipe refuses.
    """
    table = read_study(path)
    if size not in SIZES:
        hint = did_you_mean(size, SIZES) or f"; choose from {', '.join(SIZES)}"
        raise ValueError(f"no size named {size!r}{hint}")
    parts = {}
    for part in table[size]:
        recipe = load_recipe(_shipped(part["recipe"]), **{**part.get("changes", {}), **changes})
        setting = {**table, **part}
        chosen = map(parse, [*setting["methods"], *setting.get("beside", [DynamicRandom.name])])
        methods = grid(recipe, chosen, setting["prune_ratios"])
        against = tuple(setting.get("against", REFERENCES))
        parts[part["name"]] = Comparison(recipe, methods, tuple(seeds) or tuple(setting["seeds"]), against)
    return Study(path.stem, size, outline_of(table), parts)


def _shipped(name: str) -> Path:
    shipped = shipped_recipes()
    if name not in shipped:
        raise ValueError(f"no recipe named {name!r}{did_you_mean(name, shipped) or f'; choose from {sorted(shipped)}'}")
    return shipped[name]


def start_study(study: Study, folder: Path, *, processes: int = 1, tell: Callable[[str], None]) -> list[Outcome]:
    """Makes the folder and all comparisons in it.

    Raises:
        FileExistsError: the folder is there already; nothing in it is changed. Others as `runner.start`.
    """
    table = {key: value for key, value in read_study(study_files()[study.name]).items() if key not in SIZES}
    # All of them first: nothing is written of a study that lacks one of its data sets.
    sizes = {name: check(plan, processes=processes) for name, plan in study.parts.items()}
    folder = new_folder(folder)
    for name, plan in study.parts.items():
        begin(sharing_threads(plan, processes), folder / name, sizes[name])
    if PartialState().is_main_process:
        # Last: a folder without it was not begun whole.
        head = {"study": study.name, "size": study.size, "parts": list(study.parts)}
        write_whole(folder / "study.toml", tomli_w.dumps({**head, **table}).encode())
    PartialState().wait_for_everyone()
    return resume_study(folder, processes=processes, tell=tell)


def resume_study(folder: Path, *, processes: int = 1, tell: Callable[[str], None]) -> list[Outcome]:
    """Goes on with the comparisons of a folder.

    Raises:
        ValueError: no folder of a study. Others as `runner.make`.
    """
    return make(list(load_outline(folder)[1].values()), processes=processes, tell=tell)
