"""How a prune ratio is split into exploration and exploitation, and what accuracy each split has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from orderdp.comparison.results import Entry, Results
from orderdp.output.palette import SERIES
from orderdp.report.canvas import Canvas, Chart
from orderdp.report.placement import percent, pruned_entries, ratio_of
from orderdp.report.section import Choices, Section


class _Split(NamedTuple):
    """One split: how much is drawn, how much of the draw is kept, and the score of samples without a loss."""

    explore: float
    exploit: float
    initial_score: float
    entry: Entry


def section(results: Results, _choices: Choices) -> Section | None:
    """Returns a chart for each prune ratio; nothing if no method is given by its split."""
    splits = [split for entry in pruned_entries(results) if entry.results and (split := _split_of(entry))]
    if not splits:
        return None
    charts = [
        _chart(ratio, [split for split in splits if ratio_of(split.entry) == ratio])
        for ratio in sorted({ratio_of(split.entry) for split in splits})
    ]
    text = (
        "Explore: share of the data that is drawn. Exploit: share of the draw that is kept, the samples of highest "
        "loss. Both together decide how many samples are trained. At the left, the draw is uniform and all of it is "
        "kept. At the right, everything is drawn and the highest losses are kept."
    )
    return Section("Exploration against exploitation", text, charts=charts)


def _split_of(entry: Entry) -> _Split | None:
    """Returns how an entry splits its prune ratio; None if its strategy is not given by a split.

    If only one half is given, the other follows from the prune ratio.
    """
    given: dict[str, float] = {half: entry.strategy[half] for half in ("explore", "exploit") if half in entry.strategy}
    if not given:
        return None
    other = round((1 - ratio_of(entry)) / next(iter(given.values())), 6)
    initial = float(entry.strategy.get("initial_score", math.inf))
    return _Split(given.get("explore", other), given.get("exploit", other), initial, entry)


def _chart(ratio: float, splits: Sequence[_Split]) -> Chart:
    columns = ("prune ratio", "explore", "exploit", "initial score", "accuracy", "standard deviation")
    canvas = Canvas("explore, share of the data", "final accuracy, %", columns)
    initial_scores = sorted({split.initial_score for split in splits}, reverse=True)
    for number, initial in enumerate(initial_scores):
        curve = sorted((split for split in splits if split.initial_score == initial), key=lambda split: split.explore)
        accuracies = [(split.entry.mean("accuracy_last"), split.entry.deviation("accuracy_last")) for split in curve]
        mean, deviation = np.array(accuracies).T
        canvas.axes.errorbar(
            [split.explore for split in curve],
            mean,
            np.nan_to_num(deviation),
            label="samples without a loss first" if initial == math.inf else f"samples without a loss at {initial:g}",
            color=SERIES[number % len(SERIES)],
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
        )
        canvas.rows += [
            (ratio, split.explore, split.exploit, initial, *accuracy)
            for split, accuracy in zip(curve, accuracies, strict=True)
        ]
    note = "Mean over the seeds. Bars: one standard deviation over the seeds."
    return canvas.finish(f"decomposition_{100 * ratio:g}", f"Accuracy by split at {percent(ratio)}", note)
