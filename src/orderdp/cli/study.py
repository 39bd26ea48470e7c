"""`orderdp study`: a table, figure or theorem of the paper, or a custom study."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orderdp.cli.engines import ENGINE_OPTIONS, add_engine, engine_given, processes_given
from orderdp.cli.folders import extend_all, refuse_beside_resume, show_comparison, status_of
from orderdp.cli.messages import tell_imports, teller
from orderdp.cli.settings import not_empty, one_of_several, some_path

if TYPE_CHECKING:
    from orderdp.paper.studies import Row

SUMMARY = "a table, figure or theorem of the paper, or a custom study"
DESCRIPTION = """\
Reruns a table or figure of the paper, at a size that fits the machine, and writes a report. For the theory, it
computes a figure or measures a theorem, and writes CSV, SVG and PNG files. A custom study is a TOML file."""
EXAMPLES = ""
STUDIES = """\
studies, and how long they take by estimate: smoke and cpu on one processor core, gpu and paper on one GPU that trains
10,000 images of CIFAR a second with ResNet-18, 2,500 with ResNet-50, and 1,000 of ImageNet with ResNet-50:
"""
CUSTOM = """
a custom study, 'orderdp study my.toml':
  title = "Does it help on my data?"
  methods = ["orderdp", "infobatch"]
  prune_ratios = [0.3, 0.5]
  [[smoke]]                      # a comparison of this size; any number of them
  recipe = "digits"              # a recipe by name, or a TOML file in this file's folder
  changes = { epochs = 4 }       # settings instead of the recipe's
  seeds = [0, 1, 2]"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `orderdp study`."""
    from orderdp.paper.studies import catalogue

    rows = "".join(
        f"  {row.name} {'.' * (15 - len(row.name))} {row.shows}\n      {row.takes}\n" for row in catalogue().values()
    )
    parser.epilog = f"{STUDIES}{rows}{CUSTOM}"
    parser.add_argument("name", metavar="NAME", nargs="?", help="one of the studies below, or a TOML file")
    parser.add_argument(
        "--run", metavar="DIR", type=some_path, help="folder to write; default runs/NAME or runs/NAME-SIZE"
    )
    training = parser.add_argument_group("for studies that train")
    training.add_argument(
        "--size",
        metavar="NAME",
        help="smoke (seconds to a minute), cpu (hours on one processor core), gpu (shortened), paper (as published); "
        "default the first of these sizes that the study has. Theorems have smoke, and by default their full size",
    )
    add_engine(training)
    training.add_argument(
        "--resume",
        metavar="DIR",
        type=some_path,
        help="resume the runs in this folder, or help to train them; --seed adds seeds",
    )
    training.add_argument("--seed", nargs="+", type=one_of_several, metavar="N", help="seeds; default the study's")
    training.add_argument("--data-root", metavar="DIR", type=not_empty, help="folder that holds the data sets")
    training.add_argument("--download", action="store_const", const=True, help="download missing data sets")
    training.add_argument("--device", metavar="NAME", help="where to train: auto, cpu or cuda; default the recipe's")


def run(options: argparse.Namespace) -> int:
    """Runs a study and prints where its report or its files are."""
    from orderdp.comparison.checks import LoadedData
    from orderdp.paper.studies import find_study, run_computed
    from orderdp.paper.study import load_study, resume_study, start_study
    from orderdp.paper.subsets import add_seeds, has_subsets
    from orderdp.report.outline import load_outline

    tell_imports()
    tell = teller(options)
    changes = {name: value for name in ("data_root", "download", "device") if (value := getattr(options, name))}
    workers: dict[str, Any] = {"processes": processes_given(options), "engine": engine_given(options)}
    if options.resume is not None:
        given = {**changes, **({"seed": options.seed} if options.seed else {})}
        folder = options.resume
        refuse_beside_resume(options, given, ("name", "run", "size"))
        data = LoadedData()
        parts = list(load_outline(folder)[1].values())
        static = [part for part in parts if has_subsets(part)]
        extend_all(parts, given, data, seeds_later=static)
        for part in static:
            add_seeds(part, given.get("seed", ()))
        return _report_on(resume_study(folder, **workers, log=tell, data=data), folder, options)
    if options.name is None:
        options.parser.error("the following arguments are required: NAME")
    row = find_study(options.name)
    if row.file is None:
        _refuse_beside_computed(options, row, changes)
        for path in run_computed(row, options.run or Path("runs") / row.name, options.size, **changes):
            print(path)
        return 0
    study = load_study(row.file, options.size, seeds=tuple(options.seed or ()), **changes)
    folder = options.run_folder = options.run or Path("runs") / f"{study.name}-{study.size}"
    return _report_on(start_study(study, folder, **workers, log=tell), folder, options)


def _refuse_beside_computed(options: argparse.Namespace, row: Row, changes: dict[str, Any]) -> None:
    from orderdp.data.registry import PLACE
    from orderdp.paper.studies import own_way

    given = {name for name in ("seed", *ENGINE_OPTIONS) if getattr(options, name) is not None}
    taken = PLACE if row.dataset and options.size == "cpu" else ()
    if wrong := {*given, *changes}.difference(taken):
        names = sorted(f"--{name.replace('_', '-')}" for name in wrong)
        them = "them" if len(names) > 1 else "it"
        raise ValueError(f"study {row.name} {own_way(row)}, got {' '.join(names)}; leave {them} out")


def _report_on(outcomes: Sequence[Any], folder: Path, options: argparse.Namespace) -> int:
    """Prints the tables of a study, writes its report, and returns 1 if runs are missing."""
    from accelerate import PartialState

    from orderdp.report.outline import load_outline
    from orderdp.report.page import write_report

    if PartialState().is_main_process:
        for name, part in load_outline(folder)[1].items():
            print(f"{name}\n")
            show_comparison(part)
        print(f"report: {write_report(folder)}")
    return max(status_of(found, options) for found in outcomes)
