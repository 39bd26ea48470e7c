"""What the commands that train share: the recipe, the folder of runs, the exit status."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orderdp.cli.messages import tell

if TYPE_CHECKING:
    from orderdp.comparison.checks import LoadedData
    from orderdp.training.recipe import Recipe


def chosen_recipe(name: str | None, given: dict[str, Any], ratios: Sequence[float]) -> Recipe:
    """Returns the recipe that is named or fits the data set and model, with what was given in place of its own."""
    from orderdp.training.recipe import Recipe, find_recipe, load_recipe, shipped_recipes

    if name is None:
        path = find_recipe(given.get("dataset", Recipe().dataset), given.get("model"))
    else:
        path = shipped_recipes().get(name, Path(name))
    changes = dict(given)
    sizes = {"explore", "exploit"} & set(given)
    if ratios:
        changes["prune_ratio"] = ratios[0]
        if not sizes:
            changes.update(explore=None, exploit=None)
    elif given.get("strategy") == "full":
        changes.update(prune_ratio=None, explore=None, exploit=None)
    elif sizes:
        changes["prune_ratio"] = None
    elif path is None:
        changes["prune_ratio"] = 0.5
    return Recipe(**changes) if path is None else load_recipe(path, **changes)


def new_folder(name: str) -> Path:
    """Returns the folder where runs go by default: the name, as a folder may be called, and the time."""
    return Path("runs") / f"{name.replace(':', '-')}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def refuse_beside_resume(
    options: argparse.Namespace,
    given: dict[str, Any],
    others: Sequence[str],
    added: Sequence[str] = ("--seed", "--data-root"),
) -> None:
    """Raises ValueError where an option stands beside --resume that a run folder cannot take any more.

    Args:
        options: all of them; the folder is noted as the run folder.
        given: the settings of a recipe that were given.
        others: names of options that are no settings.
        added: options that may stand there.
    """
    named = {name for name in others if getattr(options, name) is not None}
    refused = sorted({f"--{name.replace('_', '-')}" for name in {*given, *named}} - set(added))
    if refused:
        raise ValueError(
            f"--resume takes its settings from the run folder, all but {', '.join(added[:-1])} and {added[-1]}, got "
            f"{' '.join(refused)}; leave them out"
        )
    options.run_folder = options.resume


def extend_all(parts: Iterable[Path], given: dict[str, Any], data: LoadedData) -> None:
    """Adds the given seeds and methods to comparisons that are resumed, or says where their data lies now."""
    from orderdp.comparison.workers import extend

    for part in parts if given else ():
        extend(
            part,
            seeds=given.get("seed", ()),
            methods=given.get("methods", ()),
            data_root=given.get("data_root"),
            data=data,
        )


def show_comparison(path: Path) -> None:
    """Prints the differences between the runs in a folder, and what may be concluded from them."""
    from accelerate import PartialState

    from orderdp.report.overview import write_overview
    from orderdp.report.sections.differences import run_by_run
    from orderdp.report.summary import conclusions

    if PartialState().is_main_process:
        results = write_overview(path)
        print(run_by_run(results).as_text())
        show_conclusions(conclusions(results))


def show_conclusions(sentences: Iterable[str]) -> None:
    """Prints sentences, each in lines that fit a terminal."""
    print()
    for sentence in sentences:
        print(textwrap.fill(sentence, 100))
    print()


def status_of(found: Any, options: argparse.Namespace) -> int:
    """Returns the exit status: 1, after a line that names them, where runs are missing."""
    from accelerate import PartialState

    missing = []
    if found.failed:
        missing.append(f"failed: {'; '.join(found.failed)}")
    missing += [f"damaged: {run} ({why})" for run, why in found.damaged.items()]
    if found.at_work:
        missing.append(f"running in another process: {'; '.join(found.at_work)}")
    if waiting := [run for run in found.open if run not in found.at_work]:
        missing.append(f"waiting for a run that failed: {'; '.join(waiting)}")
    if missing and PartialState().is_main_process:
        resume = f"resume with {options.parser.prog} --resume {options.run_folder}"
        if not (found.finished or found.at_work):
            resume = f"start a new folder with other settings, or {resume}"
        tell(f"orderdp: some runs are missing, {', '.join(missing)}; {resume}")
    return 1 if missing else 0
