"""Chances in proportion to sizes, at most 1, that sum to a number of samples."""

from __future__ import annotations

from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from orderdp.theory.sizes import check_count


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
