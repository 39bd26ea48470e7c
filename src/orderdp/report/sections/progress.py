"""Accuracy, loss and the diagnostics of this section by part of the run."""

from __future__ import annotations

from operator import itemgetter

from orderdp.comparison.results import Results
from orderdp.output.text_table import Table
from orderdp.report.curves import BY_PART, by_part
from orderdp.report.diagnosed import tables_of
from orderdp.report.section import Choices, Section

_TRAINED = (  # what every run has besides its diagnostics: key, title, digits
    ("accuracy", "Test accuracy, %", 2),
    ("loss", "Training loss of the samples trained (cross-entropies in nats)", 3),
)


def section(results: Results, choices: Choices) -> Section | None:
    """Returns a table for each number; nothing without the epochs."""
    if not results.has_epochs:
        return None
    tables = [
        Table(
            f"progress_{key}",
            f"{title}, by part of the run",
            by_part(results, choices.edges, itemgetter(key), digits),
            BY_PART,
        )
        for key, title, digits in _TRAINED
    ]
    return Section("Progress", tables=[*tables, *tables_of("progress", results, choices, prefix="progress_")])
