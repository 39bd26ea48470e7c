"""The norm of the gradient over the epochs, and its correlation with accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from orderdp.comparison.results import Entry, Results
from orderdp.diagnostics import correlation
from orderdp.output.text_table import Table
from orderdp.report.canvas import Canvas, Chart
from orderdp.report.diagnosed import charts_of
from orderdp.report.placement import colors_of, entries_at, percent, ratios_of
from orderdp.report.section import Choices, Section
from orderdp.report.tables import signed


def section(results: Results, _choices: Choices) -> Section | None:
    """Returns the diagnostics, accuracy against the norm, and their correlation; nothing without the epochs."""
    if not results.has_epochs:
        return None
    charts = [*charts_of("gradients", results), *(_joint(results, ratio) for ratio in ratios_of(results))]
    rows = [["run", "correlation"]]
    rows += [[f"{entry.label}{entry.mark}", signed(f"{fmean(found):+.2f}")] for entry, found in correlations(results)]
    note = "Pearson's r of test accuracy and gradient norm over the epochs of a run, mean over the seeds."
    return Section("Gradients", tables=[Table("correlation", "Accuracy and gradient norm", rows, note)], charts=charts)


def correlations(results: Results) -> Iterator[tuple[Entry, list[float]]]:
    """Yields the entries with Pearson's r of accuracy and gradient norm over the epochs, of each seed that has one."""
    for entry in results.entries.values():
        runs = [
            correlation(*([line[key] for line in _evaluated(lines)] for key in ("accuracy", "gradient_norm")))
            for lines in entry.metrics.values()
        ]
        found = [r for r in runs if not math.isnan(r)]
        if found:
            yield entry, found


def _evaluated(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the epochs with an accuracy."""
    return [line for line in lines if line["accuracy"] is not None]


def _joint(results: Results, ratio: float) -> Chart:
    canvas = Canvas("gradient norm", "test accuracy, %", ("run", "seed", "gradient norm", "accuracy"))
    colors = colors_of(results)
    for entry in entries_at(results, ratio):
        points = [
            (line["gradient_norm"], line["accuracy"], seed)
            for seed, lines in entry.metrics.items()
            for line in _evaluated(lines)
        ]
        if points:
            method = entry.method
            x, y, _ = zip(*points, strict=True)
            label = f"{method}{entry.mark}"
            canvas.axes.scatter(x, y, s=10, alpha=0.7, color=colors[method], label=label, linewidths=0)
            canvas.rows += [(entry.label, seed, norm, accuracy) for norm, accuracy, seed in points]
    note = "A point for each evaluation of each seed."
    return canvas.finish(f"joint_{100 * ratio:g}", f"Accuracy and gradient norm at {percent(ratio)}", note)
