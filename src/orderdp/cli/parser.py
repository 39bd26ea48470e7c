"""The commands and their options."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import orderdp
from orderdp.cli import commands
from orderdp.output.text_table import number_or_text

_ADDED = (
    "go on with the runs in this folder, or join in; --methods, --prune-ratio and --seed add to them, --data-root says "
)
_RESUME = "go on with the runs in this folder, or join in; --seed adds seeds, --data-root says where the data lies now"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; '{self.prog} --help' explains\n")


def make_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Returns the parser of `orderdp`; only a command that is named gets its options, which take a while to import."""
    parser = _Parser(
        prog="orderdp", description="Dynamic data pruning for PyTorch: train on less, lose little, know it."
    )
    parser.add_argument("--version", action="version", version=f"orderdp {orderdp.__version__}")
    named = parser.add_subparsers(metavar="COMMAND", required=True)
    train = named.add_parser(
        "train",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="train with pruning beside all the data, and say what it saved",
        description=(
            "Trains a model with OrderDP, then the same model on all the data, then on all the data for as many steps\n"
            "as OrderDP made; prints one table and writes a run folder with metrics, checkpoints and plots.\n"
            "Without options: handwritten digits, which need no download, in about a minute."
        ),
        epilog=(
            "examples:\n"
            "  orderdp train\n"
            "  orderdp train --dataset fashion_mnist --prune-ratio 0.3 0.5 0.7 --seed 0 1 2\n"
            "  orderdp train --recipe cifar10_resnet18 --data-root data --run runs/cifar10\n"
            "  orderdp train --resume runs/cifar10"
        ),
    )
    plan = named.add_parser(
        "plan",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="what a pruned run will be like and what it saves, before it is paid for",
        description=(
            "Lays out a budget: the steps it takes, what it saves, and for every way to split it into samples drawn\n"
            "and samples kept, which samples are trained how often. Computed from the law of the selection, at once."
        ),
        epilog=(
            "examples:\n"
            "  orderdp plan --num-samples 50000 --epochs 200 --batch-size 128 --prune-ratio 0.5\n"
            "  orderdp plan --num-samples 1281167 --epochs 90 --batch-size 1024 --hours 12 --full-hours 20 --plot p.png"
        ),
    )
    study = named.add_parser(
        "study",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="a table or figure of the paper, or one of its theorems measured",
        description=(
            "Makes a table or figure of the paper, at a size that fits the machine, with a report; or computes a\n"
            "figure of its theory, or measures a theorem: numbers as CSV, pictures as SVG and PNG."
        ),
    )
    compare = named.add_parser(
        "compare",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="methods beside each other at several prune ratios, over several seeds",
        description=(
            "Trains every method at every prune ratio with every seed, and always beside them all the data, all the\n"
            "data for as many steps as each method makes, and a dynamic random choice. Finished runs are kept when it\n"
            "is stopped and gone on with; one that fails leaves a hole and the others go on. Processes, on one\n"
            "machine by --processes or on more that share the folder by --resume, never make a run twice."
        ),
        epilog=(
            "examples:\n"
            "  orderdp compare --methods orderdp infobatch ucb --prune-ratio 0.3 0.5 0.7 --processes 2\n"
            "  orderdp compare --methods orderdp,explore=0.9,exploit=0.5 infobatch,epochs=30 --seed 0 1 2 3 4\n"
            "  orderdp compare --resume runs/digits-20260101-120000"
        ),
    )
    methods = named.add_parser("methods", help="the methods by name", allow_abbrev=False)
    report = named.add_parser(
        "report",
        allow_abbrev=False,
        help="a page of tables and plots of finished runs",
        description="Writes report/report.html, which needs no network, and the tables as Markdown, CSV and LaTeX into "
        "the folder of a comparison or a study.",
    )
    for name, command, add in (
        ("train", train, _add_train),
        ("compare", compare, _add_compare),
        ("methods", methods, lambda parser: parser.set_defaults(call=commands.methods)),
        ("plan", plan, _add_plan),
        ("study", study, _add_study),
        ("report", report, _add_report),
    ):
        if name in arguments:
            add(command)
            flags = [flag for action in command._actions for flag in action.option_strings]
            command.set_defaults(parser=command, flags=flags)
    return parser


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-samples", type=number_or_text, metavar="N", required=True, help="n, samples in the data set"
    )
    parser.add_argument("--epochs", type=number_or_text, metavar="N", required=True, help="epochs of the run")
    parser.add_argument(
        "--batch-size", type=number_or_text, metavar="N", required=True, help="samples a step, over all ranks"
    )
    budget = parser.add_argument_group("the budget, one of")
    budget.add_argument(
        "--prune-ratio", type=number_or_text, metavar="R", help="fraction left out of each epoch, in [0, 1)"
    )
    budget.add_argument("--steps", type=number_or_text, metavar="N", help="optimiser steps of the whole run")
    budget.add_argument("--samples", type=number_or_text, metavar="N", help="samples trained in the whole run")
    budget.add_argument("--hours", type=number_or_text, metavar="H", help="hours of the whole run; needs --full-hours")
    parser.add_argument("--full-hours", type=number_or_text, metavar="H", help="hours of a run on all the data")
    parser.add_argument("--json", action="store_true", help="print every number as JSON instead of a table")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the probabilities, as .png, .svg or .pdf")
    parser.set_defaults(call=commands.plan)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of 'orderdp compare', 'study' or 'train'")
    parser.add_argument(
        "--accuracy",
        nargs="+",
        type=_percent,
        default=(),
        metavar="A",
        help="accuracies in percent to give the seconds to; default three a little below full data's",
    )
    parser.set_defaults(call=commands.report)


