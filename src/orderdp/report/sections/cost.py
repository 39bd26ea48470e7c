"""The cost of runs: samples, steps, passes and seconds, also until given accuracies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from statistics import fmean
from typing import Any

from orderdp.comparison.prices import cost_of, rule_of
from orderdp.comparison.results import Entry, Results
from orderdp.output.text_table import Table
from orderdp.report.placement import full_data
from orderdp.report.section import SECONDS, Choices, Section
from orderdp.report.tables import (
    SECONDS_COLUMNS,
    Column,
    by_run,
    cost_note,
    mean,
    passes_note,
    rules_of,
    share,
)
from orderdp.training.run_folder import spent_s


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
    tables += _in_hours(results) if choices.hours else []
    tables += _priced(results)
    goals = (choices.accuracies if results.has_epochs else ()) or below_full_data(results)
    if goals:
        until = (
            "until an epoch first ended at this accuracy: mean over the seeds. Where only some seeds reached it, the "
            "cell says how many."
        )
        clock = results.seconds
        by_time = partial(Entry.seconds_to, seconds=clock)
        seconds = by_run(entries, [_reached(goal, by_time, ".1f") for goal in goals], marked=False)
        samples = by_run(entries, [_reached(goal, Entry.samples_to, ",.0f") for goal in goals], marked=False)
        of_time = f"{clock.name.capitalize()} of training, selection and data {until}"
        of_samples = f"Samples that went through the model in training {until} They do not depend on the machine."
        tables.append(Table("time_to_accuracy", f"{clock.name.capitalize()} to an accuracy", seconds, of_time))
        tables.append(Table("samples_to_accuracy", "Samples to an accuracy", samples, of_samples))
    return Section("Cost", tables=tables)


def _in_hours(results: Results) -> list[Table]:
    """Returns the table of hours: of the processor if all runs measured them, else of the clock, also times devices."""
    seconds = results.seconds
    if seconds.name == "seconds":
        columns: list[Column] = [("time, h", _hours(spent_s)), ("node hours", _hours(_device_s))]
        note = (
            "Time of training, selection and data, on the clock: it is that of a run alone only if nothing else ran on "
            "its devices. Node hours, as the paper calls them, are time multiplied by the number of devices."
        )
    else:
        columns = [("processor hours", _hours(seconds.of))]
        note = (
            "Processor time of training, selection and data, over all threads of a run. Other work disturbs it less "
            "than the clock, so runs side by side may be compared. Alone on one thread, a run takes about as long."
        )
    if any(result.get("samples_before") for entry in results.entries.values() for result in entry.results.values()):
        note += " The hours of a fixed subset leave out the training of its proxies."
    lines = by_run(results.entries.values(), columns)
    return [Table("hours", "Per run, in hours", lines, f"Means over the seeds. {note}")]


def _device_s(result: Mapping[str, Any]) -> float:
    return spent_s(result) * int(result["ranks"])


def _hours(seconds_of: Callable[[Mapping[str, Any]], float]) -> Callable[[Entry], str]:
    """Returns the cell of the mean hours over the seeds, with three digits at least; blank without results."""

    def cell(entry: Entry) -> str:
        if not entry.results:
            return ""
        hours = entry.mean(seconds_of) / 3600
        return f"{hours:,.1f}" if hours >= 10 else f"{hours:.3g}"

    return cell


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


def below_full_data(results: Results) -> tuple[float, ...]:
    """Returns the accuracies that runs are timed to, below full data, in percent; none without it or the epochs."""
    full = full_data(results)
    if full is None or not results.has_epochs:
        return ()
    return tuple(math.floor(10 * (full.mean("accuracy_last") - points)) / 10 for points in (5, 2, 1))


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
