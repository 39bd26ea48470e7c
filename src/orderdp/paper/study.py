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
from orderdp.training.methods import method_of
from orderdp.training.recipe import load_recipe, shipped_recipes

SIZES = ("smoke", "cpu", "gpu", "paper")
SECTIONS = (
    "accuracy",
    "differences",
    "cost",
    "frontier",
    "curves",
    "decomposition",
    "usage",
    "stability",
    "gradients",
    "alignment",
    "progress",
)


@dataclass(frozen=True)
class Published:
    """A table of the paper, as it is printed.

    Args:
        title: what it is.
        columns: headings, the first of them over the labels.
        rows: label to its cells.
        section: the section whose numbers it stands beside.
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[str]]
    section: str = "accuracy"


@dataclass(frozen=True)
class Outline:
    """What a report is to show, and how.

    Args:
        title: heading of the report.
        about: a paragraph on what it asks.
        sections: names of `SECTIONS`, in order.
        edges: borders of the windows that "stability", "alignment" and "progress" take means over, shares of the run.
        published: the paper's own tables.
        together: a prune ratio under which all methods are shown, whatever each is asked for: where they are asked for
            different ones in order to prune alike. None shows each under its own.
    """

    title: str
    about: str = ""
    sections: tuple[str, ...] = SECTIONS
    edges: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    published: tuple[Published, ...] = ()
    together: float | None = None

    def __post_init__(self) -> None:
        for name in self.sections:
            if name not in SECTIONS:
                hint = did_you_mean(name, SECTIONS) or f"; choose from {', '.join(SECTIONS)}"
                raise ValueError(f"no section named {name!r}{hint}")
        for table in self.published:
            if table.section not in self.sections:
                raise ValueError(
                    f"a published table must stand beside a section that is shown, got {table.section!r} for "
                    f"{table.title!r}; choose from {', '.join(self.sections)}"
                )


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
        changed = {"explore": None, "exploit": None, **part.get("changes", {}), **changes}
        recipe = load_recipe(_shipped(part["recipe"]), **changed)
        setting = {**table, **part}
        chosen = map(method_of, [*setting["methods"], *setting.get("beside", ["dynamic_random"])])
        methods = grid(recipe, chosen, setting["prune_ratios"])
        against = tuple(setting.get("against", REFERENCES))
        parts[part["name"]] = Comparison(recipe, methods, tuple(seeds) or tuple(setting["seeds"]), against)
    return Study(path.stem, size, _outline(table), parts)


def _shipped(name: str) -> Path:
    shipped = shipped_recipes()
    if name not in shipped:
        raise ValueError(f"no recipe named {name!r}{did_you_mean(name, shipped) or f'; choose from {sorted(shipped)}'}")
    return shipped[name]


def load_outline(folder: Path) -> tuple[Outline, dict[str, Path]]:
    """Returns what to show of a folder of comparisons, or of a single one, and the comparisons' folders by name.

    Raises:
        ValueError: no such folder.
    """
    if (folder / "plan.toml").exists():
        return Outline(f"Comparison: {folder.resolve().name}"), {"": folder}
    why = ""
    if (folder / "study.toml").exists():
        try:
            table = read_study(folder / "study.toml")
            return _outline(table), {name: folder / name for name in table["parts"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f" ({error})"
    raise ValueError(
        f"a folder to report on must hold plan.toml or study.toml, got {folder}{why}; "
        "write the folder of an earlier 'orderdp compare', 'orderdp train' or 'orderdp study'"
    )


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


def _outline(table: Mapping[str, Any]) -> Outline:
    published = tuple(
        Published(given["title"], tuple(given["columns"]), given["rows"], given.get("section", "accuracy"))
        for given in table.get("published", ())
    )
    given: dict[str, Any] = {"edges": tuple(table["edges"])} if "edges" in table else {}
    return Outline(
        table["title"],
        table.get("about", ""),
        tuple(table["show"]),
        published=published,
        together=table.get("together"),
        **given,
    )
