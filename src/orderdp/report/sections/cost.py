"""The cost of runs: samples, steps and seconds, also until given accuracies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from orderdp.comparison.results import Entry, Results
from orderdp.output.text_table import Table
from orderdp.report.placement import full_data
from orderdp.report.section import SECONDS, Choices, Section
from orderdp.report.tables import SECONDS_COLUMNS, by_run, mean, share


def section(results: Results, choices: Choices) -> Section:
    """Returns the cost of each run, and the seconds and samples until it reached accuracies."""
    entries = results.entries.values()
    lines = by_run(
        entries,
        [
            ("samples forward", mean("samples_forward", ",.0f")),
            ("samples backward", mean("samples_backward", ",.0f")),
            ("realised prune ratio", share("samples_backward", full_data(results), left_out=True)),
            ("steps", mean("steps", ",.0f")),
            *SECONDS_COLUMNS,
        ],
    )
    tables = [Table("cost", "Per run", lines, f"Means over the seeds. {SECONDS}")]
    goals = choices.accuracies or _below_full_data(results)
    if goals:
        until = (
            "until an epoch first ended at this accuracy: mean over the seeds. Where only some seeds reached it, the "
            "cell says how many."
        )
        seconds = by_run(entries, [_reached(goal, Entry.seconds_to, ".1f") for goal in goals], marked=False)
        samples = by_run(entries, [_reached(goal, Entry.samples_to, ",.0f") for goal in goals], marked=False)
        of_time = f"Seconds of training, selection and data {until}"
        of_samples = f"Samples that went through the model in training {until} They do not depend on the machine."
        tables.append(Table("time_to_accuracy", "Seconds to an accuracy", seconds, of_time))
        tables.append(Table("samples_to_accuracy", "Samples to an accuracy", samples, of_samples))
    return Section("Cost", tables=tables)


def _below_full_data(results: Results) -> Sequence[float]:
    full = full_data(results)
    if full is None:
        return ()
    return [math.floor(10 * (full.mean("accuracy_last") - points)) / 10 for points in (5, 2, 1)]


def _reached(
    goal: float, costs: Callable[[Entry, float], Mapping[int, float | None]], form: str
) -> tuple[str, Callable[[Entry], str]]:
    """Returns the column of the cost until an accuracy.

    The mean is shown only if all seeds reached it: a mean over the fast seeds alone would flatter the run.
    """

    def cell(entry: Entry) -> str:
        cost = costs(entry, goal)
        got, planned = [value for value in cost.values() if value is not None], len(cost) + len(entry.missing)
        if not cost or len(got) == planned:
            return format(sum(got) / len(got), form) if got else ""
        return f"{len(got)} of {planned} seeds" if got or entry.missing else "never"

    return f"{goal:g} %", cell
