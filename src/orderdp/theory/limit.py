"""n·γ_j as n grows: the density of Proposition 2, and its distribution function."""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from orderdp.theory.inclusion import Floats
from orderdp.theory.sizes import check_count, check_sizes


def limit_density(z: npt.ArrayLike, s: SupportsIndex, q: SupportsIndex) -> Floats:
    """γ(z) = s·(1 - I_z(q, s - q)), the limit of n·γ_j for j/n → z with s and q fixed.

    1 - γ(z)/s is the distribution function of Beta(q, s - q). That is the law of the rank (over n) of the q-th best of
    the draw. With q = s the draw is uniform and γ(z) = s. Proposition 2 writes γ(z) as the sum over l = 1 .. q of
    z^(l-1)·(1-z)^(s-l)·s!/((l-1)!·(s-l)!). ∫ γ(z) dz over [0, 1] is q.

    Args:
        z: numbers in [0, 1], any shape: rank over n, 0 the largest loss.
        s: exploration size.
        q: exploitation size.

    Returns:
        float64 of the shape of z.

    Raises:
        TypeError: a size that is no whole number. ValueError: not 1 <= q <= s, or z outside [0, 1].
        ImportError: without SciPy.

    Source: OrderDP, Proposition 2 and eqs. (5), (16). The body of the paper prints another law: see the errata.

    >>> limit_density([0.0, 0.5, 1.0], 3, 1)
    array([3.  , 0.75, 0.  ])
    """
    z, s, q = _checked(z, s, q)
    if q == s:
        return np.full(z.shape, float(s))
    return np.asarray(s * _special().betaincc(q, s - q, z))


def limit_distribution(z: npt.ArrayLike, s: SupportsIndex, q: SupportsIndex) -> Floats:
    """∫ γ(u)/q du over [0, z], the share of the training that goes to the hardest z of the samples, as n grows.

    Its closed form is (s/q)·z·(1 - I_z(q, s - q)) + I_z(q + 1, s - q). It is 0 at 0, 1 at 1, concave, and at least z.

    Args:
        z: numbers in [0, 1], any shape.
        s: exploration size.
        q: exploitation size.

    Returns:
        float64 of the shape of z.

    Raises:
        As `limit_density`.

    Source: OrderDP, eq. (5), integrated by parts with eq. (16).

    >>> limit_distribution([0.0, 0.5, 1.0], 3, 1)
    array([0.   , 0.875, 1.   ])
    """
    z, s, q = _checked(z, s, q)
    if q == s:
        return z
    special = _special()
    return np.asarray(s / q * z * special.betaincc(q, s - q, z) + special.betainc(q + 1, s - q, z))


def _checked(z: npt.ArrayLike, s: SupportsIndex, q: SupportsIndex) -> tuple[Floats, int, int]:
    s = check_count("s", s)
    _, s, q = check_sizes(s, s, q)
    z = np.asarray(z)
    if z.dtype.kind not in "biuf":
        raise TypeError(f"z holds numbers in [0, 1], got dtype {z.dtype}; write j / n")
    z = z.astype(np.float64)
    wrong = ~((z >= 0) & (z <= 1))
    if wrong.any():
        raise ValueError(f"z is a rank divided by n and lies in [0, 1], got {z[wrong][0]}; write j / n")
    return z, s, q


def _special() -> Any:
    try:
        from scipy import special  # its incomplete beta function is Boost's, exact to the last digits at any size
    except ImportError:
        raise ImportError("the limit density needs SciPy: pip install scipy") from None
    return special
