"""The charts of a report: what accuracy costs, how fast it comes, and which samples it is made of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from orderdp.comparison.grid import FULL
from orderdp.comparison.results import Entry, Results
from orderdp.comparison.table import spent_s
from orderdp.diagnostics import correlation
from orderdp.diagnostics.moment import CHECKPOINTS
from orderdp.report.canvas import GREY, Canvas, Chart, Section, Table
from orderdp.report.series import colors_of, patterns_of, percent, place_of, ratios_of

Line = Mapping[str, Any]
_SECONDS = "Seconds are of the machine named below, with whatever else ran on it."


def frontier(results: Results) -> Section:
    """Accuracy against what it costs, in passes through the model and in seconds."""
    full = results.entries.get(FULL)
    whole, passes = 1.0, "forward and backward passes, in samples"
    if full is not None and full.results:
        whole, passes = _passes(full), "forward and backward passes, share of full data's"
    counted = (
        "A backward pass counts as two forward passes, which is about what it takes: a method that chooses within the "
        "batch goes forward over everything and spares backward passes only."
    )
    return Section(
        "Accuracy against cost",
        charts=[
            _frontier(results, "passes", passes, lambda entry: _passes(entry) / whole, counted),
            _frontier(results, "seconds", "seconds without evaluation", Entry.cost_s, _SECONDS),
        ],
    )


def _passes(entry: Entry) -> float:
    return (entry.mean("samples_forward") + 2 * entry.mean("samples_backward")) / 3


def _frontier(results: Results, name: str, x_label: str, cost: Callable[[Entry], float], counted: str) -> Chart:
    canvas = Canvas(x_label, "accuracy at the end, %", ("run", name, "accuracy", "standard deviation"))
    lines: dict[str, list[tuple[float, float, float]]] = {}
    partly: set[str] = set()
    for entry in results.entries.values():
        if entry.results:
            point = (cost(entry), entry.mean("accuracy_last"), entry.deviation("accuracy_last"))
            method = "all data, shorter" if entry.reference and entry.label != FULL else place_of(entry, results).method
            lines.setdefault(method, []).append(point)
            canvas.rows.append((f"{entry.label}{entry.mark}", *point))
            if entry.mark:
                partly.add(method)
    colors, patterns = colors_of(results), patterns_of(results)
    for method, points in lines.items():
        x, y, deviation = (np.array(values) for values in zip(*sorted(points), strict=True))
        style = {"color": colors.get(method, GREY), "linestyle": patterns.get(method, ":")}  # ":" of all data, shorter
        canvas.axes.errorbar(
            x,
            y,
            np.nan_to_num(deviation),
            label=f"{method} (runs missing)" if method in partly else method,
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=0.8,
            **style,
        )
    note = f"Up and to the left is better. Bars: one standard deviation over the seeds. {counted}"
    return canvas.finish(f"frontier_{name}", f"Accuracy against {name}", note)


def curves(results: Results) -> Section:
    """Test accuracy as the seconds go by, and as the samples do, charts for each prune ratio."""
    charts = []
    for ratio in ratios_of(results):
        for name, x in (
            ("time", ("seconds without evaluation", _seconds)),
            ("samples", ("samples that went through the model", _samples)),
        ):
            title = f"Accuracy by {name} at {percent(ratio)}"
            file = f"{name}_to_accuracy_{100 * ratio:g}"
            charts.append(_curves(results, ratio, file, title, x, ("test accuracy, %", "accuracy")))
    return Section("Time to accuracy", f"Means over the seeds; full data is grey. {_SECONDS}", charts=charts)


def _seconds(lines: Sequence[Line]) -> list[float]:
    return list(np.cumsum([spent_s(line) for line in lines]))


def _samples(lines: Sequence[Line]) -> list[float]:
    return [line["samples_forward"] for line in lines]


def stability(results: Results, edges: Sequence[float]) -> Section | None:
    """How much of an epoch's samples the next one trains again."""
    charts = [
        _curves(
            results,
            ratio,
            f"jaccard_{100 * ratio:g}",
            f"Jaccard similarity at {percent(ratio)}",
            ("epoch", _epochs),
            ("Jaccard similarity to the epoch before", "jaccard"),
            full=False,
        )
        for ratio in ratios_of(results)
    ]
    note = (
        "Jaccard similarity of the samples trained in consecutive epochs: mean over the epochs of each window, ± "
        "standard deviation over the seeds. Two independent uniform draws of a share p have p/(2 − p). A shorter "
        "schedule may end within an epoch, of which it trains a part."
    )
    tables = [
        Table(
            "jaccard", "To the epoch before, by part of the run", _windows(results, edges, itemgetter("jaccard")), note
        )
    ]
    apart = _windows(results, edges, lambda line: line.get("jaccard_checkpoint"))  # not in runs of earlier releases
    if len(apart) > 1:
        note = f"Jaccard similarity of the samples trained in epochs 1/{CHECKPOINTS} of the run apart."
        tables.append(Table("jaccard_checkpoint", "To the checkpoint before", apart, note))
    return Section("Stability of the choice", tables=tables, charts=charts)


