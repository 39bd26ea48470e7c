"""Joins the runs of several machines that share no disk: archives or folders of one comparison or of one study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orderdp.comparison.archive import Archive
from orderdp.comparison.planned import planned_of
from orderdp.comparison.records import OF_MACHINE, Missing, Record, Records, value_in
from orderdp.comparison.searched import KEY as SEARCH

_TEXTS = {"about", "published"}  # of a study; they may be reworded
_OF_SEEDS = {"seeds", "runs"}


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
        _check_equal(first.study or {}, other.study or {}, without={"parts", *_TEXTS}, what="study", name=other.title)
        parts = dict(first.parts)
        for name, records in other.parts.items():
            parts[name] = _joined(parts[name], records, name or other.title) if name in parts else records
        study = None if first.study is None else {**first.study, "parts": list(parts)}
        first = Archive(first.title, study, parts)
    return first


def _joined(mine: Records, other: Records, name: str) -> Records:
    keys = mine.planned.recipe.keys() | other.planned.recipe.keys()
    recipes = [{key: value_in(records.planned.recipe, key) for key in keys} for records in (mine, other)]
    _check_equal(*recipes, without={*OF_MACHINE, "seed"}, what="recipe", name=name)
    tables = [records.planned.table for records in (mine, other)]
    # A search chooses its seeds by its own results, so those of another are not its own; their order counts.
    searches = any(SEARCH in table for table in tables)
    _check_equal(*tables, without={"runs"} if searches else _OF_SEEDS, what="comparison", name=name)
    by_name = {run["name"]: run for table in reversed(tables) for run in table["runs"]}
    seeds = tables[0]["seeds"] if searches else sorted({seed for table in tables for seed in table["seeds"]})
    # As one comparison of all these seeds would have planned them: seed by seed, each in the order of its own plan.
    runs = sorted(by_name.values(), key=lambda run: int(run["seed"]))
    found = {
        run["name"]: _either(mine.runs.get(run["name"]), other.runs.get(run["name"]), name, run["name"]) for run in runs
    }
    planned = planned_of(mine.planned.recipe_text, {**mine.planned.table, "seeds": seeds, "runs": runs})
    return Records(planned, found, tuple(sorted({*mine.unplanned, *other.unplanned} - set(by_name))))


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
