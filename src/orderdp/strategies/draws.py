"""Uniform draws and random orders: exact, by blocks that fit in cache, and the same on every machine.

A set of samples is a mask of one byte a sample. The laws are exact: integers alone decide, and every step treats all
samples alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from orderdp.strategies.base import Indices

Mask: TypeAlias = npt.NDArray[np.bool_]

_BLOCK = 65_536  # samples looked at together; a multiple of 8, since random bytes come in eights
_SPREAD = 6  # standard deviations by which the first round of a draw stays below its size
_MOST_AT_ONCE = 3 * 2**17  # values that are shuffled without parts
_FEW = 10_000  # up to here `Generator.choice` uses a hash table, and `Generator.shuffle` is faster


def blocks(num_samples: int) -> Iterator[slice]:
    """Yields slices that cover 0 .. num_samples - 1 in order."""
    for begin in range(0, num_samples, _BLOCK):
        yield slice(begin, min(begin + _BLOCK, num_samples))


def draw(num_samples: int, size: int, rng: np.random.Generator) -> Mask:
    """Draws `size` of `num_samples` uniformly without replacement, in O(num_samples).

    A first round keeps each sample with the same chance k/256, a little less than size/num_samples. If it kept too
    many, it is repeated. The rest are single uniform draws of samples not kept yet. Each round treats all samples
    alike, so every set of `size` samples is equally likely. More than half of the samples are drawn as those left out.

    Returns:
        (num_samples,) bool, `size` of them True.

    >>> int(draw(10, 4, np.random.default_rng(0)).sum())
    4
    """
    if 2 * size > num_samples:
        left_out = draw(num_samples, num_samples - size, rng)
        return np.logical_not(left_out, out=left_out)
    kept = np.zeros(num_samples, dtype=np.bool_)
    share = max(0, 256 * (size - _SPREAD * isqrt(size)) // max(1, num_samples))
    count = 0
    while share:
        for block in blocks(num_samples):
            np.less(_random_bytes(block.stop - block.start, rng), share, out=kept[block])
        count = int(np.count_nonzero(kept))
        if count <= size:
            break
    while count < size:
        drawn = rng.integers(0, num_samples, size - count, dtype=index_type(num_samples))
        new = np.unique(drawn[~kept[drawn]])
        kept[new] = True
        count += len(new)
    return kept


def draw_among(mask: Mask, size: int, rng: np.random.Generator) -> Mask:
    """Draws `size` of the samples of a mask uniformly without replacement.

    >>> draw_among(np.array([True, False, True]), 2, np.random.default_rng(0)).tolist()
    [True, False, True]
    """
    chosen = draw(int(np.count_nonzero(mask)), size, rng)
    drawn = np.zeros(len(mask), dtype=np.bool_)
    first = 0
    for block in blocks(len(mask)):
        inside = np.flatnonzero(mask[block])
        drawn[block][inside] = chosen[first : first + len(inside)]
        first += len(inside)
    return drawn


def positions(mask: Mask) -> Indices:
    """Returns the positions of a mask, ascending: (q,) int32, or int64 from 2**31 samples on."""
    found = np.empty(np.count_nonzero(mask), dtype=index_type(len(mask)))
    first = 0
    for block in blocks(len(mask)):
        inside = np.flatnonzero(mask[block])
        part = found[first : first + len(inside)]
        part[:] = inside
        part += block.start
        first += len(inside)
    return found


def shuffled(mask: Mask, rng: np.random.Generator) -> Indices:
    """Returns the positions of a mask in random order: (q,) int32, or int64 from 2**31 samples on."""
    found = positions(mask)
    del mask  # frees it before the shuffle, where only this call holds it
    shuffle(found, rng)
    return found


def permutation(num_samples: int, rng: np.random.Generator) -> Indices:
    """Returns 0 .. num_samples - 1 in random order: int32, or int64 from 2**31 samples on."""
    order: Indices = np.arange(num_samples, dtype=index_type(num_samples))
    shuffle(order, rng)
    return order


def shuffle(values: npt.NDArray[np.generic], rng: np.random.Generator) -> None:
    """Puts a vector in random order, in place; every order is equally likely.

    A vector that does not fit in cache is first dealt out into four parts, each value to a part by chance. Each part is
    then shuffled in this way. A shuffle of the whole would wait for memory at each step.

    Source: Rao, "Generation of random permutation of given number of elements using random sampling numbers", 1961;
        Sandelius, "A simple randomization procedure", 1962.
    """
    if len(values) <= _FEW:
        rng.shuffle(values)
    elif len(values) <= _MOST_AT_ONCE:
        values[:] = values.take(rng.choice(len(values), len(values), replace=False))
    else:
        parts, end = _dealt_out(values, rng), 0
        while parts:
            part = parts.pop(0)
            begin, end = end, end + len(part)
            values[begin:end] = part
            del part
            shuffle(values[begin:end], rng)


def _dealt_out(values: npt.NDArray[np.generic], rng: np.random.Generator) -> list[npt.NDArray[np.generic]]:
    """Returns the four parts. Large arrays hold them, whose memory goes back at once when they are dropped."""
    room = len(values) // 4 + _SPREAD * isqrt(len(values))  # a part is larger about once in 10^40 times
    parts, sizes = [np.empty(room, dtype=values.dtype) for _ in range(4)], [0] * 4
    for block in blocks(len(values)):
        labels = _random_bytes(block.stop - block.start, rng) & 3
        for label, size in enumerate(sizes):
            mine = values[block].take(np.flatnonzero(labels == label))
            sizes[label] += len(mine)
            if sizes[label] > len(parts[label]):
                parts[label] = np.concatenate([parts[label][:size], np.empty(room + len(mine), dtype=values.dtype)])
            parts[label][size : sizes[label]] = mine
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]


def _random_bytes(count: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Returns uniform bytes, the same on machines of either byte order; half the time of `Generator.bytes`."""
    words = rng.integers(0, 2**64, -(-count // 8), dtype=np.uint64)
    return words.astype("<u8", copy=False).view(np.uint8)[:count]


def index_type(num_samples: int) -> type[np.int32 | np.int64]:
    """Returns the type of positions in a data set."""
    return np.int32 if num_samples < 2**31 else np.int64
