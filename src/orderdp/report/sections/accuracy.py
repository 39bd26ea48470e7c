"""Accuracy by method and prune ratio, in the paper's form."""

from __future__ import annotations

from orderdp.comparison.results import Results
from orderdp.output.text_table import Table
from orderdp.report.section import Choices, Section
from orderdp.report.tables import accuracy, accuracy_note, by_method, passes_note

_WORST = "accuracy_worst_class"


def section(results: Results, _choices: Choices) -> Section:
    """Returns the table of accuracies."""
    lines = by_method(results, results.entries.values(), accuracy)
    note = (
        f"Accuracy after the last epoch, in percent: mean ± standard deviation over the seeds "
        f"{', '.join(map(str, results.seeds))}. "
        "A shorter schedule stands under the prune ratio of the run whose number of steps it takes. "
        f"Methods with the same number of steps share one.{accuracy_note(results)}{passes_note(results)}"
    )
    finished = [entry for entry in results.entries.values() if entry.results]
    tables = [Table("accuracy", "Measured here", lines, note)]
    if all(result.get(_WORST) is not None for entry in finished for result in entry.results.values()):
        worst = by_method(results, finished, lambda entry: accuracy(entry, _WORST))
        about = (
            "The class of the test set with the lowest accuracy after the last epoch, in percent, in each run its own."
        )
        tables.append(Table("accuracy_worst_class", "Accuracy of the worst class", worst, about))
    chosen = {run.label: run.max_lr for run in results.planned.runs if run.max_lr is not None}
    if chosen:
        rates = by_method(results, finished, lambda entry: f"{chosen[entry.label]:g}" if entry.label in chosen else "")
        about = "The learning rate of each run, the best on held-out training samples with a seed of its own."
        tables.append(Table("max_lr", "Learning rates chosen", rates, about))
    return Section("Accuracy", tables=tables)
