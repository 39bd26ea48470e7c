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
from orderdp.report.placement import full_data, left_nothing_out, percent, pruned_entries, ratio_of, ratios_of
from orderdp.report.sections.lossless import joined
from orderdp.report.tables import counted, interval, listed, sign_of, signed

ACROSS = "across"  # what the names of the tables begin with
MARGIN = 0.2  # points below the shorter schedule from which a method counts as worse in a task
_HARDEST = 0.7  # prune ratios above count in no mean


class Cell(NamedTuple):
    """One method in one task at one prune ratio.

    Args:
        task: name of the part.
        results: of the part.
        entry: the runs.
        difference: accuracy minus that of the shorter schedule.
    """

    task: str
    results: Results
    entry: Entry
    difference: Difference


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

    Raises:
        ValueError: a row names two methods of the same part.
    """
    if len(parts) < 2:
        return Across()
    searched = joined(parts)
    rows = {name: list(_cells(parts, name, labels)) for name, labels in methods.items()}
    rows = {name: cells for name, cells in rows.items() if cells}
    if not rows:
        return Across(tables=tuple(searched))
    tasks = dict.fromkeys(cell.task for cells in rows.values() for cell in cells)
    flat = [task for task in tasks if _is_flat(parts[task])]
    shared = set.intersection(*(set(ratios_of(parts[task])) for task in tasks))
    ratios = [ratio for ratio in sorted(shared) if ratio <= _HARDEST]
    may = [_sentence(name, cells, ratios, flat) for name, cells in rows.items()]
    return Across(may, [*searched, _worth(rows, ratios, flat), _differences(rows, ratios)])


def _cells(parts: Mapping[str, Results], name: str, labels: Sequence[str]) -> Iterator[Cell]:
    """Yields a method in each task up to the highest prune ratio that counts, where it has enough seeds."""
    for task, results in parts.items():
        entries = [entry for entry in pruned_entries(results) if entry.method in labels]
        if len(named := dict.fromkeys(entry.method for entry in entries)) > 1:
            raise ValueError(
                f"a row of across must name one method of each part, got {listed(list(named))} of "
                f"{task} in {name!r}; give each a row"
            )
        for entry in entries:
            difference = results.against_short(entry)
            if difference is None or difference.seeds < FEWEST_SEEDS:
                continue
            if ratio_of(entry) <= _HARDEST and not left_nothing_out(results, entry):
                yield Cell(task, results, entry, difference)


def _is_flat(results: Results) -> bool:
    """Returns whether full data is not measurably better than about half of its steps, so no worth can be read off."""
    full = full_data(results)
    others = [entry for entry in results.schedules if entry is not full]
    if full is None or not others:
        return True
    half = full.mean("steps") / 2
    nearest = min(others, key=lambda entry: abs(math.log(entry.mean("steps") / half)))
    return sign_of(results.against(full, nearest)) != 1


def _sentence(name: str, cells: Sequence[Cell], ratios: Sequence[float], flat: Sequence[str]) -> str:
    found = [(ratio, each) for ratio in ratios if (each := _worth_at(cells, ratio, flat))]
    amounts = [
        f"{_amount(worth)}{'' if number else ' steps than stopping early'} at {percent(ratio)} "
        f"({counted(worth.tasks, 'task')})"
        for number, (ratio, worth) in enumerate(found)
    ]
    said = [f"{name} is worth {listed(amounts)}."] if amounts else []
    if (difference := mean_difference(cells)) is not None:
        _, safe, below = _counts(cells)
        said.append(
            f"{'Its accuracy' if amounts else f'The accuracy of {name}'} minus that of the shorter schedule is "
            f"{_written(cells, difference)} points, the mean over {counted(len(cells), 'cell')} of "
            f"{counted(len({cell.task for cell in cells}), 'task')}. A loss of {MARGIN:g} points is excluded in {safe} "
            f"of them and shown in {below}."
        )
    return " ".join(said)


def _amount(worth: MeanWorth) -> str:
    """Returns what a method is worth, such as "at least 20 % more"."""
    percents = round(100 * (worth.ratio - 1))
    fewer = percents < 0
    turned = {"at least": "at most", "at most": "at least"}
    beyond = turned.get(worth.beyond, worth.beyond) if fewer else worth.beyond
    return f"{beyond} {abs(percents)} % {'fewer' if fewer else 'more'}".lstrip()


class MeanWorth(NamedTuple):
    """What a method is worth over tasks.

    Args:
        ratio: geometric mean of the steps of full data at the same accuracy, over its own.
        tasks: their number.
        more: in how many the whole interval is of more steps.
        fewer: the same of fewer.
        beyond: "at least" or "at most" if an accuracy lies outside the curve of full data, whose end counts; "about" if
            both happen.
    """

    ratio: float
    tasks: int
    more: int
    fewer: int
    beyond: str


def _worth_at(cells: Sequence[Cell], ratio: float, flat: Sequence[str]) -> MeanWorth | None:
    chosen = [cell for cell in cells if cell.entry.ratio == ratio and cell.task not in flat]
    found = [worth for cell in chosen if (worth := worth_of(cell.results, cell.entry))]
    if not found:
        return None
    mean = math.exp(statistics.fmean(math.log(worth.ratio) for worth in found))
    beyond = {worth.beyond for worth in found} - {""}
    word = "about" if len(beyond) > 1 else {"more than": "at least", "less than": "at most"}.get("".join(beyond), "")
    more, fewer = (sum(worth.sign == sign for worth in found) for sign in (1, -1))
    return MeanWorth(mean, len(found), more, fewer, word)


def _worth(rows: Mapping[str, Sequence[Cell]], ratios: Sequence[float], flat: Sequence[str]) -> Table:
    def written(worth: MeanWorth | None) -> str:
        if worth is None:
            return ""
        amount = f"{worth.beyond} {round(100 * (worth.ratio - 1)):+d} %".lstrip()
        return signed(f"{amount} ({worth.tasks}: {worth.more} more, {worth.fewer} fewer)")

    lines = [["method", *map(percent, ratios)]]
    lines += [[name, *(written(_worth_at(cells, ratio, flat)) for ratio in ratios)] for name, cells in rows.items()]
    note = (
        "+20 %: as accurate as full data that stops early, but after 20 % more steps; the geometric mean over the "
        "tasks, for a method that is asked for this prune ratio. It has no interval. In brackets: the number of tasks, "
        "and in how many of them the whole 95 % interval is of more steps, or of fewer. Rows over other tasks do not "
        "compare. “At least” and “at most”: an accuracy lies outside the curve of full data, and the end of the curve "
        "counts."
    )
    if flat:
        note += (
            f" Left out: {listed(flat)}, where full data is not measurably better than half of its steps, so any "
            "accuracy fits many numbers of steps."
        )
    return Table("worth", "Worth in steps of full data", lines, note)


def _differences(rows: Mapping[str, Sequence[Cell]], ratios: Sequence[float]) -> Table:
    excluded, shown = f"{MARGIN:g} excluded", f"{MARGIN:g} shown"
    lines = [["method", *map(percent, ratios), "all cells", "worst cell", excluded, shown]]
    for name, cells in rows.items():
        chosen = [[cell for cell in cells if cell.entry.ratio == ratio] for ratio in ratios]
        means = [_written(each, mean_difference(each)) for each in (*chosen, cells)]
        worst, safe, below = _counts(cells)
        where = f"{_written([worst], worst.difference)} in {worst.task} at {percent(worst.entry.ratio)}"
        lines.append([name, *means, where, f"{safe} of {len(cells)}", f"{below} of {len(cells)}"])
    note = (
        f"Accuracy minus that of the shorter schedule, the mean over all cells: a task at a prune ratio of at most "
        f"{percent(_HARDEST)}. R² counts as an accuracy. Brackets: 95 % intervals by Student's t, from what each seed "
        "gives in the cells of a task together; tasks count as independent, and the tasks are these. Last columns: the "
        f"cells whose 95 % interval excludes a loss of {MARGIN:g} points, and those that show a larger one, one-sided "
        "at 5 % by Holm's correction over the row."
    )
    return Table("against_short", "Minus the shorter schedule", lines, note)


class Mean(NamedTuple):
    """The mean of differences over tasks, with its 95 % interval, and the smallest number of seeds of a task."""

    mean: float
    low: float
    high: float
    seeds: int


def mean_difference(cells: Sequence[Cell]) -> Mean | None:
    """Returns accuracy minus that of the shorter schedule, the mean over all cells, each of the same weight.

    The seeds of a task are one sample of its cells together. The variance of a task is that over its seeds, and the
    degrees of freedom are those of Welch and Satterthwaite.

    Returns:
        None without cells, or if the cells of a task have fewer than two seeds in common.

    Source: Satterthwaite, "An approximate distribution of estimates of variance components", 1946.
    """
    means, variances, sizes = [], [], []
    for task in dict.fromkeys(cell.task for cell in cells):
        own = [cell for cell in cells if cell.task == task]
        found = [_by_seed(cell) for cell in own]
        seeds = sorted(set.intersection(*map(set, found)))
        if len(seeds) < 2:
            return None
        sums = [sum(each[seed] for each in found) for seed in seeds]
        least = len(own) * rounding_of(own[0].results.sizes.num_test_samples) ** 2  # as in `paired_difference`
        means.append(statistics.fmean(sums))
        variances.append(max(statistics.variance(sums), least) / len(seeds))
        sizes.append(len(seeds))
    if not means:
        return None
    mean, variance = sum(means) / len(cells), sum(variances) / len(cells) ** 2
    freedom = sum(variances) ** 2 / sum(each**2 / (size - 1) for each, size in zip(variances, sizes, strict=True))
    half = float(student().ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return Mean(mean, mean - half, mean + half, min(sizes))


def _by_seed(cell: Cell) -> dict[int, float]:
    """Returns accuracy minus that of the shorter schedule, by seed."""
    short = cell.results.short_of(cell.entry)
    assert short is not None
    mine, theirs = cell.entry.values("accuracy_last"), short.values("accuracy_last")
    return {seed: mine[seed] - theirs[seed] for seed in mine if seed in theirs}


def _written(cells: Sequence[Cell], found: Mean | Difference | None) -> str:
    """Returns a difference as tables show it, with a mark if a task has fewer pairs than planned."""
    if found is None:
        return ""
    lacking = any(cell.difference.seeds < len(cell.results.seeds) for cell in cells)
    return f"{interval(Difference(*found), found.seeds)}{' (pairs missing)' if lacking else ''}"


def _counts(cells: Sequence[Cell]) -> tuple[Cell, int, int]:
    """Returns the worst cell, in how many cells a loss of the margin is excluded, and in how many it is shown."""
    worst = min(cells, key=lambda cell: cell.difference.mean)
    safe = sum(cell.difference.low > -MARGIN for cell in cells)
    return worst, safe, sum(holm([cell.difference.p_below(-MARGIN) for cell in cells]))
