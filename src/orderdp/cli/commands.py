"""What each command does: call, print, say by the exit status whether it is whole."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orderdp.cli.messages import tell, teller

if TYPE_CHECKING:
    from orderdp.training.recipe import Recipe

_ADDED = ("--methods", "--prune-ratio", "--seed", "--data-root")  # what may stand beside --resume of a comparison


def train(options: argparse.Namespace) -> int:
    """Trains the runs of one recipe, prints their table and draws their plots."""
    from orderdp.training.comparison import REFERENCES, Plan
    from orderdp.training.recipe import Recipe
    from orderdp.training.runner import make, start

    tell = teller(options)
    given = {name: value for name in Recipe.model_fields if (value := getattr(options, name)) is not None}
    if options.resume is not None:
        path = options.resume
        _refuse_beside_resume(options, given, ("recipe", "run", "against"))
        _amend([path], given)
        found = make([path], tell=tell)[0]
    else:
        ratios, seeds = given.pop("prune_ratio", []), given.pop("seed", [])
        if "settings" in given:
            given["settings"] = dict(given["settings"])
        recipe = _recipe(options.recipe, given, ratios)
        seeds = seeds or [recipe.seed]
        # The recipe checks them all before anything is made.
        methods = [recipe.model_copy(update={"prune_ratio": ratio}).method() for ratio in ratios]
        seeds = [recipe.model_copy(update={"seed": seed}).seed for seed in seeds]
        path = options.run_folder = options.run or _new_folder(recipe.dataset)
        against = REFERENCES if options.against is None else tuple(options.against)
        found = start(Plan(recipe, tuple(methods), tuple(seeds), against), path, tell=tell)
    _show_runs(found, path)
    return _status_of(found, options)


def compare(options: argparse.Namespace) -> int:
    """Makes the runs of a comparison and prints the differences to full data."""
    from orderdp.training.comparison import Plan, grid
    from orderdp.training.recipe import METHOD_KEYS, Recipe, default_of
    from orderdp.training.runner import make, start

    tell = teller(options)
    options_of_recipe = [name for name in Recipe.model_fields if hasattr(options, name)]
    given = {name: value for name in options_of_recipe if (value := getattr(options, name)) is not None}
    if options.resume is not None:
        path = options.resume
        ratios = given.pop("prune_ratio", [])
        _refuse_beside_resume(options, given, ("recipe", "run"), _ADDED)
        if options.methods or ratios:
            given["methods"] = _more_methods(path, options.methods, ratios)
        _amend([path], given)
        found = make([path], processes=options.processes, tell=tell)[0]
        return _end_comparison(found, path, options)
    ratios, seeds = given.pop("prune_ratio", [0.3, 0.5, 0.7]), given.pop("seed", [0, 1, 2])
    own = {name: default_of(name) for name in METHOD_KEYS if name not in ("prune_ratio", "explore", "exploit")}
    recipe = _recipe(options.recipe, {**given, **own}, ratios)
    chosen = options.methods or [{"strategy": "orderdp"}, {"strategy": "infobatch"}]
    methods = grid(recipe, [*chosen, *_random_beside(chosen, recipe)], ratios)
    seeds = tuple(recipe.model_copy(update={"seed": seed}).seed for seed in seeds)
    path = options.run_folder = options.run or _new_folder(f"compare-{recipe.dataset}")
    found = start(Plan(recipe, methods, seeds), path, processes=options.processes, tell=tell)
    return _end_comparison(found, path, options)


def _more_methods(
    path: Path, chosen: Sequence[dict[str, Any]] | None, ratios: Sequence[float]
) -> Sequence[dict[str, Any]]:
    """Returns the methods to add to a comparison: those named, or its own, at the ratios given, or its own."""
    from orderdp.training.comparison import grid, load_plan

    plan, _ = load_plan(path)
    present = [recipe.method() for recipe in plan.pruned()]
    ratios = ratios or sorted({method["prune_ratio"] for method in present if "prune_ratio" in method})
    if not chosen:
        chosen = [
            {key: value for key, value in method.items() if key != "prune_ratio"}
            for method in present
            if "prune_ratio" in method
        ]
    return grid(plan.recipe, [*chosen, *_random_beside(chosen, plan.recipe)], ratios)


def _random_beside(methods: Sequence[dict[str, Any]], recipe: Recipe) -> list[dict[str, Any]]:
    """Returns the dynamic random choices that stand beside: at the plan's ratios, and at those that methods bring."""
    from orderdp.training.methods import asked_ratio

    split = [{"prune_ratio", "explore", "exploit"} & set(method) for method in methods]
    own = [asked_ratio(recipe.with_method(method)) for method, sizes in zip(methods, split, strict=True) if sizes]
    plans = [{"strategy": "dynamic_random"}] if len(own) < len(methods) else []
    return [*({"strategy": "dynamic_random", "prune_ratio": ratio} for ratio in own), *plans]


