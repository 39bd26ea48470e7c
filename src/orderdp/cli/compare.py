"""`orderdp compare`: trains methods at several prune ratios, over several seeds."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orderdp.cli.engines import add_engine, engine_given, processes_given
from orderdp.cli.folders import (
    add_folder_options,
    chosen_recipe,
    extend_all,
    refuse_beside_resume,
    run_folder,
    show_comparison,
    status_of,
)
from orderdp.cli.messages import tell, tell_imports, teller
from orderdp.cli.settings import add_settings, one_of_several, refuse_static
from orderdp.cli.typed import typed

if TYPE_CHECKING:
    from orderdp.comparison.grid import Comparison
    from orderdp.training.recipe import Recipe

SUMMARY = "compare methods at several prune ratios, over several seeds"
DESCRIPTION = """\
Trains every method at every prune ratio with every seed. It also trains the baselines: full data, full data for as
many steps as each method makes, and dynamic random selection. A stopped comparison can be resumed: finished runs are
kept. A run that fails is reported as missing, and the others continue. Several processes can share the work, on one
machine (--processes) or on several that share the folder (--engine, --resume). No run is trained twice."""
EXAMPLES = """\
examples:
  orderdp compare --methods orderdp infobatch ucb --prune-ratio 0.3 0.5 0.7 --processes 2
  orderdp compare --methods orderdp,explore=0.9,exploit=0.5 infobatch,epochs=30 --seed 0 1 2 3 4
  orderdp compare --methods orderdp infobatch --prune-ratio 0.1 0.2 0.3 0.4 0.5 0.6 0.7 --margin 0.5 --seeds-max 20
  orderdp compare --engine slurm --engine-options timeout_min=240 gpus_per_node=1 --processes 8 --run /shared/mine
  orderdp compare --resume runs/digits-20260101-120000"""

_ADDED = ("--methods", "--prune-ratio", "--seed", "--budgets", "--data-root")  # allowed with --resume


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `orderdp compare`."""
    run = parser.add_argument_group("the comparison")
    run.add_argument(
        "--methods",
        nargs="+",
        type=_method,
        metavar="NAME",
        help="methods by name ('orderdp methods' lists them), optionally with settings, "
        "NAME,SETTING=VALUE,...; fixed:FILE,method=NAME trains on a subset that 'orderdp coreset' wrote; default "
        "orderdp infobatch",
    )
    run.add_argument(
        "--prune-ratio",
        nargs="+",
        type=one_of_several,
        metavar="R",
        help="fractions of the samples that an epoch leaves out, in [0, 1); default 0.3 0.5 0.7",
    )
    run.add_argument(
        "--seed", nargs="+", type=one_of_several, metavar="N", help="seeds to train every run with; default 0 1 2"
    )
    run.add_argument(
        "--budgets",
        nargs="+",
        type=one_of_several,
        metavar="B",
        help="multiples of full data's steps, in (0, 2], to train full data for as well, each with a schedule that "
        "ends with them; the report says what a method is worth in such steps",
    )
    add_engine(run)
    add_folder_options(
        run,
        recipe="its method is ignored",
        default="runs/compare-DATASET-TIME",
        added="--methods, --prune-ratio, --seed and --budgets add runs",
    )
    run.add_argument(
        "--max-lr",
        nargs="+",
        type=one_of_several,
        metavar="N",
        help="highest learning rate of the schedule, in (0, inf); of several values, each run, pruned or not, gets the "
        "one that is best on held-out training images",
    )
    run.add_argument(
        "--short-augment",
        metavar="NAME",
        help="augmentation of a second shorter schedule beside each one, which pruning should beat too",
    )
    _add_search(parser.add_argument_group("a search for the largest lossless prune ratio"))
    add_settings(parser, leave_out=("seed", "max_steps", "max_lr"))


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--margin",
        type=one_of_several,
        metavar="M",
        help="find the largest prune ratio of each method that loses at most M percentage points of accuracy, by "
        "bisection of the values of --prune-ratio; each gets as many seeds as its sequential test needs",
    )
    group.add_argument(
        "--seeds-max", type=one_of_several, metavar="N", help="most seeds of a prune ratio, at least 3; default 20"
    )


