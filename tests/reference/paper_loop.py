"""The paper's loop with lists and sorts, drawing the same numbers from the same generator as the library."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import floor, isqrt

import numpy as np

FEW = 10_000


def largest(values: Sequence[float], k: int, rng: np.random.Generator) -> list[int]:
    """Positions of the k largest, ascending; of those that tie for the last places a random draw is left out."""
    if k == 0:
        return []
    threshold = sorted(values, reverse=True)[k - 1]
    better = [i for i, value in enumerate(values) if value > threshold]
    ties = [i for i, value in enumerate(values) if value == threshold]
    return sorted([*better, *(ties[i] for i in draw(len(ties), k - len(better), rng))])


def draw(n: int, size: int, rng: np.random.Generator, spread: int = 6) -> list[int]:
    """A uniform draw, ascending: random bytes keep somewhat too few, and single draws add the rest.

    The bytes keep each number with a chance of so many 256ths that `spread` standard deviations more are still too few.
    """
    if 2 * size > n:
        left_out = draw(n, n - size, rng, spread)
        return [number for number in range(n) if number not in left_out]
    kept: set[int] = set()
    share = max(0, 256 * (size - spread * isqrt(size)) // n) if n else 0
    while share:
        kept = {number for number, byte in enumerate(random_bytes(n, rng)) if byte < share}
        if len(kept) <= size:
            break
    while len(kept) < size:
        kept |= set(rng.integers(0, n, size - len(kept), dtype=np.int32).tolist())
    return sorted(kept)


def random_bytes(n: int, rng: np.random.Generator) -> list[int]:
    """The bytes of random words of eight, the lowest of each first."""
    words = [int(rng.integers(0, 2**64, dtype=np.uint64)) for _ in range((n + 7) // 8)]
    return [word >> 8 * place & 255 for word in words for place in range(8)][:n]


def shuffle(values: list[int], rng: np.random.Generator, at_once: int = 3 * 2**17) -> None:
    """A long list is dealt out into four, by two bits of a random byte each, and every part is shuffled by itself."""
    if len(values) <= FEW:
        rng.shuffle(values)
    elif len(values) <= at_once:
        values[:] = [values[i] for i in rng.choice(len(values), len(values), replace=False)]
    else:
        labels = [byte % 4 for byte in random_bytes(len(values), rng)]
        parts = [[value for value, mine in zip(values, labels, strict=True) if mine == label] for label in range(4)]
        for part in parts:
            shuffle(part, rng, at_once)
        values[:] = [value for part in parts for value in part]


def num_uniform(uniform_share: float, size: int) -> int:
    """How many of `size` are taken uniformly: the share, rounded, but at least one where there is a share."""
    return max(1, round(uniform_share * size)) if uniform_share else 0


def keep(
    candidates: list[int], scores: Sequence[float], size: int, uniform: int, rng: np.random.Generator
) -> list[int]:
    """The top size - uniform of the candidates and `uniform` of the others, in the order of `candidates`."""
    top = largest([scores[i] for i in candidates], size - uniform, rng)
    rest = [position for position in range(len(candidates)) if position not in top]
    added = [rest[i] for i in (draw(len(rest), uniform, rng) if uniform else [])]
    return [candidates[position] for position in sorted(top + added)]


def per_epoch(
    scores: Sequence[float], s: int, q: int, rng: np.random.Generator, uniform_share: float = 0.0
) -> list[int]:
    """Draws s, keeps q, trains in random order."""
    kept = keep(draw(len(scores), s, rng), scores, q, num_uniform(uniform_share, q), rng)
    shuffle(kept, rng)
    return kept


def per_iteration(
    scores: Sequence[float], s: int, q: int, ends: Sequence[int], rng: np.random.Generator, uniform_share: float = 0.0
) -> list[int]:
    """Draws s, deals them out in proportion to the steps, and keeps the top of each step's own candidates.

    `ends` are the positions in the selection where the steps end; the last one is q.
    """
    drawn = draw(len(scores), s, rng)
    shuffle(drawn, rng)
    order = []
    for begin, end in pairwise([0, *ends]):
        first, last = (floor(Fraction(s * edge, q) + Fraction(1, 2)) for edge in (begin, end))
        size = end - begin
        kept = keep(drawn[first:last], scores, size, num_uniform(uniform_share, size), rng)
        shuffle(kept, rng)
        order += kept
    return order


def keep_fresh(losses: Sequence[float], exploit: float) -> list[int]:
    """Positions of the batch's max(1, round(exploit·b)) highest losses, ascending; of equal ones the earlier."""
    order = sorted(range(len(losses)), key=lambda i: (-losses[i], i))
    return sorted(order[: max(1, round(exploit * len(losses)))])
