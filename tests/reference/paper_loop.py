"""The paper's loop with lists and sorts, drawing the same numbers from the same generator as the library."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import floor

import numpy as np


def largest(values: Sequence[float], k: int, rng: np.random.Generator) -> list[int]:
    """Positions of the k largest, ascending; of those that tie for the last places a random draw is left out."""
    if k == 0:
        return []
    threshold = sorted(values, reverse=True)[k - 1]
    better = [i for i, value in enumerate(values) if value > threshold]
    ties = [i for i, value in enumerate(values) if value == threshold]
    surplus = len(better) + len(ties) - k
    left_out = {ties[i] for i in draw(len(ties), surplus, rng)} if surplus else set()
    return sorted({*better, *ties} - left_out)


def draw(n: int, size: int, rng: np.random.Generator) -> list[int]:
    """The positions of the `size` largest of n random keys, ascending."""
    if size == n:
        return list(range(n))
    keys = [int(rng.integers(0, 2**32, dtype=np.uint32)) for _ in range(n)]
    return largest(keys, size, rng)


def num_uniform(uniform_share: float, size: int) -> int:
    """How many of `size` are taken uniformly: the share, rounded, but at least one where there is a share."""
    return max(1, round(uniform_share * size)) if uniform_share else 0


def keep(
    candidates: list[int], scores: Sequence[float], size: int, uniform: int, rng: np.random.Generator
) -> list[int]:
    """The top size - uniform of the candidates, then `uniform` of the others, each part ascending in `candidates`."""
    top = largest([scores[i] for i in candidates], size - uniform, rng)
    rest = [candidate for position, candidate in enumerate(candidates) if position not in top]
    return [candidates[position] for position in top] + [
        rest[i] for i in (draw(len(rest), uniform, rng) if uniform else [])
    ]


def per_epoch(
    scores: Sequence[float], s: int, q: int, rng: np.random.Generator, uniform_share: float = 0.0
) -> list[int]:
    """Draws s, keeps q, trains in random order."""
    kept = keep(draw(len(scores), s, rng), scores, q, num_uniform(uniform_share, q), rng)
    rng.shuffle(kept)
    return kept


def per_iteration(
    scores: Sequence[float], s: int, q: int, ends: Sequence[int], rng: np.random.Generator, uniform_share: float = 0.0
) -> list[int]:
    """Draws s, deals them out in proportion to the steps, and keeps the top of each step's own candidates.

    `ends` are the positions in the selection where the steps end; the last one is q.
    """
    drawn = draw(len(scores), s, rng)
    rng.shuffle(drawn)
    order = []
    for begin, end in pairwise([0, *ends]):
        first, last = (floor(Fraction(s * edge, q) + Fraction(1, 2)) for edge in (begin, end))
        size = end - begin
        kept = keep(drawn[first:last], scores, size, num_uniform(uniform_share, size), rng)
        rng.shuffle(kept)
        order += kept
    return order


def keep_fresh(losses: Sequence[float], exploit: float) -> list[int]:
    """Positions of the batch's max(1, round(exploit·b)) highest losses, ascending; of equal ones the earlier."""
    order = sorted(range(len(losses)), key=lambda i: (-losses[i], i))
    return sorted(order[: max(1, round(exploit * len(losses)))])
