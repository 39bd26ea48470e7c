"""How often samples were trained."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import numpy as np
import numpy.typing as npt

from orderdp.comparison.results import Entry, Results
from orderdp.diagnostics.registry import View, in_table
from orderdp.output.text_table import Table
from orderdp.report.canvas import Canvas, Chart
from orderdp.report.placement import colors_of, entries_at, patterns_of, percent, ratios_of
from orderdp.report.section import Choices, Section
from orderdp.report.tables import by_method, by_run


def section(results: Results, _choices: Choices) -> Section:
    """Returns a histogram for each prune ratio, and the coverage of each run in a table."""
    finished = [entry for entry in results.entries.values() if entry.results]
    columns = [(view.title, _mean_of(view)) for view in in_table("usage")]
    columns = [(title, cell) for title, cell in columns if any(map(cell, finished))]  # earlier runs measured less
    lines = by_run(finished, columns)
    note = (
        "Means over the seeds. Gini coefficient: 0 where all samples are trained equally often. Age: epochs since a "
        "sample was last trained. A shorter schedule may end within an epoch, of which it trains a part."
    )
    if any(title == "mastered" for title, _ in columns):
        note += (
            " Mastered: share of the samples whose last-seen loss gives the right class a probability above one half; "
            "blank for methods that remember no losses."
        )
    charts = [_chart(results, ratio) for ratio in ratios_of(results)]
    losses = Table(
        "training_loss",
        "Training loss of the last epoch",
        by_method(results, finished, _last_loss),
        "Of the samples that this epoch trained, cross-entropies in nats: mean over the seeds. High where a method "
        "keeps what the network cannot fit.",
    )
    return Section("Use of the samples", tables=[Table("usage", "Coverage", lines, note), losses], charts=charts)


def _last_loss(entry: Entry) -> str:
    return f"{fmean(row['loss'] for row in entry.last.values()):.3f}" if entry.last else ""


def _mean_of(view: View) -> Callable[[Entry], str]:
    """Returns the cell of a number that runs end with, in their result or in the line of their last epoch."""

    def cell(entry: Entry) -> str:
        ends = [{**entry.last[seed], **result} for seed, result in entry.results.items()]
        known = [value for end in ends if (value := view.of(end)) is not None]
        unit = f" {view.unit}" if view.unit else ""
        return f"{fmean(known):.{view.digits}f}{unit}" if known else ""

    return cell


def _chart(results: Results, ratio: float) -> Chart:
    canvas = Canvas(
        "epochs in which a sample was trained", "share of the samples", ("run", "epochs", "share of the samples")
    )
    colors, patterns = colors_of(results), patterns_of(results)
    for entry in entries_at(results, ratio, full=False):
        share = _visits(entry)
        if share is not None:
            method = entry.method
            edges = np.arange(len(share) + 1) - 0.5
            style = {"color": colors[method], "linestyle": patterns[method]}
            canvas.axes.stairs(share, edges, label=f"{method}{entry.mark}", linewidth=1.4, **style)
            canvas.rows += [(f"{entry.label}{entry.mark}", visits, float(part)) for visits, part in enumerate(share)]
    return canvas.finish(f"usage_{100 * ratio:g}", f"Use of the samples at {percent(ratio)}", _cut_spikes(canvas))


def _visits(entry: Entry) -> npt.NDArray[np.float64] | None:
    """Returns the share of the samples by number of visits, mean over the seeds."""
    histograms = [result["coverage"]["histogram"] for result in entry.results.values()]
    if not histograms:
        return None
    longest = max(map(len, histograms))
    padded = np.array([[*histogram, *[0] * (longest - len(histogram))] for histogram in histograms], dtype=np.float64)
    return np.asarray((padded / padded.sum(axis=1, keepdims=True)).mean(axis=0))


def _cut_spikes(canvas: Canvas) -> str:
    """Keeps a method that trains all samples equally often from flattening the others, and returns a note on it."""
    tops = sorted(
        max(part for label, _, part in canvas.rows if label == run) for run in {row[0] for row in canvas.rows}
    )
    limit = 2 * tops[len(tops) // 2] if tops else 1.0
    cut = bool(tops) and tops[-1] > limit
    canvas.axes.set_ylim(0, limit if cut else None)
    return f"The frame cuts off the highest peaks, which reach {tops[-1]:.2f}." if cut else ""
