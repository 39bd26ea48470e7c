"""The stability of the selection: how many of an epoch's samples the next epoch trains again."""

from __future__ import annotations

from orderdp.comparison.results import Results
from orderdp.report.diagnosed import charts_of, tables_of
from orderdp.report.section import Choices, Section


def section(results: Results, choices: Choices) -> Section | None:
    """Returns what the diagnostics of this section have measured."""
    tables, charts = tables_of("stability", results, choices), charts_of("stability", results)
    return Section("Stability of the selection", tables=tables, charts=charts) if tables or charts else None
