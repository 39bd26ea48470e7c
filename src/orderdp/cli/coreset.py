"""`orderdp coreset`: scores of a data set by static methods, and fixed subsets of it."""

from __future__ import annotations

import argparse
import re
import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orderdp.cli.folders import chosen_recipe, new_folder, refuse_beside_resume
from orderdp.cli.messages import tell_imports, teller
from orderdp.cli.settings import add_settings, not_empty, one_of_several, some_path
from orderdp.output.text_table import number_or_text

if TYPE_CHECKING:
    from orderdp.data.base import DataSets
    from orderdp.training.coreset_plan import CoresetPlan, Request
    from orderdp.training.coreset_run import Coresets
    from orderdp.training.recipe import Recipe

SUMMARY = "score a data set by static methods, and choose fixed subsets of it"
DESCRIPTION = """\
Trains a proxy: a model that tells static methods about the data. Then each method scores the samples or chooses among
them. Writes the scores and the subset at each prune ratio as Parquet files, and plots. Shows how far the methods
agree. Proxies are kept, so a later call with the same data and settings trains none. 'orderdp train' and 'orderdp
compare' train on a subset: fixed:DIR/subsets.parquet,method=NAME."""
EXAMPLES = """\
examples:
  orderdp coreset
  orderdp coreset --methods random el2n,epoch=2 forgetting --prune-ratio 0.3 0.5 0.7 --proxies 3
  orderdp coreset --methods random herding --seed 0 1 2
  orderdp coreset --methods el2n ccs,scores=el2n,hard_cutoff=0.2 --quotas none --output coresets/digits
  orderdp compare --methods orderdp fixed:coresets/digits/subsets.parquet,method=el2n --prune-ratio 0.5
  orderdp coreset --resume coresets/digits"""