def _add_study(parser: argparse.ArgumentParser) -> None:
    from orderdp.experiments.studies import study_names

    parser.epilog = "studies:\n" + "\n".join(f"  {name:10}{shows}" for name, shows in study_names().items())
    parser.add_argument("name", metavar="NAME", nargs="?", help="one of those below")
    parser.add_argument("--run", metavar="DIR", type=Path, help="folder to write; default runs/NAME or runs/NAME-SIZE")
    training = parser.add_argument_group("of studies that train")
    training.add_argument(
        "--size",
        metavar="NAME",
        help="smoke (seconds), cpu (up to some hours on one processor core), gpu (shortened), paper (as published); "
        "default smoke",
    )
    training.add_argument("--processes", type=number_or_text, metavar="N", help="runs to make at the same time")
    training.add_argument(
        "--resume", metavar="DIR", type=Path, help="go on with the runs in this folder, or join in; --seed adds seeds"
    )
    training.add_argument("--seed", nargs="+", type=number_or_text, metavar="N", help="seeds in place of the study's")
    training.add_argument("--data-root", metavar="DIR", help="folder that holds the data sets")
    training.add_argument("--download", action="store_const", const=True, help="fetch what is not there")
    training.add_argument("--device", metavar="NAME", help="where to train: auto, cpu or cuda")
    parser.set_defaults(call=commands.study)


def _add_train(parser: argparse.ArgumentParser) -> None:
    from orderdp.training.recipe import shipped_recipes

    run = parser.add_argument_group("the run")
    run.add_argument(
        "--recipe",
        metavar="FILE",
        help=f"TOML file of settings, or one of {', '.join(sorted(shipped_recipes()))}; without it the one made for "
        "the data set and model; the options below replace its settings",
    )
    run.add_argument(
        "--run", metavar="DIR", type=Path, help="folder to write, which must be new; default runs/DATASET-TIME"
    )
    run.add_argument("--resume", metavar="DIR", type=Path, help=_RESUME)
    run.add_argument(
        "--against",
        nargs="*",
        metavar="NAME",
        help="what to train beside it: full (all the data), short (all the data, as many steps as the pruned run); "
        "default both, nothing for none",
    )
    _add_settings(parser, several=("prune_ratio", "seed"))
    parser.set_defaults(call=commands.train)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    from orderdp.training.recipe import METHOD_KEYS, shipped_recipes

    run = parser.add_argument_group("the comparison")
    run.add_argument(
        "--methods",
        nargs="+",
        type=_method,
        metavar="NAME",
        help="methods by name ('orderdp methods' lists them), each with settings of its own after commas, "
        "NAME,SETTING=VALUE; default orderdp infobatch",
    )
    run.add_argument(
        "--prune-ratio",
        nargs="+",
        type=number_or_text,
        metavar="R",
        help="prune ratios, in [0, 1); default 0.3 0.5 0.7",
    )
    run.add_argument("--seed", nargs="+", type=number_or_text, metavar="N", help="seeds; default 0 1 2")
    run.add_argument(
        "--processes", type=number_or_text, default=1, metavar="N", help="runs to make at the same time; default 1"
    )
    run.add_argument(
        "--recipe",
        metavar="FILE",
        help=f"TOML file of settings, or one of {', '.join(sorted(shipped_recipes()))}; without it the one made for "
        "the data set and model; its method is left aside",
    )
    run.add_argument(
        "--run", metavar="DIR", type=Path, help="folder to write, which must be new; default runs/compare-DATASET-TIME"
    )
    run.add_argument(
        "--resume",
        metavar="DIR",
        type=Path,
        help=f"{_ADDED}where the data lies now",
    )
    _add_settings(parser, leave_out=(*METHOD_KEYS, "seed", "max_steps"))
    parser.set_defaults(call=commands.compare)


def _add_settings(
    parser: argparse.ArgumentParser, *, several: Sequence[str] = (), leave_out: Sequence[str] = ()
) -> None:
    """Adds an option for each key of a recipe."""
    from orderdp.training.recipe import Recipe

    settings = parser.add_argument_group("settings, in place of the recipe's own")
    for name, field in Recipe.model_fields.items():
        if name in leave_out:
            continue
        flag = f"--{name.replace('_', '-')}"
        text = str(field.description).replace("%", "%%")
        if field.annotation is bool:
            settings.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif name == "settings":
            settings.add_argument(flag, nargs="+", type=_setting, metavar="NAME=VALUE", help=text)
        elif name in several:
            text += "; several: a run with each"
            settings.add_argument(flag, nargs="+", type=number_or_text, metavar="N", help=text)
        elif str in (field.annotation, *typing.get_args(field.annotation)):
            settings.add_argument(flag, metavar="NAME", help=text)
        else:
            settings.add_argument(flag, type=number_or_text, metavar=_metavar(field.annotation), help=text)


def _percent(text: str) -> float:
    value = number_or_text(text)
    if isinstance(value, str) or not 1 < value <= 100:
        share = not isinstance(value, str) and 0 < value <= 1
        meant = f"for {100 * float(value):g} % write {100 * float(value):g}" if share else "write 90"
        raise argparse.ArgumentTypeError(f"an accuracy is a percentage in (1, 100], got {text}; {meant}")
    return value


def _metavar(annotation: Any) -> str:
    return "N" if {int, float} & {annotation, *typing.get_args(annotation)} else "NAME"


def _setting(text: str) -> tuple[str, Any]:
    from orderdp.training.methods import setting_of

    try:
        return setting_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _method(text: str) -> dict[str, Any]:
    from orderdp.training.methods import method_of

    try:
        return method_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
