"""The direction of the selected samples' gradient, compared with that of full data and with ∇L_q."""

from __future__ import annotations

from orderdp.comparison.results import Results
from orderdp.report.diagnosed import charts_of, tables_of
from orderdp.report.section import Choices, Section

_TEXT = (
    "The mean gradient of the samples that the next epoch would train, at the same weights and without augmentation. "
    "It is compared with the gradient of all data. For OrderDP it is also compared with ∇L_q, which is its expectation "
    "by Theorem 1 where the scores are current. Means over the seeds."
)


def section(results: Results, choices: Choices) -> Section | None:
    """Returns what the diagnostics of this section have measured; nothing if none was asked for."""
    tables, charts = tables_of("alignment", results, choices), charts_of("alignment", results)
    return Section("Direction of the gradient", _TEXT, tables, charts) if tables else None