def gradients(results: Results) -> Section:
    """The norm of the gradient, how much it moves, and how accuracy goes with it."""
    charts = []
    for ratio in ratios_of(results):
        for name, heading, what in (
            ("gradient_norm", "Gradient norm", "mean over the epoch's steps"),
            ("gradient_norm_deviation", "Gradient norm from step to step", "standard deviation over 20 steps"),
        ):
            title = f"{heading} at {percent(ratio)}"
            charts.append(_curves(results, ratio, f"{name}_{100 * ratio:g}", title, ("epoch", _epochs), (what, name)))
        charts.append(_joint(results, ratio))
    rows = [["run", "correlation of accuracy and gradient norm"]]
    rows += [[f"{entry.label}{entry.mark}", f"{r:+.2f}".replace("-", "−")] for entry, r in _correlations(results)]
    note = "Pearson's r over the epochs of a run, mean over the seeds."
    return Section("Gradients", tables=[Table("correlation", "Accuracy and gradient norm", rows, note)], charts=charts)


def _correlations(results: Results) -> Iterator[tuple[Entry, float]]:
    for entry in results.entries.values():
        runs = [
            correlation(*([line[name] for line in lines] for name in ("accuracy", "gradient_norm")))
            for lines in entry.metrics.values()
        ]
        found = [r for r in runs if not math.isnan(r)]
        if found:
            yield entry, fmean(found)


def _joint(results: Results, ratio: float) -> Chart:
    canvas = Canvas("gradient norm", "test accuracy, %", ("run", "seed", "gradient norm", "accuracy"))
    colors = colors_of(results)
    for entry in _at(results, ratio):
        points = [
            (line["gradient_norm"], line["accuracy"], seed) for seed, lines in entry.metrics.items() for line in lines
        ]
        if points:
            method = place_of(entry, results).method
            x, y, _ = zip(*points, strict=True)
            name = f"{method}{entry.mark}"
            canvas.axes.scatter(x, y, s=10, alpha=0.7, color=colors[method], label=name, linewidths=0)
            canvas.rows += [(entry.label, seed, norm, accuracy) for norm, accuracy, seed in points]
    return canvas.finish(f"joint_{100 * ratio:g}", f"Accuracy and gradient norm at {percent(ratio)}, a point an epoch")


def alignment(results: Results, edges: Sequence[float]) -> Section | None:
    """Where the chosen samples' gradient points, beside that of all the data and ∇L_q."""
    if not any(line["alignment"] for entry in results.entries.values() for line in _all_lines(entry)):
        return None
    tables, charts = [], []
    for other, what in (("full", "the full gradient"), ("surrogate", "∇L_q")):
        for value, name in (("cosine", "cosine"), ("norm_ratio", "norm ratio")):
            lines = _windows(results, edges, _measured(other, value))
            if len(lines) > 1:
                tables.append(Table(f"{value}_{other}", f"{name.capitalize()} to {what}, by part of the run", lines))
        charts += [
            _curves(
                results,
                ratio,
                f"cosine_{other}_{100 * ratio:g}",
                f"Cosine to {what} at {percent(ratio)}",
                ("epoch", _epochs),
                (f"cosine to {what}", _measured(other, "cosine")),
                full=False,
            )
            for ratio in ratios_of(results)
        ]
    text = (
        "At the same weights, without augmentation: the mean gradient of the samples that the next epoch would train, "
        "beside that of all the data, and for OrderDP beside ∇L_q, which is its expectation by Theorem 1 where the "
        "scores are current. Mean over the seeds."
    )
    return Section("Direction of the gradient", text, tables, [chart for chart in charts if chart.csv.count("\n") > 1])


