"""Paired differences between runs with the same seeds, and the verdicts that they support."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from orderdp.theory.sizes import check_count

TOLERANCE = 0.1  # percentage points below full data that still count as lossless
CONFIDENCE = 0.95
FEWEST_SEEDS = 3  # for any verdict; two differences say almost nothing about their spread

Verdict = Literal["lossless", "loses", "inconclusive"]


class Difference(NamedTuple):
    """A paired difference: run minus reference, seed by seed.

    Args:
        mean: over the seeds that both have.
        low: lower end of its confidence interval, -inf with one seed.
        high: upper end, inf with one seed.
        seeds: number of seeds.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> Verdict:
        """What may be concluded about a run against full data, in percentage points of accuracy.

        "lossless": the whole interval lies above -0.1. "loses": it lies below 0 and is not lossless. Fewer than three
        seeds give neither. More seeds narrow the interval, so the verdict on a real loss of 0.08 points may change from
        "loses" to "lossless".
        """
        if self.seeds < FEWEST_SEEDS:
            return "inconclusive"
        if self.low > -TOLERANCE:
            return "lossless"
        return "loses" if self.high < 0 else "inconclusive"

    @property
    def p_value(self) -> float:
        """The two-sided p-value of no difference, by Student's t; 1 for one seed."""
        return min(1.0, 2 * self._p_beyond(abs(self.mean)))

    def p_below(self, limit: float) -> float:
        """The one-sided p-value of a true difference of `limit` or more; 1 for one seed.

        >>> round(Difference(-1.0, -1.5, -0.5, 5).p_below(-0.2), 4)
        0.0057
        """
        return self._p_beyond(limit - self.mean)

    def _p_beyond(self, distance: float) -> float:
        if self.seeds < 2:
            return 1.0
        error = (self.high - self.low) / 2 / float(student().ppf((1 + CONFIDENCE) / 2, self.seeds - 1))
        return float(student().sf(distance / error, self.seeds - 1))


def holm(p_values: Sequence[float]) -> list[bool]:
    """Returns which of many differences remain significant at 5 % together, by Holm's correction.

    The chance that any of them is called so without a true difference is at most 5 %, however they depend on each
    other.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm([0.04, 0.01, 0.03])
    [False, True, False]
    """
    found = [False] * len(p_values)
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] > (1 - CONFIDENCE) / (len(p_values) - rank):
            break
        found[place] = True
    return found


def paired_difference(run: Mapping[int, float], reference: Mapping[int, float], *, test_size: int | None) -> Difference:
    """Returns mean and 95 % confidence interval of run - reference over the seeds of both, by Student's t.

    Pairing by seed takes out what both share: the first weights and the augmentation of each sample in each epoch. The
    interval assumes normal differences, which three seeds cannot show. It covers one training set and one test set
    only.

    Accuracies are multiples of 100/m, so a few differences may be equal by chance. The standard deviation is therefore
    taken as at least 100/(m·√6), that of the difference of two numbers each rounded to 100/m.

    Args:
        run: seed to accuracy, in percent.
        reference: the same for the runs of the reference.
        test_size: m, number of images that the accuracies were measured on; None for numbers that are no accuracies,
            which have no such least deviation.

    Raises:
        TypeError: `test_size` no whole number. ValueError: no seed in common, or an accuracy that is not finite.
        ImportError: without SciPy.

    >>> paired_difference({0: 90.0, 1: 91.0, 2: 92.0}, {0: 90.5, 1: 91.5, 2: 92.5}, test_size=10_000).verdict
    'loses'
    """
    rounding = 0.0 if test_size is None else rounding_of(test_size)
    seeds = sorted(set(run) & set(reference))
    if not seeds:
        raise ValueError(
            f"run and reference must have a seed in common, got {sorted(run)} and {sorted(reference)}; "
            "train both with the same seeds"
        )
    differences = [run[seed] - reference[seed] for seed in seeds]
    if not all(math.isfinite(difference) for difference in differences):
        seed = next(seed for seed, difference in zip(seeds, differences, strict=True) if not math.isfinite(difference))
        raise ValueError(
            f"accuracies must be finite, got {run[seed]} and {reference[seed]} at seed {seed}; leave it out"
        )
    mean = statistics.fmean(differences)
    if len(seeds) == 1:
        return Difference(mean, -math.inf, math.inf, 1)
    deviation = max(statistics.stdev(differences), rounding)
    half = float(student().ppf((1 + CONFIDENCE) / 2, len(seeds) - 1)) * deviation / math.sqrt(len(seeds))
    return Difference(mean, mean - half, mean + half, len(seeds))


def rounding_of(test_size: int) -> float:
    """Returns the standard deviation of the difference of two accuracies each rounded to 100/m, in percent.

    >>> round(rounding_of(10_000), 5)
    0.00408
    """
    return 100 / (check_count("test_size", test_size) * math.sqrt(6))


def student() -> Any:
    """Returns Student's t as SciPy has it.

    Raises:
        ImportError: without SciPy.
    """
    try:
        from scipy.stats import t
    except ImportError:
        raise ImportError("the interval of a difference needs SciPy: pip install scipy") from None
    return t
