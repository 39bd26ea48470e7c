"""Where the results of the paper's studies are: folders of fresh runs and archives, joined.

Runs of one task may come from several machines. All runs of one seed come from one source, since a difference between
runs of one source is free of what differs between machines and commits.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from orderdp.comparison.archive import study_in
from orderdp.comparison.grid import Comparison
from orderdp.comparison.planned import Planned
from orderdp.comparison.records import OF_MACHINE, Missing, Records, told_apart, value_in
from orderdp.comparison.results import results_of
from orderdp.comparison.searched import KEY as SEARCH
from orderdp.comparison.searched import trails_of
from orderdp.output.toml import parse_toml, read_toml
from orderdp.paper.contents import Kind, kind_of
from orderdp.paper.failures import Failure, read_failures
from orderdp.paper.studies import origin_in
from orderdp.report.outline import collect
from orderdp.training.recipe import gathered

_ARCHIVES = "*.jsonl.xz"


class Source(NamedTuple):
    """Runs of one task of a study.

    Args:
        path: archive, or folder of the study.
        records: the runs.
    """

    path: Path
    records: Records


class Joined(NamedTuple):
    """Runs of one task from all its sources.

    Args:
        records: the runs.
        sources: seed to where its runs are.
        left_out: sources that were not joined, each with the reason.
    """

    records: Records
    sources: Mapping[int, Path]
    left_out: Sequence[str]


@dataclass(frozen=True)
class Found:
    """All results of one size.

    Args:
        tasks: name of a study to its tasks, each with its sources.
        computed: name of a study without a file to the folder with its files.
        failed: what could not be run.
    """

    tasks: dict[str, dict[str, list[Source]]] = field(default_factory=dict)
    computed: dict[str, Path] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)

    def joined(self, study: str) -> dict[str, Joined]:
        """Returns the tasks of a study, each with its runs from all sources; only tasks with a finished run."""
        found = {name: join(sources) for name, sources in self.tasks.get(study, {}).items()}
        return {name: each for name, each in found.items() if _finished(each.records)}


def find(size: str, folder: Path | None = None, archives: Sequence[Path] = ()) -> Found:
    """Returns the results of one size in a folder of `orderdp paper`, and in archives.

    Args:
        size: one of the sizes of studies.
        folder: holds a folder for each study; None, or a folder that does not exist, for none.
        archives: files, or folders in which all archives count.

    Raises:
        FileNotFoundError: there is no such archive. ValueError: a file that is none, or a damaged file. A damaged
            folder of one study is among what failed.
    """
    found = Found(failed=[] if folder is None else read_failures(folder))
    for path in (*_folders(folder), *_files(archives)):
        try:
            name, parts = _study_at(path, size)
        except ValueError as error:
            if path.is_file():
                raise
            name, parts = path.name, {}  # as the folder of a study is called
            if not any(each.study == name for each in found.failed):
                found.failed.append(Failure(name, "", name, name, str(error)))
        for part, records in parts.items():
            found.tasks.setdefault(name, {}).setdefault(part, []).append(Source(path, records))
    fresh = [] if folder is None else folder.glob("*/*.csv")
    for file in (*sorted(fresh), *(file for place in archives for file in sorted(place.rglob("*.csv")))):
        if kind_of(file.stem) is not Kind.OWN and origin_in(file.parent, file.stem).get("size", size) == size:
            found.computed.setdefault(file.stem, file.parent)
    return found


def _study_at(path: Path, size: str) -> tuple[str, Mapping[str, Records]]:
    """Returns the name of a study and its tasks; no tasks if the page does not show it, or not at this size.

    Raises:
        ValueError: a damaged archive or folder.
    """
    study = (study_in(path) if path.is_file() else read_toml(path / "study.toml", "a study", example="")) or {}
    name = study.get("study", "")
    shown = kind_of(name) is not Kind.OWN and study.get("size") == size
    return name, collect(path).parts if shown else {}


def _folders(folder: Path | None) -> list[Path]:
    return [] if folder is None else [file.parent for file in sorted(folder.glob("*/study.toml"))]


def _files(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        if not place.exists():
            raise FileNotFoundError(
                f"archives must be files or folders, got {place}, which does not exist; write what "
                "'orderdp report --archive' wrote, or a folder that holds it"
            )
        yield from sorted(place.rglob(_ARCHIVES)) if place.is_dir() else [place]


def join(sources: Sequence[Source]) -> Joined:
    """Returns the runs of a task from all its sources: of each seed, those of the source that has most of them.

    A source with another recipe or other data than the first is left out. The first is the one with most finished
    runs. A search for the largest lossless ratio is not joined, since its seeds depend on its own differences.
    """
    first, *others = sorted(sources, key=lambda source: -_finished(source.records))
    left_out, using = [], [first]
    for source in others:
        if why := _why_apart(first, source):
            left_out.append(f"{source.path}, which has {why}")
        else:
            using.append(source)
    planned = first.records.planned
    if len(using) == 1:  # also a search, whose seeds have an order
        return Joined(first.records, dict.fromkeys(planned.seeds, first.path), left_out)
    seeds = sorted({seed for source in using for seed in source.records.planned.seeds})
    of_seed = {seed: max(using, key=lambda source: _share(source.records, seed)) for seed in seeds}
    chosen = [
        (run, source.records.runs[run.name])
        for seed, source in of_seed.items()
        for run in source.records.planned.runs
        if run.seed == seed
    ]
    runs = tuple(run for run, _ in chosen)
    planned = replace(planned, seeds=tuple(seeds), runs=runs, table={**planned.table, "seeds": seeds})
    records = Records(planned, {run.name: found for run, found in chosen}, first.records.unplanned)
    return Joined(records, {seed: source.path for seed, source in of_seed.items()}, left_out)


def covers(sources: Sequence[Source], comparison: Comparison, labels: Collection[str], seed: int) -> bool:
    """Returns whether one of the sources holds all finished runs of a task and a seed, by the same recipe.

    Args:
        sources: of the task.
        comparison: what the study plans there, without static methods.
        labels: of its static methods.
        seed: the seed; any of a search, which is covered when it has ended as the study plans it now.
    """
    return any(_covers(source.records, comparison, labels, seed) for source in sources)


def _covers(records: Records, comparison: Comparison, labels: Collection[str], seed: int) -> bool:
    planned = records.planned
    if comparison.lossless is not None:
        ended = all(trail.asks is None for trail in trails_of(results_of(records)).values())
        return ended and not other_plan(comparison, planned)
    recipe = gathered(parse_toml(comparison.recipe.to_toml()))
    if _first_difference(recipe, planned.recipe) is not None:
        return False
    mine = [run for run in planned.runs if run.seed == seed]
    finished = {run.name: run for run in mine if not isinstance(records.runs[run.name], Missing)}
    table = comparison.table(planned.sizes)
    wanted = {run["name"]: run["strategy"] for run in table["runs"] if run["seed"] == seed}
    same = all(name in finished and _settings(finished[name].strategy) == _settings(wanted[name]) for name in wanted)
    static = [run for run in mine if run.method in labels]
    return same and set(labels) <= {run.method for run in static} and all(run.name in finished for run in static)


def _settings(strategy: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings by which methods of one label are compared, as JSON would hold them."""
    return dict(json.loads(json.dumps(told_apart(strategy))))