def _end_comparison(found: Any, path: Path, options: argparse.Namespace) -> int:
    if found.finished:
        _show_comparison(path)
        tell(f"settings, metrics, checkpoints: {path}; 'orderdp report {path}' makes a page of tables and plots")
    return _status_of(found, options)


def _new_folder(name: str) -> Path:
    return Path("runs") / f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def _refuse_beside_resume(
    options: argparse.Namespace,
    given: dict[str, Any],
    others: Sequence[str],
    added: Sequence[str] = ("--seed", "--data-root"),
) -> None:
    named = {name for name in others if getattr(options, name) is not None}
    refused = sorted({f"--{name.replace('_', '-')}" for name in {*given, *named}} - set(added))
    if refused:
        raise ValueError(
            f"--resume takes its settings from the run folder, all but {', '.join(added[:-1])} and {added[-1]}, got "
            f"{' '.join(refused)}; leave them out"
        )
    options.run_folder = options.resume


def _amend(parts: Iterable[Path], given: dict[str, Any]) -> None:
    """Adds what is given to comparisons that are gone on with, or says where their data lies now."""
    from orderdp.training.runner import amend

    for part in parts if given else ():
        amend(part, seeds=given.get("seed", ()), methods=given.get("methods", ()), data_root=given.get("data_root"))


def _show_runs(found: Any, path: Path) -> None:
    """Prints the table of the runs in a folder and draws their plots."""
    from accelerate import PartialState

    from orderdp.output.text_table import as_text
    from orderdp.training.plots import draw_plots
    from orderdp.training.run_folder import alone_in
    from orderdp.training.table import lines

    if found.finished and PartialState().is_main_process:
        with alone_in(path):
            draw_plots(found.finished, path / "plots")
        print(as_text(lines(found.table)))
        print(f"\nsettings, metrics, checkpoints and plots: {path}")


def _show_comparison(path: Path) -> None:
    """Prints what may be said of the runs in a folder."""
    from accelerate import PartialState

    from orderdp.experiments.report.tables import differences
    from orderdp.experiments.results import read_results
    from orderdp.output.text_table import as_text

    if PartialState().is_main_process:
        table = differences(read_results(path)).tables[-1]
        print(f"{as_text(table.lines)}\n\n{table.note}\n")


def _status_of(found: Any, options: argparse.Namespace) -> int:
    """Returns the exit status: 1, after a line that names them, where runs are missing."""
    from accelerate import PartialState

    missing = []
    if found.failed:
        missing.append(f"failed: {'; '.join(found.failed)}")
    missing += [f"damaged: {run} ({why})" for run, why in found.damaged.items()]
    if found.at_work:
        missing.append(f"being made by another process: {'; '.join(found.at_work)}")
    if waiting := [run for run in found.open if run not in found.at_work]:
        missing.append(f"waiting for a run that failed: {'; '.join(waiting)}")
    if missing and PartialState().is_main_process:
        go_on = f"go on with {options.parser.prog} --resume {options.run_folder}"
        if not (found.finished or found.at_work):
            go_on = f"begin another folder with other settings, or {go_on}"
        tell(f"orderdp: not all runs are finished, {', '.join(missing)}; {go_on}")
    return 1 if missing else 0


