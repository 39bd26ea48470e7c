"""The sizes n, s and q: the values allowed, and the sizes that a prune ratio gives."""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Sequence
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

# Beyond it, neighbouring ranks are the same float.
MAX_SAMPLES = 2**53


def check_sizes(n: SupportsIndex, s: SupportsIndex, q: SupportsIndex) -> tuple[int, int, int]:
    """Returns n, s and q as Python integers, if 1 <= q <= s <= n <= 2**53.

    Raises:
        TypeError: a size that is no whole number.
        ValueError: sizes in another order, or an n that is too large.

    >>> check_sizes(400, 100, 130)
    Traceback (most recent call last):
    ...
    ValueError: q must be at most s, got q=130 and s=100; q samples are kept of the s that are drawn
    """
    n, s, q = check_count("n", n), check_count("s", s), check_count("q", q)
    if n > MAX_SAMPLES:
        raise ValueError(f"n must be at most 2**53, got {n}; beyond it float64 does not distinguish ranks")
    if q > s:
        raise ValueError(f"q must be at most s, got q={q} and s={s}; q samples are kept of the s that are drawn")
    if s > n:
        raise ValueError(f"s must be at most n, got s={s} and n={n}; s samples are drawn of n without replacement")
    return n, s, q


def check_count(name: str, value: SupportsIndex) -> int:
    """Returns `value` as a Python integer, if it is a whole number of at least 1.

    Raises:
        TypeError: no whole number (a bool is none). ValueError: less than 1.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        hint = f"; write {value:.0f}" if isinstance(value, float) and value.is_integer() else ""
        raise TypeError(f"{name} must be a whole number, got {value!r}{hint or '; write an int'}")
    number = operator.index(value)
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}; write a positive whole number")
    return number


def check_once(name: str, values: Sequence[Hashable]) -> None:
    """Raises ValueError if a value comes twice.

    >>> check_once("seed", [1, 2, 1])
    Traceback (most recent call last):
    ...
    ValueError: seed must be given once each, got [1, 2, 1]; leave the repeats out
    """
    if len(set(values)) != len(values):
        raise ValueError(f"{name} must be given once each, got {list(values)}; leave the repeats out")


def default_sizes(n: int, prune_ratio: float) -> tuple[int, int]:
    """Returns (s, q) for a prune ratio: q = round((1 - r)·n), and s by `default_exploration`.

    `OrderDP(prune_ratio=r)` uses these sizes. q is 0 if the ratio leaves no sample.

    >>> default_sizes(1000, 0.5)
    (707, 500)
    """
    q = round((1 - prune_ratio) * n)
    return default_exploration(n, q), q


def default_exploration(n: int, q: int) -> int:
    """Returns s = round(√(n·q)): as large a share of n as q is of s, so s/n = q/s = √(q/n).

    This lies between a uniform draw and ranking everything. If a network fits the data easily, ranking everything did
    slightly better in the mean; otherwise it lost more (docs/findings.md, the split and the first scores).
    """
    return round(math.sqrt(n * q))


def largest_remainders(counts: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Returns whole numbers in proportion to the counts, to within one, that sum to `size`.

    The largest remainders are rounded up, the first among equals (Hamilton's method).

    >>> largest_remainders(np.array([5, 0, 3, 2]), 5)
    array([3, 0, 1, 1])
    """
    sizes, rests = np.divmod(counts * size, counts.sum())
    sizes[np.argsort(-rests, kind="stable")[: size - int(sizes.sum())]] += 1
    return sizes


def check_number(name: str, value: float, *, rule: str | None = None, example: str) -> None:
    """Raises unless `value` is a real number, NumPy's among them.

    Args:
        name: of the argument.
        value: of the argument.
        rule: what it must be, for the message; None for "a number".
        example: a value that it may have.

    Raises:
        TypeError: a text, a bool, or anything else that is no number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise TypeError(f"{rule or f'{name} must be a number'}, got {value!r}; write a number such as {example}")


def check_fraction(name: str, value: float, *, low_open: bool, high_open: bool) -> None:
    """Raises unless `value` is a real number in the unit interval, without its open ends.

    Raises:
        TypeError: not a number.
        ValueError: outside the interval, or NaN.
    """
    interval = f"{'(' if low_open else '['}0, 1{')' if high_open else ']'}"
    rule = f"{name} is a fraction and must lie in {interval}"
    check_number(name, value, rule=rule, example="0.5")
    inside = (value > 0 if low_open else value >= 0) and (value < 1 if high_open else value <= 1)
    if not inside:
        meant_percent = 1 < value < 100 or (value == 100 and not high_open)
        percent = f"for {value:g} % write {value / 100:g}" if meant_percent else "write a number such as 0.5"
        raise ValueError(f"{rule}, got {value}; {percent}")
