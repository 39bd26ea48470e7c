"""Every draw there is, in exact fractions: the oracle of the theory for a dozen samples."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations
from math import comb

Draw = tuple[int, ...]


def expectation(n: int, s: int, value: Callable[[Draw], Fraction]) -> Fraction:
    """E[value] over all draws of s of 1 .. n, each an ascending tuple of ranks: its l-th best is at position l."""
    return sum((value(draw) for draw in combinations(range(1, n + 1), s)), Fraction(0)) / comb(n, s)


def kept_probabilities(n: int, s: int, kept: Sequence[Fraction]) -> list[Fraction]:
    """γ_1 .. γ_n where position l of the draw is kept with chance kept[l - 1], independently."""
    totals = [Fraction(0)] * n
    for draw in combinations(range(1, n + 1), s):
        for rank, chance in zip(draw, kept, strict=True):
            totals[rank - 1] += chance
    return [total / comb(n, s) for total in totals]
