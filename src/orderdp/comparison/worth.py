"""How many steps of full data a run is worth: those after which full data, on its own schedule, is as accurate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import CONFIDENCE, FEWEST_SEEDS, student

Beyond = Literal["", "more than", "less than"]
Floats: TypeAlias = npt.NDArray[np.float64]
_NEAR = 1e-9  # an end of the interval this near to the run's own steps is at them
_FINE = 1000  # points between two schedules at which an interval may end; it is interpolated between them


class Curve(NamedTuple):
    """The accuracy of full data by its number of steps, each with a schedule that ends with them.

    Args:
        steps: (k,) ascending, at least two.
        accuracies: (k,) in percent, not falling.
    """

    steps: Floats
    accuracies: Floats

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Curve:
        """Returns the closest curve that never falls: isotonic regression over the points (steps, accuracy)."""
        steps, accuracies = np.array(points, dtype=np.float64).T
        return cls.of_seeds(*_pooled(steps, accuracies[:, None]))

    @classmethod
    def of_seeds(cls, steps: Floats, accuracies: Floats) -> Curve:
        """Returns the mean of the curves of seeds: (k,) steps and (k, n) accuracies whose mean does not fall."""
        return cls(steps, np.maximum.accumulate([fmean(row) for row in accuracies]))

    def steps_to(self, accuracy: float) -> tuple[float, Beyond]:
        """Returns the steps at which the curve has an accuracy, linear in their logarithm between its points.

        Where the curve is level, it is the middle of that stretch. Outside the curve it is the end, and "more than" or
        "less than".

        >>> Curve(np.array([100.0, 400.0]), np.array([80.0, 90.0])).steps_to(91.0)
        (400.0, 'more than')
        """
        if accuracy > self.accuracies[-1]:
            return float(self.steps[-1]), "more than"
        if accuracy < self.accuracies[0]:
            return float(self.steps[0]), "less than"
        logs = np.log(self.steps)
        # The last point at most as high, and the first at least as high; they differ unless the curve has this height.
        low = int(np.searchsorted(self.accuracies, accuracy, side="right")) - 1
        high = int(np.searchsorted(self.accuracies, accuracy, side="left"))
        if low >= high:  # points high .. low have this accuracy
            return float(np.exp((logs[low] + logs[high]) / 2)), ""
        share = (accuracy - self.accuracies[low]) / (self.accuracies[high] - self.accuracies[low])
        return float(np.exp(logs[low] + share * (logs[high] - logs[low]))), ""


class Worth(NamedTuple):
    """What a run is worth: steps of full data at the same accuracy, over its own.

    Args:
        ratio: the estimate; 1.39 is 39 % more steps than stopping early.
        low: lower end of its 95 % interval; 0 if there is none.
        high: upper end; inf if there is none.
        seeds: how many seeds it rests on.
        beyond: "more than" or "less than" if the accuracy lies outside the curve of full data; `ratio` is then that of
            its end.
    """

    ratio: float
    low: float
    high: float
    seeds: int
    beyond: Beyond

    @property
    def saved(self) -> float:
        """The share of the steps that it saves at equal accuracy; negative if it needs more."""
        return 1 - 1 / self.ratio

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval is of more or of fewer steps than the run's own; else, and of few seeds, 0.

        An interval that ends at the run's own steps counts: full data is then worse or better there for certain.
        """
        if self.seeds < FEWEST_SEEDS:
            return 0
        return 1 if self.low >= 1 - _NEAR else -1 if self.high <= 1 + _NEAR else 0


