"""What a report is made of: sections of tables and charts."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from orderdp.output.drawing import svg_of
from orderdp.output.text_table import as_csv

# In charts: colours that differ for every kind of sight where there are few, then shades of them.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#6a3d9a", "#b15928", "#33a02c", "#e31a1c")
GREY, INK, RULE, PAPER = "#767676", "#1b1b1b", "#dcdcdc", "#ffffff"
_WIDTH, _LABEL_HEIGHT = 6.4, 0.17  # inches
_LONG_LABEL = 46  # letters of a label, of which no two fit beside each other
_THEMED = {GREY: "grey", INK: "ink", RULE: "rule", PAPER: "paper", "#000000": "ink"}
_THEMED.update({color: f"series-{number}" for number, color in enumerate(SERIES)})


class Table(NamedTuple):
    """A table of text.

    Args:
        name: of its files.
        title: over it.
        lines: header and rows, the first column a label.
        note: what a reader must know of it.
    """

    name: str
    title: str
    lines: Sequence[Sequence[str]]
    note: str = ""


class Chart(NamedTuple):
    """A drawn chart with the numbers in it.

    Args:
        name: of its files.
        title: over it.
        svg: the picture, to stand alone.
        csv: every number drawn.
        note: what a reader must know of it.
    """

    name: str
    title: str
    svg: str
    csv: str
    note: str = ""

    @property
    def inline(self) -> str:
        """The picture for the page: as wide as there is room, in the colours of the page's theme."""
        svg = self.svg[self.svg.index("<svg") :]
        svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", svg, count=1)
        svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        for color, name in _THEMED.items():
            svg = svg.replace(color, f"var(--{name})")
        return svg


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


class Canvas:
    """A chart being drawn: matplotlib's axes, and the rows of its data.

    Args:
        x_label: of the horizontal axis, with its unit.
        y_label: of the vertical axis, with its unit.
        columns: header of the data.
    """

    def __init__(self, x_label: str, y_label: str, columns: Sequence[str], *, height: float = 3.6) -> None:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        self.figure: Any = Figure(figsize=(_WIDTH, height), layout="constrained")
        self.figure.patch.set_alpha(0.0)
        self.axes: Any = self.figure.subplots()
        self.axes.set_facecolor("none")
        self.axes.set_xlabel(x_label, color=INK)
        self.axes.set_ylabel(y_label, color=INK)
        self.axes.tick_params(colors=INK)
        self.axes.spines[["top", "right"]].set_visible(False)
        self.axes.spines[["left", "bottom"]].set_color(GREY)
        self.axes.grid(color=RULE, linewidth=0.6)
        self.axes.set_axisbelow(True)
        self.axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        if x_label in ("forward and backward passes, in samples", "samples that went through the model"):
            self.axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        self.columns = columns
        self.rows: list[Sequence[Any]] = []

    def finish(self, name: str, title: str, note: str = "", *, legend: bool = True) -> Chart:
        """Returns the chart."""
        handles, labels = self.axes.get_legend_handles_labels()
        if legend and labels:
            # Below the chart, where it covers nothing and is in sight on a narrow screen too.
            columns = 2 if max(map(len, labels)) < _LONG_LABEL else 1
            self.figure.set_figheight(self.figure.get_figheight() + _LABEL_HEIGHT * -(-len(labels) // columns))
            self.figure.legend(
                handles,
                labels,
                loc="outside lower left",
                ncols=columns,
                frameon=False,
                fontsize=8,
                labelcolor=INK,
                handlelength=2.4,
            )
        return Chart(name, title, svg_of(self.figure), as_csv(self.columns, self.rows), note)


def text_of(table: Table) -> str:
    """Returns a table as CSV of its text."""
    buffer = io.StringIO()
    header, *rows = table.lines
    buffer.write(as_csv(header, rows))
    return buffer.getvalue()
