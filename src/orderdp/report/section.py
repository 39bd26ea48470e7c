"""A section of the report, and the choices of a reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from orderdp.comparison.results import Results, Seconds
from orderdp.output.text_table import Table
from orderdp.report.canvas import Chart

EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SECONDS = "Seconds depend on the machine named below, and on what else ran on it."
_PROCESSOR = (
    "Processor seconds, of all threads of a run, depend on the machine named below. What else ran on it disturbs them "
    "less than the clock."
)


def note_of(seconds: Seconds) -> str:
    """Returns what to say of the time of runs."""
    return SECONDS if seconds.name == "seconds" else _PROCESSOR


class Section(NamedTuple):
    """A part of the report.

    Args:
        title: its heading.
        text: a paragraph under it.
        tables: its tables.
        charts: its charts.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()


class Choices(NamedTuple):
    """The choices of a reader about the sections.

    Args:
        edges: borders of the windows that a run is divided into, as shares of it.
        accuracies: in percent; tables show the seconds and samples until each. Empty for three just below full data.
        hours: whether the cost has a table in hours.
    """

    edges: Sequence[float] = EDGES
    accuracies: Sequence[float] = ()
    hours: bool = False


# None: these results have nothing to show there.
MakeSection: TypeAlias = Callable[[Results, Choices], Section | None]
