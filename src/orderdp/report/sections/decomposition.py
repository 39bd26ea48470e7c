"""How a prune ratio is split into exploration and exploitation: accuracy and seconds of each split, and over ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from orderdp.comparison.results import Entry, Results, Seconds
from orderdp.output.palette import SERIES
from orderdp.report.canvas import Canvas, Chart
from orderdp.report.placement import percent, pruned_entries, ratio_of
from orderdp.report.section import Choices, Section, note_of
from orderdp.strategies import OrderDP


class _Split(NamedTuple):
    """One split: how much is drawn, how much of the draw is kept, and the score of samples without a loss."""

    explore: float
    exploit: float
    initial_score: float
    entry: Entry


class _Axis(NamedTuple):
    """A vertical axis: the name of its files, of its columns, its label, and mean and deviation over the seeds."""

    file: str
    name: str
    label: str
    of: Callable[[Entry], tuple[float, float]]
    note: str = ""


def _seconds(seconds: Seconds) -> _Axis:
    def of(entry: Entry) -> tuple[float, float]:
        spent = list(map(seconds.of, entry.results.values()))
        return fmean(spent), stdev(spent) if len(spent) > 1 else math.nan

    return _Axis("seconds", seconds.name, f"{seconds.name} without evaluation", of, note_of(seconds))


_ACCURACY = _Axis(
    "accuracy",
    "accuracy",
    "final accuracy, %",
    lambda entry: (entry.mean("accuracy_last"), entry.deviation("accuracy_last")),
)
_EVEN = 0.005  # explore and exploit this near to each other are an even split


def section(results: Results, _choices: Choices) -> Section | None:
    """Returns charts of accuracy and seconds at each prune ratio, and over them; nothing if no split is given."""
    found = (_split_of(entry) for entry in pruned_entries(results) if entry.results)
    splits = [split for split in found if split is not None]
    given = {ratio_of(split.entry) for split in splits if {"explore", "exploit"} & split.entry.strategy.keys()}
    if not given:
        return None
    axes = (_ACCURACY, _seconds(results.seconds))
    charts = [
        _chart(ratio, axis, [split for split in splits if ratio_of(split.entry) == ratio])
        for ratio in sorted(given)
        for axis in axes
    ]
    even = [split for split in splits if abs(split.explore - split.exploit) < _EVEN and split.initial_score == math.inf]
    if len({ratio_of(split.entry) for split in even}) > 1:
        charts += [_over_ratios(axis, even) for axis in axes]
    text = (
        "Explore: share of the data that is drawn. Exploit: share of the draw that is kept, the samples of highest "
        "loss. Both together decide how many samples are trained. At the left, the draw is uniform and all of it is "
        "kept. At the right, everything is drawn and the highest losses are kept."
    )
    return Section("Exploration against exploitation", text, charts=charts)


def _split_of(entry: Entry) -> _Split | None:
    """Returns how an entry splits its prune ratio; None if it is not OrderDP's.

    If only one half is given, the other follows from the prune ratio. A ratio alone is split evenly.
    """
    if entry.strategy["name"] != OrderDP.name:
        return None
    given: dict[str, float] = {half: entry.strategy[half] for half in ("explore", "exploit") if half in entry.strategy}
    kept = 1 - ratio_of(entry)
    other = round(kept / next(iter(given.values())), 6) if given else round(math.sqrt(kept), 6)
    initial = float(entry.strategy.get("initial_score", math.inf))
    return _Split(given.get("explore", other), given.get("exploit", other), initial, entry)


def _chart(ratio: float, axis: _Axis, splits: Sequence[_Split]) -> Chart:
    columns = ("prune ratio", "explore", "exploit", "initial score", axis.name, "standard deviation")
    canvas = Canvas("explore, share of the data", axis.label, columns)
    initial_scores = sorted({split.initial_score for split in splits}, reverse=True)
    for number, initial in enumerate(initial_scores):
        curve = sorted((split for split in splits if split.initial_score == initial), key=lambda split: split.explore)
        points = [axis.of(split.entry) for split in curve]
        label = "samples without a loss first" if initial == math.inf else f"samples without a loss at {initial:g}"
        _draw(canvas, [split.explore for split in curve], points, label, SERIES[number % len(SERIES)])
        canvas.rows += [
            (ratio, split.explore, split.exploit, initial, *point) for split, point in zip(curve, points, strict=True)
        ]
    name = f"decomposition_{100 * ratio:g}"
    name, title = (name, "Accuracy") if axis is _ACCURACY else (f"{name}_{axis.file}", axis.name.capitalize())
    return canvas.finish(name, f"{title} by split at {percent(ratio)}", _note(axis))


def _over_ratios(axis: _Axis, splits: Sequence[_Split]) -> Chart:
    """Returns the chart of the even splits over their prune ratios."""
    canvas = Canvas("prune ratio", axis.label, ("prune ratio", axis.name, "standard deviation"))
    curve = sorted(splits, key=lambda split: ratio_of(split.entry))
    points = [axis.of(split.entry) for split in curve]
    _draw(canvas, [ratio_of(split.entry) for split in curve], points, "explore = exploit", SERIES[0])
    canvas.rows += [(ratio_of(split.entry), *point) for split, point in zip(curve, points, strict=True)]
    return canvas.finish(f"ratios_{axis.file}", f"{axis.name.capitalize()} by prune ratio", _note(axis))


def _draw(canvas: Canvas, x: Sequence[float], points: Sequence[tuple[float, float]], label: str, color: str) -> None:
    mean, deviation = np.array(points).T
    canvas.axes.errorbar(
        x,
        mean,
        np.nan_to_num(deviation),
        label=label,
        color=color,
        marker="o",
        markersize=4,
        linewidth=1.4,
        elinewidth=0.8,
    )


def _note(axis: _Axis) -> str:
    return f"Mean over the seeds. Bars: one standard deviation over the seeds. {axis.note}".rstrip()
