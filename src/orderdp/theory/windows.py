"""γ for selections that keep positions of the draw other than the top q."""

from __future__ import annotations

from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from orderdp.theory.inclusion import Floats, inclusion_probabilities, new_array
from orderdp.theory.sizes import check_sizes


def window_probabilities(n: SupportsIndex, s: SupportsIndex, kept: npt.ArrayLike) -> Floats:
    """γ_j = Σ_l w_l·P(rank j stands at position l of the draw), where w_l is the probability that position l is kept.

    Position 1 is the largest loss of the s drawn. With `l = np.arange(1, s + 1)`:

    - top q: `l <= q`, which is `inclusion_probabilities(n, s, q)`
    - bottom q: `l > s - q`
    - both ends, q in all: `(l <= q // 2) | (l > s - (q - q // 2))`
    - top q after skipping the k largest: `(l > k) & (l <= k + q)`
    - top q of which u are drawn from the rest: `np.where(l <= q - u, 1.0, u / (s - (q - u)))`

    Σ_j γ_j = Σ_l w_l. A single position has P = C(j-1, l-1)·C(n-j, s-l)/C(n, s). Each run of neighbouring positions
    with equal w costs O(n). A few runs cost little, and every second position costs O(n·s).

    Args:
        n: number of samples.
        s: exploration size, drawn uniformly without replacement.
        kept: (s,) bool or float in [0, 1], w_1 .. w_s.

    Returns:
        (n,) float64, γ_j at position j - 1.

    Raises:
        TypeError: a size that is no whole number, or `kept` of another kind.
        ValueError: not 1 <= s <= n <= 2**53, or `kept` of another length or with a value outside [0, 1].
        MemoryError: as `inclusion_probabilities`.

    Source: OrderDP, the terms of eq. (9); the paper keeps l = 1 .. q only.

    >>> window_probabilities(5, 3, [True, False, True])  # best and worst of three
    array([0.6, 0.3, 0.2, 0.3, 0.6])
    """
    n, s, _ = check_sizes(n, s, 1)
    weights = _weights(s, kept)
    gammas = new_array(n)
    gammas[:] = 0
    ends = np.flatnonzero(np.diff(weights, append=np.nan))  # last position of each run, from 0
    start = 0
    for end in ends.tolist():
        if weights[start]:
            gammas += weights[start] * _between(n, s, start + 1, end + 1)
        start = end + 1
    return gammas


def _weights(s: int, kept: npt.ArrayLike) -> Floats:
    weights = np.asarray(kept)
    if weights.dtype.kind not in "biuf":
        raise TypeError(f"kept holds a bool or a number for each position, got dtype {weights.dtype}; write l <= q")
    if weights.shape != (s,):
        raise ValueError(f"kept has one entry for each of the s={s} positions, got shape {weights.shape}")
    weights = weights.astype(np.float64)
    wrong = ~((weights >= 0) & (weights <= 1))
    if wrong.any():
        raise ValueError(
            f"kept holds probabilities in [0, 1], got {weights[wrong][0]} at position {int(np.argmax(wrong)) + 1}; "
            "write a mask such as np.arange(1, s + 1) <= q"
        )
    return weights


def _between(n: int, s: int, first: int, last: int) -> Floats:
    """Returns P(rank j is drawn and stands at a position first <= l <= last)."""
    upper = _within(n, s, last) - _within(n, s, first - 1)
    # Position l from the top is s + 1 - l from the bottom. Of two equal differences, the one with smaller terms cancels
    # fewer digits.
    lower = (_within(n, s, s + 1 - first) - _within(n, s, s - last))[::-1]
    return np.where(np.arange(n) < n * (first + last - 1) // (2 * s), lower, upper)


def _within(n: int, s: int, last: int) -> Floats:
    return inclusion_probabilities(n, s, last) if last else np.zeros(n)
