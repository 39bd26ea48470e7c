"""The plots of a run folder, as PNG."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from orderdp.comparison.results import seconds_of
from orderdp.output.drawing import new_axes, save
from orderdp.output.palette import GREY, SERIES
from orderdp.pruner import Pruner
from orderdp.training.run_folder import RunFolder

Series: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
Style: TypeAlias = Mapping[str, Any]
_ROOM = 1.15  # height of the frame of a histogram, in highest bars of the pruned runs
_SHOWN = 0.99  # share of the scores that the frame shows; the rest is a long tail
_LEGEND_LINE = 0.24  # inches
_SAMPLES = "samples that went through the model"


def draw_plots(
    groups: Mapping[str, Sequence[RunFolder]], references: Mapping[str, str | None], folder: Path
) -> list[Path]:
    """Draws accuracy over time and samples, the loss, how often samples were trained, and their scores.

    Args:
        groups: label to its runs, one for each seed; curves show their mean and the span from lowest to highest.
        references: label of each reference to the label of the run whose number of steps it takes; None for full data.
        folder: folder of the plots; created if it does not exist.

    Returns:
        The files written.

    Raises:
        OSError: they cannot be written. ValueError: a run has no checkpoint, or a damaged one.
    """
    folder.mkdir(exist_ok=True)
    time = seconds_of(run.result() or {} for runs in groups.values() for run in runs)
    styles = _styles(list(groups), references)
    histories = {label: [run.metrics() for run in runs] for label, runs in groups.items()}
    tables = {label: [_table(run) for run in runs] for label, runs in groups.items()}

    def curves(x: Callable[[Sequence[dict[str, Any]]], list[float]], y: str) -> dict[str, list[Series]]:
        return {
            label: [_series(x(history), [line[y] for line in history]) for history in runs]
            for label, runs in histories.items()
        }

    def seconds(history: Sequence[dict[str, Any]]) -> list[float]:
        return list(accumulate(map(time.of, history)))

    def samples(history: Sequence[dict[str, Any]]) -> list[float]:
        return [line["samples_forward"] for line in history]

    visits = {label: runs[0]["visits"] for label, runs in tables.items()}
    scores = {label: runs[0]["score"] for label, runs in tables.items() if "score" in runs[0]}
    drawn = {
        "accuracy_time": _draw_accuracy(curves(seconds, "accuracy"), styles, "time", f"{time.name} without evaluation"),
        "accuracy_samples": _draw_accuracy(curves(samples, "accuracy"), styles, "samples", _SAMPLES),
        "loss": _draw_loss(curves(samples, "loss"), styles),
        "visits": _draw_visits(visits, styles, references),
        "scores": _draw_scores(scores, styles),
    }
    return [save(figure, folder / f"{name}.png") for name, figure in drawn.items()]


def _series(x: Sequence[float], y: Sequence[float | None]) -> Series:
    """Returns the points of a curve; epochs without a value have none."""
    return np.array([a for a, b in zip(x, y, strict=True) if b is not None]), np.array([b for b in y if b is not None])


def _table(run: RunFolder) -> dict[str, npt.NDArray[Any]]:
    """Returns what the run's last checkpoint remembers of each sample: visits, and the columns of its strategy."""
    saved = run.load_checkpoint()
    if saved is None:
        raise ValueError(
            f"a finished run must keep its checkpoint, got none in {run.path}; "
            "remove result.json there and --resume, to train it again"
        )
    recipe, state = run.recipe(), saved[1]["loader"]["pruner"]
    pruner = Pruner(recipe.strategy, len(state["table"]["visits"]), seed=recipe.seed)
    # The checkpoint is known to be of this recipe. Its strategy has the labels of the data, which a recipe has not.
    pruner.load_state_dict(state, change=("strategy",))
    return {"visits": pruner.visits().numpy(), **{name: column.numpy() for name, column in pruner.scores().items()}}


def _styles(labels: Sequence[str], references: Mapping[str, str | None]) -> dict[str, Style]:
    """Returns a style for each label: full data is grey; a shorter schedule has its pruned run's colour, dashed."""
    pruned = [label for label in labels if label not in references]
    colors = {label: SERIES[number % len(SERIES)] for number, label in enumerate(pruned)}
    styles: dict[str, Style] = {}
    for label in labels:
        steps_of = references.get(label)
        color = colors.get(steps_of or label, GREY)
        styles[label] = {"color": color, "linestyle": "-" if steps_of is None else "--"}
    return styles