def worth_of(results: Results, entry: Entry, cost: Callable[[Mapping[str, Any]], float] | None = None) -> Worth | None:
    """Returns what a run is worth, from the seeds that it and all runs on full data have.

    The curve goes through the means over the seeds of full data and its shorter and longer schedules, all with the
    augmentation of the run. The interval holds the steps at which full data is neither better nor worse than the run
    by a paired test at 5 %. The test is that of `paired_difference`: each seed of the run against the curve of that
    seed, so what a seed does to both cancels. An end at which full data cannot be told from the run leaves that side
    open.

    Args:
        results: the comparison, whose schedules make the curve.
        entry: the run.
        cost: what counts instead of steps, from the result of a run; None for steps.

    Returns:
        None without two schedules of full data or a seed in common.

    Source: isotonic regression; the interval is that of Fieller, "Some problems in interval estimation", 1954.
    """
    counted = cost or (lambda result: float(result["steps"]))
    references = results.schedules
    if entry.reference or len(references) < 2:
        return None
    seeds = sorted(set(entry.results).intersection(*(each.results for each in references)))
    if not seeds:
        return None
    counts = np.array([_mean(each, seeds, counted) for each in references])
    steps, by_seed = _pooled(counts, np.array([_accuracies(each, seeds) for each in references]))
    if len(steps) < 2:
        return None
    own, accuracies = _mean(entry, seeds, counted), _accuracies(entry, seeds)
    reached, beyond = Curve.of_seeds(steps, by_seed).steps_to(fmean(accuracies))
    low, high = 0.0, math.inf
    if len(seeds) >= FEWEST_SEEDS:
        low, high = _interval(steps, by_seed, np.array(accuracies), test_size=results.sizes.num_test_samples)
    return Worth(reached / own, low / own, high / own, len(seeds), beyond)


def _pooled(steps: Floats, accuracies: Floats) -> tuple[Floats, Floats]:
    """Returns (k,) ascending steps and (k, n) accuracies whose mean over the seeds does not fall.

    Accuracies at equal steps are averaged, then those of neighbours as isotonic regression of the means says.
    """
    from scipy.optimize import isotonic_regression

    ascending, place = np.unique(steps, return_inverse=True)
    weights = np.bincount(place)
    rows = np.array([accuracies[place == each].mean(axis=0) for each in range(len(ascending))])
    blocks = isotonic_regression([fmean(row) for row in rows], weights=weights).blocks
    for first, end in pairwise(blocks):
        if end - first > 1:
            rows[first:end] = np.average(rows[first:end], axis=0, weights=weights[first:end])
    return ascending, rows


def _interval(steps: Floats, by_seed: Floats, accuracies: Floats, *, test_size: int) -> tuple[float, float]:
    """Returns the least and most steps at which full data is neither worse nor better than a run; 0 or inf if open.

    Args:
        steps: (k,) of the schedules.
        by_seed: (k, n) accuracies of full data.
        accuracies: (n,) of the run.
        test_size: images that the accuracies were measured on.
    """
    knots, count = np.log(steps), len(accuracies)
    logs = np.unique(np.concatenate([np.linspace(*ends, _FINE) for ends in pairwise(knots)]))
    differences = accuracies[:, None] - np.array([np.interp(logs, knots, curve) for curve in by_seed.T])
    deviation = np.maximum(differences.std(axis=0, ddof=1), 100 / (test_size * math.sqrt(6)))  # of the rounding
    half = float(student().ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)
    low = _end(logs, differences.mean(axis=0) - half)
    high = -_end(-logs[::-1], -(differences.mean(axis=0) + half)[::-1])
    return math.exp(low), math.exp(high)


def _end(logs: Floats, excess: Floats) -> float:
    """Returns where an excess first falls to 0: the last place if it never does, and -inf if it is never above."""
    if excess[0] <= 0:
        return -math.inf
    below = np.flatnonzero(excess <= 0)
    if not len(below):
        return float(logs[-1])
    at = below[0]
    share = excess[at - 1] / (excess[at - 1] - excess[at])
    return float(logs[at - 1] + share * (logs[at] - logs[at - 1]))


def _mean(entry: Entry, seeds: Sequence[int], counted: Callable[[Mapping[str, Any]], float]) -> float:
    return fmean(counted(entry.results[seed]) for seed in seeds)


def _accuracies(entry: Entry, seeds: Sequence[int]) -> list[float]:
    return [entry.results[seed]["accuracy_last"] for seed in seeds]
