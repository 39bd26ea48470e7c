"""Accuracy against cost: in training steps, by the prices of the passes, and in seconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orderdp.comparison.grid import with_augment
from orderdp.comparison.prices import cost_of
from orderdp.comparison.results import Entry, Results
from orderdp.output.palette import GREY
from orderdp.report.canvas import Canvas, Chart
from orderdp.report.placement import colors_of, full_data, is_shorter, patterns_of
from orderdp.report.section import Choices, Section, note_of
from orderdp.report.tables import cost_note, rules_of

_OTHER = "full data, other schedules"


def section(results: Results, _choices: Choices) -> Section:
    """Returns a chart for each kind of cost."""
    full, seconds = full_data(results), results.seconds
    finished = [entry for entry in results.entries.values() if entry.results]
    measured = any("measured" in rules_of(entry) for entry in finished)
    label, whole = "cost in full training steps", 1.0
    if full is not None:
        label, whole = "cost in full training steps, share of full data's", full.mean(cost_of)
    if measured:
        label += ", priced by this machine's passes"
    return Section(
        "Accuracy against cost",
        charts=[
            _chart(results, "cost", label, lambda entry: entry.mean(cost_of) / whole, cost_note(finished)),
            _chart(
                results,
                seconds.name,
                f"{seconds.name} without evaluation",
                lambda entry: entry.mean(seconds.of),
                note_of(seconds),
            ),
        ],
    )


def _curve_of(entry: Entry) -> str:
    """Returns the name of the curve that an entry is a point of."""
    if not is_shorter(entry):
        return entry.method
    return _OTHER if entry.augment is None else with_augment(_OTHER, entry.augment)


def _chart(results: Results, name: str, x_label: str, cost: Callable[[Entry], float], counted: str) -> Chart:
    canvas = Canvas(x_label, "final accuracy, %", ("run", name, "accuracy", "standard deviation"))
    curves: dict[str, list[tuple[float, float, float]]] = {}
    partly: set[str] = set()
    for entry in results.entries.values():
        if entry.results:
            point = (cost(entry), entry.mean("accuracy_last"), entry.deviation("accuracy_last"))
            method = _curve_of(entry)
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
            linestyle=patterns.get(method, ":"),  # ":" for those schedules, which no pattern is kept for
            marker="x" if method.startswith(f"{_OTHER}, ") else "o",
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
        )
    note = f"Up and to the left is better. Bars: one standard deviation over the seeds. {counted}"
    return canvas.finish(f"frontier_{name.rpartition(' ')[2]}", f"Accuracy against {name}", note)
