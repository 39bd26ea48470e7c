"""The tables of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from orderdp.comparison.grid import FULL
from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import FEWEST_SEEDS, Difference
from orderdp.report.canvas import Section, Table
from orderdp.report.outline import Published
from orderdp.report.series import percent, place_of, ratios_of

_THEIRS = "As published: of the paper's own networks, data and schedules, which are those above at size “paper” only."
_ASKED = 0.02  # by so much may the realised prune ratio differ from the one asked for without being told


def accuracy(results: Results) -> Section:
    """Accuracy by method and prune ratio, in the paper's form."""
    lines = _grid(results, results.entries.values(), plus_minus)
    note = (
        f"Accuracy after the last epoch, in percent: mean ± standard deviation over the seeds "
        f"{', '.join(map(str, results.seeds))}. "
        "A shorter schedule stands under the ratio of the run whose number of steps it makes; "
        "methods that make equally many share it."
    )
    return Section("Accuracy", tables=[Table("accuracy", "Measured here", lines, note)])


def beside(section: Section, published: Iterable[tuple[int, Published]]) -> Section:
    """Returns a section with the paper's own tables behind ours, each under its number among all of them."""
    theirs = [
        Table(f"paper-{number}", f"In the paper: {table.title}", [table.columns, *_rows(table)], _THEIRS)
        for number, table in published
    ]
    return section._replace(tables=[*section.tables, *theirs])


def differences(results: Results) -> Section:
    """What may be said: paired differences to full data and to the shorter schedule, at a glance and run by run."""
    lines = [["run", "last, %", "− full data", "verdict", "− shorter schedule", "samples backward"]]
    full = results.entries.get(FULL)
    planned = len(results.seeds)
    for entry in results.entries.values():
        to_full, to_short = results.against_full(entry), results.against_short(entry)
        lines.append(
            [
                entry.label,
                plus_minus(entry),
                interval(to_full, planned),
                "" if to_full is None else to_full.verdict,
                interval(to_short, planned),
                _share(entry, full),
            ]
        )
    note = (
        "Differences in percentage points, run less reference, seed by seed, with 95 % confidence intervals by "
        "Student's t. “Lossless”: the whole interval lies above −0.1. “Loses”: it lies below 0. Samples backward: "
        "trained on, as a share of full data's. The shorter schedule trains on all the data for as many steps. All "
        "is of these training samples and test images: what others would give is not in the intervals."
    )
    pruned = [entry for entry in results.entries.values() if not entry.reference]
    beside_full = _grid(results, pruned, lambda entry: _with_verdict(results.against_full(entry), planned))
    beside_short = _grid(results, pruned, lambda entry: _with_outcome(results.against_short(entry), planned))
    glance = "Percentage points with their 95 % confidence intervals, by method and prune ratio; "
    return Section(
        "What may be said",
        tables=[
            Table(
                "against_full",
                "Less full data",
                beside_full,
                f"{glance}with nothing behind: too few seeds to say.",
            ),
            Table(
                "against_short",
                "Less all the data with as many steps",
                beside_short,
                f"{glance}“better” and “worse”: the whole interval lies above 0, or below. Methods that go forward "
                "over all the data make all of its steps.",
            ),
            *_against_first(results, pruned, glance),
            Table("differences", "Run by run", lines, note),
        ],
    )


def _against_first(results: Results, pruned: Sequence[Entry], glance: str) -> list[Table]:
    """Returns the table of every method less the one named first, if there are others."""
    first: dict[float | None, Entry] = {}
    for entry in pruned:
        first.setdefault(place_of(entry, results).ratio, entry)
    others = [entry for entry in pruned if first[place_of(entry, results).ratio] is not entry]
    if not others:
        return []
    names = {place_of(entry, results).method for entry in first.values()}
    than = names.pop() if len(names) == 1 else "the first method"
    planned = len(results.seeds)
    lines = _grid(
        results,
        others,
        lambda entry: _with_outcome(results.against(entry, first[place_of(entry, results).ratio]), planned),
    )
    note = f"{glance}“better” and “worse” as above. At the prune ratio asked for: see how much a method really prunes."
    return [Table("against_first", f"Less {than} at the same prune ratio", lines, note)]


def _grid(results: Results, entries: Iterable[Entry], cell: Callable[[Entry], str]) -> list[list[str]]:
    """Returns a table of a row for each method and a column for each prune ratio."""
    ratios: list[float | None] = [*ratios_of(results)] or [None]  # None: there is full data only
    rows: dict[str, dict[float | None, Entry]] = {}
    for entry in entries:
        method, ratio = place_of(entry, results)
        rows.setdefault(method, {})[ratio] = entry
    lines = [["method", *map(percent, ratios)]]
    for method, row in rows.items():
        inside = [row.get(ratio, row.get(None)) for ratio in ratios]  # None: the same at every ratio
        cells = ["" if entry is None else cell(entry) for entry in inside]
        lines.append([f"{method}{_really(results, row)}", *cells])
    return lines


