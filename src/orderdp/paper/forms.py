"""What the release's form of an optimiser changes: its runs minus those of timm's form, method by method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orderdp.comparison.records import value_in
from orderdp.output.text_table import Table
from orderdp.paper.runs_shown import WORDS, Task
from orderdp.report.tables import interval, sign_of

_RELEASE = "_release"  # ends the name of an optimiser as the paper's release computes it


def forms(tasks: Mapping[str, Task]) -> list[Table]:
    """Returns the accuracy with the release's form minus that with timm's; nothing without tasks that have both.

    Tasks are held against each other if their optimisers are of one name but for the ending.
    """
    pairs = dict(_pairs(tasks))
    cells: dict[str, dict[str, str]] = {}
    for name, (release, timm) in pairs.items():
        for label, entry in release.results.entries.items():
            difference = release.results.against(entry, timm.results.entries.get(label))
            if difference is not None:
                seeds = len(release.results.seeds)
                cells.setdefault(label, {})[name] = f"{interval(difference, seeds)} {WORDS[sign_of(difference)]}"
    if not cells:
        return []
    lines = [["run", *(f"{name}: the release's form minus timm's" for name in pairs)]]
    lines += [[label, *(row.get(name, "") for name in pairs)] for label, row in cells.items()]
    note = (
        "Accuracy in percentage points, with 95 % intervals, paired by seed. What the forms compute differently stands "
        "in a table of docs/reproduce.md."
    )
    return [Table("forms", "Two forms of an optimiser", lines, note)]


def _pairs(tasks: Mapping[str, Task]) -> Iterator[tuple[str, tuple[Task, Task]]]:
    """Yields each optimiser that tasks have in both forms, with the task of the release's form and that of timm's."""
    by_name = {str(value_in(task.results.recipe, "optimizer")): task for task in tasks.values()}
    for name, task in by_name.items():
        timm = by_name.get(name.removesuffix(_RELEASE))
        if name.endswith(_RELEASE) and timm is not None:
            yield name.removesuffix(_RELEASE), (task, timm)
