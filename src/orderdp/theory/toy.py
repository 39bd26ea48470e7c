"""The toy comparison of Appendix E.1 in exact fractions: OrderDP and InfoBatch on five gradients, 80 % pruned."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import chain, combinations
from math import comb
from typing import NamedTuple, TypeAlias

Exact: TypeAlias = int | Fraction

GRADIENTS = (1, 2, 3, 4, 5)


class Outcome(NamedTuple):
    """One set that may be kept.

    Args:
        kept: the gradients kept, before any rescaling.
        probability: of exactly this set.
        total: their sum, rescaled if the method rescales.
    """

    kept: tuple[Exact, ...]
    probability: Fraction
    total: Fraction

    @property
    def mean(self) -> Fraction:
        """The mean over the samples kept."""
        return self.total / len(self.kept)


class Estimate(NamedTuple):
    """What a method estimates in expectation, under both normalisations.

    Args:
        outcomes: every set that may be kept.
        over_kept: E[sum / number kept].
        over_all: E[sum / n].
    """

    outcomes: tuple[Outcome, ...]
    over_kept: Fraction
    over_all: Fraction


def toy_infobatch(gradients: Sequence[Exact] = GRADIENTS, prune_probability: Fraction = Fraction(4, 5)) -> Estimate:
    """InfoBatch on gradients that are their own scores: it drops those below the mean with probability r.

    It rescales the others below the mean by 1/(1 - r). InfoBatch defines its estimator as the sum divided by n, and its
    expectation is then the full gradient. The paper's Table 10 divides by the number kept, which gives another
    expectation.

    Args:
        gradients: one number a sample, whole or `Fraction`.
        prune_probability: r, a `Fraction` in [0, 1).

    Returns:
        The outcomes in the order of Table 10, and both expectations.

    Raises:
        ValueError: no gradients, r outside [0, 1).

    Source: OrderDP, Appendix E.1, Table 10; Qin et al., "InfoBatch", ICLR 2024.

    >>> estimate = toy_infobatch()
    >>> estimate.over_kept, float(estimate.over_kept), estimate.over_all
    (Fraction(542, 125), 4.336, Fraction(3, 1))
    """
    _check(gradients)
    if not isinstance(prune_probability, (int, Fraction)) or not 0 <= prune_probability < 1:
        raise ValueError(f"prune_probability is a Fraction in [0, 1), got {prune_probability!r}; write Fraction(4, 5)")
    stays = 1 - prune_probability
    mean = Fraction(sum(gradients), len(gradients))
    always = tuple(gradient for gradient in gradients if gradient >= mean)
    below = [gradient for gradient in gradients if gradient < mean]
    outcomes = []
    for chosen in chain.from_iterable(combinations(below, size) for size in range(len(below) + 1)):
        probability = stays ** len(chosen) * prune_probability ** (len(below) - len(chosen))
        outcomes.append(Outcome((*chosen, *always), Fraction(probability), Fraction(sum(chosen) / stays + sum(always))))
    return _estimate(outcomes, len(gradients))


def toy_orderdp(gradients: Sequence[Exact] = GRADIENTS, sizes: Sequence[int] | None = None, q: int = 1) -> Estimate:
    """OrderDP on gradients that are their own scores: s drawn uniformly from `sizes`, the top q of s samples kept.

    Args:
        gradients: one number a sample, whole or `Fraction`.
        sizes: the exploration sizes, equally likely; None for q .. n, the paper's choice.
        q: exploitation size.

    Returns:
        The possible outcomes, from the smallest gradients on, and both expectations.

    Raises:
        ValueError: no gradients, or not 1 <= q <= s <= n.

    Source: OrderDP, Appendix E.1. The probabilities printed there for 3 and 4 are wrong: see the errata.

    >>> estimate = toy_orderdp()
    >>> [str(outcome.probability) for outcome in estimate.outcomes]
    ['1/25', '3/50', '1/10', '1/5', '3/5']
    >>> estimate.over_kept
    Fraction(213, 50)
    """
    _check(gradients)
    n = len(gradients)
    sizes = range(q, n + 1) if sizes is None else sizes
    if not sizes or not all(isinstance(s, int) and 1 <= q <= s <= n for s in sizes):
        raise ValueError(f"sizes and q must keep 1 <= q <= s <= n={n}, got q={q} and sizes {list(sizes)}")
    ranked = sorted(gradients, reverse=True)
    outcomes = []
    for ranks in combinations(range(n), q):
        # These are the top q of a draw whose other s - q samples all rank after the last of them.
        after = n - 1 - ranks[-1]
        probability = sum(Fraction(comb(after, s - q), comb(n, s)) for s in sizes) / len(sizes)
        if probability:
            kept = tuple(ranked[rank] for rank in ranks)
            outcomes.append(Outcome(kept, Fraction(probability), Fraction(sum(kept))))
    return _estimate(outcomes[::-1], n)


def _check(gradients: Sequence[Exact]) -> None:
    if not gradients or not all(isinstance(gradient, (int, Fraction)) for gradient in gradients):
        raise ValueError(f"gradients holds at least one whole number or fraction, got {gradients!r}; write (1, 2)")


def _estimate(outcomes: Sequence[Outcome], n: int) -> Estimate:
    over_kept = sum((outcome.probability * outcome.mean for outcome in outcomes), Fraction(0))
    over_all = sum((outcome.probability * outcome.total / n for outcome in outcomes), Fraction(0))
    return Estimate(tuple(outcomes), over_kept, over_all)
