"""A plan of the theory as text, as JSON and as a plot. Loads no torch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from orderdp.output.drawing import REFERENCE, new_axes, save, shades
from orderdp.output.text_table import as_text
from orderdp.theory.inclusion import Floats, stretches
from orderdp.theory.planner import Decomposition, Plan

_HEADER = ("s", "s/n", "q/s", "best", "median", "worst", "zero", "C_s", "age", "oldest", "unseen", "as if n", "")
_LEGEND = """\
s drawn, q of them kept. best, median, worst: probability of being trained in an epoch, by rank of the
loss. zero: share of the ranks for which it is 0. C_s: the gap of Theorem 4. age, oldest: epochs since a
sample was trained, mean and last rank. unseen: share never trained in the run. as if n: samples that
equal weights would spread as far. Ages and unseen suppose that ranks do not move, which is the slow end."""
_POINTS = 1_000
_SMALL = 1e-9  # a probability below it is shown as ~0


def as_page(plan: Plan) -> str:
    """Returns the plan for a terminal: what it costs and saves, the table of splits, the recommendation."""
    cost = (
        f"{plan.n:,} samples, {plan.epochs:,} epochs, batches of {plan.batch_size:,}: "
        f"{plan.q:,} samples an epoch, {100 * plan.prune_ratio:.4g} % pruned\n"
        f"{plan.steps:,} steps instead of {plan.full_steps:,}; {plan.samples:,} samples instead of "
        f"{plan.epochs * plan.n:,}, {100 * plan.saved:.4g} % saved"
    )
    if plan.hours is not None:
        cost += f"; about {plan.hours:,.3g} hours, {plan.saved_hours:,.3g} fewer, if time goes with samples"
    lines = [_HEADER, *(_cells(plan, split) for split in plan.decompositions)]
    return f"{cost}\n\n{as_text(lines)}\n\n{_LEGEND}\n\nRecommended (<-): {plan.reason}"


def as_json(plan: Plan) -> str:
    """Returns every field of the plan as JSON."""
    return json.dumps(dataclasses.asdict(plan), indent=2)


def _cells(plan: Plan, split: Decomposition) -> tuple[str, ...]:
    def share(value: float) -> str:
        return f"{100 * value:.1f} %"

    def probability(value: float) -> str:
        return f"{value:.3g}" if value >= _SMALL else "0" if value == 0 else "~0"

    return (
        f"{split.s:,}",
        f"{split.explore:.3g}",
        f"{split.exploit:.3g}",
        probability(split.best),
        probability(split.median),
        probability(split.worst),
        share(split.share_zero),
        f"{split.spectrum_gap:.3g}",
        f"{split.mean_age:.3g}",
        f"{split.worst_age:.3g}",
        share(split.never_seen),
        f"{split.effective_samples:,.0f}",
        "<-" if split == plan.recommended else "",
    )


def draw_plan(plan: Plan, path: Path) -> Path:
    """Draws γ over the ranks for every split, and returns the path.

    Raises:
        ValueError: the ending of the path is of no picture. OSError: it cannot be written. ImportError: no matplotlib.
    """
    title = f"{plan.n:,} samples, {plan.q:,} kept an epoch ({100 * plan.prune_ratio:.4g} % pruned)"
    figure, axes = new_axes(
        "rank of the loss / n (0: the largest)", "probability of being trained in an epoch", title=title, width=9.6
    )
    ranks = np.unique(np.linspace(1, plan.n, min(plan.n, _POINTS)).round().astype(np.int64))
    for split, color in zip(plan.decompositions, shades(len(plan.decompositions)), strict=True):
        chosen = split == plan.recommended
        axes.plot(
            ranks / plan.n,
            at_ranks(plan.n, split.s, split.q, ranks),
            color=color,
            linewidth=3.2 if chosen else 1.4,
            label=f"s/n = {split.explore:.3g}, q/s = {split.exploit:.3g}" + (" (recommended)" if chosen else ""),
        )
    axes.axhline(plan.q / plan.n, color=REFERENCE, linestyle=":", linewidth=1, label="q/n, a uniform draw")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.05)
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return save(figure, path)


def at_ranks(n: int, s: int, q: int, ranks: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    """Returns γ at some ranks, (r,) ascending int64 from 1, without holding the others."""
    gammas = np.empty(len(ranks))
    for first, length, values in stretches(n, s, q):
        low, high = np.searchsorted(ranks, [first, first + length])
        gammas[low:high] = values[ranks[low:high] - first] if len(values) == length else values[0]
    return gammas
