"""The largest lossless prune ratio: a sequential test of non-inferiority, and a bisection of prune ratios by it.

Nothing here reads a file or trains. `searched` connects it with the runs in a folder.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from orderdp.comparison.verdicts import FEWEST_SEEDS
from orderdp.theory.sizes import check_fraction, check_number

Found = Literal["lossless", "not lossless", "undecided"]

_SHAPE = 0.25  # Wang and Tsiatis: 0 is O'Brien and Fleming's boundary, 1/2 is Pocock's
_PATHS = 50_000  # simulated tests without a difference, which the boundary is set by


class Judged(NamedTuple):
    """What a sequential test says of a run against full data.

    Args:
        verdict: None if it needs further seeds.
        mean: of run minus full data, in percentage points; nan without seeds.
        low: lower end of the repeated confidence interval at the last look, -inf before the first.
        high: upper end, inf before the first.
        seeds: number of seeds at that look, or so far.
    """

    verdict: Found | None
    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class SequentialTest:
    """A group-sequential t test of a paired difference against -margin, with a look after each seed from the third.

    At every look there is a repeated confidence interval of the true difference. "lossless": it lies above -margin.
    "not lossless": it lies below. The first look of either kind ends the test, and without one it is "undecided" after
    `seeds_max` seeds. Over all looks together, "lossless" is wrong with probability at most `alpha` if the true
    difference is -margin or less, and so is "not lossless" if it is -margin or more. That holds for normal differences
    of any variance. A test may always be stopped earlier as undecided.

    The boundary is that of Wang and Tsiatis with shape 1/4: in normal scores, C·(k/seeds_max)^(-1/4) at k seeds. It
    tests each look at that significance level by Student's t. The t statistics of few seeds depend on each other
    otherwise than normal ones, so C is not the published one for a known variance. It comes from simulated tests
    without a difference, with a fixed seed, two standard errors to the safe side.

    Args:
        margin: largest true loss that counts as lossless, in percentage points.
        seeds_max: number of seeds after which the test ends.
        alpha: probability of a wrong "lossless", and of a wrong "not lossless", over all looks.

    Raises:
        ValueError: a margin that is not positive and finite, fewer than three seeds, or an alpha outside (0, 0.5).
        TypeError: no number.

    Source: Wang and Tsiatis, "Approximately optimal one-parameter boundaries for group sequential trials", 1987.
    Jennison and Turnbull, "Interim analyses: the repeated confidence interval approach", 1989. Boundaries of a t test
    by simulation: Shao and Feng, "Group sequential t-test for clinical trials with small sample sizes across stages",
    2007.

    >>> SequentialTest(margin=0.5).judge([0.1, -0.1, 0.0, 0.1, -0.1]).verdict
    'lossless'
    """

    margin: float
    seeds_max: int = 20
    alpha: float = 0.05

    def __post_init__(self) -> None:
        check_number("margin", self.margin, example="0.5")
        if not 0 < self.margin < math.inf:
            raise ValueError(f"margin is in percentage points and must be above 0, got {self.margin}; write 0.5")
        if isinstance(self.seeds_max, bool) or not isinstance(self.seeds_max, int) or self.seeds_max < FEWEST_SEEDS:
            raise ValueError(
                f"seeds_max must be a whole number from {FEWEST_SEEDS}, which a test needs for its first look, got "
                f"{self.seeds_max!r}; write 20"
            )
        check_number("alpha", self.alpha, example="0.05")
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha is a probability of error and must lie in (0, 0.5), got {self.alpha}; write 0.05")

    def judge(self, differences: Sequence[float], *, least_deviation: float = 0.0) -> Judged:
        """Returns what the differences say, taken in their order. Those after the end of the test do not count.

        Args:
            differences: run minus full data of each seed, in percentage points.
            least_deviation: smallest standard deviation to assume, since accuracies are rounded.

        Raises:
            ValueError: a difference that is not finite. ImportError: without SciPy.
        """
        if wrong := [each for each in differences if not math.isfinite(each)]:
            raise ValueError(f"differences must be finite, got {wrong[0]}; leave that seed out")
        judged = Judged(None, statistics.fmean(differences) if differences else math.nan, -math.inf, math.inf, 0)
        judged = judged._replace(seeds=len(differences))
        for seeds in range(FEWEST_SEEDS, min(len(differences), self.seeds_max) + 1):
            seen = differences[:seeds]
            mean = statistics.fmean(seen)
            deviation = max(statistics.stdev(seen), least_deviation)
            half = self.critical_value(seeds) * deviation / math.sqrt(seeds)
            judged = Judged(None, mean, mean - half, mean + half, seeds)
            if judged.low > -self.margin:
                return judged._replace(verdict="lossless")
            if judged.high < -self.margin:
                return judged._replace(verdict="not lossless")
        return judged._replace(verdict="undecided") if judged.seeds >= self.seeds_max else judged

    def critical_value(self, seeds: int) -> float:
        """Returns the t value of the boundary at a look.

        Raises:
            ImportError: without SciPy.
        """
        special = _special()
        score = _boundary(self.seeds_max, self.alpha) * (seeds / self.seeds_max) ** (_SHAPE - 0.5)
        return -float(special.stdtrit(seeds - 1, special.ndtr(-score)))


@cache
def _boundary(seeds_max: int, alpha: float) -> float:
    """Returns C: without a difference, the t test crosses the boundary on one side with probability alpha."""
    special, rng = _special(), np.random.default_rng(0)
    total, squares = np.zeros(_PATHS), np.zeros(_PATHS)
    highest = np.full(_PATHS, -np.inf)
    for seeds in range(1, seeds_max + 1):
        draw = rng.standard_normal(_PATHS)
        total += draw
        squares += draw**2
        if seeds >= FEWEST_SEEDS:
            variance = (squares - total**2 / seeds) / (seeds - 1)
            t = total / np.sqrt(seeds * variance)
            above = t > 0  # only they can cross
            score = -special.ndtri(special.stdtr(seeds - 1, -t[above]))
            highest[above] = np.maximum(highest[above], score * (seeds / seeds_max) ** (0.5 - _SHAPE))
    error = math.sqrt(alpha * (1 - alpha) / _PATHS)
    return float(np.quantile(highest, 1 - max(alpha - 2 * error, alpha / 2)))


def _special() -> Any:
    try:
        from scipy import special
    except ImportError:
        raise ImportError("the sequential test needs SciPy: pip install scipy") from None
    return special


class Probe(NamedTuple):
    """One prune ratio that a search has tried.

    Args:
        ratio: the prune ratio.
        label: of its runs.
        judged: what the test says.
    """

    ratio: float
    label: str
    judged: Judged


@dataclass(frozen=True)
class Trail:
    """The prune ratios that the search of one method has tried, in that order.

    Args:
        probes: those that were tried.
        asks: label and number of seeds of the runs that the search needs next; None when it has ended.
    """

    probes: tuple[Probe, ...]
    asks: tuple[str, int] | None = None

    @property
    def largest(self) -> Probe | None:
        """The largest prune ratio that was shown to be lossless; None if none was."""
        return max(self.at("lossless"), key=lambda probe: probe.ratio, default=None)

    def at(self, verdict: Found) -> list[Probe]:
        """Returns the probes with a verdict, by their prune ratio."""
        return sorted(probe for probe in self.probes if probe.judged.verdict == verdict)


@dataclass(frozen=True)
class Search:
    """A bisection for the largest lossless prune ratio of each method, on a grid of ratios.

    It begins in the middle of the grid. From a ratio that the test calls lossless it goes up, from any other one down,
    also from one that stays undecided: that one is not shown to be lossless. Nothing is concluded about ratios that
    were not tried: bisection is a rule for what to try next, and lossless ratios need not lie side by side.

    One search makes at most `tests` tests for a method, each with error probability alpha / tests. If no lossless
    ratio lies above one that is not, a wrong end takes a wrong "lossless" on one path that is fixed beforehand. So the
    ratio that is named is not lossless with probability at most alpha (Bonferroni). Otherwise the path depends on the
    results, and the bound is ceil(k/2)·alpha / tests, with k ratios.

    Args:
        prune_ratios: the grid, ascending, in (0, 1).
        arms: name of each method to the labels of its runs at these ratios.
        margin: as of `SequentialTest`.
        seeds_max: as of `SequentialTest`, at each ratio.
        alpha: highest probability that the ratio named for one method is not lossless, if no lossless ratio lies above
            one that is not.
        seeds_of: label to the number of seeds that its runs are planned for; others are not planned.

    Raises:
        ValueError: ratios outside (0, 1) or not ascending, or as `SequentialTest`.
    """

    prune_ratios: tuple[float, ...]
    arms: Mapping[str, tuple[str, ...]]
    margin: float
    seeds_max: int = 20
    alpha: float = 0.05
    seeds_of: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for ratio in self.prune_ratios:
            check_fraction("prune_ratio", ratio, low_open=True, high_open=True)
        if not self.prune_ratios or list(self.prune_ratios) != sorted(set(self.prune_ratios)):
            raise ValueError(f"prune_ratios of a search must ascend, got {list(self.prune_ratios)}; write 0.3 0.5 0.7")
        SequentialTest(self.margin, self.seeds_max, self.alpha)  # which refuses what is wrong, as it was given

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Search:
        """Returns the search that `table` made."""
        arms = {name: tuple(labels) for name, labels in table["arms"].items()}
        return cls(**{**table, "prune_ratios": tuple(table["prune_ratios"]), "arms": arms})

    def table(self) -> dict[str, Any]:
        """Returns plain values."""
        arms = {name: list(labels) for name, labels in self.arms.items()}
        return {**asdict(self), "prune_ratios": list(self.prune_ratios), "arms": arms}

    @property
    def tests(self) -> int:
        """The largest number of ratios that are tried for a method."""
        return len(self.prune_ratios).bit_length()

    @property
    def test(self) -> SequentialTest:
        """The test at each ratio."""
        return SequentialTest(self.margin, self.seeds_max, self.alpha / self.tests)

    def wants(self, label: str, position: int) -> bool:
        """Returns whether the run of a label with the seed at a position is planned; always so for full data."""
        mine = any(label in labels for labels in self.arms.values())
        return not mine or position < self.seeds_of.get(label, 0)

    def follow(self, arm: str, differences: Mapping[str, Sequence[float]], *, least_deviation: float = 0.0) -> Trail:
        """Returns how far the search of a method has come, by the results so far alone.

        Args:
            arm: name of the method.
            differences: label to run minus full data of each seed, in the order of the seeds.
            least_deviation: as of `SequentialTest.judge`.
        """
        probes = []
        low, high = -1, len(self.prune_ratios)
        while high - low > 1:
            middle = (low + high) // 2
            label = self.arms[arm][middle]
            judged = self.test.judge(differences.get(label, ()), least_deviation=least_deviation)
            probes.append(Probe(self.prune_ratios[middle], label, judged))
            if judged.verdict is None:
                return Trail(tuple(probes), (label, max(FEWEST_SEEDS, judged.seeds + 1)))
            low, high = (middle, high) if judged.verdict == "lossless" else (low, middle)
        return Trail(tuple(probes))
