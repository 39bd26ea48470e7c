"""Paired differences of accuracy: to full data, its shorter schedule, the first method and a fixed uniform subset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orderdp.comparison.results import Entry, Results
from orderdp.comparison.searched import search_of
from orderdp.comparison.verdicts import FEWEST_SEEDS, TOLERANCE, Difference, holm
from orderdp.output.text_table import Table
from orderdp.report.placement import (
    first_methods,
    full_data,
    left_nothing_out,
    pruned_entries,
    ratio_of,
    uniform_subsets,
)
from orderdp.report.section import Choices, Section
from orderdp.report.tables import Column, accuracy, by_method, by_run, interval, passes_note, share, sign_of

_UNIT = "In percentage points, with 95 % confidence intervals, by method and prune ratio."
_BETTER = (
    "“better”: the whole interval lies above 0. “worse”: the whole interval lies below 0. Both need at least "
    f"{FEWEST_SEEDS} seeds."
)
_LOSSLESS = (
    f"“lossless”: the whole interval lies above −{TOLERANCE:g}. “loses”: the whole interval lies below 0, and is not "
    f"lossless. Both need at least {FEWEST_SEEDS} seeds."
)


def section(results: Results, _choices: Choices) -> Section | None:
    """Returns the differences, at a glance and run by run; nothing if there is nothing to compare with.

    Nothing either for a search, whose number of seeds depends on the differences: these intervals would not hold.
    """
    if not results.references or search_of(results) is not None:
        return None
    pruned = pruned_entries(results)
    also = f"{passes_note(results)}{_mixed(results.mixed_note)}"
    few = "No word behind an interval: with these seeds, neither may be concluded."
    masked = "Methods that run a forward pass on all data take all of its steps."
    shorter = "full data trained for the same number of steps"
    to_full = {entry.label: results.against_full(entry) for entry in pruned}
    to_short = {entry.label: results.against_short(entry) for entry in pruned}
    return Section(
        "Differences",
        tables=[
            _grid("against_full", "full data", results, to_full, f"{_LOSSLESS} {few}{also}", word=_verdict),
            _grid("against_short", shorter, results, to_short, f"{_BETTER} {masked}{also}"),
            *_against_first(results, pruned),
            *_against_uniform(results, pruned),
            run_by_run(results),
        ],
    )


def run_by_run(results: Results) -> Table:
    """Returns the differences with a row for each run; `orderdp compare` and `orderdp study` print it."""
    planned = len(results.seeds)

    def verdict(entry: Entry) -> str:
        difference = results.against_full(entry)
        return "" if difference is None else difference.verdict

    lines = by_run(
        results.entries.values(),
        [
            ("accuracy, %", accuracy),
            ("minus full data", lambda entry: interval(results.against_full(entry), planned)),
            ("verdict", verdict),
            ("minus shorter schedule", lambda entry: interval(results.against_short(entry), planned)),
            *_against_control(results),
            ("samples backward", share("samples_backward", full_data(results))),
        ],
        marked=False,
    )
    note = (
        "Differences are in percentage points, run minus reference, paired by seed, with 95 % confidence intervals by "
        f"Student's t. {_LOSSLESS} “inconclusive”: neither. "
        "Samples backward: samples that a step trained, as a share of full data's. "
        "The shorter schedule is full data trained for the same number of steps. "
        "The intervals hold for these training samples and test images only. Other data could give other results."
        f"{_last_batch(results)}{passes_note(results)}{_mixed(results.mixed_note)}"
    )
    return Table("differences", "Run by run", lines, note)


def _against_control(results: Results) -> list[Column]:
    """Returns the column of the difference to a second shorter schedule, with another augmentation, if there is one."""
    augments = {entry.augment for entry in results.entries.values() if entry.reference and entry.augment is not None}
    return [
        (
            f"minus that with augment {augment}",
            lambda entry: interval(results.against_control(entry), len(results.seeds)),
        )
        for augment in sorted(augments)
    ]


def _last_batch(results: Results) -> str:
    """Returns why shares differ from the prune ratio where the last batch of an epoch is left out; else nothing."""
    if not results.recipe.get("drop_last"):
        return ""
    return " Each epoch leaves out its last batch if that is not full, so a share may differ from the prune ratio."


def _against_first(results: Results, pruned: Sequence[Entry]) -> list[Table]:
    """Returns the table of every method minus the one named first, if there are others."""
    first = first_methods(results)
    methods = {entry.method for entry in first.values()}
    reference = methods.pop() if len(methods) == 1 else "the first method"
    return _against_methods("against_first", reference, results, pruned, first)


def _against_uniform(results: Results, pruned: Sequence[Entry]) -> list[Table]:
    """Returns the table of every method minus a fixed uniform subset, if there is one that is not named first."""
    uniform = uniform_subsets(results)
    if not uniform or uniform == first_methods(results):
        return []
    return _against_methods("against_uniform", "a fixed uniform subset", results, pruned, uniform)


def _against_methods(
    name: str, reference: str, results: Results, pruned: Sequence[Entry], of: Mapping[float, Entry]
) -> list[Table]:
    """Returns the table of every method that left something out minus one at each prune ratio, if there are others."""
    others = [
        entry
        for entry in pruned
        if ratio_of(entry) in of and entry is not of[ratio_of(entry)] and not left_nothing_out(results, entry)
    ]
    if not others:
        return []
    pairs = [(entry, of[ratio_of(entry)]) for entry in others]
    differences = {entry.label: results.against(entry, other) for entry, other in pairs}
    note = (
        f"{_BETTER} Methods may prune more or less than asked: the rows say how much they really prune."
        f"{passes_note(results)}{_mixed(results.mixed_note_of(pairs))}"
    )
    return [_grid(name, f"{reference} at the same prune ratio", results, differences, note)]


def _grid(
    name: str,
    reference: str,
    results: Results,
    differences: Mapping[str, Difference | None],
    note: str,
    word: Callable[[Difference], str] = lambda difference: {1: "better", -1: "worse", 0: ""}[sign_of(difference)],
) -> Table:
    """Returns the table of differences by method and prune ratio, those that remain after Holm's correction marked."""
    planned = len(results.seeds)
    judged = {label: each for label, each in differences.items() if each and each.seeds >= FEWEST_SEEDS}
    kept = dict(zip(judged, holm([each.p_value for each in judged.values()]), strict=True))

    def cell(entry: Entry) -> str:
        difference = differences[entry.label]
        if difference is None or not word(difference):
            return interval(difference, planned)
        return f"{interval(difference, planned)} {word(difference)}{'*' if kept.get(entry.label) else ''}"

    many = ""
    if len(judged) > 1:
        alone = sum(sign_of(each) != 0 for each in judged.values())
        many = (
            f" {alone} of {len(judged)} intervals exclude 0. With “*”, the difference remains after Holm's correction "
            f"over all of them: {sum(kept.values())}."
        )
    entries = [results.entries[label] for label in differences]
    return Table(
        name, f"Accuracy minus that of {reference}", by_method(results, entries, cell), f"{_UNIT} {note}{many}"
    )


def _verdict(difference: Difference) -> str:
    return "" if difference.verdict == "inconclusive" else difference.verdict


def _mixed(note: str) -> str:
    return f" {note}" if note else ""
