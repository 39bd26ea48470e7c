"""Folders and canvases that several sections are tested with."""

import numpy as np
import pytest

from orderdp.comparison.results import read_results
from orderdp.report.canvas import Canvas
from reference.reported import methods


@pytest.fixture
def many(made):
    """Three methods at two ratios, one with sizes of its own, one that forwards everything."""
    folder = made(
        methods=methods(
            "orderdp,prune_ratio=0.3",
            "dynamic_random,prune_ratio=0.3",
            "ordered_sgd,prune_ratio=0.3",
            "orderdp,prune_ratio=0.7",
            "dynamic_random,prune_ratio=0.7",
            "orderdp,explore=0.5,exploit=0.6",
        ),
        seeds=(0, 1),
    )
    for number, label in enumerate(dict.fromkeys(member.label for member in folder.plan.members(200))):
        folder.finish(label, (90.0 + number, 91.0 + number))
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the charts drawn so far."""
    axes, finish = [], Canvas.finish

    def keep(canvas, *arguments, **named):
        axes.append(canvas.axes)
        return finish(canvas, *arguments, **named)

    monkeypatch.setattr(Canvas, "finish", keep)
    return axes


@pytest.fixture
def long(made):
    """Ten epochs of three seeds, of values that differ in every epoch and seed."""
    folder = made(recipe=None, methods=({"strategy": "orderdp", "prune_ratio": 0.5},), seeds=(0, 1, 2), against=())
    values = np.random.default_rng(0).uniform(0.2, 0.9, size=(3, 10))
    folder.finish(
        "OrderDP 50 %",
        (90.0, 91.0, 92.0),
        epochs=10,
        jaccard=lambda seed, epoch: None if epoch == 1 else values[seed, epoch - 1],
        gradient_norm=lambda seed, epoch: values[seed, epoch - 1],
        gradient_norm_deviation=lambda seed, epoch: values[seed, epoch - 1] / 2,
    )
    return read_results(folder.path), values
