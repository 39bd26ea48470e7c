"""The other methods of the field, slow and plain, as their specifications say: what an epoch may visit.

Each twin takes what is remembered as a dictionary from sample to last-seen loss, and says which samples must be
visited, which may be, how many, and with which weights; chance decides the rest.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise


@dataclass
class Allowed:
    """What one epoch may be.

    Args:
        must: samples that every choice holds.
        some: samples of which `count` are drawn uniformly.
        count: how many of those.
        weights: sample to weight; one where it is not named.
    """

    must: set[int]
    some: set[int] = field(default_factory=set)
    count: int = 0
    weights: dict[int, float] = field(default_factory=dict)


def infobatch(
    losses: dict[int, float], n: int, r: float, epoch: int, *, annealed_from: float = math.inf, least_kept: float = 0
) -> Allowed:
    everything = set(range(n))
    if epoch == 0 or epoch >= annealed_from:
        return Allowed(everything)
    mean = math.fsum(losses.values()) / len(losses)
    below = {sample for sample, loss in losses.items() if loss < mean}
    share = max(1 - Fraction(str(r)), Fraction(str(least_kept)))
    return Allowed(everything - below, below, math.floor(share * len(below)), dict.fromkeys(below, float(1 / share)))


def epsilon_greedy(losses: dict[int, float], n: int, q: int, epsilon: float) -> Allowed:
    uniform = round(epsilon * q)
    ranked = sorted(losses, key=lambda sample: -losses[sample])
    top = set(ranked[: q - uniform])
    return Allowed(top, set(range(n)) - top, uniform)


class UcbMemory:
    """Moving mean and variance of each sample's loss, one sample at a time."""

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing
        self.mean: dict[int, float] = {}
        self.var: dict[int, float] = {}

    def see(self, sample: int, loss: float) -> None:
        a = self.smoothing
        if sample not in self.mean:
            self.mean[sample], self.var[sample] = loss, 0.0
            return
        change = (loss - self.mean[sample]) ** 2
        self.mean[sample] = (1 - a) * self.mean[sample] + a * loss
        self.var[sample] = (1 - a) * self.var[sample] + a * change

    def bound(self, sample: int, c: float) -> float:
        return self.mean[sample] + c * self.var[sample] if sample in self.mean else math.inf


class Rounds:
    """Permutations of the data, walked through one after the other."""

    def __init__(self, n: int) -> None:
        self.everything = set(range(n))
        self.left = set(self.everything)  # of the present round

    def next(self, q: int) -> Allowed:
        if q <= len(self.left):
            return Allowed(set(), self.left, q)
        return Allowed(self.left, self.everything - self.left, q - len(self.left))

    def see(self, samples: list[int]) -> None:
        old = set(samples) & self.left
        self.left -= old
        if not self.left:  # the rest of this epoch begins the next round
            self.left = self.everything - (set(samples) - old)


def kakurenbo(losses: dict[int, float], n: int, hide: float, confidence: float, epoch: int, epochs: int) -> Allowed:
    everything = set(range(n))
    if epoch == 0:
        return Allowed(everything)
    progress = epoch / epochs
    share = hide * (1.0 if progress < 0.3 else 0.8 if progress < 0.6 else 0.6 if progress < 0.8 else 0.4)
    hidden_most = math.floor(Fraction(str(hide)) * Fraction(str(share / hide)).limit_denominator(10) * n) if hide else 0
    lowest = sorted(losses, key=lambda sample: losses[sample])[:hidden_most]
    hidden = {sample for sample in lowest if math.exp(-losses[sample]) >= confidence}
    return Allowed(everything - hidden, weights=dict.fromkeys(everything, 1 / (1 - share)))


def seta_groups(losses: list[float], groups: int) -> list[int]:
    """Cluster of each loss by plain Lloyd rounds from the quantiles, ties to the farther centre's cluster above."""
    ordered = sorted(losses)

    def quantile(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    centres = [quantile((group + 0.5) / groups) for group in range(groups)]
    while True:
        borders = [(a + b) / 2 for a, b in pairwise(centres)]
        assigned = [sum(loss >= border for border in borders) for loss in losses]
        moved = list(centres)
        for group in range(groups):
            members = [loss for loss, mine in zip(losses, assigned, strict=True) if mine == group]
            if members:
                moved[group] = math.fsum(members) / len(members)
        if moved == centres:
            return assigned
        centres = moved
