"""The cost of runs: samples, steps, passes and seconds, also until given accuracies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from orderdp.comparison.prices import cost_of, rule_of
from orderdp.comparison.results import Entry, Results
from orderdp.output.text_table import Table
from orderdp.report.placement import full_data
from orderdp.report.section import SECONDS, Choices, Section
from orderdp.report.tables import SECONDS_COLUMNS, Column, by_run, cost_note, mean, passes_note, rules_of, share


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
    tables = [Table("cost", "Per run", lines, f"Means over the seeds. {SECONDS}{passes_note(results)}")]
    tables += _priced(results)
    goals = (choices.accuracies if results.has_epochs else ()) or _below_full_data(results)
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


def _priced(results: Results) -> list[Table]:
    """Returns the table of what passes and runs cost, if a method made a first pass to choose within the batch."""
    entries = [entry for entry in results.entries.values() if entry.results]
    if not any(rules_of(entry) & {"measured", "assumed"} for entry in entries):
        return []
    columns: list[Column] = [
        ("first pass", _price("first")),
        ("step of those kept", _price("kept")),
        ("cost, full training steps", mean(cost_of, ",.0f")),
        ("share of full data's", share(cost_of, full_data(results))),
    ]
    note = (
        "First pass, step of those kept: what a sample costs, as a share of a sample in a training step of full data. "
        f"{cost_note(entries)}"
    )
    return [Table("prices", "Passes, priced", by_run(entries, columns), note)]


def _price(name: str) -> Callable[[Entry], str]:
    """Returns the cell of a measured price, mean over the seeds; blank if it was not measured."""

    def cell(entry: Entry) -> str:
        prices = [result["pass_s"] for result in entry.results.values() if rule_of(result) == "measured"]
        return f"{fmean(price[name] / price['full'] for price in prices):.2f}" if prices else ""

    return cell


def _below_full_data(results: Results) -> Sequence[float]:
    full = full_data(results)
    if full is None or not results.has_epochs:
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
