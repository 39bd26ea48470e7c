"""Figures 5 to 8 of the paper: the law γ, drawn from its exact values, and the numbers drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orderdp.output.drawing import new_axes, shades
from orderdp.output.palette import GREY, SERIES
from orderdp.paper.exhibit import Shown
from orderdp.theory import inclusion_probabilities, limit_density, spectrum_gap

_MOST_POINTS = 1_000  # of a curve, both in the file and in the picture


def figure5(sizes: Sequence[int] = (400, 1_000, 10_000, 100_000), s: int = 100, q: int = 30) -> Shown:
    """n·γ_j over j/n for growing n, with the limit γ(z) of Proposition 2 and the largest distance between them."""
    picture, axes = new_axes("j / n", r"$n\,\gamma_j$", title=rf"$n\,\gamma_j$ and its limit, s = {s}, q = {q}")
    rows: list[tuple[Any, ...]] = []
    distances: list[tuple[Any, ...]] = []
    for n, color in zip(sizes, shades(len(sizes)), strict=True):
        z = np.arange(1, n + 1) / n
        weights, limit = n * inclusion_probabilities(n, s, q), limit_density(z, s, q)
        distance = float(np.abs(weights - limit).max())
        distances.append((n, s, q, distance))
        shown = _thinned(n)
        rows += zip([n] * len(shown), (shown + 1).tolist(), z[shown], weights[shown], limit[shown], strict=True)
        axes.plot(z, weights, color=color, linewidth=1.6, label=f"n = {n:,} (largest distance {distance:.3g})")
    z = np.linspace(0, 1, _MOST_POINTS)
    axes.plot(z, limit_density(z, s, q), color="black", linestyle=":", linewidth=1.4, label=r"limit $\gamma(z)$")
    axes.set_xlim(0, 1)
    axes.legend(frameon=False)
    return Shown(
        {"figure5": picture},
        {
            "figure5": (("n", "j", "z", "n_gamma", "limit"), rows),
            "figure5_distance": (("n", "s", "q", "largest_distance"), distances),
        },
    )


def figure6(n: int = 200, s: int = 100, kept: Sequence[int] = (10, 30, 50, 70, 90, 100)) -> Shown:
    """γ_j for growing q, compared with the uniform draw of as many samples, q/n: the gap C_s of Theorem 4."""
    picture, axes = new_axes(
        "rank j", r"$\gamma_j$", title=rf"$\gamma_j$ against uniform sampling (dotted), n = {n}, s = {s}", width=8.4
    )
    rows: list[tuple[Any, ...]] = []
    for q, color in zip(kept, shades(len(kept)), strict=True):
        gammas, gap = inclusion_probabilities(n, s, q), spectrum_gap(n, s, q)
        rows += [(n, s, q, j, gamma, q / n, gap) for j, gamma in enumerate(gammas.tolist(), 1)]
        axes.plot(np.arange(1, n + 1), gammas, color=color, linewidth=1.6, label=rf"q = {q} ($C_s$ = {gap:.3g})")
        axes.axhline(q / n, color=color, linewidth=1, linestyle=":")
    axes.set_xlim(1, n)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return Shown({"figure6": picture}, {"figure6": (("n", "s", "q", "j", "gamma", "uniform", "spectrum_gap"), rows)})


def figure7(n: int = 400, s: int = 100, kept: Sequence[int] = tuple(range(10, 101, 10))) -> Shown:
    """γ_j/q, the shares of the training, for growing q: they flatten to 1/n."""
    picture, axes = new_axes("rank j", r"$\gamma_j\,/\,q$", title=f"share of the training by rank, n = {n}, s = {s}")
    rows: list[tuple[Any, ...]] = []
    for q, color in zip(kept, shades(len(kept)), strict=True):
        shares = inclusion_probabilities(n, s, q) / q
        rows += [(n, s, q, j, share) for j, share in enumerate(shares.tolist(), 1)]
        axes.plot(np.arange(1, n + 1), shares, color=color, linewidth=1.6, label=f"q = {q}")
    axes.axhline(1 / n, color=GREY, linewidth=1, linestyle=":", label="1/n")
    axes.set_xlim(1, n)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return Shown({"figure7": picture}, {"figure7": (("n", "s", "q", "j", "share"), rows)})


def figure8(n: int = 400, s: int = 100, kept: Sequence[int] = tuple(range(10, 101, 10))) -> Shown:
    """Σ_j γ_j/q, which is 1; the title says how far rounding takes it from there, and the table has all digits."""
    sums = [float(inclusion_probabilities(n, s, q).sum()) / q for q in kept]
    furthest = max(abs(total - 1) for total in sums)
    picture, axes = new_axes(
        "q",
        r"$\Sigma\,\gamma_j/q$",
        title=rf"$\Sigma\,\gamma_j/q$ is 1 up to rounding (at most {furthest:.1e} away), n = {n}, s = {s}",
    )
    axes.axhline(1, color=GREY, linewidth=1)
    axes.plot(kept, sums, marker="o", linestyle="none", color=SERIES[0])
    axes.set_xticks(kept)
    axes.set_ylim(0, 1.2)
    rows = [(n, s, q, total) for q, total in zip(kept, sums, strict=True)]
    return Shown({"figure8": picture}, {"figure8": (("n", "s", "q", "sum"), rows)})


def _thinned(n: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Returns positions among 0 .. n - 1, with both ends and at most as many as a curve needs."""
    return np.unique(np.linspace(0, n - 1, min(n, _MOST_POINTS)).round().astype(np.int64))
