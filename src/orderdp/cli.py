"""The command line: parse, call, print."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import typing
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import orderdp
from orderdp.output.text_table import number_or_text

if TYPE_CHECKING:
    from orderdp.training.recipe import Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `orderdp`; returns the exit status: 0, or 1 after one line on standard error, or 2 for a mistaken call."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options, unknown = _parser(arguments).parse_known_args(arguments)
    except ModuleNotFoundError as error:
        print(f"orderdp: {arguments[0]} needs {error.name}: pip install 'orderdp[train]'", file=sys.stderr)
        return 1
    if unknown:
        options.parser.error(_unknown(unknown[0], options.flags))
    try:
        return int(options.call(options))
    except ModuleNotFoundError as error:
        print(f"orderdp: this needs {error.name}: pip install 'orderdp[train]'", file=sys.stderr)
        return 1
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError, MemoryError) as error:
        print(f"orderdp: {_in_flags(_one_line(error), options)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        begun = getattr(options, "run_folder", None)
        go_on = f"; go on with {options.parser.prog} --resume {begun}" if begun and begun.exists() else ""
        print(f"orderdp: stopped{go_on}", file=sys.stderr)
        return 130


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _in_flags(message: str, options: argparse.Namespace) -> str:
    """Returns the message with settings by the names of their options, unless they may stand in a file of settings.

    A message is '<setting> <rule>, got <value>; <what to write>'. Its value is left alone. A setting is the first word,
    or a word with an underscore, or is followed by its value.
    """
    if getattr(options, "recipe", None) is not None or getattr(options, "resume", None) is not None:
        return message

    def flag(match: re.Match[str]) -> str:
        name, value = match[1], match[2] or ""
        if re.search(r"--\S+ $", match.string[: match.start()]):  # what was typed after an option
            return match[0]
        known = f"--{'num-samples' if name == 'n' else name.replace('_', '-')}"
        if known not in options.flags or not (match.start() == 0 or "_" in name or value):
            return match[0]
        return f"{known}{' ' if value and 'True' not in value else ''}"

    rule, got, rest = message.partition(", got ")
    value, semicolon, advice = rest.rpartition("; ")
    if not semicolon:
        value, advice = rest, ""
    word = re.compile(r"(?<![\w'./\\-])([a-z_]+)\b(?![./\\'(])( ?= ?True\b| ?= ?)?")
    return f"{word.sub(flag, rule)}{got}{value}{semicolon}{word.sub(flag, f' {advice}')[1:]}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; '{self.prog} --help' explains\n")


def _unknown(argument: str, flags: Sequence[str]) -> str:
    near = difflib.get_close_matches(argument.partition("=")[0], flags, n=1)
    return f"no option {argument}" + (f", did you mean {near[0]}?" if near else "")


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="orderdp", description="Dynamic data pruning for PyTorch: train on less, lose little, know it."
    )
    parser.add_argument("--version", action="version", version=f"orderdp {orderdp.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    train = commands.add_parser(
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
    plan = commands.add_parser(
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
    study = commands.add_parser(
        "study",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="a table or figure of the paper, or one of its theorems measured",
        description=(
            "Makes a table or figure of the paper, at a size that fits the machine, with a report; or computes a\n"
            "figure of its theory, or measures a theorem: numbers as CSV, pictures as SVG and PNG."
        ),
    )
    compare = commands.add_parser(
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
    methods = commands.add_parser("methods", help="the methods by name", allow_abbrev=False)
    report = commands.add_parser(
        "report",
        allow_abbrev=False,
        help="a page of tables and plots of finished runs",
        description="Writes report/report.html, which needs no network, and the tables as Markdown, CSV and LaTeX into "
        "the folder of a comparison or a study.",
    )
    for name, command, add in (
        ("train", train, _add_train),
        ("compare", compare, _add_compare),
        ("methods", methods, lambda parser: parser.set_defaults(call=_methods)),
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
    parser.set_defaults(call=_plan)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of 'orderdp compare', 'study' or 'train'")
    parser.add_argument(
        "--accuracy",
        nargs="+",
        type=float,
        default=(),
        metavar="A",
        help="accuracies in percent to give the seconds to; default three a little below full data's",
    )
    parser.set_defaults(call=_report)


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
    training.add_argument("--resume", metavar="DIR", type=Path, help="go on with the runs in this folder, or join in")
    training.add_argument("--seed", nargs="+", type=number_or_text, metavar="N", help="seeds in place of the study's")
    training.add_argument("--data-root", metavar="DIR", help="folder that holds the data sets")
    training.add_argument("--download", action="store_const", const=True, help="fetch what is not there")
    training.add_argument("--device", metavar="NAME", help="where to train: auto, cpu or cuda")
    parser.set_defaults(call=_study)


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
    run.add_argument("--resume", metavar="DIR", type=Path, help="go on with the runs in this folder")
    run.add_argument(
        "--against",
        nargs="*",
        metavar="NAME",
        help="what to train beside it: full (all the data), short (all the data, as many steps as the pruned run); "
        "default both, nothing for none",
    )
    _add_settings(parser, several=("prune_ratio", "seed"))
    parser.set_defaults(call=_train)


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
    run.add_argument("--resume", metavar="DIR", type=Path, help="go on with the runs in this folder, or join in them")
    _add_settings(parser, leave_out=(*METHOD_KEYS, "seed", "max_steps"))
    parser.set_defaults(call=_compare)


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


def _train(options: argparse.Namespace) -> int:
    from orderdp.training.comparison import REFERENCES, Plan
    from orderdp.training.recipe import Recipe
    from orderdp.training.runner import make, start

    tell = _teller(options)
    given = {name: value for name in Recipe.model_fields if (value := getattr(options, name)) is not None}
    if options.resume is not None:
        _refuse_beside_resume(options, given, ("recipe", "run", "against"))
        path = options.run_folder = options.resume
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
    return _show_runs(found, path, tell, plots=True)


def _compare(options: argparse.Namespace) -> int:
    from orderdp.training.comparison import Plan, grid
    from orderdp.training.recipe import METHOD_KEYS, Recipe, default_of
    from orderdp.training.runner import make, start

    tell = _teller(options)
    options_of_recipe = [name for name in Recipe.model_fields if hasattr(options, name)]
    given = {name: value for name in options_of_recipe if (value := getattr(options, name)) is not None}
    if options.resume is not None:
        _refuse_beside_resume(options, given, ("recipe", "run", "methods"))
        path = options.run_folder = options.resume
        found = make([path], processes=options.processes, tell=tell)[0]
        return _show_runs(found, path, tell)
    ratios, seeds = given.pop("prune_ratio", [0.3, 0.5, 0.7]), given.pop("seed", [0, 1, 2])
    own = {name: default_of(name) for name in METHOD_KEYS if name not in ("prune_ratio", "explore", "exploit")}
    recipe = _recipe(options.recipe, {**given, **own}, ratios)
    chosen = options.methods or [{"strategy": "orderdp"}, {"strategy": "infobatch"}]
    methods = grid(recipe, [*chosen, {"strategy": "dynamic_random"}], ratios)
    seeds = tuple(recipe.model_copy(update={"seed": seed}).seed for seed in seeds)
    path = options.run_folder = options.run or _new_folder(f"compare-{recipe.dataset}")
    found = start(Plan(recipe, methods, seeds), path, processes=options.processes, tell=tell)
    return _show_runs(found, path, tell)


def _new_folder(name: str) -> Path:
    return Path("runs") / f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def _refuse_beside_resume(options: argparse.Namespace, given: dict[str, Any], others: Sequence[str]) -> None:
    named = {name for name in others if getattr(options, name) is not None}
    if given or named:
        names = sorted(f"--{name.replace('_', '-')}" for name in {*given, *named})
        raise ValueError(f"--resume takes its settings from the run folder, got {' '.join(names)}; leave them out")


def _show_runs(found: Any, path: Path, tell: Callable[[str], None], *, plots: bool = False) -> int:
    """Prints the table of the runs; returns 1 where some are missing."""
    from accelerate import PartialState

    from orderdp.output.text_table import as_text
    from orderdp.training.plots import draw_plots
    from orderdp.training.run_folder import alone_in
    from orderdp.training.table import lines

    if not PartialState().is_main_process:
        return 0
    if found.finished:
        if plots:
            with alone_in(path):
                draw_plots(found.finished, path / "plots")
        print(as_text(lines(found.table)))
        print(f"\nsettings, metrics, checkpoints{' and plots' if plots else ''}: {path}")
    for what, reason in found.failed.items():
        tell(f"orderdp: failed: {what}: {reason}")
    if found.open:
        tell(
            f"orderdp: not finished, made by another process or waiting for a run that failed: {'; '.join(found.open)}"
        )
    return 1 if found.failed or found.open else 0


def _methods(options: argparse.Namespace) -> int:
    from orderdp.output.text_table import as_text
    from orderdp.training.methods import METHODS

    rows = [(name, method.label, method.ratio) for name, method in METHODS.items()]
    print(as_text([("name", "method", "what the prune ratio is"), *rows], words=True))
    return 0


def _plan(options: argparse.Namespace) -> int:
    from orderdp.experiments.plans import as_json, as_page, draw_plan
    from orderdp.theory import plan

    laid_out = plan(
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
        _tell(f"\nplot: {draw_plan(laid_out, options.plot)}")
    return 0


def _study(options: argparse.Namespace) -> int:
    from orderdp.experiments.studies import STUDIES, check_name, run_study
    from orderdp.experiments.study import load_study, resume_study, start_study, study_files

    tell = _teller(options)
    changes = {name: value for name in ("data_root", "download", "device") if (value := getattr(options, name))}
    processes = 1 if options.processes is None else options.processes
    if options.resume is not None:
        _refuse_beside_resume(options, changes, ("name", "run", "size", "seed"))
        folder = options.run_folder = options.resume
        return _report_on(resume_study(folder, processes=processes, tell=tell), folder, tell)
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
    return _report_on(start_study(study, folder, processes=processes, tell=tell), folder, tell)


def _refuse_beside_theory(options: argparse.Namespace, changes: dict[str, Any]) -> None:
    given = {name for name in ("size", "processes", "seed") if getattr(options, name) is not None}
    if given or changes:
        names = sorted(f"--{name.replace('_', '-')}" for name in {*given, *changes})
        raise ValueError(f"study {options.name} trains nothing, got {' '.join(names)}; leave them out")


def _report_on(outcomes: Sequence[Any], folder: Path, tell: Callable[[str], None]) -> int:
    """Prints the tables of a study, writes its report, and returns 1 where runs are missing."""
    from accelerate import PartialState

    from orderdp.experiments.report import write_report

    status = max(_show_runs(found, folder, tell) for found in outcomes)
    if PartialState().is_main_process:
        print(f"report: {write_report(folder)}")
    return status


def _report(options: argparse.Namespace) -> int:
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


def _teller(options: argparse.Namespace) -> Callable[[str], None]:
    """Returns what prints a line on standard error, with settings by the names of their options."""
    return lambda line: _tell(_in_flags(line, options))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