def other_plan(comparison: Comparison, there: Planned) -> str:
    """Returns what a folder was planned with that a study plans otherwise now; "" if its runs can go on.

    Seeds, methods and budgets may be added to a folder, and so are no difference.
    """
    recipe = gathered(parse_toml(comparison.recipe.to_toml()))
    if (found := _first_difference(recipe, there.recipe)) is not None:
        key, now, before = found
        return f"{key} {before!r} instead of {now!r}"
    search = {} if comparison.lossless is None else comparison.lossless.table()
    fixed: dict[str, Any] = {"against": list(comparison.against), "max_lrs": list(comparison.max_lrs), SEARCH: search}
    for key, now in fixed.items():
        before = there.table.get(key, type(now)())
        if key == SEARCH:
            now, before = ({name: each[name] for name in each if name != "seeds_of"} for each in (now, before))
        if now != before:
            return f"{key} {before!r} instead of {now!r}"
    return ""


def has_all_methods(comparison: Comparison, there: Planned) -> bool:
    """Returns whether a folder plans all methods and budgets of a comparison."""
    methods, budgets = (there.table.get(key, []) for key in ("methods", "budgets"))
    return all(dict(method) in methods for method in comparison.methods) and set(comparison.budgets) <= set(budgets)


def _first_difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Returns the first key in which two recipes compute something else, and its values; None if there is none."""
    for key in sorted((mine.keys() | theirs.keys()) - OF_MACHINE - {"seed", "strategy"}):
        here, there = value_in(mine, key), value_in(theirs, key)
        if here != there:
            return key, here, there
    return None


def _why_apart(first: Source, other: Source) -> str:
    """Returns why two sources cannot be joined; "" if they can."""
    mine, theirs = first.records.planned, other.records.planned
    if SEARCH in mine.table or SEARCH in theirs.table:
        return "a search of its own"
    if (found := _first_difference(mine.recipe, theirs.recipe)) is not None:
        key, here, there = found
        return f"another {key}, {there} instead of {here}"
    if mine.sizes[:2] != theirs.sizes[:2]:
        return "data of another size"
    known = {run.label: run.strategy for run in mine.runs}
    for run in theirs.runs:
        here, there = (_settings(strategy) for strategy in (known.get(run.label, run.strategy), run.strategy))
        if changed := sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key)):
            key = changed[0]
            return f"another {key} of {run.label}, {there.get(key)} instead of {here.get(key)}"
    return ""


def _share(records: Records, seed: int) -> tuple[int, int]:
    """Returns how many runs of a seed are finished, and planned: a seed that nobody has begun is still lacking."""
    return _finished(records, seed), sum(run.seed == seed for run in records.planned.runs)


def _finished(records: Records, seed: int | None = None) -> int:
    """Returns how many runs are finished, of one seed or of all."""
    runs = (run for run in records.planned.runs if seed in (None, run.seed))
    return sum(not isinstance(records.runs[run.name], Missing) for run in runs)
