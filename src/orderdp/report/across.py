"""A study's tasks taken together: what methods are worth over all of them, and how often they lose."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import CONFIDENCE, FEWEST_SEEDS, Difference, holm, rounding_of, student
from orderdp.comparison.worth import worth_of
from orderdp.output.text_table import Table
from orderdp.report.placement import left_nothing_out, percent, pruned_entries, ratio_of, ratios_of
from orderdp.report.sections.lossless import joined
from orderdp.report.tables import interval, listed, signed

ACROSS = "across"  # what the names of the tables begin with
MARGIN = 0.2  # points below the shorter schedule from which a method counts as worse in a task
_HARDEST = 0.7  # prune ratios above count in no mean


class Cell(NamedTuple):
    """One method in one task at one prune ratio.

    Args:
        task: name of the part.
        results: of the part.
        entry: the runs.
    """

    task: str
    results: Results
    entry: Entry


class Across(NamedTuple):
    """What the tasks of a study show together.

    Args:
        may: a sentence for each method.
        tables: over all tasks.
    """

    may: Sequence[str] = ()
    tables: Sequence[Table] = ()


def across(parts: Mapping[str, Results], methods: Mapping[str, Sequence[str]]) -> Across:
    """Returns what all parts of a study show together; nothing without methods or a search to show, or a second part.

    Args:
        parts: name to results.
        methods: row to the names that the method has in the parts, since its settings may differ from task to task.
    """
    rows = {name: list(_cells(parts, labels)) for name, labels in methods.items()}
    rows = {name: cells for name, cells in rows.items() if cells}
    if len(parts) < 2:
        return Across()
    searched = joined(parts)
    if not rows:
        return Across(tables=tuple(searched))
    shared = sorted(set.intersection(*(set(ratios_of(results)) for results in parts.values())))
    ratios = [ratio for ratio in shared if ratio <= _HARDEST]
    may = [_sentence(name, cells, ratios) for name, cells in rows.items()]
    return Across([each for each in may if each], [*searched, _worth(rows, ratios), _differences(rows, ratios)])


def _cells(parts: Mapping[str, Results], labels: Sequence[str]) -> Iterator[Cell]:
    """Yields the finished runs of a method up to the highest prune ratio that counts."""
    for task, results in parts.items():
        for entry in pruned_entries(results):
            counts = entry.method in labels and entry.results and ratio_of(entry) <= _HARDEST
            if counts and not left_nothing_out(results, entry):
                yield Cell(task, results, entry)


def _sentence(name: str, cells: Sequence[Cell], ratios: Sequence[float]) -> str:
    """Returns what a method is worth over its tasks; "" if a prune ratio has too few seeds or no curve."""
    means = [found[0] for ratio in ratios if (found := _worth_at(cells, ratio))]
    difference, (_, below) = mean_difference(cells), _worst(cells)
    if not means or len(means) < len(ratios) or difference is None or not below:
        return ""
    tasks = len({cell.task for cell in cells})
    where = f"Over {tasks} tasks" if tasks > 1 else f"In {cells[0].task}"
    amounts = [
        f"{abs(round(100 * (mean - 1)))} % {'fewer' if mean < 1 else 'more'}"
        f"{'' if number else ' steps than stopping early'} at {percent(ratio)}"
        for number, (ratio, mean) in enumerate(zip(ratios, means, strict=True))
    ]
    return (
        f"{where}, {name} is worth {listed(amounts)}. Its accuracy minus that of the shorter schedule is "
        f"{_written(difference)} points, the mean over {len(cells)} cells; worse by {MARGIN:g} "
        f"points for certain: {below}."
    )


def _worth(rows: Mapping[str, Sequence[Cell]], ratios: Sequence[float]) -> Table:
    def written(cells: Sequence[Cell], ratio: float) -> str:
        if not (found := _worth_at(cells, ratio)):
            return ""
        mean, tasks, more, fewer = found
        return signed(f"{100 * (mean - 1):+.0f} % ({tasks}: {more} more, {fewer} fewer)")

    lines = [["method", *map(percent, ratios)]]
    lines += [[name, *(written(cells, ratio) for ratio in ratios)] for name, cells in rows.items()]
    note = (
        "+20 %: as accurate as full data that stops early, but after 20 % more steps; the geometric mean over the "
        "tasks, for a method that is asked for this prune ratio. In brackets: the number of tasks, and in how many of "
        "them it is worth more steps for certain, or fewer. Where an accuracy lies outside the curve of full data, the "
        "end of the curve counts."
    )
    return Table("worth", "Worth in steps of full data", lines, note)


def _worth_at(cells: Sequence[Cell], ratio: float) -> tuple[float, int, int, int] | None:
    """Returns the geometric mean of the worth, and the number of tasks: all, with more and with fewer steps."""
    chosen = [cell for cell in cells if cell.entry.ratio == ratio]
    found = [worth for cell in chosen if (worth := worth_of(cell.results, cell.entry))]
    if not found:
        return None
    mean = math.exp(statistics.fmean(math.log(worth.ratio) for worth in found))
    more, fewer = (sum(worth.sign == sign for worth in found) for sign in (1, -1))
    return mean, len(found), more, fewer


def _differences(rows: Mapping[str, Sequence[Cell]], ratios: Sequence[float]) -> Table:
    lines = [["method", *map(percent, ratios), "all cells", "worst cell", f"worse by {MARGIN:g}"]]
    for name, cells in rows.items():
        chosen = [[cell for cell in cells if cell.entry.ratio == ratio] for ratio in ratios]
        means = [_written(mean_difference(each)) for each in (*chosen, cells)]
        lines.append([name, *means, *_worst(cells)])
    note = (
        f"Accuracy minus that of the shorter schedule, the mean over all cells: a task at a prune ratio of at most "
        f"{percent(_HARDEST)}. R² counts as an accuracy. Brackets: 95 % intervals by Student's t, from what each seed "
        "gives in the cells of a task together; tasks count as independent, and the tasks are these. Last column: the "
        f"cells that are worse by more than {MARGIN:g} points, significantly by Holm's correction over the row."
    )
    return Table("against_short", "Minus the shorter schedule", lines, note)


def mean_difference(cells: Sequence[Cell]) -> Difference | None:
    """Returns accuracy minus that of the shorter schedule, the mean over all cells, each of the same weight.

    The seeds of a task are one sample of its cells together. The variance of a task is that over its seeds, and the
    degrees of freedom are those of Welch and Satterthwaite.

    Returns:
        The difference, whose `seeds` is the smallest number of any task; None without a task of two seeds.

    Source: Satterthwaite, "An approximate distribution of estimates of variance components", 1946.
    """
    means, variances, sizes, count = [], [], [], 0
    for task in dict.fromkeys(cell.task for cell in cells):
        found = [each for cell in cells if cell.task == task and (each := _by_seed(cell))]
        seeds = sorted(set[int]().union(*found).intersection(*found))
        sums = [sum(each[seed] for each in found) for seed in seeds]
        if len(seeds) < 2:
            return None
        size = next(cell.results.sizes.num_test_samples for cell in cells if cell.task == task)
        least = len(found) * rounding_of(size) ** 2  # as in `paired_difference`
        means.append(statistics.fmean(sums))
        variances.append(max(statistics.variance(sums), least) / len(seeds))
        sizes.append(len(seeds))
        count += len(found)
    if not means:
        return None
    mean, variance = sum(means) / count, sum(variances) / count**2
    freedom = sum(variances) ** 2 / sum(each**2 / (size - 1) for each, size in zip(variances, sizes, strict=True))
    half = float(student().ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return Difference(mean, mean - half, mean + half, min(sizes))


def _by_seed(cell: Cell) -> dict[int, float]:
    """Returns accuracy minus that of the shorter schedule, by seed; empty without one."""
    short = cell.results.short_of(cell.entry)
    mine, theirs = cell.entry.values("accuracy_last"), short.values("accuracy_last") if short else {}
    return {seed: mine[seed] - theirs[seed] for seed in mine if seed in theirs}


def _written(difference: Difference | None) -> str:
    return "" if difference is None else interval(difference, difference.seeds)


def _worst(cells: Sequence[Cell]) -> list[str]:
    """Returns the lowest difference with its task, and how many are significantly below the margin."""
    found = [(cell, each) for cell in cells if (each := cell.results.against_short(cell.entry)) is not None]
    judged = [(cell, each) for cell, each in found if each.seeds >= FEWEST_SEEDS]
    if not judged:
        return ["", ""]
    cell, worst = min(judged, key=lambda pair: pair[1].mean)
    below = sum(holm([each.p_below(-MARGIN) for _, each in judged]))
    return [f"{_written(worst)} in {cell.task} at {percent(cell.entry.ratio)}", f"{below} of {len(judged)}"]
