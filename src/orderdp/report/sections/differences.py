"""Paired differences of accuracy: to full data, its shorter schedule, the first method and a fixed uniform subset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import Difference
from orderdp.output.text_table import Table
from orderdp.report.placement import first_methods, full_data, pruned_entries, ratio_of, uniform_subsets
from orderdp.report.section import Choices, Section
from orderdp.report.tables import accuracy, by_method, by_run, interval, passes_note, share, sign_of

_UNIT = "In percentage points, with 95 % confidence intervals, by method and prune ratio."
_BETTER = "“better”: the whole interval lies above 0. “worse”: the whole interval lies below 0."


def section(results: Results, _choices: Choices) -> Section | None:
    """Returns the differences, at a glance and run by run; nothing if there is nothing to compare with."""
    if not results.references:
        return None
    pruned, planned = pruned_entries(results), len(results.seeds)
    also = f"{passes_note(results)}{_mixed(results.mixed_note)}"

    def to_full(entry: Entry) -> str:
        return _with_verdict(results.against_full(entry), planned)

    def to_short(entry: Entry) -> str:
        return _with_outcome(results.against_short(entry), planned)

    return Section(
        "Differences",
        tables=[
            Table(
                "against_full",
                "Accuracy minus that of full data",
                by_method(results, pruned, to_full),
                f"{_UNIT} No word behind an interval: the seeds are too few to conclude anything.{also}",
            ),
            Table(
                "against_short",
                "Accuracy minus that of full data trained for the same number of steps",
                by_method(results, pruned, to_short),
                f"{_UNIT} {_BETTER} Methods that run a forward pass on all data take all of its steps.{also}",
            ),
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
            ("samples backward", share("samples_backward", full_data(results))),
        ],
        marked=False,
    )
    note = (
        "Differences are in percentage points, run minus reference, paired by seed, with 95 % confidence intervals by "
        "Student's t. “lossless”: the whole interval lies above −0.1. “loses”: the whole interval lies below 0, and is "
        "not lossless. "
        "Samples backward: samples that a step trained, as a share of full data's. "
        "The shorter schedule is full data trained for the same number of steps. "
        "The intervals hold for these training samples and test images only. Other data could give other results."
        f"{passes_note(results)}{_mixed(results.mixed_note)}"
    )
    return Table("differences", "Run by run", lines, note)


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
    """Returns the table of every method minus one at each prune ratio, if there are others."""
    others = [entry for entry in pruned if ratio_of(entry) in of and entry is not of[ratio_of(entry)]]
    if not others:
        return []
    planned = len(results.seeds)

    def cell(entry: Entry) -> str:
        return _with_outcome(results.against(entry, of[ratio_of(entry)]), planned)

    pairs = [(entry, of[ratio_of(entry)]) for entry in others]
    note = (
        f"{_UNIT} {_BETTER} Methods may prune more or less than asked: the rows say how much they really prune."
        f"{passes_note(results)}{_mixed(results.mixed_note_of(pairs))}"
    )
    return [
        Table(
            name, f"Accuracy minus that of {reference} at the same prune ratio", by_method(results, others, cell), note
        )
    ]


def _mixed(note: str) -> str:
    return f" {note}" if note else ""


def _with_verdict(difference: Difference | None, planned: int) -> str:
    if difference is None or difference.verdict == "inconclusive":
        return interval(difference, planned)
    return f"{interval(difference, planned)} {difference.verdict}"


def _with_outcome(difference: Difference | None, planned: int) -> str:
    word = {1: " better", -1: " worse", 0: ""}[sign_of(difference)]
    return f"{interval(difference, planned)}{word}"
