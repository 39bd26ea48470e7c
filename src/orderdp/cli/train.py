"""`orderdp train`: one recipe with pruning, with full data and with a shorter schedule."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from orderdp.cli.folders import (
    add_folder_options,
    chosen_recipe,
    extend_all,
    refuse_beside_resume,
    run_folder,
    show_conclusions,
    status_of,
)
from orderdp.cli.messages import tell_imports, teller
from orderdp.cli.settings import STRATEGY_OPTIONS, add_settings, add_strategy, one_name, strategy_given

SUMMARY = "train with pruning, with full data and with a shorter schedule"
DESCRIPTION = """\
Trains a model with OrderDP, then with full data, then with full data for as many steps as OrderDP made. Prints one
table and writes a run folder with metrics, checkpoints and plots. Without options it trains on handwritten digits,
which need no download, in about a minute."""
EXAMPLES = """\
examples:
  orderdp train
  orderdp train --dataset fashion_mnist --prune-ratio 0.3 0.5 0.7 --seed 0 1 2
  orderdp train --recipe cifar10_resnet18 --data-root data --run runs/cifar10
  orderdp train --resume runs/cifar10"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `orderdp train`."""
    run = parser.add_argument_group("the run")
    add_folder_options(
        run, recipe="the options below replace its settings", default="runs/DATASET-TIME", added="--seed adds seeds"
    )
    run.add_argument(
        "--against",
        nargs="*",
        type=one_name,
        metavar="NAME",
        help="baselines to train too: full (full data), short (full data for as many steps as the pruned run); "
        "default both; --against without a name trains neither",
    )
    run.add_argument(
        "--log",
        nargs="+",
        type=one_name,
        metavar="NAME",
        help="trackers that get a row an epoch of each run: tensorboard, wandb, mlflow; a resumed run goes on in the "
        "same log",
    )
    add_strategy(parser)
    add_settings(parser, several=("seed",))


def run(options: argparse.Namespace) -> int:
    """Trains the runs of one recipe, prints their table and draws their plots."""
    from orderdp.comparison.checks import LoadedData
    from orderdp.comparison.grid import Comparison
    from orderdp.comparison.planned import REFERENCES
    from orderdp.comparison.workers import resume, start
    from orderdp.strategies.registry import to_table
    from orderdp.theory.sizes import check_once
    from orderdp.training.recipe import Recipe
    from orderdp.training.trackers import check_trackers, write_trackers

    tell_imports()
    tell = teller(options)
    keys = [name for name in Recipe.model_fields if name != "strategy"]
    given = {name: value for name in keys if (value := getattr(options, name)) is not None}
    if options.resume is not None:
        path = options.resume
        refuse_beside_resume(options, given, ("recipe", "run", "against", *STRATEGY_OPTIONS))
        data = LoadedData()
        extend_all([path], given, data)
        if options.log:
            check_trackers(options.log)
            write_trackers(path, options.log)
        found = resume([path], log=tell, data=data)[0]
    else:
        check_once("prune_ratio", options.prune_ratio or ())
        seeds = given.pop("seed", [])
        given = {**given, "seed": seeds[0]} if seeds else given
        recipe = chosen_recipe(options.recipe, given, strategy_given(options))
        seeds = seeds or [recipe.seed]
        # The recipe checks them all before anything is made.
        table = to_table(recipe.strategy.for_seed(None), epochs=recipe.epochs)
        methods = [{**table, "prune_ratio": ratio} for ratio in options.prune_ratio or ()]
        seeds = [recipe.model_copy(update={"seed": seed}).seed for seed in seeds]
        path = options.run_folder = run_folder(options.run, recipe.dataset)
        against = REFERENCES if options.against is None else tuple(options.against)
        comparison = Comparison(recipe, tuple(methods), tuple(seeds), against)
        found = start(comparison, path, trackers=options.log or (), log=tell)
    _show_runs(found, path)
    return status_of(found, options)


def _show_runs(found: Any, path: Path) -> None:
    """Prints the table of the runs in a folder and what may be concluded from it, and draws their plots."""
    from accelerate import PartialState

    from orderdp.report.overview import overview, write_overview
    from orderdp.report.placement import references_of
    from orderdp.report.plots import draw_plots
    from orderdp.report.summary import conclusions
    from orderdp.training.run_folder import alone_in

    if found.finished and PartialState().is_main_process:
        results = write_overview(path)
        with alone_in(path):
            draw_plots(found.finished, references_of(results), path / "plots")
        print(overview(results).as_text())
        show_conclusions(conclusions(results))
        print(f"settings, metrics, checkpoints and plots: {path}")
