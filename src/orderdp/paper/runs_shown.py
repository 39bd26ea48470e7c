"""What the page says of the runs of a study: the shorter schedule, their origins, settings unlike the paper's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from orderdp.comparison.records import OF_MACHINE, value_in
from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import FEWEST_SEEDS
from orderdp.output.text_table import Table
from orderdp.paper.sources import Joined
from orderdp.paper.study import Study, load_study
from orderdp.paper.study_file import SIZES, read_study
from orderdp.report.placement import first_methods, percent, pruned_entries, ratio_of
from orderdp.report.sections.accuracy import MEAN, RARE, of_classes
from orderdp.report.tables import interval, sign_of
from orderdp.strategies import OrderDP, StoredSubset
from orderdp.training.provenance import AND, NOT_RECORDED, apart
from orderdp.training.recipe import Recipe

# Keys of recipes that do not change what is learnt, or that a study varies itself.
_NO_SETTINGS = OF_MACHINE | {
    *("data_path", "num_workers", "channels_last", "compile", "checkpoint_steps", "eval_batch_size"),
    *("evaluations", "alignment", "seed", "strategy"),
}
_SETTINGS = [name for name in Recipe.model_fields if name not in _NO_SETTINGS]
_FOLDER = "folder"  # data set of any images; those of the paper are ImageNet-1K
WORDS = {1: "better", -1: "worse", 0: "open"}  # sign of a difference to how it ended


class Task(NamedTuple):
    """A task of a study, read for the page.

    Args:
        results: of its runs.
        joined: where they are.
        seeds: how many it has at this size; None for a search.
    """

    results: Results
    joined: Joined
    seeds: int | None


def against_short(tasks: Mapping[str, Task]) -> tuple[list[Table], Counter[str]]:
    """Returns methods minus the shorter schedule of as many steps, and how that ended for the method named first.

    A table of the accuracies comes first. Those of the rare classes and of the mean of the classes follow, where the
    page shows these numbers. Fixed subsets have no row and are not counted. The method named first is not OrderDP with
    exploit 1: it keeps all that it draws, and so selects nothing by score.
    """
    counts: Counter[str] = Counter()
    counted: dict[str, None] = {}
    for task in tasks.values():
        for entry in first_methods(_by_score(task.results)).values():
            difference = task.results.against_short(entry)
            if difference is not None:
                counts[WORDS[sign_of(difference)]] += 1
                counted[entry.method] = None
    note = (
        "In percentage points, with 95 % intervals. Better, worse: the whole interval lies above or below 0, with "
        f"{FEWEST_SEEDS} seeds or more. Each method has a shorter schedule of as many steps as it makes. So the "
        "comparison is at equal cost, also for methods that prune more or less than asked. "
        f"Counted above: {', '.join(counted) or 'none'}."
    )
    lines = _minus_short(tasks)
    if len(lines) == 1:
        return [], counts
    tables = [Table("against_short", "Minus full data for as many steps, which is not in the paper", lines, note)]
    for name in (MEAN, RARE):
        having = {part: task for part, task in tasks.items() if name in of_classes(task.results)}
        lines = _minus_short(having, name)
        if len(lines) > 1:
            title = of_classes(next(iter(having.values())).results)[name]
            about = (
                "As above, but of these classes, each counting alike. A class with few test samples moves them in "
                "large steps, which the intervals do not know of. Not counted above."
            )
            tables.append(Table(f"against_short_{name}", f"{title}, minus full data for as many steps", lines, about))
    return tables, counts


def _minus_short(tasks: Mapping[str, Task], name: str = "accuracy_last") -> list[list[str]]:
    """Returns a row for each method of each task, with a number of its runs minus that of the shorter schedule."""
    rows: dict[str, dict[float, str]] = {}
    for part, task in tasks.items():
        for entry in pruned_entries(task.results):
            difference = None if _is_fixed(entry) else task.results.against_short(entry, name)
            if difference is not None:
                cell = f"{interval(difference, len(task.results.seeds))} {WORDS[sign_of(difference)]}"
                rows.setdefault(f"{part}, {entry.method}", {})[ratio_of(entry)] = cell
    ratios = sorted({ratio for cells in rows.values() for ratio in cells})
    lines = [["task and method", *map(percent, ratios)]]
    return lines + [[label, *(cells.get(ratio, "") for ratio in ratios)] for label, cells in rows.items()]


def _is_fixed(entry: Entry) -> bool:
    return bool(entry.strategy["name"] == StoredSubset.name)


def _by_score(results: Results) -> Results:
    """Returns results without fixed subsets and without OrderDP that keeps all of its draw."""
    uniform = {"name": OrderDP.name, "exploit": 1}.items()
    entries = {
        label: entry
        for label, entry in results.entries.items()
        if not _is_fixed(entry) and not uniform <= entry.strategy.items()
    }
    return replace(results, entries=entries)


def origins(tasks: Mapping[str, Task]) -> tuple[Table, list[str]]:
    """Returns the table of where the runs come from, and the tasks in which runs of one seed do not belong together."""
    lines = [["task", "seeds", "runs", "commit", "machine", "finished"]]
    mixed = []
    for part, task in tasks.items():
        groups: dict[tuple[tuple[str, ...], ...], list[int]] = {}
        made: Counter[int] = Counter()
        planned: Counter[int] = Counter()
        for entry in task.results.entries.values():
            made.update(list(entry.results))
            planned.update([*entry.results, *entry.missing])
        for seed in sorted(made):
            runs = [entry.results[seed] for entry in task.results.entries.values() if seed in entry.results]
            groups.setdefault(tuple(_origin(runs, key) for key in ("commit", "device", "finished")), []).append(seed)
        for origin, seeds in groups.items():
            counts = [sum(count[seed] for seed in seeds) for count in (made, planned)]
            seeds_of = ", ".join(map(str, seeds))
            lines.append([part, seeds_of, " of ".join(map(str, dict.fromkeys(counts))), *map(AND.join, origin)])
        if any(len(values) > 1 for commits, devices, _ in groups for values in (commits, devices)):
            mixed.append(part)
    note = "All runs of one task and seed are compared with each other; they should be of one commit and machine."
    return Table("blocks", "Runs, commits and machines", lines, note), mixed


def _origin(runs: Sequence[Mapping[str, Any]], key: str) -> tuple[str, ...]:
    """Returns the distinct values of a key of runs, such as their commits; of days the first and the last."""
    values = sorted({value for run in runs for value in apart(run.get(key))})
    if key != "finished":
        return tuple(values)
    days = sorted({value[:10] for value in values if value != NOT_RECORDED})
    return tuple(dict.fromkeys((days[0], days[-1]))) if days else (NOT_RECORDED,)


def other_settings(file: Path, study: Study, tasks: Mapping[str, Task]) -> list[Table]:
    """Returns in which settings the runs differ from those of size paper; nothing if in none.

    Compared are all keys of the recipes that change what is learnt, and the number of seeds.
    """
    if study.size == SIZES[-1] or SIZES[-1] not in read_study(file):
        return []
    paper = load_study(file, SIZES[-1]).parts.values()
    lines = [["setting", f"size {study.size}", "size paper"]]
    for key in _SETTINGS:
        here = [_word(key, value_in(task.results.recipe, key)) for task in tasks.values()]
        there = [_word(key, part.recipe.model_dump(mode="json")[key]) for part in paper]
        if key == "dataset":
            here = [
                _images_of(task.results) if name == _FOLDER else name
                for task, name in zip(tasks.values(), here, strict=True)
            ]
            there = ["ImageNet-1K" if name == _FOLDER else name for name in there]
        if set(here) != set(there):
            lines.append([key, *(", ".join(dict.fromkeys(words)) for words in (here, there))])
    counts = [[max(task.seeds or 0, len(task.results.seeds)) for task in tasks.values()], [len(p.seeds) for p in paper]]
    if set(counts[0]) != set(counts[1]):
        lines.append(["seeds", *(", ".join(map(str, dict.fromkeys(each))) for each in counts)])
    return [Table("settings", "Settings other than the paper's", lines)] if len(lines) > 1 else []


def _images_of(results: Results) -> str:
    """Returns what a folder of images holds, which its name does not say."""
    runs = (result for entry in results.entries.values() for result in entry.results.values())
    classes = max((result.get("num_classes", 0) for result in runs), default=0)  # which release 0.1 did not record
    return f"a folder with {results.sizes.num_samples:,} images" + (f" of {classes} classes" if classes else "")


def _word(key: str, value: Any) -> str:
    """Returns the value of a setting in words."""
    if value is None:
        return "all" if key == "train_size" else "none"
    if isinstance(value, Mapping):
        return " and ".join(f"{name} {_word(name, each)}" for name, each in value.items())
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def reports(tasks: Mapping[str, Task]) -> dict[str, Path]:
    """Returns the files with all tables, of archives that have one beside them."""
    found = {}
    for part, task in tasks.items():
        for path in dict.fromkeys(task.joined.sources.values()):
            beside = path.parent / "tables.md"
            if path.is_file() and beside.exists():
                found[part] = beside
    return found
