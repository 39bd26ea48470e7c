"""Accuracy by method and prune ratio, in the paper's form."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import exp

from orderdp.comparison.results import Entry, Results
from orderdp.output.text_table import Table
from orderdp.report.section import Choices, Section
from orderdp.report.tables import accuracy, accuracy_note, by_method, passes_note, predicted

MEAN, _WORST, RARE = "accuracy_mean_class", "accuracy_worst_class", "accuracy_rare_classes"
_OF_CLASSES = {
    MEAN: (
        "Mean accuracy of the classes",
        "The mean over the classes of the test set, in which each counts alike, after the last epoch, in percent.",
    ),
    _WORST: (
        "Accuracy of the worst class",
        "The class of the test set with the lowest accuracy after the last epoch, in percent, in each run its own.",
    ),
    RARE: (
        "Accuracy of the rare classes",
        "The mean over the classes that have less than half of the training samples of an even share, after the last "
        "epoch, in percent.",
    ),
}
_LOSS = "test_loss_last"
_UNEQUAL = 0.5  # points between mean and accuracy from which the classes of a test set are not alike


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
    for name in of_classes(results):
        title, about = _OF_CLASSES[name]
        tables.append(Table(name, title, by_method(results, finished, partial(accuracy, name=name)), about))
    if predicted(results) != "classes" and all(
        result.get(_LOSS) is not None for entry in finished for result in entry.results.values()
    ):
        tables.append(_losses(results, finished))
    chosen = {run.label: run.max_lr for run in results.planned.runs if run.max_lr is not None}
    if chosen:
        rates = by_method(results, finished, lambda entry: f"{chosen[entry.label]:g}" if entry.label in chosen else "")
        about = "The learning rate of each run, the best on held-out training samples with a seed of its own."
        tables.append(Table("max_lr", "Learning rates chosen", rates, about))
    return Section("Accuracy", tables=tables)


def of_classes(results: Results) -> dict[str, str]:
    """Returns the titles of the tables on classes, by the name of the number in a result.

    Every run measured it. The mean of the classes is left out if it is the accuracy, up to half a point.
    """
    found = [result for entry in results.entries.values() for result in entry.results.values()]
    names = [name for name in _OF_CLASSES if all(result.get(name) is not None for result in found)]
    if MEAN in names and all(abs(result[MEAN] - result["accuracy_last"]) <= _UNEQUAL for result in found):
        names.remove(MEAN)
    return {name: _OF_CLASSES[name][0] for name in names}


def _losses(results: Results, finished: Sequence[Entry]) -> Table:
    """Returns the losses on the test set, of which the accuracies are another form."""
    of_tokens = predicted(results) == "tokens"

    def cell(entry: Entry) -> str:
        text = accuracy(entry, _LOSS, digits=4)
        return f"{text} ({exp(entry.mean(_LOSS)):.2f})" if of_tokens else text

    note = (
        "The mean loss on the test set after the last epoch, lower is better: mean ± standard deviation over the seeds."
    )
    about = " In nats a token; in brackets the perplexity of the mean." if of_tokens else " The squared error."
    return Table("test_loss", "Test loss", by_method(results, finished, cell), note + about)
