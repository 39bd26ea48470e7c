"""Chances in proportion to sizes, at most 1, that sum to a number of samples; and the sizes that losses give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from orderdp.theory.sizes import check_count, check_fraction, check_number


def proportional_probabilities(sizes: npt.ArrayLike, q: SupportsIndex) -> npt.NDArray[np.float64]:
    """π_i = min(1, c·x_i), with the c for which they sum to q: the chances of a proportional draw of q samples.

    Samples whose chance would exceed 1 are certain, and the others share what is left of q. If fewer than q sizes are
    above 0, those samples are certain and the others have equal chances.

    The expected gradient of the mean over the q, without weights, is (1/q)·Σ_i π_i·g_i. With weights q/(n·π_i) it is
    the mean gradient (1/n)·Σ_i g_i, if no chance is 0.

    Args:
        sizes: (n,) x_i, finite and at least 0.
        q: how many are drawn, at most n.

    Returns:
        (n,) float64.

    Raises:
        TypeError: q no whole number. ValueError: sizes of another shape, negative or not finite; q outside 1 .. n.

    Source: Hartley and Rao, "Sampling with unequal probabilities and without replacement", 1962.

    >>> proportional_probabilities([9, 1, 0, 1], 2)
    array([1. , 0.5, 0. , 0.5])
    """
    x, q = np.asarray(sizes, dtype=np.float64), check_count("q", q)
    if x.ndim != 1:
        raise ValueError(f"sizes must have the shape (n,), got {x.shape}; write one size for each sample")
    wrong = np.flatnonzero(~(np.isfinite(x) & (x >= 0)))
    if len(wrong):
        raise ValueError(
            f"sizes must be finite and at least 0, got {x[wrong[0]]} at {wrong[0]}; write the loss above its floor"
        )
    if q > len(x):
        raise ValueError(f"q must be at most n, got q={q} and n={len(x)}; each sample is drawn at most once")
    # From the largest on: the sample of rank k is certain if those from it on would give it a chance of at least 1.
    order = np.argsort(-x, kind="stable")
    ranked = x[order]
    rest = np.cumsum(ranked[::-1])[::-1]
    certain = ((q - np.arange(len(x))) * ranked >= rest) & (ranked > 0)
    k = int(np.argmin(certain)) if not certain.all() else len(x)
    chances = np.ones(len(x))
    left = q - k
    chances[order[k:]] = left * ranked[k:] / rest[k] if k < len(x) and rest[k] > 0 else left / max(1, len(x) - k)
    return chances


def proportional_sizes(
    losses: npt.ArrayLike,
    *,
    floor: float | None = None,
    ceiling: float = math.inf,
    power: float = 1.0,
    uniform_share: float = 0.1,
) -> npt.NDArray[np.float64]:
    """X = (1 - u)·e + u·(mean e), e = top·(excess/top)^power: the sizes in a proportional choice by losses.

    The excess is the loss, cut to [floor, ceiling], minus the floor, and top is the largest excess.

    Args:
        losses: (n,) finite.
        floor: loss at which nothing is left to learn; None for the lowest.
        ceiling: losses above it count as this one; above the floor.
        power: finite and above 0.
        uniform_share: u, in [0, 1].

    Returns:
        (n,) float64.

    Raises:
        TypeError: a setting that is no number. ValueError: losses of another shape or not finite; a share or power out
            of range; a floor that is not finite; a ceiling that is not above the floor.

    >>> proportional_sizes([0.5, 1.5, 4.5], ceiling=2.5, uniform_share=0.5)
    array([0.5, 1. , 1.5])
    >>> proportional_sizes([0.5, 1.5, 4.5], ceiling=2.5, power=2, uniform_share=0)
    array([0. , 0.5, 2. ])
    """
    given = np.asarray(losses, dtype=np.float64)
    if given.ndim != 1 or not len(given) or not np.isfinite(given).all():
        raise ValueError(f"losses must be finite and of shape (n,), got shape {given.shape}; leave unknown ones out")
    check_fraction("uniform_share", uniform_share, low_open=False, high_open=False)
    for name, value, example in (("floor", floor, "0.0"), ("ceiling", ceiling, "0.9")):
        if value is not None:
            check_number(name, value, example=example)
    lowest = float(given.min()) if floor is None else floor
    if not math.isfinite(lowest):
        raise ValueError(f"floor must be finite, got {lowest}; leave it out for the lowest loss")
    if not ceiling > (-math.inf if floor is None else floor):
        raise ValueError(f"ceiling must lie above the floor, got {ceiling} and {floor}; write inf for none")
    check_number("power", power, example="2")
    if not 0 < power < math.inf:
        raise ValueError(f"power must be finite and above 0, got {power}; write 1 for the excess itself")
    excess = np.clip(given, lowest, max(lowest, ceiling)) - lowest
    top = float(excess.max())
    if power != 1 and top:
        excess = top * (excess / top) ** power
    return np.asarray((1 - uniform_share) * excess + uniform_share * excess.mean())


@dataclass(frozen=True)
class ProportionalDraw:
    """What a proportional choice by some losses does in E epochs, if they stay as they are.

    Args:
        uniform_share: u.
        largest: chance of the sample of largest loss in an epoch.
        median: that of the sample of middle loss.
        smallest: that of the sample of smallest loss.
        share_certain: share of the samples with chance 1.
        mean_age: expected epochs since a sample was last trained, mean over the samples; E if never.
        dormant: expected share of the samples that E epochs do not train.
        effective_samples: (Σπ)²/Σπ², Kish's effective number of samples; n if uniform.
    """

    uniform_share: float
    largest: float
    median: float
    smallest: float
    share_certain: float
    mean_age: float
    dormant: float
    effective_samples: float


def proportional_draw(
    losses: npt.ArrayLike,
    q: SupportsIndex,
    *,
    epochs: SupportsIndex,
    floor: float | None = None,
    ceiling: float = math.inf,
    power: float = 1.0,
    uniform_share: float = 0.1,
) -> ProportionalDraw:
    """Returns what a proportional choice of q samples by these losses does.

    Args:
        losses: (n,) finite, such as `pruner.scores()["loss"]` of an earlier run.
        q: how many are drawn in an epoch, at most n.
        epochs: E.
        floor: as of `proportional_sizes`.
        ceiling: likewise.
        power: likewise.
        uniform_share: likewise.

    Raises:
        TypeError, ValueError: as `proportional_sizes` and `proportional_probabilities`.

    >>> round(proportional_draw([0.0, 1.0, 3.0], 1, epochs=2, uniform_share=0.0).largest, 3)
    0.75
    """
    x = proportional_sizes(losses, floor=floor, ceiling=ceiling, power=power, uniform_share=uniform_share)
    chances = proportional_probabilities(x, q)
    order = np.argsort(-np.asarray(losses, dtype=np.float64), kind="stable")
    times = check_count("epochs", epochs)
    missed = (1 - chances) ** times
    # Σ_{k = 1 .. E} (1 - π)^k, E where π = 0
    ages = np.divide((1 - chances) * (1 - missed), chances, out=np.full(len(x), float(times)), where=chances > 0)
    return ProportionalDraw(
        uniform_share=uniform_share,
        largest=float(chances[order[0]]),
        median=float(chances[order[(len(x) + 1) // 2 - 1]]),
        smallest=float(chances[order[-1]]),
        share_certain=float((chances >= 1).mean()),
        mean_age=float(ages.mean()),
        dormant=float(missed.mean()),
        effective_samples=float(chances.sum() ** 2 / (chances**2).sum()),
    )
