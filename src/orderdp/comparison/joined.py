"""Joins the runs of several machines that share no disk: archives or folders of one comparison or of one study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orderdp.comparison.archive import Archive
from orderdp.comparison.planned import planned_of
from orderdp.comparison.records import OF_MACHINE, Missing, Record, Records, by_seed_in, told_apart, value_in
from orderdp.comparison.searched import KEY as SEARCH

_TEXTS = {"about", "published"}  # of a study; they may be reworded
_OF_SEEDS = {"seeds", "runs", "methods"}


def join(archives: Sequence[Archive]) -> Archive:
    """Returns one archive of the runs of several. Title and texts are those of the first.

    The parts of a study are joined, and so are the seeds of a part. Where two hold the same run, the finished one
    counts.

    Args:
        archives: at least one.

    Raises:
        ValueError: they are not of one study or comparison, or two hold different results of one run.
    """
    first, *others = archives
    for other in others:
        if (first.study is None) != (other.study is None):
            raise ValueError(
                f"runs are joined of studies or of single comparisons, got one of each, {first.title!r} and "
                f"{other.title!r}; join those of one kind"
            )
        # What a study has for each part, such as the ratio under which its methods are shown, may be of other parts.
        mine, its = dict(first.study or {}), dict(other.study or {})
        for key in mine.keys() & its.keys():
            if isinstance(mine[key], dict) and isinstance(its[key], dict):
                mine[key], its[key] = {**its[key], **mine[key]}, {**mine[key], **its[key]}
        _check_equal(mine, its, without={"parts", *_TEXTS}, what="study", name=other.title)
        parts = dict(first.parts)
        for name, records in other.parts.items():
            parts[name] = _joined(parts[name], records, name or other.title) if name in parts else records
        study = None if first.study is None else {**mine, "parts": list(parts)}
        first = Archive(first.title, study, parts)
    return first


def _joined(mine: Records, other: Records, name: str) -> Records:
    keys = mine.planned.recipe.keys() | other.planned.recipe.keys()
    recipes = [{key: value_in(records.planned.recipe, key) for key in keys} for records in (mine, other)]
    _check_equal(*recipes, without={*OF_MACHINE, "seed"}, what="recipe", name=name)
    tables = [records.planned.table for records in (mine, other)]
    first = tables[0]
    searches = any(SEARCH in table for table in tables)
    if searches:
        # A search chooses its seeds by its own results, so those of another are not its own; their order counts.
        first = max(tables, key=lambda table: sum(table.get(SEARCH, {}).get("seeds_of", {}).values()))
        _check_equal(*(_gone_on(table, first) for table in tables), without={"runs"}, what="comparison", name=name)
        seeds, runs = first["seeds"], first["runs"]
    else:
        _check_equal(*tables, without=_OF_SEEDS, what="comparison", name=name)
        by_name = {run["name"]: run for table in reversed(tables) for run in table["runs"]}
        seeds = sorted({seed for table in tables for seed in table["seeds"]})
        # As one comparison of all these seeds would have planned them: seed by seed, each in the order of its own plan.
        runs = sorted(by_name.values(), key=lambda run: int(run["seed"]))
    found = {
        run["name"]: _either(mine.runs.get(run["name"]), other.runs.get(run["name"]), name, run["name"]) for run in runs
    }
    table = {**first, "seeds": seeds, "runs": runs}
    if not searches and (methods := _joined_methods(tables[0], tables[1], name)):
        table["methods"] = methods
    planned = planned_of(mine.planned.recipe_text, table)
    return Records(planned, found, tuple(sorted({*mine.unplanned, *other.unplanned} - set(found))))


def _gone_on(table: Mapping[str, Any], further: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the table of a search with the seeds of `further`, if that is a later state of it; else unchanged."""
    search, counts = table.get(SEARCH, {}), further.get(SEARCH, {}).get("seeds_of", {})
    later = all(counts.get(label, 0) >= count for label, count in search.get("seeds_of", {}).items())
    if not later or further["seeds"][: len(table["seeds"])] != table["seeds"]:
        return table
    return {**table, "seeds": further["seeds"], SEARCH: {**search, "seeds_of": counts}}


def _joined_methods(mine: Mapping[str, Any], other: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Returns the methods of two comparisons, which differ in nothing but what a method has for each seed."""
    methods = [table.get("methods", []) for table in (mine, other)]
    plain = [{f"method {number}": told_apart(method) for number, method in enumerate(each, 1)} for each in methods]
    _check_equal(*plain, without=set(), what="comparison", name=name)
    seeds = mine["seeds"], other["seeds"]
    return [_of_both_seeds(pair, seeds, name) for pair in zip(*methods, strict=True)]


def _of_both_seeds(
    pair: tuple[Mapping[str, Any], Mapping[str, Any]], seeds: tuple[list[int], list[int]], name: str
) -> dict[str, Any]:
    """Returns a method with what either comparison, of its seeds, has for each; such as the subsets of two files."""
    changed: dict[str, Any] = {}
    for key in by_seed_in(pair[0]):
        # A method without seeds has one value for all those of its comparison.
        own = [method.get("seeds") or (of if len(of) == 1 else [None]) for method, of in zip(pair, seeds, strict=True)]
        values = [dict(zip(each, method[key], strict=True)) for each, method in zip(own, pair, strict=True)]
        one_for_all = len({*values[0].values(), *values[1].values()}) == 1
        if one_for_all and not any(method.get("seeds") for method in pair):
            continue
        both = {**values[1], **values[0]}
        if None in both or any(both[seed] != value for seed, value in values[1].items()):
            raise ValueError(
                f"runs to join must be of one comparison, got two values of {key} for one seed of method "
                f"{pair[0].get('title', pair[0]['name'])} in {name!r}; report them apart"
            )
        changed |= {"seeds": sorted(both), key: [both[seed] for seed in sorted(both)]}
    return {**pair[0], **changed}


def _either(mine: Record | Missing | None, other: Record | Missing | None, name: str, run: str) -> Record | Missing:
    """Returns the finished one of two records of a run; of two missing ones, that which asks for more."""
    finished = [record for record in (mine, other) if isinstance(record, Record)]
    if len(finished) == 2 and finished[0].result != finished[1].result:
        raise ValueError(
            f"each run may be finished once among the runs to join, got two different results of {run} in {name!r}; "
            "leave one of them out"
        )
    # Of equal ones that with more epochs, since an archive may hold the last only.
    if finished:
        return max(finished, key=lambda record: len(record.epochs))
    return min(
        (record for record in (mine, other) if isinstance(record, Missing)),
        key=lambda missing: ("damaged", "failed", "open").index(missing.kind),
    )


def _check_equal(mine: Mapping[str, Any], other: Mapping[str, Any], *, without: set[str], what: str, name: str) -> None:
    for key in sorted((mine.keys() | other.keys()) - without):
        if mine.get(key) != other.get(key):
            raise ValueError(
                f"runs to join must be of one {what}, got {key} {mine.get(key)!r} and {other.get(key)!r} in {name!r}; "
                "report them apart"
            )