def _draw_curves(
    curves: Mapping[str, Sequence[Series]], styles: Mapping[str, Style], title: str, x_label: str, y_label: str
) -> tuple[Any, Any]:
    figure, axes = new_axes(x_label, y_label, title=title)
    for label, runs in curves.items():
        length = min(len(y) for _, y in runs)
        marker = "o" if length == 1 else None  # a line needs two points
        x = np.mean([x[:length] for x, _ in runs], axis=0)
        y = np.array([y[:length] for _, y in runs])
        axes.plot(x, y.mean(axis=0), label=label, linewidth=1.8, marker=marker, **styles[label])
        axes.fill_between(x, y.min(axis=0), y.max(axis=0), color=styles[label]["color"], alpha=0.12, linewidth=0)
    axes.set_xlim(left=0)
    _add_legend(figure, axes)
    return figure, axes


def _draw_accuracy(curves: Mapping[str, Sequence[Series]], styles: Mapping[str, Style], over: str, x_label: str) -> Any:
    figure, axes = _draw_curves(curves, styles, f"Test accuracy over {over}", x_label, "test accuracy, %")
    # The first epochs would squeeze the end, which is what is compared.
    highest = max(y.max() for runs in curves.values() for _, y in runs)
    typical = min(np.median(y) for runs in curves.values() for _, y in runs)
    floor = typical - 0.5 * (highest - typical)
    axes.set_ylim(floor, highest + 0.1 * (highest - typical) + 0.1)
    if any((y < floor).any() for runs in curves.values() for _, y in runs):
        axes.set_title(f"{axes.get_title('left')}; the first epochs are below the frame", loc="left")
    return figure


def _draw_loss(curves: Mapping[str, Sequence[Series]], styles: Mapping[str, Style]) -> Any:
    title = "Training loss over samples, of the samples that each epoch selects"
    return _draw_curves(curves, styles, title, _SAMPLES, "mean loss (cross-entropies in nats)")[0]


def _draw_visits(
    visits: Mapping[str, npt.NDArray[np.int32]], styles: Mapping[str, Style], references: Collection[str]
) -> Any:
    title = "How often each sample was trained; bars of references are cut off"
    figure, axes = new_axes("epochs in which a sample was trained", "share of the samples", title=title)
    most = max(int(counts.max()) for counts in visits.values())
    shares = {label: np.bincount(counts, minlength=most + 1) / len(counts) for label, counts in visits.items()}
    for label, share in shares.items():
        axes.stairs(share, np.arange(most + 2) - 0.5, label=label, linewidth=1.8, **styles[label])
    # A reference trains all samples equally often: its one high bar would flatten the others.
    pruned = [share.max() for label, share in shares.items() if label not in references]
    limit = _ROOM * max(pruned, default=max(share.max() for share in shares.values()))
    axes.set_ylim(0, limit)
    for label, share in shares.items():
        if share.max() > limit:
            color, visited = styles[label]["color"], int(share.argmax())
            axes.text(visited, limit, f"↑ {share.max():.2f}", ha="center", va="top", color=color, fontsize="small")
    _add_legend(figure, axes)
    return figure


def _draw_scores(scores: Mapping[str, npt.NDArray[np.float32]], styles: Mapping[str, Style]) -> Any:
    figure, axes = new_axes(
        "loss of a sample when it was last trained (cross-entropies in nats)",
        "density",
        title="Scores at the end of the run",
    )
    finite = {label: column[np.isfinite(column)] for label, column in scores.items()}
    known = [column for column in finite.values() if len(column)]
    if known:
        lowest, highest = min(column.min() for column in known), max(np.quantile(column, _SHOWN) for column in known)
        bins = np.linspace(lowest, max(highest, lowest + 1e-6), 60)
        for label, column in finite.items():
            unseen = 1 - len(column) / len(scores[label])
            note = f" ({100 * unseen:.1f} % unseen)" if unseen else ""
            axes.hist(column, bins, density=True, histtype="step", label=label + note, linewidth=1.8, **styles[label])
        _add_legend(figure, axes)
    else:
        axes.text(0.5, 0.5, "no run remembers scores", ha="center", va="center", transform=axes.transAxes)
    return figure


def _add_legend(figure: Any, axes: Any) -> None:
    """Puts the legend below the plot, where it covers nothing, and makes the picture higher by it."""
    labels = axes.get_legend_handles_labels()[1]
    figure.set_figheight(figure.get_figheight() + _LEGEND_LINE * -(-len(labels) // 2))
    figure.legend(loc="outside lower left", ncols=2, frameon=False)
