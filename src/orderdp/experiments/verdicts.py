"""What a comparison of runs with the same seeds may claim."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Literal, NamedTuple

TOLERANCE = 0.1  # percentage points below full data that still count as lossless
CONFIDENCE = 0.95

Verdict = Literal["lossless", "loses", "too few seeds to say"]


class Difference(NamedTuple):
    """A paired difference: run less reference, seed by seed.

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
        """What may be said of a run against full data, in percentage points of accuracy.

        "lossless" only where the whole interval lies above -0.1, "loses" where it lies below 0 and is not lossless.
        """
        if self.low > -TOLERANCE:
            return "lossless"
        return "loses" if self.high < 0 else "too few seeds to say"


def paired_difference(run: Mapping[int, float], reference: Mapping[int, float]) -> Difference:
    """Returns mean and 95 % confidence interval of run - reference over the seeds of both, by Student's t.

    Pairing by seed takes out what both share: the first weights and the order of the data. The interval supposes that
    the differences are normal, which three seeds cannot show.

    Args:
        run: seed to accuracy, in percent.
        reference: the same of what it is held against.

    Raises:
        ValueError: no seed in common, or an accuracy that is not finite.

    >>> paired_difference({0: 90.0, 1: 91.0, 2: 92.0}, {0: 90.5, 1: 91.5, 2: 92.5}).verdict
    'loses'
    """
    seeds = sorted(set(run) & set(reference))
    if not seeds:
        raise ValueError(
            f"run and reference must have a seed in common, got {sorted(run)} and {sorted(reference)}; train both alike"
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
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, len(seeds) - 1)) * statistics.stdev(differences) / math.sqrt(len(seeds))
    return Difference(mean, mean - half, mean + half, len(seeds))
