"""γ_j, the probability that the sample of rank j is kept: eq. (3), for every rank in O(n)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from orderdp.theory.sizes import check_count, check_sizes

Floats = npt.NDArray[np.float64]

BLOCK = 2**15  # small enough for a processor's cache
_SMALLEST = np.finfo(np.float64).tiny  # smaller floats lose digits, and a product with a ratio above 1/2 gets stuck


class Stretch(NamedTuple):
    """A stretch of neighbouring ranks and their probabilities.

    Args:
        first: its first rank, from 1.
        length: how many ranks.
        gammas: (length,) float64, or (1,) if γ is the same for all of them.
    """

    first: int
    length: int
    gammas: Floats


def inclusion_probabilities(n: SupportsIndex, s: SupportsIndex, q: SupportsIndex) -> Floats:
    """γ_1 .. γ_n: probability that the sample of rank j is among the top q of s drawn of n; rank 1 is the largest loss.

    γ is non-increasing. γ_1 = s/n, γ_j = 0 for j > n - s + q, and Σ_j γ_j = q. q = s is the uniform draw, γ_j = s/n.
    s = n is plain top-q. The relative error is below 1e-10 up to n = 10 million wherever γ_j > 1e-300. It grows with n
    beyond that. Smaller values may be 0.

    The difference of neighbours is one term:

        γ_j - γ_{j+1} = (s/n)·C(j-1, q-1)·C(n-j-1, s-q-1) / C(n-1, s-1)

    It is a negative hypergeometric probability: the q-th best of the draw has rank j, and the (q+1)-th a worse one.
    Each difference follows from the one before by a ratio of small integers. γ_j is the sum of the differences from j
    on. The sum starts from the smallest, so no digits cancel.

    Args:
        n: number of samples.
        s: exploration size, drawn uniformly without replacement.
        q: exploitation size, kept of the draw.

    Returns:
        (n,) float64, γ_j at position j - 1.

    Raises:
        TypeError: a size that is no whole number. ValueError: not 1 <= q <= s <= n <= 2**53.
        MemoryError: the machine has less than 8·n bytes of memory; `inclusion_blocks` needs only a block.

    Source: OrderDP, eqs. (3) and (10).

    >>> inclusion_probabilities(5, 3, 2)
    array([0.6, 0.6, 0.5, 0.3, 0. ])
    """
    n, s, q = check_sizes(n, s, q)
    gammas = new_array(n)
    for first, length, values in stretches(n, s, q):
        gammas[first - 1 : first - 1 + length] = values
    return gammas


def inclusion_blocks(
    n: SupportsIndex, s: SupportsIndex, q: SupportsIndex, *, block_size: SupportsIndex = BLOCK
) -> Iterator[tuple[int, Floats]]:
    """Yields γ in blocks of neighbouring ranks, (first rank, (b,) float64), from rank 1 to n.

    The values are those of `inclusion_probabilities` up to rounding. Blocks on which γ is constant take no arithmetic.
    It takes the memory of one block, and some hundred bytes for each of the n/block_size blocks.

    Args:
        n: number of samples.
        s: exploration size.
        q: exploitation size.
        block_size: most ranks in a block.

    Raises:
        As `inclusion_probabilities`, except MemoryError; when called, not when read.

    >>> [(first, len(gammas)) for first, gammas in inclusion_blocks(10, 4, 2, block_size=4)]
    [(1, 2), (3, 3), (6, 3), (9, 2)]
    """
    n, s, q = check_sizes(n, s, q)
    size = check_count("block_size", block_size)

    def blocks() -> Iterator[tuple[int, Floats]]:
        for first, length, gammas in stretches(n, s, q, size):
            for start in range(0, length, size):
                count = min(size, length - start)
                yield first + start, np.full(count, gammas[0]) if len(gammas) < count else gammas

    return blocks()


def stretches(n: int, s: int, q: int, size: int = BLOCK) -> Iterator[Stretch]:
    """Yields γ as stretches in the order of the ranks: constant ones of any length, others of at most `size` ranks.

    Ranks whose differences are too small for a float need no arithmetic: γ is s/n before the others and 0 after them.
    With 10 million ranks, s = n/2 and q = n/4, only about one rank in eighty needs any.
    """
    if q == s:
        yield Stretch(1, n, np.array([s / n]))
        return
    pieces = _pieces(n, s, q, size)
    after = np.cumsum([0.0] + [piece.total for piece in reversed(pieces)])[::-1]  # sums of the pieces from each on
    # γ is the share of Σ_j (γ_j - γ_{j+1}) = γ_1 = s/n that lies at or after the rank.
    scale = s / n / after[0]
    yield Stretch(1, pieces[0].low, np.array([s / n]))  # γ is s/n up to and including the first difference
    for piece, rest in zip(pieces, after[1:], strict=True):
        differences = piece.differences(n, s, q)
        tail = np.cumsum(differences[::-1])[::-1]
        first = 1 if piece is pieces[0] else 0  # the first rank of all has been given
        if first < len(tail):
            yield Stretch(piece.low + first, len(tail) - first, np.minimum((tail[first:] + rest) * scale, s / n))
    end = pieces[-1].high
    if end <= n:
        yield Stretch(end, n - end + 1, np.array([0.0]))


class _Piece(NamedTuple):
    """Ranks low <= j < high, all on one side of the largest difference, which is the unit of `near`."""

    low: int
    high: int
    near: float  # the difference at the end nearer to the largest
    rising: bool  # before the largest: `near` belongs to high - 1
    total: float = 0.0

    def differences(self, n: int, s: int, q: int) -> Floats:
        """Returns γ_j - γ_{j+1} for the ranks of this piece, from the near end outwards by the ratio of neighbours."""
        ratios = _ratios(n, s, q, np.arange(self.low, self.high - 1, dtype=np.float64))
        if self.rising:
            return np.cumprod(np.concatenate([[self.near], 1 / ratios[::-1]]))[::-1]
        return np.cumprod(np.concatenate([[self.near], ratios]))


def _ratios(n: int, s: int, q: int, j: Floats) -> Floats:
    """Returns d_{j+1}/d_j of the differences d_j = γ_j - γ_{j+1}."""
    return j * (n - s + q - j) / ((j - (q - 1)) * (n - 1 - j))


def _pieces(n: int, s: int, q: int, size: int) -> list[_Piece]:
    """Returns the pieces, in the order of the ranks, that hold every difference above the smallest normal float."""
    lowest, highest = q, n - s + q  # differences elsewhere are zero
    # The ratio is at least 1 as long as j·(s - 2) <= (q - 1)·(n - 1).
    peak = highest if s == 2 else min(max((q - 1) * (n - 1) // (s - 2) + 1, lowest), highest)
    before = list(_walk(n, s, q, peak, lowest, size, rising=True))
    return before[::-1] + list(_walk(n, s, q, peak + 1, highest, size, rising=False))


def _walk(n: int, s: int, q: int, start: int, end: int, size: int, *, rising: bool) -> Iterator[_Piece]:
    """Yields pieces from `start` outwards to `end`, both included, until the differences get too small for a float."""
    step = -1 if rising else 1
    near = 1.0 if rising else float(_ratios(n, s, q, np.array([start - 1.0]))[0]) if start <= end else 0.0
    while near >= _SMALLEST and (end - start) * step >= 0:
        last = start + step * min(size - 1, (end - start) * step)
        piece = _Piece(min(start, last), max(start, last) + 1, near, rising)
        differences = piece.differences(n, s, q)
        yield piece._replace(total=float(differences.sum()))
        far = float(differences[0 if rising else -1])
        start = last + step
        if (end - start) * step >= 0:
            ratio = float(_ratios(n, s, q, np.array([float(min(last, start))]))[0])
            near = far / ratio if rising else far * ratio


def new_array(n: int) -> Floats:
    """Returns an empty (n,) float64.

    Raises:
        MemoryError: the machine has less memory than that.
    """
    check_memory(n)
    return np.empty(n, dtype=np.float64)


def check_memory(count: int) -> None:
    """Raises unless the machine has memory for this many floats.

    Raises:
        MemoryError: it has less.
    """
    needed = 8 * count
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else needed
    if needed > memory:
        raise MemoryError(
            f"n must fit into {memory / 1e9:,.0f} GB of memory, got ranks that take {needed / 1e9:,.0f} GB; "
            "read them in blocks by inclusion_blocks, or write a smaller n"
        )
