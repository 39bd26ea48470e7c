"""The law of the paper in exact fractions, and the bound that simulated frequencies must keep."""

import math
from collections.abc import Sequence
from fractions import Fraction
from math import comb


def gammas(n: int, s: int, q: int) -> list[Fraction]:
    """γ_j of eq. (3) for j = 1 .. n, the probability that the sample of rank j is kept.

    It is kept if it is drawn and l <= q - 1 of the other s - 1 drawn have a better rank:
    γ_j = Σ_l C(j-1, l)·C(n-j, s-1-l) / C(n, s).

    >>> gammas(3, 2, 1)
    [Fraction(2, 3), Fraction(1, 3), Fraction(0, 1)]
    """
    return [
        Fraction(sum(comb(j - 1, better) * comb(n - j, s - 1 - better) for better in range(q)), comb(n, s))
        for j in range(1, n + 1)
    ]


def gammas_with_uniform_share(n: int, s: int, q: int, uniform: int) -> list[Fraction]:
    """The law where `uniform` of the q are drawn from what the top q - uniform leave of the draw.

    A sample of rank j is kept at once with γ_j(n, s, q - uniform). It is drawn with s/n, so it is drawn and left with
    s/n - γ_j(n, s, q - uniform); s - (q - uniform) samples are left, of which `uniform` are taken, all alike.
    """
    taken = Fraction(uniform, s - (q - uniform))
    return [top + (Fraction(s, n) - top) * taken for top in gammas(n, s, q - uniform)]


def assert_frequencies(counts: Sequence[int], probabilities: Sequence[Fraction], trials: int) -> None:
    """Raises unless |count - trials·p| <= 4·√(trials·p·(1 - p)), four standard deviations of a binomial count.

    Where p is 0 or 1 the bound is 0: the count must be exact. A right count fails with a chance of 6e-5, and once: the
    seeds are fixed. 64 trials within four deviations show what 100 within five would.
    """
    assert len(counts) == len(probabilities)
    for rank, (count, p) in enumerate(zip(counts, probabilities, strict=True), 1):
        bound = 4 * math.sqrt(trials * p * (1 - p))
        if abs(count - trials * p) > bound:
            raise AssertionError(f"rank {rank} was kept {count} times, expected {float(trials * p):.1f} ± {bound:.1f}")