def run(options: argparse.Namespace) -> int:
    """Trains the runs of a comparison and prints the differences to full data."""
    from orderdp.comparison.checks import LoadedData
    from orderdp.comparison.grid import at_ratio
    from orderdp.comparison.workers import resume, start
    from orderdp.strategies import InfoBatch, OrderDP
    from orderdp.theory.sizes import check_once
    from orderdp.training.recipe import Recipe

    tell_imports()
    check_once("methods", list(map(typed, options.methods or ())))
    check_once("prune_ratio", options.prune_ratio or ())
    tell = teller(options)
    workers: dict[str, Any] = {"processes": processes_given(options), "engine": engine_given(options)}
    options_of_recipe = ["prune_ratio", *(name for name in Recipe.model_fields if hasattr(options, name))]
    given = {name: value for name in options_of_recipe if (value := getattr(options, name)) is not None}
    if options.resume is not None:
        path = options.resume
        ratios = given.pop("prune_ratio", [])
        refuse_beside_resume(options, given, ("recipe", "run", "short_augment", "margin", "seeds_max"), _ADDED)
        if options.methods or ratios:
            given["methods"] = _more_methods(path, options.methods, ratios)
        if options.budgets:
            given["budgets"] = options.budgets
        data = LoadedData()
        extend_all([path], given, data)
        found = resume([path], **workers, log=tell, data=data)[0]
        return _end_comparison(found, path, options)
    ratios, seeds = given.pop("prune_ratio", [0.3, 0.5, 0.7]), given.pop("seed", [0, 1, 2])
    rates = given.pop("max_lr", [])
    given = {**given, "max_lr": rates[0]} if rates else given
    chosen = options.methods or [{"name": OrderDP.name}, {"name": InfoBatch.name}]
    given = {**given, "seed": seeds[0], "strategy": at_ratio(chosen[0], ratios[0])}
    recipe = chosen_recipe(options.recipe, given, {})
    chosen = [*chosen, *_random_beside(chosen, recipe)]
    seeds = tuple(recipe.model_copy(update={"seed": seed}).seed for seed in seeds)
    path = options.run_folder = run_folder(options.run, f"compare-{recipe.dataset}")
    budgets = tuple(options.budgets or ())
    comparison = _comparison(recipe, chosen, ratios, seeds, options)
    comparison = dataclasses.replace(comparison, budgets=budgets, short_augment=options.short_augment)
    if len(rates) > 1:
        comparison = dataclasses.replace(comparison, max_lrs=tuple(rates))
    found = start(comparison, path, **workers, log=tell)
    return _end_comparison(found, path, options)


def _comparison(
    recipe: Recipe,
    methods: Sequence[dict[str, Any]],
    ratios: Sequence[float],
    seeds: Sequence[int],
    options: argparse.Namespace,
) -> Comparison:
    """Returns the comparison of the methods at all ratios, or the search for the largest lossless one."""
    from orderdp.comparison.grid import Comparison, grid
    from orderdp.comparison.searched import searching

    if options.margin is not None:
        most = {} if options.seeds_max is None else {"seeds_max": options.seeds_max}
        return searching(recipe, methods, ratios, seeds, margin=options.margin, **most)
    if options.seeds_max is not None:
        raise ValueError(f"seeds_max is for a search, got {options.seeds_max} without margin; write --margin 0.5 too")
    return Comparison(recipe, grid(recipe, methods, ratios), tuple(seeds))


def _more_methods(
    path: Path, chosen: Sequence[dict[str, Any]] | None, ratios: Sequence[float]
) -> Sequence[dict[str, Any]]:
    """Returns the methods to add to a comparison; methods or ratios that are not given are the comparison's own."""
    from orderdp.comparison.grid import grid, load_comparison
    from orderdp.strategies.registry import to_table

    comparison, _ = load_comparison(path)
    present = comparison.methods or [to_table(comparison.recipe.strategy, epochs=comparison.recipe.epochs)]
    ratios = ratios or sorted({method["prune_ratio"] for method in present if "prune_ratio" in method})
    if not chosen:
        chosen = [
            {key: value for key, value in method.items() if key != "prune_ratio"}
            for method in present
            if "prune_ratio" in method
        ]
    return grid(comparison.recipe, [*chosen, *_random_beside(chosen, comparison.recipe)], ratios)


def _random_beside(methods: Sequence[dict[str, Any]], recipe: Recipe) -> list[dict[str, Any]]:
    """Returns the dynamic random baselines: at the planned ratios, and at those that methods set themselves."""
    from orderdp.strategies import DynamicRandom
    from orderdp.strategies.registry import find, from_table

    sized = [method for method in methods if find(method["name"]).has_size(method)]
    own = [from_table(method, epochs=recipe.epochs).asked_ratio for method in sized]
    planned = [{"name": DynamicRandom.name}] if len(own) < len(methods) else []
    return [*({"name": DynamicRandom.name, "prune_ratio": ratio} for ratio in own), *planned]


def _end_comparison(found: Any, path: Path, options: argparse.Namespace) -> int:
    if found.finished:
        show_comparison(path)
        tell(f"settings, metrics, checkpoints: {path}; 'orderdp report {path}' makes a page of tables and plots")
    return status_of(found, options)


def _method(text: str) -> dict[str, Any]:
    from orderdp.strategies.registry import BY_NAME, parse

    apart = re.sub(rf",(?=({'|'.join(BY_NAME)}|[\w.]+:\w+)(,|$))", " ", text)
    if apart != text:
        raise argparse.ArgumentTypeError(f"several methods are separated by spaces, got {text}; write {apart}")
    refuse_static(text)
    try:
        table = parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    known = BY_NAME.get(table["name"])
    if known is not None and not known.prunes:
        raise argparse.ArgumentTypeError(f"a method must prune, got {text}, which is trained beside them; leave it out")
    return table
