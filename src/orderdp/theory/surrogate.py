"""The surrogate loss L_q, whose gradient OrderDP follows, also as a spectral risk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt

from orderdp.theory.inclusion import Floats, check_memory, inclusion_probabilities
from orderdp.theory.limit import limit_distribution
from orderdp.theory.sizes import check_sizes

if TYPE_CHECKING:
    import torch

# A list is read as NumPy reads it. For a tensor, the result is a tensor on its device and in its dtype.
Losses = TypeVar("Losses", npt.NDArray[Any], "torch.Tensor")


def surrogate_loss(losses: Losses, s: SupportsIndex, q: SupportsIndex) -> Losses:
    """L_q = (1/q) Σ_j γ_j L_(j), where L_(1) is the largest loss: the expected mean loss of the q samples kept.

    For s = q it is the mean of all losses, and for s = n the mean of the q largest. For a tensor it is differentiable.
    Its gradient is `surrogate_weights`, so `surrogate_loss(losses, s, q).backward()` gives ∇L_q of the model.

    Args:
        losses: (n,) array or tensor of floats, in nats.
        s: exploration size.
        q: exploitation size.

    Returns:
        A scalar of the kind of `losses`: NumPy's float64, or a tensor of the same dtype and device.

    Raises:
        TypeError: a size that is no whole number. ValueError: not 1 <= q <= s <= n, or losses that are not (n,) and
        finite.

    Source: OrderDP, eq. (3) and Theorem 1.

    >>> float(surrogate_loss(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 5, 1))
    5.0
    """
    return spectral_risk(losses, _spectrum_for(losses, s, q))


def surrogate_weights(losses: Losses, s: SupportsIndex, q: SupportsIndex) -> Losses:
    """The weight γ_j/q of each sample in L_q, in the order of the samples: a subgradient of L_q in the losses.

    Equal losses share the mean of their weights. Breaking ties at random gives this subgradient on average.

    Args:
        losses: (n,) array or tensor of floats.
        s: exploration size.
        q: exploitation size.

    Returns:
        (n,) float64 that sum to 1, or a tensor on the device and in the dtype of `losses`, without gradient.

    Raises:
        As `surrogate_loss`.

    Source: OrderDP, eq. (11).

    >>> surrogate_weights(np.array([0.1, 0.9, 0.5, 0.5]), 4, 2)
    array([0.  , 0.5 , 0.25, 0.25])
    """
    weights: Losses = _like(losses, _by_rank(finite_losses(losses), _spectrum_for(losses, s, q)))
    return weights


def spectrum(n: SupportsIndex, s: SupportsIndex, q: SupportsIndex) -> Floats:
    """σ_j = γ_j/q for j = 1 .. n: L_q as the spectral risk Σ_j σ_j L_(j).

    Here, as for γ, j = 1 is the *largest* loss, so σ is non-increasing. The literature on spectral risks and the
    quantile form of Appendix A.4 count from the smallest. Reverse σ for them.

    Returns:
        (n,) float64, non-negative, summing to 1.

    Raises:
        As `inclusion_probabilities`.

    Source: OrderDP, Appendix A.4, before eq. (28); Mehta et al., "Stochastic optimization for spectral risk measures",
        AISTATS 2023.

    >>> spectrum(4, 2, 1)
    array([0.5       , 0.33333333, 0.16666667, 0.        ])
    """
    return inclusion_probabilities(n, s, q) / check_sizes(n, s, q)[2]


def limit_spectrum(n: SupportsIndex, s: SupportsIndex, q: SupportsIndex) -> Floats:
    """σ_j = ∫ γ(z)/q dz over ((j-1)/n, j/n]: the spectrum that need not be redefined for each n, eq. (30).

    It is the limit of `spectrum` as n grows with s and q fixed. With it, Σ_j σ_j L_(j) is exactly the quantile form of
    eq. (31), ∫ (γ(z)/q)·F_n^{-1}(1 - z) dz. The reason: the empirical quantile function F_n^{-1} of the losses is
    constant on each interval. s may exceed n, since the limit has no draw without replacement.

    Returns:
        (n,) float64, non-increasing, summing to 1.

    Raises:
        As `limit_density`. ValueError: n < 1.

    Source: OrderDP, eqs. (30), (31).

    >>> limit_spectrum(2, 3, 1)
    array([0.875, 0.125])
    """
    n = check_sizes(n, n, n)[0]
    check_memory(3 * n)
    z = np.arange(n + 1) / n
    shares = np.diff(limit_distribution(z, s, q))
    return np.minimum.accumulate(np.maximum(shares, 0))  # differences of numbers near 1 err in their last digits


def spectral_risk(losses: Losses, weights: npt.ArrayLike) -> Losses:
    """Σ_j σ_j L_(j), the weighted mean of the losses from largest to smallest; differentiable for a tensor.

    Args:
        losses: (n,) array or tensor of floats.
        weights: (n,) σ_1 .. σ_n, the first for the largest loss: `spectrum`, `limit_spectrum`, or
            `window_probabilities` over their sum.

    Returns:
        A scalar of the kind of `losses`. Its gradient is σ at each sample's rank; equal losses have the mean of theirs.

    Raises:
        ValueError: losses that are not (n,) and finite, or weights of another length.

    Source: OrderDP, eq. (31).

    >>> float(spectral_risk(np.array([1.0, 3.0, 2.0]), [1, 0, 0]))
    3.0
    """
    values = finite_losses(losses)
    sigma = real_numbers("weights", weights)
    if not np.isfinite(sigma).all():
        raise ValueError(f"weights must be finite, got {sigma[~np.isfinite(sigma)][0]}; write spectrum(n, s, q)")
    if sigma.shape != values.shape:
        raise ValueError(
            f"weights holds one number for each of the {len(values)} losses, got shape {sigma.shape}; "
            "write spectrum(len(losses), s, q)"
        )
    shares = _by_rank(values, sigma)
    risk: Losses = _dot(losses, values, shares)
    return risk


def _spectrum_for(losses: Any, s: SupportsIndex, q: SupportsIndex) -> Floats:
    return spectrum(len(finite_losses(losses)), s, q)


def finite_losses(losses: Any) -> Floats:
    """Returns losses, an array, a tensor or a list, as (n,) float64.

    Raises:
        TypeError: no real numbers, or a tensor of integers. ValueError: not (n,), or a loss that is not finite.
    """
    if hasattr(losses, "detach") and not losses.is_floating_point():
        raise TypeError(f"losses must be floating, got a tensor of {losses.dtype}; write losses.float()")
    values = real_numbers("losses", losses)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"losses holds one number a sample, (n,), got shape {values.shape}; pass one loss per sample")
    wrong = ~np.isfinite(values)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"losses must be finite, got {values[first]} at position {first} and {int(wrong.sum())} such in all; "
            "leave those samples out"
        )
    return values


def real_numbers(name: str, values: Any) -> Floats:
    """Returns the numbers in an array, a tensor or a list as float64 of the same shape.

    Raises:
        TypeError: something else. ValueError: rows of different lengths.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    try:
        array = np.asarray(values)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{name} holds rows of one length, got others ({error}); write an array") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds real numbers, got dtype {array.dtype}; write an array of floats")
    return array.astype(np.float64)


def _by_rank(values: Floats, sigma: Floats) -> Floats:
    """Returns σ at the rank of each sample, (n,); samples of equal loss have the mean of theirs."""
    order = np.argsort(-values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan))
    counts = np.diff(starts, append=len(values))
    shares = np.empty_like(values)
    shares[order] = np.repeat(np.add.reduceat(sigma, starts) / counts, counts)
    return shares


def _dot(losses: Any, values: Floats, shares: Floats) -> Any:
    if not hasattr(losses, "detach"):
        return np.float64(shares @ values)
    exact = losses.cpu().double()  # a million small terms keep their digits; not every device has float64
    return (exact * _like(exact, shares)).sum().to(losses.device, losses.dtype)


def _like(losses: Any, weights: Floats) -> Any:
    """Returns the weights in the form of the losses: an array, or a tensor of their dtype and device."""
    if not hasattr(losses, "detach"):
        return weights
    import torch

    return torch.as_tensor(weights, dtype=losses.dtype, device=losses.device)
