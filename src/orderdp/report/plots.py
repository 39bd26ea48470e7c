"""The plots of a run folder, as PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orderdp.comparison.table import spent_s
from orderdp.output.drawing import COLORS, REFERENCE, new_axes, save
from orderdp.training.run_folder import RunFolder

Series = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def draw_plots(groups: Mapping[str, Sequence[RunFolder]], folder: Path) -> list[Path]:
    """Draws accuracy against time and samples, the loss, how often samples were used, and their scores.

    Args:
        groups: label to its runs, one for each seed; curves show their mean and the span between lowest and highest.
        folder: where the pictures go; made where it is not there.

    Returns:
        The files written.

    Raises:
        OSError: they cannot be written. ValueError: a run without checkpoint, or with one that is damaged.
    """
    folder.mkdir(exist_ok=True)
    histories = {label: [run.metrics() for run in runs] for label, runs in groups.items()}
    tables = {label: [_table(run) for run in runs] for label, runs in groups.items()}

    def curves(x: Callable[[Sequence[dict[str, Any]]], list[float]], y: str) -> dict[str, list[Series]]:
        return {
            label: [(np.array(x(history)), np.array([line[y] for line in history])) for history in runs]
            for label, runs in histories.items()
        }

    def seconds(history: Sequence[dict[str, Any]]) -> list[float]:
        return list(np.cumsum([spent_s(line) for line in history]))

    def samples(history: Sequence[dict[str, Any]]) -> list[float]:
        return [line["samples_forward"] for line in history]

    accuracy = "test accuracy, %"
    return [
        _draw_curves(folder / "accuracy_time.png", curves(seconds, "accuracy"), "seconds without evaluation", accuracy),
        _draw_curves(folder / "accuracy_samples.png", curves(samples, "accuracy"), "samples trained on", accuracy),
        _draw_curves(
            folder / "loss.png", curves(samples, "loss"), "samples trained on", "loss of the chosen samples, nats"
        ),
        _draw_visits(folder / "visits.png", {label: runs[0]["visits"] for label, runs in tables.items()}),
        _draw_scores(
            folder / "scores.png", {label: runs[0]["score"] for label, runs in tables.items() if "score" in runs[0]}
        ),
    ]


def _table(run: RunFolder) -> dict[str, npt.NDArray[Any]]:
    """Returns what the run's last checkpoint remembers of each sample: visits, and the columns of its strategy."""
    saved = run.load_checkpoint()
    if saved is None:
        raise ValueError(
            f"a finished run must keep its checkpoint, got none in {run.path}; "
            "remove result.json there and --resume, to train it again"
        )
    pruner = saved[1]["loader"]["pruner"]
    table = pruner["table"]
    visits = table["visits"] + (table["last_epoch"] == pruner["begun"] - 1)
    return {"visits": visits.numpy(), **{name: column.numpy() for name, column in table["columns"].items()}}


def _styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns a style for each label: full data is grey; a short schedule has its pruned run's colour, dashed."""
    styles: dict[str, dict[str, Any]] = {}
    colors = iter(COLORS * len(labels))
    for label in labels:
        whose = label.partition("full data, steps of ")[2]
        if whose in styles:
            styles[label] = {**styles[whose], "linestyle": "--"}
        else:
            styles[label] = {"color": REFERENCE if label.startswith("full data") else next(colors), "linestyle": "-"}
    return styles


def _draw_curves(path: Path, curves: Mapping[str, Sequence[Series]], x_label: str, y_label: str) -> Path:
    figure, axes = new_axes(x_label, y_label)
    for label, style in _styles(list(curves)).items():
        length = min(len(y) for _, y in curves[label])
        marker = "o" if length == 1 else None  # a line needs two points
        x = np.mean([x[:length] for x, _ in curves[label]], axis=0)
        y = np.array([y[:length] for _, y in curves[label]])
        axes.plot(x, y.mean(axis=0), label=label, linewidth=1.8, marker=marker, **style)
        axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=style["color"], alpha=0.12, linewidth=0)
    if "accuracy" in y_label:
        # The first epochs would squeeze the end, which is what is compared.
        highest = max(y.max() for runs in curves.values() for _, y in runs)
        typical = min(np.median(y) for runs in curves.values() for _, y in runs)
        axes.set_ylim(typical - 0.5 * (highest - typical), highest + 0.1 * (highest - typical) + 0.1)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, loc="lower right" if "accuracy" in y_label else "upper right")
    return save(figure, path)


def _draw_visits(path: Path, visits: Mapping[str, npt.NDArray[np.int32]]) -> Path:
    figure, axes = new_axes("epochs in which a sample was trained", "share of the samples")
    highest = max(int(counts.max()) for counts in visits.values())
    for label, style in _styles(list(visits)).items():
        share = np.bincount(visits[label], minlength=highest + 1) / len(visits[label])
        axes.stairs(share, np.arange(highest + 2) - 0.5, label=label, linewidth=1.8, **style)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="best")
    return save(figure, path)


def _draw_scores(path: Path, scores: Mapping[str, npt.NDArray[np.float32]]) -> Path:
    figure, axes = new_axes("score of a sample at the end: its last-seen loss, nats", "density")
    finite = {label: column[np.isfinite(column)] for label, column in scores.items()}
    shown = [column for column in finite.values() if len(column)]
    if shown:
        lowest, highest = min(column.min() for column in shown), max(np.quantile(column, 0.999) for column in shown)
        bins = np.linspace(lowest, max(highest, lowest + 1e-6), 60)
        for label, style in _styles(list(finite)).items():
            unseen = 1 - len(finite[label]) / len(scores[label])
            note = f" ({100 * unseen:.1f} % unseen)" if unseen else ""
            axes.hist(finite[label], bins, density=True, histtype="step", label=label + note, linewidth=1.8, **style)
        axes.legend(frameon=False, loc="best")
    else:
        axes.text(0.5, 0.5, "no run remembers scores", ha="center", va="center", transform=axes.transAxes)
    return save(figure, path)
