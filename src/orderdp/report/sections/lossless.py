"""The largest lossless prune ratio of each method, and every test on the way to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from orderdp.comparison.lossless import Judged, Probe, Search, Trail
from orderdp.comparison.results import Results
from orderdp.comparison.searched import search_of, trails_of
from orderdp.output.text_table import Table
from orderdp.report.placement import full_data, percent
from orderdp.report.section import Choices, Section
from orderdp.report.tables import accuracy, listed, share, signed

_COLUMNS = ["largest lossless ratio", "samples left out", "accuracy, %", "full data, %", "minus full data"]
_COLUMNS += ["not lossless", "undecided", "seeds there", "pruned runs"]


def section(results: Results, _choices: Choices) -> Section | None:
    """Returns the ratios and the tests; nothing without a search."""
    search = search_of(results)
    if search is None:
        return None
    trails = trails_of(results)
    lines = [["method", *_COLUMNS], *([arm, *_cells(results, search, trail)] for arm, trail in trails.items())]
    return Section(
        "Largest lossless ratio",
        tables=[Table("lossless", "Measured here", lines, _note(search)), _tests(search, trails)],
    )


def joined(parts: Mapping[str, Results]) -> list[Table]:
    """Returns the table of all tasks with a search; none if there is no such task."""
    lines = [["method", "data set", "network", *_COLUMNS]]
    notes = set()
    for results in parts.values():
        if (search := search_of(results)) is not None:
            task = [results.recipe["dataset"], results.recipe["model"]]
            lines += [[arm, *task, *_cells(results, search, trail)] for arm, trail in trails_of(results).items()]
            notes.add(_note(search))
    return [Table("lossless", "Largest lossless prune ratio", lines, " ".join(sorted(notes)))] if notes else []


def sentences(results: Results) -> list[str]:
    """Returns what the search of each method has found, a sentence each; nothing without a search."""
    search = search_of(results)
    return [] if search is None else [_sentence(results, search, *each) for each in trails_of(results).items()]


def limits(results: Results) -> list[str]:
    """Returns what a search does not show, and how sure its end is; nothing without a search."""
    search = search_of(results)
    if search is None:
        return []
    count = "one test" if search.tests == 1 else f"at most {search.tests} tests"
    return [
        f"The ratio named for a method is not lossless with probability at most {percent(search.alpha)}: a search "
        f"makes {count} for a method, each wrong with probability at most {percent(search.test.alpha)} over all its "
        "looks. This holds for normal differences, for each method by itself, and if no lossless ratio lies above one "
        "that is not.",
        "Ratios that were not tried are not judged. The ratio named may be smaller than the largest lossless one, also "
        "because one above it stayed undecided.",
        "On average, the mean at the look that ended a test overstates the difference in the direction of its "
        "verdict. Its interval holds.",
    ]


def _sentence(results: Results, search: Search, arm: str, trail: Trail) -> str:
    """Returns what the search of one method has found."""
    parts, within = [], _points(search)
    if (largest := trail.largest) is not None:
        top = ", and no larger one was to be tried" if largest.ratio == search.prune_ratios[-1] else ""
        parts.append(
            f"{percent(largest.ratio)} is the largest prune ratio shown to be lossless within {within}{top}; it leaves "
            f"out {_left_out(results, largest)} of the samples ({_seeds(largest.judged)})"
        )
    elif trail.asks is None:
        parts.append(f"no prune ratio was shown to be lossless within {within}")
    for verdict, said in (("not lossless", "not lossless"), ("undecided", f"undecided after {search.seeds_max} seeds")):
        if probes := trail.at(verdict):  # type: ignore[arg-type]
            verb = "is" if len(probes) == 1 else "are"
            parts.append(f"{listed([percent(probe.ratio) for probe in probes])} {verb} {said}")
    if trail.asks is not None:
        last = trail.probes[-1]
        parts.append(f"the search is not finished: {percent(last.ratio)} has {_seeds(last.judged)} so far")
    return f"{arm}: {'; '.join(parts)}."


def _left_out(results: Results, probe: Probe) -> str:
    """Returns the share of full data's samples that the runs at a prune ratio left out."""
    return share("samples_backward", full_data(results), left_out=True)(results.entries[probe.label])


