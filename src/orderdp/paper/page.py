"""The page that joins the paper: each table and figure in its order, what was measured beside what is printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orderdp.comparison.results import Results, results_of
from orderdp.comparison.searched import search_of, trails_of
from orderdp.output.text_table import Table
from orderdp.paper.answers import answers
from orderdp.paper.contents import DRAWN, INSTANT, Kind, Place, places
from orderdp.paper.exhibit import Shown, read_summary
from orderdp.paper.failures import sentences
from orderdp.paper.forms import forms
from orderdp.paper.runs_shown import WORDS, Task, against_short, origins, other_settings, reports
from orderdp.paper.sources import Found
from orderdp.paper.studies import LOOP_SIZES, LOOPS, compute, origin_in
from orderdp.paper.study import Study, load_study
from orderdp.paper.study_file import SIZES, read_study
from orderdp.report.beside_print import (
    MARKS,
    NOT_COMPARABLE,
    OPEN,
    ORDER,
    OTHER,
    OUTSIDE,
    SAME,
    WITHIN,
    Held,
    Mark,
    differences,
    fitting,
    is_same_task,
    numbers,
)
from orderdp.report.canvas import Chart
from orderdp.report.outline import Outline, Published, outline_of
from orderdp.report.section import Choices, Section
from orderdp.report.sections import SECTIONS
from orderdp.report.sections.lossless import joined as joined_searches
from orderdp.report.tables import counted, listed
from orderdp.training.provenance import NOT_RECORDED

# What differs from the paper in every study.
OF_ALL = (
    "Accuracy is that of the last epoch; the paper's public release reports the best epoch on the test set.",
    "Samples without a loss come first; in the release, first scores are 3.0 on CIFAR.",
    "CIFAR-10 has a head of 10 classes; in the release it has 100.",
)
_EXPLAINED = ("docs/theory.md says what the columns mean, and what follows from them.",)  # of a theorem


@dataclass(frozen=True)
class Exhibit:
    """One table, figure or theorem on the page, or one question that the paper leaves open.

    Args:
        name: of its study.
        title: its heading.
        state: whether it was run, in a few words.
        printed: whether the paper shows it.
        asks: what its study asks.
        claim: what the paper reads from a picture; "" for none.
        seen: what was found, a sentence each.
        tables: printed and measured numbers.
        charts: drawn from the runs; for figures.
        pictures: SVG files of the theory.
        deviations: of the study from the paper, a sentence each.
        marks: how often each mark stands in its tables.
        shorter: how often the first method was better, worse or neither than the shorter schedule.
        reports: name of a task to the file with all its tables.
    """

    name: str
    title: str
    state: str
    printed: bool = True
    asks: str = ""
    claim: str = ""
    seen: Sequence[str] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    pictures: Sequence[Path] = ()
    deviations: Sequence[str] = ()
    marks: Counter[Mark] = field(default_factory=Counter)
    shorter: Counter[str] = field(default_factory=Counter)
    reports: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """All exhibits of one size.

    Args:
        size: of the studies.
        exhibits: what the paper shows, in its order.
        left_open: what the paper names and leaves open.
        others: titles of the studies that the paper has not.
    """

    size: str
    exhibits: Sequence[Exhibit]
    left_open: Sequence[Exhibit]
    others: Sequence[str]

    def overview(self) -> Table:
        """Returns a row for each exhibit."""
        marks = [mark for mark in MARKS if mark is not NOT_COMPARABLE]
        lines = [["in the paper", "state", *map(str, marks), "minus the shorter schedule"]]
        for each in self.exhibits:
            counts = [str(each.marks[mark]) if each.marks[mark] else "" for mark in marks]
            lines.append([each.title, each.state.partition(":")[0], *counts, _in_words(each.shorter)])
        note = (
            "Printed numbers are counted, and printed differences between OrderDP and another method or full data. "
            "Each has an interval of its own: without true differences, about one in twenty would still get a colour. "
            "A measured difference counts once for each printed one that it is held against, such as those of two "
            "networks. A printed one counts once for each task, such as two forms of an optimiser. Order only is no "
            "agreement on the size of a gain or of a loss. Studies made in one folder share the runs that they have in "
            "common. So their counts are not independent, and the seconds of such runs are of another time than those "
            "beside them. Last column: the method named first, minus full data for as many steps, by task and prune "
            "ratio."
        )
        return Table("overview", "All tables and figures", lines, note)

    def overview_of_open(self) -> Table:
        """Returns a row for each question that the paper leaves open."""
        lines = [["left open", "state", "minus the shorter schedule"]]
        lines += [[each.title, each.state.partition(":")[0], _in_words(each.shorter)] for each in self.left_open]
        return Table("overview_of_open", "All questions", lines)


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[word]} {word}" for word in WORDS.values() if counts[word])


def page_of(size: str, found: Found, *, charts: bool = True) -> Page:
    """Returns the page of all results of one size.

    Args:
        size: of the studies.
        found: the results.
        charts: whether to draw the charts of figures, which Markdown does not show.

    Raises:
        ValueError: a damaged source. ImportError: an extra is missing.
    """
    of: dict[Kind, list[Place]] = {kind: [place for place in places() if place.kind is kind] for kind in Kind}
    printed, left_open = (
        [_exhibit(place, size, found, charts=charts) for place in of[kind]] for kind in (Kind.PRINTED, Kind.OPEN)
    )
    return Page(size, printed, left_open, [place.title for place in of[Kind.OWN]])


def _exhibit(place: Place, size: str, found: Found, *, charts: bool) -> Exhibit:
    name, title, row, kind = place
    if name in DRAWN:
        return Exhibit(name, title, "nothing to compute")
    if row is None:
        return Exhibit(name, title, "no study yet")
    if row in LOOPS and size not in LOOP_SIZES:
        return Exhibit(name, title, f"no size {size}, only {', '.join(LOOP_SIZES)}", printed=False, asks=row.asks)
    if row.file is None:
        return _of_computed(place, size, found)
    table = read_study(row.file)
    about: dict[str, Any] = {
        "printed": kind is Kind.PRINTED,
        "asks": table.get("about", ""),
        "claim": table.get("claim", ""),
    }
    if size not in table:
        sizes = [each for each in SIZES if each in table]
        return Exhibit(name, title, f"no size {size}, only {', '.join(sizes)}", **about)
    study = load_study(row.file, size)
    about["deviations"] = tuple(table.get("deviations", ()))
    about["seen"] = _failed(name, found)
    joined = found.joined(name)
    if not joined:
        return Exhibit(name, title, "not run at this size", **about)
    outline = outline_of({**table, **study.head})
    tasks = {
        part: Task(results_of(each.records, together=outline.together_in(part)), each, _num_seeds(study, part))
        for part, each in joined.items()
    }
    shown = _of_runs(Exhibit(name, title, _state(study, tasks), **about), row.file, study, outline, tasks)
    if charts and name.startswith("figure"):
        return replace(shown, charts=list(_charts(outline, tasks)))
    return shown


def _failed(name: str, found: Found) -> list[str]:
    return sentences([each for each in found.failed if each.study == name])


def _num_seeds(study: Study, part: str) -> int | None:
    plan = study.parts.get(part)
    return None if plan is None or plan.lossless else len(plan.seeds)


def _of_computed(place: Place, size: str, found: Found) -> Exhibit:
    assert place.row is not None
    name, folder = place.name, found.computed.get(place.name)
    printed = place.kind is Kind.PRINTED
    about: dict[str, Any] = {"printed": printed, "asks": place.row.asks}
    if name in INSTANT:
        return _of_exact(place, compute(place.row))
    if folder is None:
        return Exhibit(name, place.title, "not run", seen=_failed(name, found), **about)
    lines, note = read_summary(folder / f"{name}.md")
    tables = [Table("summary", "Measured here", lines, note)] if lines else []
    if origin := origin_in(folder, name):
        cells = [origin["commit"] or NOT_RECORDED, origin["device"], origin["finished"][:10]]
        tables.append(Table("blocks", "Commit and machine", [["commit", "machine", "finished"], cells]))
    picture = folder / f"{name}.svg"
    pictures = [picture] if picture.exists() else []
    state, seen = (f"measured{data_of(size)}", _EXPLAINED if printed else ()) if lines else ("exact", ())
    return Exhibit(name, place.title, state, seen=seen, tables=tables, pictures=pictures, **about)


def _of_exact(place: Place, shown: Shown) -> Exhibit:
    """Returns an exhibit of exact numbers, the first beside the printed one if the last column holds that."""
    header, rows = shown.summary or ((), ())
    marks: Counter[Mark] = Counter()
    lines = [list(header)]
    for *cells, last in rows:
        if header[-1].startswith("printed"):
            mark = WITHIN if cells[1] == last else OUTSIDE
            marks[mark] += 1
            last = f"{last} {mark}"
        lines.append([*cells, last])
    table = Table("summary", "Computed here", lines, shown.note)
    return Exhibit(place.name, place.title, "exact", tables=[table], marks=marks)


def _state(study: Study, tasks: Mapping[str, Task]) -> str:
    """Returns how much of a study was run: tasks and seeds."""
    whole = [part for part in study.parts if part in tasks and not _lacking(study, part, tasks[part])]
    if len(whole) == len(study.parts):
        return f"run{data_of(study.size)}"
    others = f", {len(tasks) - len(whole)} more begun" if len(tasks) > len(whole) else ""
    return f"partly run{data_of(study.size)}: {len(whole)} of {len(study.parts)} tasks whole{others}"


def data_of(size: str) -> str:
    """Returns what to say of the data at the smallest size, where they are not those of a heading."""
    return ", on digits" if size == SIZES[0] else ""


def _lacking(study: Study, part: str, task: Task) -> list[str]:
    """Returns what a task lacks of its study at this size."""
    results, plan, subsets = task.results, study.parts.get(part), study.subsets.get(part)
    if plan is None:
        return []
    if plan.lossless is not None:  # plans its runs as it goes, so more may be lacking than those
        trails = trails_of(results)
        unfinished = [arm for arm in plan.lossless.arms if arm not in trails or trails[arm].asks is not None]
        return [f"the end of the search of {listed(unfinished)}"] if unfinished else []
    lacking = []
    entries = results.entries.values()
    begun = {seed for entry in entries for seed in entry.results}
    if task.seeds is not None and len(begun) < task.seeds:
        lacking.append(f"{task.seeds - len(begun)} of {task.seeds} seeds")
    # A source of a seed may have planned fewer methods than that of another.
    if missing := sum(len(begun - set(entry.results)) for entry in entries):
        lacking.append(counted(missing, "run"))
    methods = {entry.method for entry in entries}
    absent = [recipe.label for recipe in plan.pruned() if recipe.label not in results.entries]
    absent += [label for label in ({} if subsets is None else subsets.labels()).values() if label not in methods]
    if absent:
        lacking.append(f"{len(absent)} of the methods and prune ratios, such as {absent[0]}")
    return lacking


def _of_runs(bare: Exhibit, file: Path, study: Study, outline: Outline, tasks: Mapping[str, Task]) -> Exhibit:
    """Returns an exhibit with what its runs show, after what it has seen already."""
    held = list(_held(study.size, outline, tasks))
    short, shorter = against_short(tasks)
    tables = [each.table for _, each in held]
    shown = [table for table, _ in held]
    rest = [table for table in outline.published if table not in shown]
    tables += [Table("printed", f"In the paper: {table.title}", table.lines()) for table in rest]
    tables += _measured(outline, tasks)
    blocks, mixed = origins(tasks)
    lacking = [(part, _lacking(study, part, task)) for part, task in tasks.items()]
    return replace(
        bare,
        seen=[
            *bare.seen,
            *answers(bare.name, {part: task.results for part, task in tasks.items()}),
            *(_against_print(outline, held) if bare.printed else ()),
            *_against_shorter(shorter),
            *(f"{part} lacks {' and '.join(what)}." for part, what in lacking if what),
            *(f"Mixed: runs of a seed of {part} come from several commits or machines." for part in mixed),
            *(f"Left out: {why}." for task in tasks.values() for why in task.joined.left_out),
        ],
        tables=[*tables, *forms(tasks), *short, blocks, *other_settings(file, study, tasks)],
        marks=_marks_in(held),
        shorter=shorter,
        reports=reports(tasks),
    )


def _held(size: str, outline: Outline, tasks: Mapping[str, Task]) -> Iterator[tuple[Published, Held]]:
    """Yields the printed tables that a task can be held against, each with what it shows."""
    for part, task in tasks.items():
        for table in fitting(task.results, outline.published):
            ways = [differences]
            if size == SIZES[-1] and is_same_task(task.results, table):
                ways.insert(0, numbers)
            for way in ways:
                found = way(task.results, table, outline.edges)
                if found is not None:
                    title = f"{part}, held against: {table.title}"
                    yield table, found._replace(table=found.table._replace(title=title))


def _marks_in(held: Sequence[tuple[Published, Held]], name: str | None = None) -> Counter[Mark]:
    """Returns how often each mark stands in the tables of a name, or in all."""
    return sum((each.marks for _, each in held if name in (None, each.table.name)), Counter())


def _against_print(outline: Outline, held: Sequence[tuple[Published, Held]]) -> Iterator[str]:
    """Yields whether the printed order and the printed numbers are seen."""
    order, there = _marks_in(held, "order"), _marks_in(held, "numbers")
    if order:
        yield (
            f"Order: of {counted(order.total(), 'comparison')} with a printed difference, the printed sign is seen in "
            f"{order[SAME] + order[ORDER]}, in {order[SAME]} of these with the printed size in the interval. Another "
            f"sign is seen in {order[OTHER]}, and the sign is open in {order[OPEN]}."
        )
    if there:
        yield (
            f"Numbers: of {counted(there.total(), 'printed number')}, {there[WITHIN]} within the interval, "
            f"{there[OUTSIDE]} outside, and {there[OPEN]} open."
        )
    elif outline.published:
        yield f"Numbers: {NOT_COMPARABLE}, since data, network or schedule differ."
    else:
        yield f"Numbers: {NOT_COMPARABLE}, since the paper prints a picture."


def _against_shorter(shorter: Counter[str]) -> Iterator[str]:
    """Yields what the shorter schedule says."""
    if shorter:
        yield (
            f"Shorter schedule: the method named first is better in {shorter['better']} of "
            f"{counted(shorter.total(), 'case')}, worse in {shorter['worse']}, and open in {shorter['open']}."
        )


def _measured(outline: Outline, tasks: Mapping[str, Task]) -> list[Table]:
    """Returns the numbers that the differences are of, by task; of searches one table over all tasks.

    These are the accuracies, and what the printed tables show. Where the paper prints none, the first section that has
    tables shows all of them, such as the samples that an accuracy took. A study of hours shows these too.
    """
    searches = {part: task.results for part, task in tasks.items() if search_of(task.results) is not None}
    if searches:
        return [table._replace(title=f"Measured here: {table.title.lower()}") for table in joined_searches(searches)]
    printed = {f"{table.section}_{table.measure}" for table in outline.published}
    asked = {"accuracy", *(table.section for table in outline.published)}
    shown = {*printed, "hours"}
    tables = []
    for part, task in tasks.items():
        whole = not printed
        for name in outline.sections:
            section = _section(name, outline, task.results) if whole or name in asked else None
            if section is not None and section.tables:
                first, *others = section.tables
                titled = first.name in printed
                tables.append(first._replace(title=f"{part}: {first.title if titled else section.title}"))
                rest = [each for each in others if whole or each.name in shown]
                tables += [each._replace(title=f"{part}: {each.title}") for each in rest]
                whole = False
    return tables


def _charts(outline: Outline, tasks: Mapping[str, Task]) -> Iterator[Chart]:
    """Yields the charts of a figure: those of the first section that has any, by task."""
    for part, task in tasks.items():
        for name in outline.sections:
            section = _section(name, outline, task.results)
            if section is not None and section.charts:
                yield from (replace(chart, title=f"{part}: {chart.title}") for chart in section.charts)
                break


def _section(name: str, outline: Outline, results: Results) -> Section | None:
    return SECTIONS[name](results, Choices(outline.edges, hours=outline.hours))