_WIDEST = 150  # letters of a line of a table that is printed
_DEFAULT = ("random", "el2n", "forgetting")
_OWN = ("methods", "prune_ratio", "proxies", "seed", "quotas", "validation", "cache", "output", "recipe")
_LEFT_OUT = (
    *("seed", "drop_last", "max_steps", "checkpoint_steps", "alignment"),
    *("mixup", "cutmix", "drop_path", "clip_norm", "ema", "finetune"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `orderdp coreset`."""
    from orderdp.training.proxy import SETTINGS

    group = parser.add_argument_group("scores and subsets")
    _add_methods(group)
    _add_folders(group)
    usual = ", ".join(f"{name} {value}".replace("True", "true") for name, value in SETTINGS.items())
    add_settings(
        parser,
        leave_out=_LEFT_OUT,
        title="settings of the proxy",
        text=textwrap.fill(f"Its defaults are {usual}. Those of data, model and machine are the recipe's.", 78),
    )


def _add_methods(group: argparse._ArgumentGroup) -> None:
    from orderdp.training.coreset_plan import QUOTAS

    group.add_argument(
        "--methods",
        nargs="+",
        type=_request,
        metavar="NAME",
        help="static methods by name ('orderdp methods' lists them), optionally with settings, NAME,SETTING=VALUE,...; "
        "epoch=2 asks the proxy after 2 epochs instead of the last; scores=NAME gives a method the scores of another; "
        f"default {' '.join(_DEFAULT)}",
    )
    group.add_argument(
        "--prune-ratio",
        nargs="+",
        type=one_of_several,
        metavar="R",
        help="fractions of the samples to leave out, in (0, 1); default 0.3 0.5 0.7",
    )
    group.add_argument(
        "--proxies",
        type=number_or_text,
        metavar="N",
        help="proxies of each seed, over which scores are averaged; default 1; methods that choose samples together "
        "use the first",
    )
    group.add_argument(
        "--seed",
        nargs="+",
        type=one_of_several,
        metavar="N",
        help="seeds; each has its own proxies, draws and subsets, and a run trains on the subset of its own seed; "
        "default 0",
    )
    group.add_argument(
        "--quotas",
        metavar="NAME",
        help=f"{', '.join(QUOTAS)}: keep the same share of every class, the same number, or ignore the classes; "
        "default proportional",
    )
    group.add_argument(
        "--validation",
        type=number_or_text,
        metavar="R",
        help="fraction of the training samples to hold out for the methods that need a validation set, in (0, 1); they "
        "are never kept by those methods",
    )


def _add_folders(group: argparse._ArgumentGroup) -> None:
    from orderdp.training.recipe import shipped_recipes

    group.add_argument(
        "--output", metavar="DIR", type=some_path, help="new folder to write; default runs/coreset-DATASET-TIME"
    )
    group.add_argument(
        "--cache", metavar="DIR", type=some_path, help="folder that keeps the proxies; default runs/proxies"
    )
    group.add_argument(
        "--resume", metavar="DIR", type=some_path, help="finish a stopped call; --data-root gives the new place of data"
    )
    group.add_argument(
        "--recipe",
        type=not_empty,
        metavar="FILE",
        help=f"TOML file with data and model, or one of {', '.join(sorted(shipped_recipes()))}; default the recipe for "
        "the data set and model; how it trains is ignored",
    )


def run(options: argparse.Namespace) -> int:
    """Scores a data set, chooses subsets, and shows how far the methods agree."""
    from orderdp.comparison.checks import LoadedData
    from orderdp.training.coreset_plan import load_plan
    from orderdp.training.coreset_run import resume, start
    from orderdp.training.recipe import Recipe

    tell_imports()
    tell = teller(options)
    names = [name for name in Recipe.model_fields if name not in ("strategy", *_LEFT_OUT)]
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.resume is not None:
        refuse_beside_resume(options, given, _OWN, ("--data-root", "--download"))
        path = options.resume
        plan = load_plan(path, **given)
        data = LoadedData().of(plan.recipe)
        found = resume(plan, data, path, log=tell)
    else:
        plan = _plan(options, given)
        data = LoadedData().of(plan.recipe)
        path = options.run_folder = options.output or new_folder(f"coreset-{plan.recipe.dataset}")
        found = start(plan, data, path, log=tell)
    _show(found, plan, data, path)
    return 0


def _plan(options: argparse.Namespace, given: dict[str, Any]) -> CoresetPlan:
    from orderdp.training.coreset_plan import CoresetPlan, Request
    from orderdp.training.proxy import SETTINGS, proxy_recipe

    recipe = chosen_recipe(options.recipe, {key: given[key] for key in given.keys() - SETTINGS.keys()}, {})
    numbers = {name: getattr(options, name) for name in ("proxies", "quotas", "validation")}
    return CoresetPlan(
        proxy_recipe(recipe, **given),
        tuple(options.methods or map(Request.parse, _DEFAULT)),
        tuple(options.prune_ratio or (0.3, 0.5, 0.7)),
        tuple(options.seed or (0,)),
        home=str(options.cache or Path("runs") / "proxies"),
        **{name: value for name, value in numbers.items() if value is not None},
    )


def _show(found: Coresets, plan: CoresetPlan, data: DataSets, path: Path) -> None:
    """Prints and writes how far the methods agree, draws the plots, and says what to do next."""
    from orderdp.output.files import write_whole
    from orderdp.report.agreement import correlation_table, overlap_table
    from orderdp.report.coreset_plots import draw_coreset_plots

    tables = [correlation_table(found)] if len(found.scores) > 1 else []
    if len(found.subsets) > 1:
        tables.append(overlap_table(found, max(plan.prune_ratios)))
    text = "\n".join(f"## {table.title}\n\n{table.as_markdown()}" for table in tables)
    write_whole(path / "agreement.md", text.encode())
    for table in tables:
        shown = table.as_text()
        wide = max(map(len, shown.splitlines())) > _WIDEST
        print(f"{table.title}: in {path / 'agreement.md'}\n" if wide else f"{table.title}\n\n{shown}\n")
    draw_coreset_plots(found, data, path / "plots")
    ratios = " ".join(f"{ratio:g}" for ratio in plan.prune_ratios)
    print(f"scores, subsets and plots: {path}")
    print(f"to train on a subset beside dynamic methods ({', '.join(found.subsets)} are in the file):")
    print(
        f"  orderdp compare --methods orderdp fixed:{path / 'subsets.parquet'},method={list(found.subsets)[-1]} "
        f"--prune-ratio {ratios}{_data_options(plan.recipe)}"
    )


def _data_options(recipe: Recipe) -> str:
    """Returns the options that name the data of a recipe, each after a space."""
    names = ("dataset", "data_root", "train_size", "image_size", "imbalance", "label_noise", "held_out")
    default = type(recipe)()
    values = {name: getattr(recipe, name) for name in names if getattr(recipe, name) != getattr(default, name)}
    return "".join(f" --{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in values.items())


def _request(text: str) -> Request:
    from orderdp.coresets.registry import BY_NAME
    from orderdp.training.coreset_plan import Request

    apart = re.sub(rf",(?=({'|'.join(BY_NAME)})(,|$))", " ", text)
    if apart != text:
        raise argparse.ArgumentTypeError(f"several methods are separated by spaces, got {text}; write {apart}")
    try:
        return Request.parse(text)
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