def _points(search: Search) -> str:
    return f"{search.margin:g} point{'s' * (search.margin != 1)}"


def _seeds(judged: Judged) -> str:
    return f"{judged.seeds} seed{'s' * (judged.seeds != 1)}"


def _cells(results: Results, search: Search, trail: Trail) -> list[str]:
    """Returns the cells of one method behind its name."""
    full, largest = full_data(results), trail.largest
    open_ = trail.asks is not None
    named = ["open" if open_ else "none", "", "", "" if full is None else accuracy(full), ""]
    if largest is not None and full is not None:
        entry = results.entries[largest.label]
        same_seeds = {seed: result for seed, result in full.results.items() if seed in entry.results}
        named = [f"{percent(largest.ratio)}{' so far' if open_ else ''}", _left_out(results, largest), accuracy(entry)]
        named += [accuracy(replace(full, results=same_seeds, missing={})), _difference(search, largest.judged)]
    others = [_ratios(trail.at("not lossless")), _ratios(trail.at("undecided"))]
    seeds = "" if largest is None else str(largest.judged.seeds)
    runs = sum(probe.judged.seeds for probe in trail.probes)
    return [*named, *others, seeds, str(runs)]


def _ratios(probes: Sequence[Probe]) -> str:
    return ", ".join(percent(probe.ratio) for probe in probes)


def _note(search: Search) -> str:
    grid = listed([percent(ratio) for ratio in search.prune_ratios])
    return (
        f"The largest of {grid} that bisection found lossless: the true accuracy lies at most {_points(search)} "
        f"below that of full data. Each ratio has a sequential test with a look after each seed from the third, and at "
        f"most {search.seeds_max} seeds; all ratios and methods share the seeds and the runs on full data. Undecided: "
        f"the last look decided neither way, and the search went on below. The ratio named for one method is not "
        f"lossless with probability at most {percent(search.alpha)}, shared by at most {search.tests} tests, if no "
        "lossless ratio lies above one that is not. Open, so far: the search is not finished. Accuracies are over the "
        "seeds at the ratio named; where none is, those of full data are over all its seeds. Minus full data: in "
        "percentage points, with the interval of the look that ended the test. Samples left out: the realised prune "
        "ratio, for InfoBatch below the ratio asked for. Pruned runs: those of all ratios that the search needed. "
        "Ratios that were not tried are not judged."
    )


def _tests(search: Search, trails: Mapping[str, Trail]) -> Table:
    lines = [["run", "seeds", "minus full data", "verdict"]]
    lines += _tested(search, trails)
    note = (
        "In percentage points, paired by seed, at the look that ended the test. Brackets: the repeated confidence "
        f"interval, which holds the true difference at all looks together with probability at least "
        f"{percent(1 - 2 * search.test.alpha)}. “lossless”: it lies above {signed(f'{-search.margin:g}')}. “not "
        "lossless”: it lies below. In the order in which the ratios were tried."
    )
    return Table("lossless_tests", "The tests", lines, note)


def _tested(search: Search, trails: Mapping[str, Trail]) -> Iterator[list[str]]:
    for trail in trails.values():
        for probe in trail.probes:
            found, judged = _difference(search, probe.judged), probe.judged
            yield [probe.label, str(judged.seeds), found, judged.verdict or "needs further seeds"]


def _difference(search: Search, judged: Judged) -> str:
    """Returns the mean difference with its interval, as far as there is one.

    Two digits follow the point, or up to four to see on which side of the margin the interval lies.
    """
    nearest = min(abs(end + search.margin) for end in (judged.low, judged.high))
    digits = min(4, max(2, math.ceil(-math.log10(2 * nearest)))) if 0 < nearest < math.inf else 2
    text = "" if math.isnan(judged.mean) else f"{judged.mean:+.{digits}f}"
    if math.isfinite(judged.low):
        text += f" [{judged.low:+.{digits}f}, {judged.high:+.{digits}f}]"
    return signed(text)