def methods(options: argparse.Namespace) -> int:
    """Prints the methods by name."""
    from orderdp.output.text_table import as_text
    from orderdp.training.methods import METHODS

    rows = [(name, method.label, method.ratio) for name, method in METHODS.items()]
    print(as_text([("name", "method", "what the prune ratio is"), *rows], words=True))
    return 0


def plan(options: argparse.Namespace) -> int:
    """Prints what a pruned run will be like, and draws it."""
    from orderdp import theory
    from orderdp.experiments.plans import as_json, as_page, draw_plan

    laid_out = theory.plan(
        options.num_samples,
        options.prune_ratio,
        epochs=options.epochs,
        batch_size=options.batch_size,
        steps=options.steps,
        samples=options.samples,
        hours=options.hours,
        full_hours=options.full_hours,
    )
    print(as_json(laid_out) if options.json else as_page(laid_out))
    if options.plot is not None:
        tell(f"\nplot: {draw_plan(laid_out, options.plot)}")
    return 0


def study(options: argparse.Namespace) -> int:
    """Makes a table or figure of the paper."""
    from orderdp.experiments.studies import STUDIES, check_name, run_study
    from orderdp.experiments.study import load_outline, load_study, resume_study, start_study, study_files

    tell = teller(options)
    changes = {name: value for name in ("data_root", "download", "device") if (value := getattr(options, name))}
    processes = 1 if options.processes is None else options.processes
    if options.resume is not None:
        given = {**changes, **({"seed": options.seed} if options.seed else {})}
        folder = options.resume
        _refuse_beside_resume(options, given, ("name", "run", "size"))
        _amend(load_outline(folder)[1].values(), given)
        return _report_on(resume_study(folder, processes=processes, tell=tell), folder, options)
    if options.name is None:
        options.parser.error("the following arguments are required: NAME")
    check_name(options.name)
    if options.name in STUDIES:
        _refuse_beside_theory(options, changes)
        for path in run_study(options.name, options.run or Path("runs") / options.name):
            print(path)
        return 0
    size = options.size or "smoke"
    study = load_study(study_files()[options.name], size, seeds=tuple(options.seed or ()), **changes)
    folder = options.run_folder = options.run or Path("runs") / f"{options.name}-{size}"
    return _report_on(start_study(study, folder, processes=processes, tell=tell), folder, options)


def _refuse_beside_theory(options: argparse.Namespace, changes: dict[str, Any]) -> None:
    given = {name for name in ("size", "processes", "seed") if getattr(options, name) is not None}
    if given or changes:
        names = sorted(f"--{name.replace('_', '-')}" for name in {*given, *changes})
        raise ValueError(f"study {options.name} trains nothing, got {' '.join(names)}; leave them out")


def _report_on(outcomes: Sequence[Any], folder: Path, options: argparse.Namespace) -> int:
    """Prints the tables of a study, writes its report, and returns 1 where runs are missing."""
    from accelerate import PartialState

    from orderdp.experiments.report import write_report
    from orderdp.experiments.study import load_outline

    if PartialState().is_main_process:
        for part in load_outline(folder)[1].values():
            _show_comparison(part)
        print(f"report: {write_report(folder)}")
    return max(_status_of(found, options) for found in outcomes)


def report(options: argparse.Namespace) -> int:
    """Writes the page of a folder of runs and prints where it is."""
    from orderdp.experiments.report import write_report

    print(write_report(options.folder, accuracies=tuple(options.accuracy)))
    return 0


def _recipe(name: str | None, given: dict[str, Any], ratios: Sequence[float]) -> Recipe:
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