def _measured(other: str, value: str) -> Callable[[Line], float | None]:
    """Returns the reader of a number of the alignment, None where it was not measured."""
    return lambda line: ((line["alignment"] or {}).get(other) or {}).get(value)


def progress(results: Results, edges: Sequence[float]) -> Section:
    """Accuracy, loss and gradient norm by part of the run."""
    tables = [
        Table(
            f"progress_{name}",
            f"{title}, by part of the run",
            _windows(results, edges, itemgetter(name), digits),
            "Mean over the epochs of each window, ± standard deviation over the seeds.",
        )
        for name, title, digits in (
            ("accuracy", "Accuracy, %", 2),
            ("loss", "Training loss of the samples trained, nats", 3),
            ("gradient_norm", "Gradient norm", 3),
            ("gradient_norm_deviation", "Standard deviation of the gradient norm over 20 steps", 3),
        )
    ]
    return Section("Progress", tables=tables)


def usage(results: Results) -> Section:
    """How often samples were trained."""
    charts = []
    for ratio in ratios_of(results):
        canvas = Canvas(
            "epochs in which a sample was trained", "share of the samples", ("run", "epochs", "share of the samples")
        )
        colors = colors_of(results)
        for entry in _at(results, ratio, full=False):
            share = _visits(entry)
            if share is not None:
                method = place_of(entry, results).method
                edges = np.arange(len(share) + 1) - 0.5
                name = f"{method}{entry.mark}"
                canvas.axes.stairs(share, edges, label=name, color=colors[method], linewidth=1.4)
                canvas.rows += [
                    (f"{entry.label}{entry.mark}", visits, float(part)) for visits, part in enumerate(share)
                ]
        note = _cut_spikes(canvas)
        charts.append(canvas.finish(f"usage_{100 * ratio:g}", f"Use of the samples at {percent(ratio)}", note))
    lines = [["run", "never trained", "Gini", "most visits", "largest age, epochs", "share of the classes, from–to"]]
    for entry in results.entries.values():
        if entry.results:
            found = [result["coverage"] for result in entry.results.values()]
            shares = np.array([one["class_shares"] for one in found])
            last = [lines[-1] for lines in entry.metrics.values()]
            lines.append(
                [
                    f"{entry.label}{entry.mark}",
                    f"{100 * fmean(one['never_seen'] for one in found):.2f} %",
                    f"{fmean(one['gini'] for one in found):.3f}",
                    f"{fmean(len(one['histogram']) - 1 for one in found):.1f}",
                    f"{fmean(line['max_age'] for line in last):.1f}",
                    f"{100 * shares.min(axis=1).mean():.1f}–{100 * shares.max(axis=1).mean():.1f} %",
                ]
            )
    note = (
        "Means over the seeds. Gini: 0 where all samples are trained equally often. Age: epochs since a sample was "
        "trained. A shorter schedule may end within an epoch, of which it trains a part."
    )
    return Section("Use of the samples", tables=[Table("usage", "Coverage", lines, note)], charts=charts)


