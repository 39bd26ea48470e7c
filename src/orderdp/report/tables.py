"""The parts of a report's tables: cells, columns over runs, and grids of methods by prune ratio.

The terminal and the page show the same tables, so they show the same numbers in the same form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from orderdp.comparison.prices import Rule, rule_of
from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import FEWEST_SEEDS, Difference
from orderdp.report.placement import full_data, is_of_budget, percent, ratios_of

CLOSE = 0.02  # a realised prune ratio this near to the one asked for needs no mention

# A heading and what stands below it for an entry.
Column: TypeAlias = tuple[str, Callable[[Entry], str]]


def by_run(entries: Iterable[Entry], columns: Sequence[Column], *, marked: bool = True) -> list[list[str]]:
    """Returns a table with a row for each entry.

    Args:
        entries: the rows.
        columns: the columns behind the label.
        marked: whether the label has a mark if runs are missing; false if a cell has one.
    """
    lines = [["run", *(heading for heading, _ in columns)]]
    for entry in entries:
        label = f"{entry.label}{entry.mark}" if marked else entry.label
        lines.append([label, *(cell(entry) for _, cell in columns)])
    return lines


def by_method(results: Results, entries: Iterable[Entry], cell: Callable[[Entry], str]) -> list[list[str]]:
    """Returns a table with a row for each method and a column for each prune ratio, without full data for budgets."""
    ratios: list[float | None] = [*ratios_of(results)] or [None]  # None: there is full data only
    rows: dict[str, dict[float | None, Entry]] = {}
    for entry in entries:
        method, ratio = entry.method, entry.ratio
        if is_of_budget(entry):
            continue
        rows.setdefault(method, {})[ratio] = entry
    lines = [["method", *map(percent, ratios)]]
    for method, row in rows.items():
        inside = [row.get(ratio, row.get(None)) for ratio in ratios]  # None: the same at every ratio
        cells = ["" if entry is None else cell(entry) for entry in inside]
        lines.append([f"{method}{_realised(results, row)}", *cells])
    return lines


def _realised(results: Results, row: Mapping[float | None, Entry]) -> str:
    """Returns what a method really saves, if that differs from the prune ratio asked for; else nothing."""
    full = full_data(results)
    pruned = [(ratio, row[ratio]) for ratio in sorted(set(row) - {None}) if row[ratio].results]  # type: ignore[type-var]
    pruned = [(ratio, entry) for ratio, entry in pruned if not entry.reference]
    if full is None or not pruned:
        return ""
    rules = {rule for _, entry in pruned for rule in rules_of(entry)}
    if "one pass" not in rules:
        first = [entry.mean(_first_passes) / full.mean("samples_forward") for _, entry in pruned]
        shares = [round(100 * share) for share in first]
        passes = "masked loss, passes" if "masked" in rules else "first pass"
        return f" ({passes} on {'all data' if set(shares) == {100} else ', '.join(map(str, shares)) + ' %'})"
    realised = [(ratio, 1 - entry.mean("samples_backward") / full.mean("samples_backward")) for ratio, entry in pruned]
    if all(abs(really - (ratio or 0)) <= CLOSE for ratio, really in realised):
        return ""
    return signed(f" (prunes {', '.join(f'{100 * really:.0f}' for _, really in realised)} %)")


def rules_of(entry: Entry) -> set[Rule]:
    """Returns how the passes of an entry's runs are priced."""
    return {rule_of(result) for result in entry.results.values()}


def _first_passes(result: Mapping[str, Any]) -> int:
    """Returns how many samples a method that chooses within the batch chose from."""
    forward, backward = result["samples_forward"], result["samples_backward"]
    return int(forward if rule_of(result) == "masked" else forward - backward)


def accuracy_note(results: Results) -> str:
    """Returns what to say of accuracies where labels are numbers or tokens, after a space; else nothing."""
    return _ACCURACIES.get(predicted(results), "")


def predicted(results: Results) -> str:
    """Returns what the models predict: classes, numbers or tokens."""
    found = [result for entry in results.entries.values() for result in entry.results.values()]
    # Results of earlier releases do not say; there were no tokens then.
    said = [result.get("predicted", "numbers" if result.get("num_classes") == 0 else "classes") for result in found]
    return said[0] if said else "classes"


_ACCURACIES = {
    "numbers": " Accuracy here is R², the share of the variance of the labels that the model explains.",
    "tokens": " Accuracy here is the share of the entropy of the test tokens that the model explains: 1 minus its "
    "loss, divided by the entropy of their frequencies.",
}


def proxies_note(results: Results) -> str:
    """Returns what to say of a cost that holds the training of proxies, after a space; else nothing."""
    found = (result for entry in results.entries.values() for result in entry.results.values())
    charged = any(result.get("samples_before") for result in found)
    return (
        " The cost of a fixed subset includes the training of its proxies, in full for each method." if charged else ""
    )


