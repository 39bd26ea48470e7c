"""Values over the course of a run: a curve for each method, and a table of means by part of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from orderdp.comparison.results import Entry, Results
from orderdp.report.canvas import Canvas, Chart
from orderdp.report.placement import colors_of, entries_at, is_shorter, patterns_of, percent

Line: TypeAlias = Mapping[str, Any]
BY_PART = "Mean over the epochs of a part; mean ± standard deviation over the seeds."  # of the cells of `by_part`
_FEW = 12  # points of a curve that are marked


class XAxis(NamedTuple):
    """What a curve is drawn over.

    Args:
        label: of the axis, with its unit.
        of: from the lines of a run to the position of each epoch.
    """

    label: str
    of: Callable[[Sequence[Line]], Sequence[float]]


class YAxis(NamedTuple):
    """What a curve shows.

    Args:
        label: of the axis, with its unit.
        of: from the line of an epoch to the value; None if there is none.
        end: whether to show only the end of the curves, where they are compared.
    """

    label: str
    of: Callable[[Line], float | None]
    end: bool = False


EPOCHS = XAxis("epoch", lambda lines: [line["epoch"] for line in lines])


def curve_chart(
    results: Results, ratio: float, x: XAxis, y: YAxis, *, name: str, title: str, note: str = "", full: bool = True
) -> Chart:
    """Returns a chart with a curve for each method at a prune ratio: the mean over the seeds.

    Args:
        results: the comparison.
        ratio: the prune ratio.
        x: the horizontal axis.
        y: the vertical axis.
        name: of its files, without the ratio.
        title: its heading, without the ratio.
        note: explanation below it.
        full: whether full data and its shorter schedule are drawn too.
    """
    canvas = Canvas(x.label, y.label, ("run", x.label, y.label))
    colors, patterns = colors_of(results), patterns_of(results)
    for entry in entries_at(results, ratio, full=full):
        curve = mean_curve(entry, x.of, y.of)
        if len(curve):
            method = entry.method
            canvas.axes.plot(
                *curve.T,
                label=f"{method}{entry.mark}",
                color=colors[method],
                linewidth=1.5,
                marker="o" if len(curve) < _FEW else None,
                markersize=3,
                linestyle="--" if is_shorter(entry) else "-" if entry.reference else patterns[method],
            )
            canvas.rows += [(f"{entry.label}{entry.mark}", float(a), float(b)) for a, b in curve]
    if y.end:
        _focus(canvas)
    return canvas.finish(f"{name}_{100 * ratio:g}", f"{title} at {percent(ratio)}", note)


def _focus(canvas: Canvas) -> None:
    """Cuts off the beginning of the curves, which would squeeze the end, where they are compared."""
    ends = [float(line.get_ydata()[-1]) for line in canvas.axes.lines]
    if ends:
        span = max(max(ends) - min(ends), 1.0)
        top = max(float(np.max(line.get_ydata())) for line in canvas.axes.lines)
        canvas.axes.set_ylim(min(ends) - 1.2 * span, top + 0.3 * span)


def mean_curve(
    entry: Entry, x_of: Callable[[Sequence[Line]], Sequence[float]], y_of: Callable[[Line], float | None]
) -> npt.NDArray[np.float64]:
    """Returns (points, 2): means over the seeds of x and y, at the epochs where all seeds have y.

    Epochs are counted from the end, where runs are compared. A shorter schedule may have one epoch more with one seed
    than with another.
    """
    runs = [list(zip(x_of(lines), map(y_of, lines), strict=True))[::-1] for lines in entry.metrics.values()]
    points = [list(epoch) for epoch in zip(*runs, strict=False) if all(y is not None for _, y in epoch)]
    return np.array(points[::-1], dtype=np.float64).mean(axis=1) if points else np.empty((0, 2))


def by_part(
    results: Results, edges: Sequence[float], value: Callable[[Line], float | None], digits: int
) -> list[list[str]]:
    """Returns a table of means by part of the run, and of the last epoch: mean ± standard deviation over the seeds."""
    parts = [f"{100 * low:g}–{100 * high:g} %" for low, high in pairwise(edges)]
    lines = [["run", *parts, "last epoch"]]
    for entry in results.entries.values():
        rows = [part_means(run, edges, value) for run in entry.metrics.values()]
        if any(cell is not None for row in rows for cell in row):
            cells = [_spread(column, digits) for column in zip(*rows, strict=True)]
            lines.append([f"{entry.label}{entry.mark}", *cells])
    return lines


def part_means(
    run: Sequence[Line], edges: Sequence[float], value: Callable[[Line], float | None]
) -> list[float | None]:
    """Returns the means of a value over the parts of a run, and that of the last epoch; None where there is none."""
    done = [(number / len(run), value(line)) for number, line in enumerate(run, 1)]
    cells: list[float | None] = []
    for low, high in pairwise(edges):
        inside = [y for share, y in done if low < share <= high + 1e-9 and y is not None]
        cells.append(fmean(inside) if inside else None)
    return [*cells, done[-1][1]]


def _spread(column: Sequence[float | None], digits: int) -> str:
    known = [value for value in column if value is not None]
    if not known:
        return ""
    spread = f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else ""
    return f"{fmean(known):.{digits}f}{spread}"
