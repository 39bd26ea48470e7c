"""Accuracy by method and prune ratio, in the paper's form."""

from __future__ import annotations

from orderdp.comparison.results import Results
from orderdp.output.text_table import Table
from orderdp.report.section import Choices, Section
from orderdp.report.tables import accuracy, by_method, passes_note


def section(results: Results, _choices: Choices) -> Section:
    """Returns the table of accuracies."""
    lines = by_method(results, results.entries.values(), accuracy)
    note = (
        f"Accuracy after the last epoch, in percent: mean ± standard deviation over the seeds "
        f"{', '.join(map(str, results.seeds))}. "
        "A shorter schedule stands under the prune ratio of the run whose number of steps it takes. "
        f"Methods with the same number of steps share one.{passes_note(results)}"
    )
    return Section("Accuracy", tables=[Table("accuracy", "Measured here", lines, note)])
