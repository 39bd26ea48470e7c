"""Holds the warning of a run that has mastered little against the results of a study.

    python tools/mastered_rule.py runs/worth > results/worth/mastered.md

Runs of several machines are in several folders.

A run of ten epochs or more is warned if, after a third of them, the share of mastered samples lies below a twentieth of
the share that it prunes. Its result is the accuracy minus that of the shorter schedule. The folder must hold the epochs
of the runs, which an archive need not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from orderdp.comparison.results import Entry, Results, read_results
from orderdp.output.text_table import as_markdown
from orderdp.report.outline import load_outline
from orderdp.report.placement import left_nothing_out, percent, pruned_entries
from orderdp.report.tables import interval, sign_of

_OUTCOMES = {1: "better", 0: "cannot be told apart", -1: "worse"}


class Case(NamedTuple):
    """One method in one task at one prune ratio.

    Args:
        task: name of the part.
        entry: the runs.
        mastered: the share mastered after a third, the mean over the seeds.
        warned: whether that is too little.
        sign: 1, 0 or -1: better than the shorter schedule, not to be told apart, worse.
        difference: to the shorter schedule.
    """

    task: str
    entry: Entry
    mastered: float
    warned: bool
    sign: int
    difference: str


def cases_of(folder: Path) -> Iterator[Case]:
    """Yields the methods that pruned in the tasks of a study whose labels are classes.

    Raises:
        ValueError: there is no such folder.
    """
    for task, path in load_outline(folder)[1].items():
        results = read_results(path)
        for entry in pruned_entries(results):
            shares = [each for rows in entry.metrics.values() if (each := after_a_third(rows, results))]
            difference = results.against_short(entry)
            if shares and difference is not None and not left_nothing_out(results, entry):
                mastered, pruned = (fmean(column) for column in zip(*shares, strict=True))
                shown = interval(difference, len(results.seeds))
                yield Case(task, entry, mastered, 20 * mastered < pruned, sign_of(difference), shown)


def after_a_third(rows: Sequence[Mapping[str, Any]], results: Results) -> tuple[float, float] | None:
    """Returns the shares that a run has mastered and that it prunes in the epoch that ends a third of it."""
    third = -(-len(rows) // 3)
    if len(rows) < 10 or rows[third - 1].get("mastered") is None:
        return None
    trained = rows[third - 1]["samples_backward"] - rows[third - 2]["samples_backward"]
    return rows[third - 1]["mastered"], 1 - trained / results.sizes.num_samples


def as_tables(cases: Sequence[Case]) -> Iterator[str]:
    """Yields how the warning and the results go together, by task, and every case."""
    lines = [["task", *(f"{what}: {outcome}" for what in ("warned", "not warned") for outcome in _OUTCOMES.values())]]
    for task in (*dict.fromkeys(case.task for case in cases), "all"):
        own = [case for case in cases if task in (case.task, "all")]
        counts = [
            sum(case.warned == warned and case.sign == sign for case in own)
            for warned in (True, False)
            for sign in _OUTCOMES
        ]
        lines.append([task, *map(str, counts)])
    yield as_markdown(lines)
    lines = [["case", "mastered after a third", "minus the shorter schedule", "warned"]]
    for case in cases:
        name = f"{case.task}: {case.entry.method} {percent(case.entry.ratio)}"
        lines.append([name, f"{100 * case.mastered:.1f} %", case.difference, "yes" if case.warned else ""])
    yield as_markdown(lines)


def main(arguments: Sequence[str]) -> None:
    """Prints the tables of one folder or several."""
    if not arguments:
        sys.exit("mastered_rule.py needs the folders of a study with the epochs of its runs")
    cases = [case for folder in arguments for case in cases_of(Path(folder))]
    print("# The warning of little mastered, held against the results\n")
    print("Each case is a method in a task at a prune ratio; its share mastered is the mean over the seeds. Better and")
    print("worse: than the shorter schedule, by the 95 % interval of the case.\n")
    print("\n".join(as_tables(cases)), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
