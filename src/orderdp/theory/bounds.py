"""Theorems 3 and 4: the error that remains after T steps, and what pruning and sampling add to it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from orderdp.theory.inclusion import Floats
from orderdp.theory.sizes import check_sizes
from orderdp.theory.surrogate import finite_losses, real_numbers, spectral_risk, spectrum


def spectrum_gap(n: SupportsIndex, s: SupportsIndex, q: SupportsIndex) -> float:
    """C_s = max_j |n·γ_j/q - 1|: how far the weights of training are from uniform ones, as a factor.

    The first weight is the largest: n·γ_1/q = s/q. For q < s the last weight is 0, so C_s = max(s/q - 1, 1). For q = s
    it is 0. C_s does **not** shrink to 0 as q → s: it is at least 1 until q = s, where it drops to 0.

    Returns:
        C_s >= 0.

    Raises:
        TypeError: a size that is no whole number. ValueError: not 1 <= q <= s <= n <= 2**53.

    Source: OrderDP, Theorem 4, in the form of Appendix A.4, without the square that the main text prints.

    >>> spectrum_gap(1000, 500, 300), spectrum_gap(1000, 500, 100), spectrum_gap(1000, 500, 500)
    (1.0, 4.0, 0.0)
    """
    _, s, q = check_sizes(n, s, q)
    return 0.0 if q == s else max(s / q - 1, 1.0)


def selection_bias(losses: Any, s: SupportsIndex, q: SupportsIndex) -> float:
    """Q_n = inf over the iterates of Σ_j (γ_j/q - 1/n)·L_(j) = L_q - L: how far the surrogate exceeds the mean loss.

    It is never negative, and 0 for q = s or equal losses. It is non-increasing in q. With q fixed, it is non-decreasing
    in s.

    Args:
        losses: array or tensor, in nats: (n,) at one iterate, or (T, n) at several. Of several, the least Q_n counts.
        s: exploration size.
        q: exploitation size.

    Returns:
        Q_n in nats.

    Raises:
        As `surrogate_loss`.

    Source: OrderDP, Theorem 4.

    >>> selection_bias([1.0, 2.0, 3.0, 4.0, 5.0], 5, 1)
    2.0
    """
    rows = _iterates(losses)
    gap = spectrum(rows.shape[1], s, q) - 1 / rows.shape[1]
    return min(max(float(spectral_risk(row, gap)), 0.0) for row in rows)  # rounding may leave -1e-17 of a zero


def sampling_distance(losses: Any, s: SupportsIndex) -> float:
    """E ‖F_s^{-1} - F_n^{-1}‖_1, the exact expected 1-Wasserstein distance between a draw of s losses and all n.

    The distance between two distribution functions is the area between them. Between the k-th loss and the next, their
    difference is |X/s - k/n|. X is the number of the k losses below that are drawn. It is hypergeometric, and its mean
    deviation has a closed form. `sampling_bound` is the bound that Theorem 4 uses for this distance.

    Args:
        losses: (n,) array or tensor, in nats.
        s: exploration size.

    Returns:
        The distance in nats, 0 for s = n.

    Raises:
        As `surrogate_loss`. ImportError: without SciPy.

    Source: Mehta et al., "Stochastic optimization for spectral risk measures", AISTATS 2023, the left side of Lemma 14.
        Appendix A.4 rests on it.

    >>> sampling_distance([0.0, 1.0], 1)
    0.5
    """
    values = np.sort(finite_losses(losses))
    n, s, _ = check_sizes(len(values), s, 1)
    below = np.arange(1, n)
    return float(np.diff(values) @ _mean_deviation(n, below, s)) / s


def _mean_deviation(n: int, below: npt.NDArray[np.int64], s: int) -> Floats:
    """Returns E|X - s·k/n| for X ~ Hypergeometric(n, k, s), for each k in `below`."""
    try:
        from scipy.stats import hypergeom
    except ImportError:
        raise ImportError("the distance of a draw needs SciPy: pip install scipy") from None
    # E|X - μ| is twice the sum of (x - μ)·P(x) over x >= a, where a is the first number above the mean μ = s·k/n. The
    # sum telescopes: x·(n-k-s+x)/n·P(x) falls by (x - μ)·P(x) from one x to the next.
    above = s * below // n + 1
    return np.asarray(2 * above * (n - below - s + above) / n * hypergeom.pmf(above, n, below, s))


def sampling_bound(n: SupportsIndex, s: SupportsIndex, max_loss: float) -> float:
    """√2·B·√((n - s)/(s·(n - 1))), the bound of Theorem 4 on `sampling_distance`; 0 for s = n.

    Args:
        n: number of samples.
        s: exploration size.
        max_loss: B, the largest loss, in nats, at any of the iterates.

    Returns:
        The bound in nats.

    Raises:
        TypeError: a size that is no whole number. ValueError: not 1 <= s <= n, or B negative or not finite.

    Source: OrderDP, eq. (38), after Mehta et al. 2023, Lemma 14.

    >>> sampling_bound(100, 100, 2.0)
    0.0
    """
    n, s, _ = check_sizes(n, s, 1)
    max_loss = _check_number("max_loss", max_loss)
    return math.sqrt(2) * max_loss * math.sqrt((n - s) / (s * (n - 1))) if s < n else 0.0


def convergence_bound(step_sizes: npt.ArrayLike, *, distance: float, lipschitz: float, averaged: bool = False) -> float:
    """Bounds E[L_q(θ) - L_q(θ*)] after T steps of Algorithm 1 on convex, G-Lipschitz losses.

    For the average of the iterates, weighted by the step sizes, it is (‖θ¹ - θ*‖² + G²·Σ η_t²) / (2·Σ η_t). For the
    best iterate it is η_max/η_min times that. The constant step ‖θ¹ - θ*‖/(G·√T) gives ‖θ¹ - θ*‖·G/√T, the least
    possible.

    Args:
        step_sizes: (T,) learning rates, positive.
        distance: ‖θ¹ - θ*‖, Euclidean; θ* minimises L_q.
        lipschitz: G, a bound on the norm of every sample's subgradient.
        averaged: whether to bound the averaged iterate (18) instead of the best one (6).

    Returns:
        The bound in nats.

    Raises:
        ValueError: step sizes that are not (T,), positive and finite; a distance or G that is negative or not finite.

    Source: OrderDP, Theorem 3: eqs. (6) = (17) and (18).

    >>> convergence_bound([0.5] * 4, distance=1.0, lipschitz=1.0)
    0.5
    """
    steps = real_numbers("step_sizes", step_sizes)
    if steps.ndim != 1 or not len(steps):
        raise ValueError(f"step_sizes has shape (T,), got {steps.shape}; write one learning rate a step")
    if not ((steps > 0) & np.isfinite(steps)).all():
        raise ValueError(f"step_sizes must be positive and finite, got {steps.min()} .. {steps.max()}; write [0.1] * T")
    distance, lipschitz = _check_number("distance", distance), _check_number("lipschitz", lipschitz)
    bound = float((distance**2 + lipschitz**2 * (steps @ steps)) / (2 * steps.sum()))
    return bound if averaged else bound * float(steps.max() / steps.min())


class GeneralizationBound(NamedTuple):
    """The three terms of Theorem 4, in nats.

    Args:
        sampling: C_s·√2·B·√((n - s)/(s·(n - 1))), from the draw; 0 for s = n and for q = s.
        bias: Q_n, which is subtracted; 0 for q = s.
        optimization: the bound of Theorem 3, which vanishes with T.
    """

    sampling: float
    bias: float
    optimization: float

    @property
    def total(self) -> float:
        """The bound on L(θ*) - E[L_q(θ)]."""
        return self.sampling - self.bias + self.optimization


def generalization_bound(
    losses: Any,
    s: SupportsIndex,
    q: SupportsIndex,
    step_sizes: npt.ArrayLike,
    *,
    distance: float,
    lipschitz: float,
    averaged: bool = False,
) -> GeneralizationBound:
    """Bounds L(θ*) - E[L_q(θ)], the mean loss at the optimum minus the surrogate loss that was reached.

    L is the mean loss of the n samples. The paper prints the expected risk, for which no term stands: see the errata.

    Args:
        losses: (n,) losses in nats at one iterate, or (T, n) at several. B is the largest of them all. The paper prints
            the infimum over the iterates of each one's largest: see the errata.
        s: exploration size.
        q: exploitation size.
        step_sizes: (T,) learning rates. This and the next three are as for `convergence_bound`.
        distance: ‖θ¹ - θ*‖.
        lipschitz: G.
        averaged: whether to bound the averaged iterate.

    Returns:
        The terms and their total.

    Raises:
        As `selection_bias` and `convergence_bound`.

    Source: OrderDP, Theorem 4, eqs. (38), (39).
    """
    rows = _iterates(losses)
    bias = selection_bias(rows, s, q)
    n, largest = rows.shape[1], float(np.abs(rows).max())
    return GeneralizationBound(
        sampling=spectrum_gap(n, s, q) * sampling_bound(n, s, largest),
        bias=bias,
        optimization=convergence_bound(step_sizes, distance=distance, lipschitz=lipschitz, averaged=averaged),
    )


def _iterates(losses: Any) -> Floats:
    """Returns losses as (T, n) float64."""
    rows = real_numbers("losses", losses)
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"losses has shape (n,) or (T, n), got {rows.shape}; write one row an iterate")
    return rows


def _check_number(name: str, value: float) -> float:
    number = real_numbers(name, value)
    if number.ndim or not (number >= 0 and np.isfinite(number)):
        raise ValueError(f"{name} must be a finite number and not negative, got {value}")
    return float(number)