def _cut_spikes(canvas: Canvas) -> str:
    """Keeps a method that trains all samples equally often from flattening the others, and says so."""
    tops = sorted(
        max(part for label, _, part in canvas.rows if label == run) for run in {row[0] for row in canvas.rows}
    )
    limit = 2 * tops[len(tops) // 2] if tops else 1.0
    cut = bool(tops) and tops[-1] > limit
    canvas.axes.set_ylim(0, limit if cut else None)
    return f"The highest peaks, up to {tops[-1]:.2f}, are cut off." if cut else ""


def decomposition(results: Results) -> Section | None:
    """Accuracy by how a prune ratio is split into exploration and exploitation, a chart for each first score."""
    split = [
        entry for entry in results.entries.values() if entry.results and {"explore", "exploit"} & set(entry.strategy)
    ]
    if not split:
        return None
    charts = []
    for initial in sorted({_initial(entry) for entry in split}, reverse=True):
        cells = [entry for entry in split if _initial(entry) == initial]
        name = "unseen first" if initial == math.inf else f"unseen at {initial:g}"
        charts.append(_heat_map(cells, f"decomposition_{'inf' if initial == math.inf else f'{initial:g}'}", name))
    text = (
        "Explore: share of the data that is drawn. Exploit: share of the draw that is kept. Their product is trained."
    )
    return Section("Exploration against exploitation", text, charts=charts)


def _initial(entry: Entry) -> float:
    return float(entry.strategy.get("initial_score", math.inf))


def _split(entry: Entry) -> tuple[float, float]:
    """Returns explore and exploit of an OrderDP without prune ratio: how much it draws, and keeps of that."""
    return entry.strategy.get("explore", 0.5), entry.strategy.get("exploit", 0.6)


def _heat_map(cells: Sequence[Entry], name: str, title: str) -> Chart:
    ratios = sorted({entry.ratio for entry in cells if entry.ratio is not None})
    columns = max(sum(entry.ratio == ratio for entry in cells) for ratio in ratios)
    canvas = Canvas(
        "from a uniform draw (left) to the highest losses of all (right)",
        "prune ratio",
        ("prune ratio", "explore", "exploit", "initial score", "accuracy", "standard deviation"),
        height=1.2 + 0.75 * len(ratios),
    )
    values = np.full((len(ratios), columns), np.nan)
    for row, ratio in enumerate(ratios):
        in_order = sorted((entry for entry in cells if entry.ratio == ratio), key=_split)
        for column, entry in enumerate(in_order):
            values[row, column] = entry.mean("accuracy_last")
            explore, exploit = _split(entry)
            text = f"explore {explore:.3g}\nexploit {exploit:.3g}\n{entry.mean('accuracy_last'):.2f}{entry.mark}"
            canvas.axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color="#1a1a1a")
            numbers = (explore, exploit, _initial(entry))
            canvas.rows.append((ratio, *numbers, entry.mean("accuracy_last"), entry.deviation("accuracy_last")))
    # Each ratio on a scale of its own: what is compared stands in one row.
    low, high = (extreme(values, axis=1, keepdims=True) for extreme in (np.nanmin, np.nanmax))
    canvas.axes.imshow((values - low) / np.maximum(high - low, 1e-9), cmap="YlGnBu", aspect="auto", vmin=-0.2, vmax=1.9)
    canvas.axes.set_yticks(range(len(ratios)), [percent(ratio) for ratio in ratios])
    canvas.axes.set_xticks([])
    canvas.axes.grid(visible=False)
    note = "Accuracy at the end, mean over the seeds. Each row has its own scale of colour: dark is best in the row."
    return canvas.finish(name, f"Accuracy by split, {title}", note, legend=False)


def _curves(
    results: Results,
    ratio: float,
    name: str,
    title: str,
    x: tuple[str, Callable[[Sequence[Line]], Sequence[float]]],
    y: tuple[str, str | Callable[[Line], float | None]],
    *,
    full: bool = True,
) -> Chart:
    """Returns a chart of something by epoch or time: a curve for each method at a ratio, the mean over the seeds."""
    (x_label, x_of), (y_label, key) = x, y
    y_of = key if callable(key) else (lambda line: line[key])
    canvas = Canvas(x_label, y_label, ("run", x_label, y_label))
    colors, patterns = colors_of(results), patterns_of(results)
    for entry in _at(results, ratio, full=full):
        series = _mean_series(entry, x_of, y_of)
        if len(series):
            place = place_of(entry, results)
            shorter = entry.reference and entry.label != FULL
            marker = "o" if len(series) < 12 else None
            canvas.axes.plot(
                *series.T,
                label=f"{place.method}{entry.mark}",
                color=colors[place.method],
                linewidth=1.5,
                marker=marker,
                markersize=3,
                linestyle="--" if shorter else "-" if entry.reference else patterns[place.method],
            )
            canvas.rows += [(f"{entry.label}{entry.mark}", float(a), float(b)) for a, b in series]
    _focus(canvas, y_label)
    return canvas.finish(name, title)


