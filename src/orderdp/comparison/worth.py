"""How many steps of full data a run is worth: those after which full data, on its own schedule, is as accurate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import CONFIDENCE, FEWEST_SEEDS, student

Beyond = Literal["", "more than", "less than"]


class Curve(NamedTuple):
    """The accuracy of full data by its number of steps, each with a schedule that ends with them.

    Args:
        steps: (k,) ascending, at least two.
        accuracies: (k,) in percent, not falling.
    """

    steps: npt.NDArray[np.float64]
    accuracies: npt.NDArray[np.float64]

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Curve:
        """Returns the closest curve that never falls: isotonic regression over the points (steps, accuracy)."""
        from scipy.optimize import isotonic_regression

        steps, accuracies = np.array(sorted(points), dtype=np.float64).T
        return cls(steps, isotonic_regression(accuracies).x)

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


def worth_of(results: Results, entry: Entry, cost: Callable[[Mapping[str, Any]], float] | None = None) -> Worth | None:
    """Returns what a run is worth, from the seeds that it and all runs on full data have.

    The curve goes through the means over the seeds of full data and its shorter and longer schedules. The interval is
    that of the jackknife: each seed is left out once, from the run and the curve alike, so what a seed does to both
    cancels. It uses Student's t on the logarithm.

    Args:
        results: the comparison, whose references make the curve.
        entry: the run.
        cost: what counts instead of steps, from the result of a run; None for steps.

    Returns:
        None without two schedules of full data or a seed in common.

    Source: isotonic regression; Tukey's jackknife (Miller, "The jackknife - a review", 1974).
    """
    counted = cost or (lambda result: float(result["steps"]))
    references = [each for each in results.entries.values() if each.reference and each.results]
    if entry.reference or len({fmean(map(counted, each.results.values())) for each in references}) < 2:
        return None
    seeds = sorted(set(entry.results).intersection(*(each.results for each in references)))
    if not seeds:
        return None

    def of(chosen: Sequence[int]) -> tuple[float, Beyond]:
        curve = Curve.through([_mean(each, chosen, counted) for each in references])
        steps, accuracy = _mean(entry, chosen, counted)
        reached, beyond = curve.steps_to(accuracy)
        return reached / steps, beyond

    ratio, beyond = of(seeds)
    if len(seeds) < FEWEST_SEEDS:
        return Worth(ratio, 0.0, math.inf, len(seeds), beyond)
    left_out = [of([seed for seed in seeds if seed != out]) for out in seeds]
    logs = [math.log(value) for value, _ in left_out]
    spread = math.sqrt((len(seeds) - 1) / len(seeds) * sum((value - fmean(logs)) ** 2 for value in logs))
    half = float(student().ppf((1 + CONFIDENCE) / 2, len(seeds) - 1)) * spread
    beyonds = {beyond, *(each for _, each in left_out)}
    low = 0.0 if "less than" in beyonds else ratio * math.exp(-half)
    high = math.inf if "more than" in beyonds else ratio * math.exp(half)
    return Worth(ratio, low, high, len(seeds), beyond)


def _mean(entry: Entry, seeds: Sequence[int], counted: Callable[[Mapping[str, Any]], float]) -> tuple[float, float]:
    chosen = [entry.results[seed] for seed in seeds]
    return fmean(map(counted, chosen)), fmean(result["accuracy_last"] for result in chosen)
