"""The plots of `orderdp coreset`: how the scores are spread, what the extremes look like, and how far they agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from orderdp.data.base import DataSets, ImageArrays, ImageFiles
from orderdp.data.images import FileImages
from orderdp.output.drawing import new_figure, save, set_style, thousands
from orderdp.output.palette import GREY, INK, SERIES
from orderdp.report.agreement import rank_correlations, written
from orderdp.training.coreset_run import Coresets

_COLUMNS = 3  # of histograms
_TAIL = 0.005  # share of the scores at each end that a histogram may cut off
_TICKS = 6  # most values that get a tick each
_BARS = 20  # most values that get a bar each
_ENDLESS = 1e37  # a score beyond stands for an infinite one
_ROWS, _IN_A_ROW = 2, 12  # of images at each end
_SIDE = 0.62  # inches of an image
_WIDE, _HIGH = 1.1, 1.35  # of an image with its margin and its class, in sides


def draw_coreset_plots(coresets: Coresets, data: DataSets, folder: Path) -> list[Path]:
    """Draws histograms of the scores, their rank correlations, and the images with the highest and lowest scores.

    Args:
        coresets: scores and subsets.
        data: the data set that was scored.
        folder: folder of the plots; created if it does not exist.

    Returns:
        The files written; none if no method scores.

    Raises:
        OSError: they cannot be written.
    """
    if not coresets.scores:
        return []
    folder.mkdir(exist_ok=True)
    drawn = {"scores": _draw_histograms(coresets)}
    if len(coresets.scores) > 1:
        drawn["correlations"] = _draw_correlations(coresets)
    for key, scores in coresets.scores.items() if data.kind == "images" else ():
        drawn[f"images-{key}"] = _draw_images(coresets.labels[key], scores, data)
    return [save(figure, folder / f"{name}.png") for name, figure in drawn.items()]


def _draw_histograms(coresets: Coresets) -> Any:
    columns = min(_COLUMNS, len(coresets.scores))
    rows = -(-len(coresets.scores) // columns)
    figure = new_figure(max(4.6, 3.1 * columns), 2.3 * rows)
    grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes, (key, scores) in zip(grid, coresets.scores.items(), strict=False):
        known = scores[np.isfinite(scores)]
        ordinary = known[np.abs(known) < _ENDLESS]
        low, high = np.quantile(ordinary, [_TAIL, 1 - _TAIL]) if len(ordinary) else (0.0, 1.0)
        inside = ordinary[(ordinary >= low) & (ordinary <= high)]
        values, counts = np.unique(inside, return_counts=True)
        if len(values) <= _BARS:  # a count, say
            axes.bar(values, counts, width=0.8 * (np.diff(values).min() if len(values) > 1 else 1), color=SERIES[0])
        else:
            axes.hist(inside, bins=40, color=SERIES[0])
        set_style(axes, coresets.labels[key])
        axes.yaxis.set_major_formatter(thousands)
        if len(values) <= _TICKS:
            axes.set_xticks(values)
        else:
            axes.xaxis.set_major_locator(_few_ticks())
        if outside := len(known) - len(inside):
            text = f"{thousands(outside)} not shown"
            place = {"transform": axes.transAxes, "ha": "right", "va": "top"}
            axes.text(1, 1, text, fontsize="x-small", color=GREY, **place)
    for axes in grid[len(coresets.scores) :]:
        axes.set_visible(False)
    tail = f"score; the highest are kept first; the outer {100 * _TAIL:g} % at each end are not shown"
    figure.supxlabel(tail, fontsize="medium", color=INK)
    figure.supylabel("samples", fontsize="medium", color=INK)
    return figure


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


def _draw_correlations(coresets: Coresets) -> Any:
    values = rank_correlations(coresets)
    labels = [coresets.labels[key] for key in coresets.scores]
    side = 1.6 + 0.52 * len(labels)
    figure = new_figure(max(side + 1.6, 4.4), side)
    axes = figure.subplots()
    shown = axes.imshow(values, vmin=-1, vmax=1, cmap="RdBu_r")
    # Above the figure, not the axes: those may be narrow.
    figure.suptitle("Rank correlation of the scores (Spearman)", x=0.01, ha="left", fontsize="medium", color=INK)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(values.shape):
        value = float(values[row, column])
        text = written(value)
        color = "white" if abs(value) > 0.6 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize="x-small", color=color)
    figure.colorbar(shown, shrink=0.7, ticks=[-1, -0.5, 0, 0.5, 1])
    return figure


def _draw_images(label: str, scores: npt.NDArray[np.float64], data: DataSets) -> Any:
    """Draws the images with the highest scores above those with the lowest, each with its class."""
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(-scores[known], kind="stable")]
    number = min(_ROWS * _IN_A_ROW, max(1, len(order) // 2))
    parts = {"highest": order[:number], "lowest": order[::-1][:number]}
    figure = new_figure(_SIDE * _WIDE * _IN_A_ROW, 2 * (_SIDE * _HIGH * _ROWS + 0.3))
    for axes, (name, ids) in zip(figure.subplots(2, 1), parts.items(), strict=True):
        title = f"{label}: {name} scores, {scores[ids[0]]:.3g} to {scores[ids[-1]]:.3g}; the number is the class"
        axes.set_title(title, loc="left", fontsize="small", color=INK)
        for place, (image, sample) in enumerate(zip(_images(data, ids), ids, strict=True)):
            row, column = divmod(place, _IN_A_ROW)
            left, top = _WIDE * column, -_HIGH * row
            extent = (left, left + 1, top - 1, top)
            axes.imshow(image, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            text = str(int(data.train.labels[sample]))
            axes.text(left + 0.5, top + 0.03, text, ha="center", va="bottom", fontsize="x-small", color=INK)
        axes.set_xlim(0, _WIDE * _IN_A_ROW)
        axes.set_ylim(-_HIGH * _ROWS, _HIGH - 1)
        axes.set_axis_off()
    return figure


def _images(data: DataSets, ids: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float32]]:
    """Returns images as (h, w) or (h, w, 3) in 0 .. 1."""
    train = data.train
    assert isinstance(train, ImageArrays | ImageFiles)
    if isinstance(train, ImageFiles):
        plain = (0.0,) * data.in_channels, (1.0,) * data.in_channels
        files = FileImages(train, mean=plain[0], std=plain[1], image_size=data.image_size)
        tensors = [files[int(sample)][0].clamp(0, 1) for sample in ids]
    else:
        tensors = list(train.images[torch.from_numpy(ids.copy())].float().div(255))
    return [np.asarray(tensor.permute(1, 2, 0).squeeze(2).numpy()) for tensor in tensors]