def _focus(canvas: Canvas, y_label: str) -> None:
    """Cuts off the beginning of accuracy curves, which would squeeze the end, which is what is compared."""
    ends = [float(line.get_ydata()[-1]) for line in canvas.axes.lines]
    if "accuracy" in y_label and ends:
        span = max(max(ends) - min(ends), 1.0)
        top = max(float(np.max(line.get_ydata())) for line in canvas.axes.lines)
        canvas.axes.set_ylim(min(ends) - 1.2 * span, top + 0.3 * span)


def _mean_series(
    entry: Entry, x_of: Callable[[Sequence[Line]], Sequence[float]], y_of: Callable[[Line], float | None]
) -> npt.NDArray[np.float64]:
    """Returns (points, 2): means over the seeds of x and y, at the epochs where all seeds have y.

    Counted from the end: a shorter schedule may have an epoch more with one seed than with another, and what is
    compared is where runs end.
    """
    runs = [list(zip(x_of(lines), map(y_of, lines), strict=True))[::-1] for lines in entry.metrics.values()]
    points = [list(epoch) for epoch in zip(*runs, strict=False) if all(y is not None for _, y in epoch)]
    return np.array(points[::-1], dtype=np.float64).mean(axis=1) if points else np.empty((0, 2))


def _windows(
    results: Results,
    edges: Sequence[float],
    value: Callable[[Line], float | None],
    digits: int = 3,
) -> list[list[str]]:
    """Returns a table of means over windows of the run, the windows given by shares of it."""
    names = [f"{100 * low:g}–{100 * high:g} %" for low, high in pairwise(edges)]
    lines = [["run", *names, "last epoch"]]
    for entry in results.entries.values():
        rows = [_window_means(run, edges, value) for run in entry.metrics.values()]
        if any(cell is not None for row in rows for cell in row):
            cells = [_spread(column, digits) for column in zip(*rows, strict=True)]
            lines.append([f"{entry.label}{entry.mark}", *cells])
    return lines


def _window_means(
    run: Sequence[Line], edges: Sequence[float], value: Callable[[Line], float | None]
) -> list[float | None]:
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


def _visits(entry: Entry) -> npt.NDArray[np.float64] | None:
    """Returns the share of the samples by number of visits, mean over the seeds."""
    histograms = [result["coverage"]["histogram"] for result in entry.results.values()]
    if not histograms:
        return None
    longest = max(map(len, histograms))
    padded = np.array([[*histogram, *[0] * (longest - len(histogram))] for histogram in histograms], dtype=np.float64)
    return np.asarray((padded / padded.sum(axis=1, keepdims=True)).mean(axis=0))


def _at(results: Results, ratio: float, *, full: bool = True) -> list[Entry]:
    """Returns the runs at a prune ratio, with full data and the shorter schedule that most of them share."""
    pruned = [e for e in results.entries.values() if not e.reference and e.ratio == ratio]
    if not full:
        return pruned
    shared = Counter(entry.short for entry in pruned if entry.short not in (None, FULL)).most_common(1)
    beside = [FULL, *(label for label, _ in shared)]
    return [*pruned, *(results.entries[label] for label in beside if label in results.entries)]


def _epochs(lines: Sequence[Line]) -> list[float]:
    return [line["epoch"] for line in lines]


def _all_lines(entry: Entry) -> Iterator[Line]:
    for lines in entry.metrics.values():
        yield from lines
