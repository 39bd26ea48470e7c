"""What pruning is worth beside stopping early: more steps of full data, and steps saved at equal accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from orderdp.comparison.prices import cost_of
from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import FEWEST_SEEDS
from orderdp.comparison.worth import Worth, worth_of
from orderdp.output.text_table import Table
from orderdp.report.placement import left_nothing_out, pruned_entries
from orderdp.report.section import Choices, Section
from orderdp.report.tables import Column, accuracy, by_method, by_run, mean, rules_of, signed

_CURVE = (
    "The curve of full data goes through the mean accuracies of all its schedules by isotonic regression. It is linear "
    "in the logarithm of the steps. “More than” and “less than”: the accuracy lies outside the curve. Brackets: 95 % "
    "intervals, of the steps at which full data is neither better nor worse by a paired test over the seeds. −100 and "
    "∞: no schedule of full data is worse for certain, or none is better. Where 0 lies between the ends, it is not "
    "known whether the run is worth more or fewer steps."
)
_IDLE = "left nothing out"


def section(results: Results, _choices: Choices) -> Section | None:
    """Returns what each method is worth at each prune ratio; nothing without two schedules of full data."""
    pruned = [entry for entry in pruned_entries(results) if entry.results]
    found = {entry.label: worth_of(results, entry) for entry in pruned}
    if not any(found.values()):
        return None
    idle = {entry.label for entry in pruned if left_nothing_out(results, entry)}

    def cell(worth: Worth, write: Callable[[Worth], str]) -> str:
        planned = len(results.seeds)
        return write(worth) + (f" ({worth.seeds} of {planned} seeds)" if worth.seeds < planned else "")

    def cells(write: Callable[[Worth], str], of: Mapping[str, Worth | None]) -> list[list[str]]:
        def in_grid(entry: Entry) -> str:
            worth = of[entry.label]
            return _IDLE if entry.label in idle else "" if worth is None else cell(worth, write)

        return by_method(results, pruned, in_grid)

    tables = [
        _schedules(results),
        Table(
            "worth",
            "Worth in steps of full data",
            cells(more_steps, found),
            f"+39 %: as accurate as full data that stops early, but after 39 % more steps. {_CURVE}",
        ),
        Table(
            "saved",
            "Steps saved at equal accuracy",
            cells(saved_steps, found),
            "28 %: 28 % fewer steps than full data that stops early with the same accuracy. Negative: more.",
        ),
    ]
    proxies = any(result.get("samples_before") for entry in pruned for result in entry.results.values())
    if proxies or any(rules_of(entry) & {"measured", "assumed"} for entry in pruned):
        priced = {entry.label: worth_of(results, entry, cost_of) for entry in pruned}
        note = (
            "As above, by the cost of all passes instead of the steps. First passes within the batch and the training "
            "of proxies are charged."
        )
        tables.append(Table("worth_priced", "Worth, passes priced", cells(more_steps, priced), note))
    return Section("Worth beside stopping early", tables=tables)


def _schedules(results: Results) -> Table:
    longest_last = sorted(results.schedules, key=lambda entry: entry.mean("steps"))
    columns: list[Column] = [("steps", mean("steps", ",.0f")), ("accuracy, %", accuracy)]
    rates = {run.label: run.max_lr for run in results.planned.runs if run.max_lr is not None}
    if rates:
        columns.append(("learning rate", lambda entry: f"{rates.get(entry.label, results.recipe['max_lr']):g}"))
    lines = by_run(longest_last, columns)
    note = "Full data, each time with a schedule that ends with these steps: mean ± standard deviation over the seeds."
    return Table("schedules", "Full data by its steps", lines, note)


def more_steps(worth: Worth) -> str:
    """Returns what a run is worth as more steps than its own.

    >>> more_steps(Worth(1.39, 1.1, 1.75, 5, "")), more_steps(Worth(1.2, 1.1, math.inf, 5, "more than"))
    ('+39 % [+10, +75]', 'more than +20 % [+10, ∞)')
    """
    return _cell(worth, lambda ratio: f"{round(100 * (ratio - 1)):+d}", "∞")


def saved_steps(worth: Worth) -> str:
    """Returns the share of the steps that a run saves at equal accuracy.

    >>> saved_steps(Worth(1.25, 1.0, 2.0, 5, "")), saved_steps(Worth(0.8, 0.0, 1.0, 5, "less than"))
    ('20 % [0, 50]', 'less than −25 % (−∞, 0]')
    """
    return _cell(worth, lambda ratio: f"{round(100 * (1 - 1 / ratio))}" if ratio else "-∞", "100")


def _cell(worth: Worth, write: Callable[[float], str], most: str) -> str:
    text = f"{worth.beyond} {write(worth.ratio)} %".lstrip()
    if worth.seeds >= FEWEST_SEEDS:
        low = f"{'[' if worth.low else '('}{write(worth.low)}"
        high = f"{write(worth.high)}]" if math.isfinite(worth.high) else f"{most})"
        text += f" {low}, {high}"
    return signed(text)
