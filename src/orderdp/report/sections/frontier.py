"""Accuracy against cost: in passes through the model, and in seconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orderdp.comparison.results import Entry, Results
from orderdp.output.palette import GREY
from orderdp.report.canvas import Canvas, Chart
from orderdp.report.placement import colors_of, full_data, is_shorter, patterns_of
from orderdp.report.section import SECONDS, Choices, Section

_SHORTER = "full data, shorter schedule"
_PASSES = (
    "A backward pass counts as two forward passes, which is about what it takes. Methods that choose within the batch "
    "run a forward pass on everything and save backward passes only."
)


def section(results: Results, _choices: Choices) -> Section:
    """Returns a chart for each kind of cost."""
    full = full_data(results)
    whole, passes = 1.0, "forward and backward passes, in samples"
    if full is not None:
        whole, passes = _passes(full), "passes, share of full data's"
    return Section(
        "Accuracy against cost",
        charts=[
            _chart(results, "passes", passes, lambda entry: _passes(entry) / whole, _PASSES),
            _chart(results, "seconds", "seconds without evaluation", Entry.cost_s, SECONDS),
        ],
    )


def _passes(entry: Entry) -> float:
    return (entry.mean("samples_forward") + 2 * entry.mean("samples_backward")) / 3


def _chart(results: Results, name: str, x_label: str, cost: Callable[[Entry], float], counted: str) -> Chart:
    canvas = Canvas(x_label, "final accuracy, %", ("run", name, "accuracy", "standard deviation"))
    curves: dict[str, list[tuple[float, float, float]]] = {}
    partly: set[str] = set()
    for entry in results.entries.values():
        if entry.results:
            point = (cost(entry), entry.mean("accuracy_last"), entry.deviation("accuracy_last"))
            method = _SHORTER if is_shorter(entry) else entry.method
            curves.setdefault(method, []).append(point)
            canvas.rows.append((f"{entry.label}{entry.mark}", *point))
            if entry.mark:
                partly.add(method)
    colors, patterns = colors_of(results), patterns_of(results)
    for method, points in curves.items():
        x, y, deviation = (np.array(values) for values in zip(*sorted(points), strict=True))
        canvas.axes.errorbar(
            x,
            y,
            np.nan_to_num(deviation),
            label=f"{method} (runs missing)" if method in partly else method,
            color=colors.get(method, GREY),
            linestyle=patterns.get(method, ":"),  # ":" for the shorter schedules, which no pattern is kept for
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
        )
    note = f"Up and to the left is better. Bars: one standard deviation over the seeds. {counted}"
    return canvas.finish(f"frontier_{name}", f"Accuracy against {name}", note)
