"""A chart of the page: drawn by matplotlib, legible on a phone, with every number that was drawn."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orderdp.output.drawing import new_axes, svg_of, thousands
from orderdp.output.palette import INK, themed
from orderdp.output.text_table import as_csv

# A telephone shows about 350 pixels. A chart of 4.6 inches is 331 points wide, so a point is about a pixel there.
_WIDTH, _HEIGHT = 4.6, 3.1
_LABEL_POINTS, _TICK_POINTS = 10, 9
_LEGEND_LINE = 0.178  # inches
_LONGEST, _LONG = 56, 28  # letters of a label that fit into one line of the legend, and into half of one
_UPRIGHT = 30  # letters that fit beside the vertical axis


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart with the numbers in it; the picture is made when it is first asked for, since that takes a while.

    Args:
        name: name of its files, without ending.
        title: heading.
        figure: matplotlib's figure.
        csv: every number drawn.
        note: explanation below it.
    """

    name: str
    title: str
    figure: Any
    csv: str
    note: str = ""

    @cached_property
    def svg(self) -> str:
        """The picture, for use on its own."""
        return svg_of(self.figure)

    @property
    def inline(self) -> str:
        """The picture for the page: as wide as its place, in the colours of the page's theme."""
        svg = self.svg[self.svg.index("<svg") :]
        svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", svg, count=1)
        svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
        return themed(re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL))


class Canvas:
    """A chart while it is drawn: matplotlib's axes, and the rows of its data.

    Args:
        x_label: of the horizontal axis, with its unit.
        y_label: of the vertical axis, with its unit.
        columns: header of the data.
    """

    def __init__(self, x_label: str, y_label: str, columns: Sequence[str]) -> None:
        from matplotlib.ticker import MaxNLocator

        upright = textwrap.fill(y_label, _UPRIGHT)
        self.figure, self.axes = new_axes(x_label, upright, width=_WIDTH, height=_HEIGHT)
        self.figure.patch.set_alpha(0.0)
        self.axes.set_facecolor("none")
        for axis in (self.axes.xaxis, self.axes.yaxis):
            axis.label.set_fontsize(_LABEL_POINTS)
        self.axes.tick_params(labelsize=_TICK_POINTS)
        whole = x_label.startswith("epoch")  # epochs are counted
        self.axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=whole))
        self.axes.xaxis.set_major_formatter(thousands)
        self.columns = columns
        self.rows: list[Sequence[Any]] = []

    def finish(self, name: str, title: str, note: str = "") -> Chart:
        """Returns the chart, with a legend below it if there is something to name."""
        handles, labels = self.axes.get_legend_handles_labels()
        if labels:
            columns = 2 if max(map(len, labels)) <= _LONG else 1
            labels = [textwrap.fill(label, _LONGEST) for label in labels]
            lines = -(-sum(label.count("\n") + 1 for label in labels) // columns)
            self.figure.set_figheight(self.figure.get_figheight() + _LEGEND_LINE * lines)
            self.figure.legend(
                handles,
                labels,
                loc="outside lower left",
                ncols=columns,
                frameon=False,
                fontsize=_TICK_POINTS,
                labelcolor=INK,
                handlelength=2.2,
                labelspacing=0.3,
            )
        return Chart(name, title, self.figure, as_csv(self.columns, self.rows), note)
