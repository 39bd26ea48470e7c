"""The options of the command line that say where the runs are trained."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from orderdp.cli.settings import setting
from orderdp.output.text_table import number_or_text

if TYPE_CHECKING:
    from orderdp.comparison.engines.base import Engine

ENGINE_OPTIONS = ("processes", "engine", "engine_options")


def add_engine(group: argparse._ArgumentGroup) -> None:
    """Adds `ENGINE_OPTIONS`."""
    group.add_argument(
        "--processes", type=number_or_text, metavar="N", help="runs to train at the same time; default 1"
    )
    group.add_argument(
        "--engine",
        metavar="NAME",
        help="what starts these processes: local (on this machine), ray (tasks of a Ray cluster) or slurm (jobs, "
        "through submitit); the run folder must be on a disk that all machines share; default local",
    )
    group.add_argument(
        "--engine-options",
        nargs="+",
        type=setting,
        metavar="NAME=VALUE",
        help="options of the engine in its own words: of a Ray task, such as num_cpus=4 num_gpus=1, and address; of "
        "submitit, such as timeout_min=240 gpus_per_node=1 slurm_partition=NAME",
    )


def processes_given(options: argparse.Namespace) -> int:
    """Returns the number of processes; a text that is no number is left for the check to refuse."""
    return 1 if options.processes is None else options.processes


def engine_given(options: argparse.Namespace) -> Engine:
    """Returns the engine with its options.

    Raises:
        ValueError: no such engine, or options that it does not take.
    """
    from orderdp.comparison.engines.registry import engine_named
    from orderdp.strategies.registry import once

    return engine_named(options.engine or "local", **once(options.engine_options or ()))