def _really(results: Results, row: Mapping[float | None, Entry]) -> str:
    """Returns what a method spares in fact, where that is not the prune ratio asked for; else nothing."""
    full = results.entries.get(FULL)
    pruned = [(ratio, row[ratio]) for ratio in sorted(set(row) - {None}) if row[ratio].results]  # type: ignore[type-var]
    pruned = [(ratio, entry) for ratio, entry in pruned if not entry.reference]
    if full is None or not full.results or not pruned:
        return ""
    if all(entry.mean("samples_forward") > 1.01 * entry.mean("samples_backward") for _, entry in pruned):
        shares = [round(100 * entry.mean("samples_forward") / full.mean("samples_forward")) for _, entry in pruned]
        return f" (forward over {'all of it' if set(shares) == {100} else ', '.join(map(str, shares)) + ' %'})"
    realised = [(ratio, 1 - entry.mean("samples_backward") / full.mean("samples_backward")) for ratio, entry in pruned]
    if all(abs(really - (ratio or 0)) <= _ASKED for ratio, really in realised):
        return ""
    return f" (prunes {', '.join(f'{100 * really:.0f}' for _, really in realised)} %)".replace("-", "−")


def _with_verdict(difference: Difference | None, planned: int) -> str:
    if difference is None or difference.verdict == "too few seeds to say":
        return interval(difference, planned)
    return f"{interval(difference, planned)} {difference.verdict}"


def _with_outcome(difference: Difference | None, planned: int) -> str:
    if difference is None or difference.seeds < FEWEST_SEEDS or difference.low <= 0 <= difference.high:
        return interval(difference, planned)
    return f"{interval(difference, planned)} {'better' if difference.low > 0 else 'worse'}"


def cost(results: Results, accuracies: Sequence[float]) -> Section:
    """Samples, steps and seconds, and the seconds until given accuracies."""
    full = results.entries.get(FULL)
    if not accuracies and full is not None and full.results:
        top = full.mean("accuracy_last")
        accuracies = [math.floor(10 * (top - below)) / 10 for below in (5, 2, 1)]
    header = ["run", "samples forward", "samples backward", "realised prune ratio", "steps"]
    header += ["train, s", "select, s", "data, s", "evaluate, s"]
    lines = [header]
    goals = ["run", *(f"{goal:g} %" for goal in accuracies)]
    seconds, samples = [goals], [goals]
    for entry in results.entries.values():
        lines.append(
            [
                f"{entry.label}{entry.mark}",
                *(_mean(entry, name, ",.0f") for name in ("samples_forward", "samples_backward")),
                _share(entry, full, left_out=True),
                _mean(entry, "steps", ",.0f"),
                _mean(entry, "training_s", ".1f"),
                _mean(entry, "selection_s", ".2f"),
                _mean(entry, "data_s", ".1f"),
                _mean(entry, "evaluation_s", ".1f"),
            ]
        )
        seconds.append([entry.label, *(_to_reach(entry, entry.seconds_to(goal), ".1f") for goal in accuracies)])
        samples.append([entry.label, *(_to_reach(entry, entry.samples_to(goal), ",.0f") for goal in accuracies)])
    note = "Means over the seeds. Seconds are of the machine named below, with whatever else ran on it."
    until = "until an epoch first ended at this accuracy: the mean over the seeds, or how many came there if not all."
    tables = [Table("cost", "Per run", lines, note)]
    if accuracies:
        of_time = f"Seconds of training, selection and data {until}"
        of_samples = f"Samples that went through the model in training {until} They are the same on any machine."
        tables.append(Table("time_to_accuracy", "Seconds to an accuracy", seconds, of_time))
        tables.append(Table("samples_to_accuracy", "Samples to an accuracy", samples, of_samples))
    return Section("Cost", tables=tables)


def _mean(entry: Entry, name: str, form: str) -> str:
    """Returns the mean of a number of the results over the seeds, nothing where there are none."""
    return format(entry.mean(name), form) if entry.results else ""


def _share(entry: Entry, full: Entry | None, *, left_out: bool = False) -> str:
    """Returns how many samples were trained on or left out, as a share of full data's; nothing without either."""
    if full is None or not full.results or not entry.results:
        return ""
    share = entry.mean("samples_backward") / full.mean("samples_backward")
    return f"{100 * (1 - share if left_out else share):.1f} %".replace("-", "−")


def plus_minus(entry: Entry) -> str:
    """Returns accuracy as mean ± standard deviation, with a mark where runs are missing."""
    if not entry.results:
        return "missing" if entry.missing else ""
    mean, deviation = entry.mean("accuracy_last"), entry.deviation("accuracy_last")
    text = f"{mean:.2f}" if math.isnan(deviation) else f"{mean:.2f} ± {deviation:.2f}"
    return f"{text}{entry.mark}"


def interval(difference: Difference | None, planned: int) -> str:
    """Returns a difference with its confidence interval, with a mark where pairs are missing of those planned."""
    if difference is None:
        return ""
    mean = f"{difference.mean:+.2f}"
    if math.isfinite(difference.low):
        mean += f" [{difference.low:+.2f}, {difference.high:+.2f}]"
    some = f" ({difference.seeds} of {planned} pairs)" if difference.seeds < planned else ""
    return f"{mean}{some}".replace("-", "−")


def _to_reach(entry: Entry, cost: Mapping[int, float | None], form: str) -> str:
    """Returns the mean where all seeds came there; a mean over the quick ones alone would flatter the run."""
    got, planned = [value for value in cost.values() if value is not None], len(cost) + len(entry.missing)
    if not cost or len(got) == planned:
        return format(sum(got) / len(got), form) if got else ""
    return f"{len(got)} of {planned} seeds" if got or entry.missing else "never"


def _rows(table: Published) -> list[list[str]]:
    return [[label, *cells] for label, cells in table.rows.items()]
