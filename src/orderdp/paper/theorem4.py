"""Theorem 4 measured: its two bias terms over a grid of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from orderdp.output.drawing import new_axes, shades
from orderdp.output.palette import GREY, SERIES
from orderdp.paper.digits_models import descend, digits, models
from orderdp.paper.exhibit import Shown
from orderdp.theory import sampling_bound, sampling_distance, selection_bias, spectrum_gap


def theorem4(*, smoke: bool = False) -> Shown:
    """The measurement of `bias_terms` as a picture of both terms and a table."""
    return show(bias_terms(n=200) if smoke else bias_terms())


def show(rows: list[BiasRow]) -> Shown:
    """Returns the rows as a picture and a table."""
    picture, axes = new_axes("q / s", "nats", title="the bias terms of Theorem 4 on the losses of a network", width=9.6)
    sizes = list(dict.fromkeys(row.s for row in rows))
    for s, color in zip(sizes, shades(len(sizes)), strict=True):
        mine = [row for row in rows if row.s == s]
        # At q = s both terms drop to 0, and C_s jumps. That point is drawn separately.
        share = [row.q / s if row.q < s else np.nan for row in mine]
        explore = f"s/n = {s / mine[0].n:g}"
        axes.plot(
            share,
            [row.sampling for row in mine],
            "--",
            marker="o",
            markersize=4,
            color=color,
            label=f"sampling term, {explore}",
        )
        # Q_n hardly depends on s/n: its lines coincide, and one entry of the legend is enough.
        label = "$Q_n$, each s/n" if s == sizes[-1] else None
        axes.plot(share, [row.bias for row in mine], marker="o", markersize=4, color=SERIES[1], label=label)
    axes.plot(1, 0, "o", markersize=7, color=GREY, label="all of them at q = s")
    axes.set_ylim(bottom=-0.02)
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    header = ("s, q", "C_s", "E W1", "bound of E W1", "C_s times the bound", "Q_n")
    lines = [
        (
            f"{row.s}, {row.q}",
            f"{row.spectrum_gap:.3g}",
            f"{row.distance:.4f}",
            f"{row.distance_bound:.4f}",
            f"{row.sampling:.4f}",
            f"{row.bias:.4f}",
        )
        for row in rows
    ]
    above = sum(row.distance > row.distance_bound for row in rows)
    note = (
        "E W1 is the exact mean distance between the losses of a draw and all losses. The theorem uses its bound, so "
        f"an E W1 above the bound would contradict it: that is so in {above} of {len(rows)} rows. C_s times the bound "
        "and Q_n are the two bias terms. The first shrinks as s nears n, the second as q nears s."
    )
    return Shown({"theorem4": picture}, {"theorem4": (BiasRow._fields, rows)}, (header, lines), note)


class BiasRow(NamedTuple):
    """The bias terms of Theorem 4 at one (s, q), on the losses of a trained network, in nats.

    Args:
        n: number of samples.
        s: exploration size.
        q: exploitation size.
        spectrum_gap: C_s.
        distance: E ‖F_s^{-1} - F_n^{-1}‖_1, exactly.
        distance_bound: √2·B·√((n - s)/(s·(n - 1))).
        sampling: C_s times the bound, the first term.
        bias: Q_n, the second.
    """

    n: int
    s: int
    q: int
    spectrum_gap: float
    distance: float
    distance_bound: float
    sampling: float
    bias: float


def bias_terms(
    *,
    explore: Sequence[float] = (0.25, 0.5, 0.75, 0.95, 1.0),
    exploit: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 0.95, 1.0),
    n: int = 1_000,
) -> list[BiasRow]:
    """Measures the bias terms of Theorem 4 over a grid of sizes, on the losses of a network on digits.

    Source: OrderDP, Theorem 4.
    """
    images, labels = digits(n)
    losses = descend(models()["network"], images, labels, steps=60).numpy()
    rows = []
    for s in (round(share * n) for share in explore):
        bound = sampling_bound(n, s, float(losses.max()))
        distance = sampling_distance(losses, s)
        for q in (round(share * s) for share in exploit):
            gap = spectrum_gap(n, s, q)
            rows.append(BiasRow(n, s, q, gap, distance, bound, gap * bound, selection_bias(losses, s, q)))
    return rows
