"""What the commands that train have in common: the recipe, the folder of runs, the exit status."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orderdp.cli.messages import tell
from orderdp.cli.settings import not_empty, some_path

if TYPE_CHECKING:
    from orderdp.comparison.checks import LoadedData
    from orderdp.training.recipe import Recipe


def add_folder_options(group: argparse._ArgumentGroup, *, recipe: str, default: str, added: str) -> None:
    """Adds `--recipe`, `--run` and `--resume`.

    Args:
        group: of the command's options.
        recipe: what happens to the recipe, for its help.
        default: name of the new folder.
        added: what may be added to a resumed folder, for its help.
    """
    from orderdp.training.recipe import shipped_recipes

    group.add_argument(
        "--recipe",
        type=not_empty,
        metavar="FILE",
        help=f"TOML file of settings, or one of {', '.join(sorted(shipped_recipes()))}; default the recipe for the "
        f"data set and model; {recipe}",
    )
    group.add_argument("--run", metavar="DIR", type=some_path, help=f"new folder to write; default {default}")
    group.add_argument(
        "--resume",
        metavar="DIR",
        type=some_path,
        help=f"resume the runs in this folder, or help to train them; {added}, --data-root gives the new place of the "
        "data",
    )


def chosen_recipe(name: str | None, given: Mapping[str, Any], strategy: Mapping[str, Any]) -> Recipe:
    """Returns the named recipe, or the one for the data set and model, with the given keys and settings.

    Args:
        name: of a shipped recipe or of a file; None for the recipe of the data set and model.
        given: keys that replace those of the recipe.
        strategy: settings that replace those of its strategy; `name` for another strategy.
    """
    from orderdp.strategies import OrderDP
    from orderdp.strategies.registry import to_table
    from orderdp.training.recipe import Recipe, find_recipe, read_recipe, shipped_recipes

    if name is None:
        path = find_recipe(given.get("dataset", Recipe().dataset), given.get("model"))
    else:
        path = shipped_recipes().get(name, Path(name))
    default = OrderDP(prune_ratio=0.5) if path is None else OrderDP()
    keys = {"strategy": to_table(default), **({} if path is None else read_recipe(path)), **given}
    if strategy and isinstance(keys["strategy"], Mapping):
        keys["strategy"] = _changed(keys["strategy"], strategy, epochs=keys.get("epochs", Recipe().epochs))
    return Recipe(**keys)


def _changed(table: Mapping[str, Any], given: Mapping[str, Any], *, epochs: int) -> dict[str, Any]:
    """Returns the table of a strategy with the given settings. Another strategy keeps only the prune ratio.

    So does a strategy that is given another method, as `scheduled:NAME` is.
    """
    from orderdp.strategies.registry import find, from_table

    name = {**table, **given}["name"]
    method = find(name).method_setting
    if any(given.get(key, table.get(key)) != table.get(key) for key in ("name", method) if key is not None):
        ratio = from_table(table, epochs=epochs).asked_ratio
        takes_ratio = find(name).ratio_setting is not None
        table = {"name": name, **({"prune_ratio": ratio} if takes_ratio and ratio is not None else {})}
    strategy = find(name)
    if "prune_ratio" in given:
        table = {key: value for key, value in table.items() if not strategy.has_size([key])}
    elif strategy.has_size(given):
        table = {key: value for key, value in table.items() if key != "prune_ratio"}
    return {**table, **given}


def run_folder(given: Path | None, name: str) -> Path:
    """Returns the folder of runs that was given, or the default one with this name.

    Raises:
        ValueError: none was given, and torchrun may restart this process, which would then not find the folder again.
    """
    if given is not None:
        return given
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0:
        raise ValueError(
            "run must name the folder under torchrun --max-restarts, since a restarted job resumes it, got none; write "
            "--run DIR"
        )
    return new_folder(name)


def new_folder(name: str) -> Path:
    """Returns the default folder of runs: the name, in letters that a folder may have, and the time."""
    return Path("runs") / f"{name.replace(':', '-')}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def refuse_beside_resume(
    options: argparse.Namespace,
    given: dict[str, Any],
    others: Sequence[str],
    added: Sequence[str] = ("--seed", "--data-root"),
) -> None:
    """Raises ValueError if an option is given with --resume that the run folder already fixes.

    Args:
        options: all of them; the folder is noted as the run folder.
        given: the settings of a recipe that were given.
        others: names of options that are not settings.
        added: options that are allowed.
    """
    named = {name for name in others if getattr(options, name) is not None}
    refused = sorted({f"--{name.replace('_', '-')}" for name in {*given, *named}} - set(added))
    if refused:
        them = "them" if len(refused) > 1 else "it"
        raise ValueError(
            f"--resume takes its settings from the run folder, all but {', '.join(added[:-1])} and {added[-1]}, got "
            f"{' '.join(refused)}; leave {them} out"
        )
    options.run_folder = options.resume


def extend_all(
    parts: Iterable[Path], given: dict[str, Any], data: LoadedData, *, seeds_later: Collection[Path] = ()
) -> None:
    """Adds the given seeds, methods and budgets to resumed comparisons, or records where their data is now.

    Args:
        parts: folders of the comparisons.
        given: `seed`, `methods`, `budgets` and `data_root`; each may be missing.
        data: the data that is already loaded.
        seeds_later: those that get no seeds here.
    """
    from orderdp.comparison.grid import load_comparison
    from orderdp.comparison.workers import extend
    from orderdp.data.registry import sharing_folder

    names = {part: load_comparison(part)[0].recipe.dataset for part in parts} if given else {}
    root = given.get("data_root")
    using = set() if root is None else sharing_folder(set(names.values()), {"data_root": root})
    for part, name in names.items():
        extend(
            part,
            seeds=() if part in seeds_later else given.get("seed", ()),
            methods=given.get("methods", ()),
            budgets=given.get("budgets", ()),
            data_root=root if name in using else None,
            data=data,
        )


def show_comparison(path: Path) -> None:
    """Prints the differences between the runs in a folder, or the tests of its search, and what may be concluded."""
    from accelerate import PartialState

    from orderdp.report.overview import write_overview
    from orderdp.report.section import Choices
    from orderdp.report.sections import lossless
    from orderdp.report.sections.differences import run_by_run
    from orderdp.report.summary import conclusions

    if PartialState().is_main_process:
        results = write_overview(path)
        search = lossless.section(results, Choices())
        for table in [run_by_run(results)] if search is None else search.tables:
            print(table.as_text(), end="\n\n" if search else "\n")
        show_conclusions(conclusions(results))


def show_conclusions(sentences: Iterable[str]) -> None:
    """Prints sentences, each in lines that fit a terminal."""
    from orderdp.report.summary import legend

    sentences = list(sentences)
    print()
    for line in (*sentences, legend(sentences)):
        print(textwrap.fill(line, 100), end="\n" if line else "")
    print()


def status_of(found: Any, options: argparse.Namespace) -> int:
    """Returns the exit status: 1 if runs are missing, after a line that names them."""
    from accelerate import PartialState

    missing = []
    if found.failed:
        missing.append(f"failed: {'; '.join(found.failed)}")
    missing += [f"damaged: {run} ({why})" for run, why in found.damaged.items()]
    if found.at_work:
        missing.append(f"running in another process: {'; '.join(found.at_work)}")
    if waiting := [run for run in found.open if run not in found.at_work]:
        why = "waiting for a run that failed" if found.failed else "not begun"
        missing.append(f"{why}: {'; '.join(waiting)}")
    if missing and PartialState().is_main_process:
        resume = f"resume with {options.parser.prog} --resume {options.run_folder}"
        if not (found.finished or found.at_work):
            resume = f"start a new folder with other settings, or {resume}"
        tell(f"orderdp: some runs are missing, {', '.join(missing)}; {resume}")
    return 1 if missing else 0