def passes_note(results: Results) -> str:
    """Returns what to say below a table about methods that choose within the batch, after a space; else nothing."""
    rules = {rule for entry in results.entries.values() for rule in rules_of(entry)}
    note = ""
    if rules & {"measured", "assumed"}:
        note += " First pass: a forward pass without gradient over the batch, by which a method chooses within it."
    if "masked" in rules:
        note += (
            " Masked loss: these runs chose within the batch by masking the loss. Their forward and backward passes "
            "ran over the whole batch, so they saved no time. Samples backward are those that the loss counted."
        )
    return note


def cost_note(entries: Iterable[Entry]) -> str:
    """Returns the rule by which the passes of these runs are priced."""
    rules = {entry.label: rules_of(entry) for entry in entries}
    sentences = ["A sample in a training step (forward pass, backward pass, optimiser) counts 1."]
    if any("measured" in each for each in rules.values()):
        sentences.append(
            "A first pass, and the smaller step of the samples kept, count what the run measured on its machine."
        )
    if assumed := [label for label, each in rules.items() if "assumed" in each]:
        sentences.append(
            f"Not measured, since the run was short or compiled: {', '.join(assumed)}. There a first pass counts 1/3, "
            "a backward pass as two forward passes."
        )
    if masked := [label for label, each in rules.items() if "masked" in each]:
        sentences.append(f"These runs masked the loss, so all samples of their batches count 1: {', '.join(masked)}.")
    return " ".join(sentences)


def mean(value: str | Callable[[Mapping[str, Any]], float], form: str) -> Callable[[Entry], str]:
    """Returns the cell of a mean over the seeds of a number of the results; blank without results."""
    return lambda entry: format(entry.mean(value), form) if entry.results else ""


SECONDS_COLUMNS = (
    ("train, s", mean("training_s", ".1f")),
    ("select, s", mean("selection_s", ".2f")),
    ("data, s", mean("data_s", ".1f")),
    ("evaluate, s", mean("evaluation_s", ".1f")),
)


def share(
    value: str | Callable[[Mapping[str, Any]], float], full: Entry | None, *, left_out: bool = False, own: bool = True
) -> Callable[[Entry], str]:
    """Returns the cell of a share of full data's.

    Args:
        value: a number of the results, or what computes one from a result.
        full: full data; None leaves the cell blank.
        left_out: whether to show what was left out instead of what was done.
        own: whether full data has the cell too.
    """

    def cell(entry: Entry) -> str:
        if full is None or not entry.results or (entry is full and not own):
            return ""
        part = entry.mean(value) / full.mean(value)
        return signed(f"{100 * (1 - part if left_out else part):.1f} %")

    return cell


def accuracy(entry: Entry, name: str = "accuracy_last", *, digits: int = 2) -> str:
    """Returns an accuracy, or another number, as mean ± standard deviation, with a mark if runs are missing."""
    if not entry.results:
        return "missing" if entry.mark else ""
    deviation = entry.deviation(name)
    mean = f"{entry.mean(name):.{digits}f}"
    text = mean if math.isnan(deviation) else f"{mean} ± {deviation:.{digits}f}"
    return f"{text}{entry.mark}"


def interval(difference: Difference | None, planned: int) -> str:
    """Returns a difference with its confidence interval, with a mark if fewer pairs exist than planned."""
    if difference is None:
        return ""
    digits = digits_of(difference)
    text = f"{difference.mean:+.{digits}f}"
    if math.isfinite(difference.low):
        text += f" [{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"
    some = f" ({difference.seeds} of {planned} pairs)" if difference.seeds < planned else ""
    return signed(f"{text}{some}")


def digits_of(difference: Difference) -> int:
    """Returns how many digits follow the point: two, or up to four to see that the interval leaves out 0."""
    nearest = max(difference.low, -difference.high)  # above 0 if the interval leaves out 0
    return min(4, max(2, math.ceil(-math.log10(2 * nearest)))) if nearest > 0 else 2


def sign_of(difference: Difference | None) -> int:
    """Returns 1 or -1 if the whole interval lies above or below 0; else, and with too few seeds, 0."""
    if difference is None or difference.seeds < FEWEST_SEEDS or difference.low <= 0 <= difference.high:
        return 0
    return 1 if difference.low > 0 else -1


def signed(text: str) -> str:
    """Returns the text with the typographic minus sign."""
    return text.replace("-", "−")


def counted(count: int, what: str) -> str:
    """Returns a number of things.

    >>> counted(0, "case"), counted(1, "case"), counted(2, "case")
    ('0 cases', '1 case', '2 cases')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


def listed(parts: Sequence[str]) -> str:
    """Returns the parts in one phrase: "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
