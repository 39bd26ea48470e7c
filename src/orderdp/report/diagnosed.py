"""The diagnostics of a section as tables and charts; their rows say what to show."""

from __future__ import annotations

from orderdp.comparison.results import Results
from orderdp.diagnostics.registry import in_chart, in_table
from orderdp.output.text_table import Table
from orderdp.report.canvas import Chart
from orderdp.report.curves import BY_PART, EPOCHS, YAxis, by_part, curve_chart
from orderdp.report.placement import ratios_of
from orderdp.report.section import Choices


def tables_of(section: str, results: Results, choices: Choices, *, prefix: str = "") -> list[Table]:
    """Returns a table by part of the run for each diagnostic of a section that any run has measured.

    Args:
        section: name of the section.
        results: the comparison.
        choices: parts that a run is divided into.
        prefix: in front of the names of the files.
    """
    tables = []
    for view in in_table(section):
        lines = by_part(results, choices.edges, view.of, view.digits)
        if len(lines) > 1:
            title = f"{view.title}{f', {view.unit}' if view.unit else ''}, by part of the run"
            tables.append(Table(f"{prefix}{view.name}", title, lines, f"{BY_PART} {view.note}".strip()))
    return tables


def charts_of(section: str, results: Results) -> list[Chart]:
    """Returns a chart over the epochs for each diagnostic of a section, at each prune ratio where it was measured."""
    charts = [
        curve_chart(
            results,
            ratio,
            EPOCHS,
            YAxis(view.y_label, view.of),
            name=view.name,
            title=view.title,
            full=view.beside_full,
        )
        for view in in_chart(section)
        for ratio in ratios_of(results)
    ]
    return [chart for chart in charts if chart.csv.count("\n") > 1]
