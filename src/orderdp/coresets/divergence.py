"""The Kullback–Leibler divergence of predictions."""

from __future__ import annotations

import numpy as np

from orderdp.coresets.evidence import Array, Floats

_LEAST = 1e-8  # a probability of zero has no logarithm


def divergences(p: Array, q: Array) -> Floats:
    """Returns Σ p·log(p / q) over the last axis, in nats and float64. In the logarithms, 1e-8 is the least probability.

    Args:
        p: (..., c) probabilities.
        q: likewise, of a shape that broadcasts with that of `p`.

    >>> divergences(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0.5, 0.5])).round(3)
    array([0.   , 0.693])
    """
    p = np.asarray(p, dtype=np.float64)
    sums: Floats = (p * (_logarithms(p) - _logarithms(q))).sum(-1)
    return sums


def _logarithms(probabilities: Array) -> Floats:
    logs: Floats = np.log(np.maximum(probabilities, _LEAST, dtype=np.float64))
    return logs
