"""A plan of the theory as text, as JSON and as a plot. Loads no torch."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from orderdp.output.drawing import new_axes, save, shades
from orderdp.output.palette import GREY
from orderdp.output.text_table import as_text
from orderdp.theory.inclusion import Floats, stretches
from orderdp.theory.planner import Decomposition, Plan
from orderdp.theory.proportional import ProportionalDraw

_HEADER = (
    *("s", "explore", "exploit", "hardest", "median", "easiest", "zero", "C_s"),
    *("mean age", "last age", "dormant", "unseen", "all seen", "n_eff"),
)
_LEGEND = """\
An epoch draws s samples and trains those of highest loss. An arrow <- marks the recommended split.
  explore      s/n, share of the data that is drawn
  exploit      q/s, share of the draw that is trained
The next columns assume that losses keep their order.
  hardest, median, easiest
               chance that an epoch trains the sample of largest, middle or smallest loss
  zero         samples whose chance is exactly 0
  C_s          spectrum gap: how far the weights are from uniform; at least 1 if exploit < 1
  mean age     epochs since a sample was last trained, mean over the samples
  last age     the same for the sample of smallest loss
  dormant      samples that the whole run is not expected to train
  n_eff        number of samples over which equal weights would be spread as widely
The default of OrderDP trains samples without a loss first.
  unseen       samples that the run still never trains
  all seen     epochs until every sample was trained"""
_PROPORTIONAL = """\
A choice in proportion to the losses given, as many samples an epoch, by its uniform share. The columns assume that
these losses stay as they are; certain are samples that every epoch trains."""
_EQUAL = "All losses are equal, so the choice is uniform."
_SHORT = 3  # epochs of a run that hardly knows losses
_OF_SHORT = (
    "So short a run makes many of its choices before it knows losses. Take full data for {:,} steps instead, with a "
    "learning rate that ends with them, or a method that chooses within the batch."
)
_OF_DRAWS = ("uniform share", "hardest", "median", "easiest", "certain", "mean age", "dormant", "n_eff")
_POINTS = 1_000
_FEW = 50  # ranks that a line does not show
_SMALL = 1e-9  # a probability below it is shown as ~0


def as_page(plan: Plan, draws: Sequence[ProportionalDraw] = ()) -> str:
    """Returns the plan for a terminal: what it costs and saves, the table of splits, the recommendation.

    Args:
        plan: the plan.
        draws: proportional choices to show in a second table.
    """
    cost = (
        f"{plan.n:,} samples, {plan.epochs:,} epochs, batches of {plan.batch_size:,}: "
        f"{plan.q:,} samples an epoch, {100 * plan.prune_ratio:.4g} % pruned\n"
        f"{plan.steps:,} steps instead of {plan.full_steps:,}; {plan.samples:,} samples instead of "
        f"{plan.epochs * plan.n:,}, {100 * plan.prune_ratio:.4g} % saved"
    )
    if plan.hours is not None:
        cost += f"; about {plan.hours:,.3g} hours, {plan.saved_hours:,.3g} fewer, if time is proportional to samples"
    lines = [_HEADER, *(_cells(plan, split) for split in plan.decompositions)]
    header, *table = as_text(lines).splitlines()
    marked = [
        f"{line}  <-" if split == plan.recommended else line
        for line, split in zip(table, plan.decompositions, strict=True)
    ]
    rows = "\n".join([header, *marked])
    page = f"{cost}\n\n{rows}\n\n{_LEGEND}\n\nRecommended: {textwrap.fill(plan.reason, 105)}"
    if plan.epochs <= _SHORT and plan.q < plan.n:
        page += f"\n{textwrap.fill(_OF_SHORT.format(plan.steps), 105)}"
    if not draws:
        return page
    chances = as_text([_OF_DRAWS, *map(_cells_of, draws)])
    level = plan.q < plan.n and all(math.isclose(draw.largest, draw.smallest) for draw in draws)
    return f"{page}\n\n{_PROPORTIONAL}\n\n{chances}" + (f"\n\n{_EQUAL}" if level else "")


def as_json(plan: Plan, draws: Sequence[ProportionalDraw] = ()) -> str:
    """Returns every field of the plan as JSON, and the proportional choices if there are any."""
    shown = {"proportional": list(map(dataclasses.asdict, draws))} if draws else {}
    return json.dumps({**dataclasses.asdict(plan), **shown}, indent=2)


def _cells_of(draw: ProportionalDraw) -> tuple[str, ...]:
    chances = (f"{chance:.3g}" for chance in (draw.largest, draw.median, draw.smallest))
    share = f"{100 * draw.share_certain:.1f} %"
    rest = (f"{draw.mean_age:.3g}", f"{100 * draw.dormant:.1f} %", f"{draw.effective_samples:,.0f}")
    return f"{draw.uniform_share:g}", *chances, share, *rest


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
        f"{split.worst_age:.3g}" if split.worst else "never",
        share(split.dormant),
        share(split.never_seen),
        f"{split.all_seen:,}",
        f"{split.effective_samples:,.0f}",
    )


def draw_plan(plan: Plan, path: Path) -> Path:
    """Draws γ over the ranks for every split, and returns the path.

    Raises:
        ValueError: the ending of the path is not that of a picture. OSError: the file cannot be written. ImportError:
            matplotlib is missing.
    """
    title = f"Which samples an epoch trains: {plan.n:,} samples, {100 * plan.prune_ratio:.4g} % pruned"
    figure, axes = new_axes(
        "rank of the loss / n (0: the largest)", "probability of being trained in an epoch", title=title, height=5.4
    )
    ranks = np.unique(np.linspace(1, plan.n, min(plan.n, _POINTS)).round().astype(np.int64))
    for split, color in zip(plan.decompositions, shades(len(plan.decompositions)), strict=True):
        chosen = split == plan.recommended
        axes.plot(
            ranks / plan.n,
            at_ranks(plan.n, split.s, split.q, ranks),
            color=color,
            linewidth=3.2 if chosen else 1.4,
            marker="o" if plan.n <= _FEW else None,
            label=f"explore {split.explore:.3g}, exploit {split.exploit:.3g}" + (" (recommended)" if chosen else ""),
        )
    axes.axhline(plan.q / plan.n, color=GREY, linestyle=":", linewidth=1.6, label="a uniform draw")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.05)
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize="small")
    return save(figure, path)


def at_ranks(n: int, s: int, q: int, ranks: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    """Returns γ at some ranks, (r,) ascending int64 from 1, without holding the others."""
    gammas = np.empty(len(ranks))
    for first, length, values in stretches(n, s, q):
        low, high = np.searchsorted(ranks, [first, first + length])
        gammas[low:high] = values[ranks[low:high] - first] if len(values) == length else values[0]
    return gammas
