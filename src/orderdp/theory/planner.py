"""Plans a run with OrderDP before it is trained: every split (s, q) of a budget, by the law γ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from orderdp.theory.bounds import spectrum_gap
from orderdp.theory.inclusion import stretches
from orderdp.theory.sizes import check_count, check_fraction, check_sizes, default_exploration, default_sizes

_SPLITS = 8  # s goes from q to n by this many equal factors; the default split is in the middle
_MAY_MISS = 0.01  # share of the samples that a split may leave untrained beyond what the budget leaves
_MOST_RANKS = 10**9  # to compute; about ten seconds
_NOTHING = 1e-18  # a probability too small to affect a run of any length


@dataclass(frozen=True)
class Decomposition:
    """One split of a budget: s drawn, q of them kept in each of E epochs.

    Probabilities by rank, ages and `dormant` assume that all losses are known and keep their order. Each epoch then
    trains the sample of rank j with probability γ_j, whatever happened before. In training the order moves: a loss
    falls when its sample is trained, and stays stored otherwise. The assumption therefore gives the slowest turnover of
    samples. `never_seen` describes the first epochs, in which samples without a loss come before all others (the
    default of `OrderDP`).

    Args:
        s: exploration size.
        q: exploitation size.
        explore: s/n.
        exploit: q/s.
        best: γ of rank 1, the largest loss: s/n.
        median: γ of rank ⌈n/2⌉.
        worst: γ of rank n, the smallest loss: 0 unless q = s.
        share_zero: share of the ranks with γ = 0, (s - q)/n. At the size of a data set, γ is almost 0 for all ranks
            beyond about (q/s)·n.
        spectrum_gap: C_s of Theorem 4.
        mean_age: expected epochs since a sample was last trained, mean over the ranks. Counted after E epochs as by
            `Pruner.report`: 0 for the last epoch, and E if never.
        worst_age: the same for the last rank.
        dormant: expected share of the samples that E epochs do not train, Σ_j (1 - γ_j)^E / n.
        never_seen: expected share of the samples that a run of E epochs never trains if unseen ones come first. By the
            mean of each epoch's draw; about one sample off.
        all_seen: epochs after which less than half a sample is expected to be unseen, if unseen ones come first.
        effective_samples: (Σγ)²/Σγ², Kish's effective number of samples; n if uniform.
    """

    s: int
    q: int
    explore: float
    exploit: float
    best: float
    median: float
    worst: float
    share_zero: float
    spectrum_gap: float
    mean_age: float
    worst_age: float
    dormant: float
    never_seen: float
    all_seen: int
    effective_samples: float


@dataclass(frozen=True)
class Plan:
    """A budget, what it saves, and its splits.

    Args:
        n: number of samples.
        epochs: E.
        batch_size: samples a step, over all ranks.
        q: samples of an epoch.
        prune_ratio: 1 - q/n, the share of the samples that is saved; also of the time in proportion to them.
        steps: optimiser steps of the run, E·⌈q/b⌉.
        full_steps: the same with full data.
        samples: samples trained, E·q.
        hours: what the run takes if time is in proportion to samples; None if the hours of a full run are not known.
        saved_hours: what it saves, under the same assumption.
        decompositions: the splits, from s = q (a uniform draw) to s = n (plain top-q).
        recommended: the split to take.
        reason: why, in a sentence.
    """

    n: int
    epochs: int
    batch_size: int
    q: int
    prune_ratio: float
    steps: int
    full_steps: int
    samples: int
    hours: float | None
    saved_hours: float | None
    decompositions: tuple[Decomposition, ...]
    recommended: Decomposition
    reason: str


def plan(
    n: SupportsIndex,
    prune_ratio: float | None = None,
    *,
    epochs: SupportsIndex,
    batch_size: SupportsIndex,
    steps: SupportsIndex | None = None,
    samples: SupportsIndex | None = None,
    hours: float | None = None,
    full_hours: float | None = None,
) -> Plan:
    """Plans a budget: what it costs, what it saves, and how each split (s, q) of it trains the samples.

    Exactly one of `prune_ratio`, `steps`, `samples` and `hours` sets the budget. The last three are for the whole run,
    and are used up as far as whole samples of an epoch allow. Hours assume that time is in proportion to the samples
    trained. Leave fixed costs (evaluation, start) out of both numbers of hours.

    The recommended split is the one of `OrderDP(prune_ratio=r)`: s/n = q/s = √(1 - r). Its draws may be too narrow: the
    run then leaves over one sample in a hundred more untrained than the budget requires. In that case the recommended
    split is the first row of the table that does not.

    Args:
        n: number of samples.
        prune_ratio: fraction of the data that each epoch leaves out, in [0, 1).
        epochs: E.
        batch_size: samples of an optimiser step, over all ranks.
        steps: optimiser steps to spend.
        samples: samples to spend.
        hours: hours to spend; needs `full_hours`.
        full_hours: hours of a run of as many epochs with full data.

    Returns:
        The plan.

    Raises:
        TypeError: a number of another kind.
        ValueError: a number out of range; no budget or several; hours without `full_hours`; a budget below one sample
            (one step) an epoch; so many samples that the table would take minutes.

    Source: OrderDP. Every column follows from γ, eq. (3); C_s is of Theorem 4, and the split of Section 5.3.

    >>> laid_out = plan(50_000, 0.5, epochs=200, batch_size=128)
    >>> laid_out.steps, laid_out.recommended.s, laid_out.recommended.q
    (39200, 35355, 25000)
    >>> laid_out.reason  # doctest: +ELLIPSIS
    'OrderDP(prune_ratio=0.5), half way between a uniform draw and plain top-q: ...'
    """
    n = check_sizes(n, 1, 1)[0]
    epochs, batch_size = check_count("epochs", epochs), check_count("batch_size", batch_size)
    budgets = {"prune_ratio": prune_ratio, "steps": steps, "samples": samples, "hours": hours}
    q = _kept(n, epochs, batch_size, {name: value for name, value in budgets.items() if value is not None}, full_hours)
    explorations = _explorations(n, q)
    width = sum(_width(n, s, q) for s in explorations)
    if width > _MOST_RANKS:
        raise ValueError(
            f"n and q must leave at most {_MOST_RANKS:,} ranks to compute, got {width:,.0f} for n={n} and q={q}; "
            "write a smaller n of the same ratio, whose shares are the same"
        )
    decompositions = tuple(_decomposition(n, s, q, epochs) for s in explorations)
    recommended, reason = _recommend(n, q, epochs, decompositions)
    full = None if full_hours is None else float(full_hours)
    return Plan(
        n=n,
        epochs=epochs,
        batch_size=batch_size,
        q=q,
        prune_ratio=1 - q / n,
        steps=epochs * -(-q // batch_size),
        full_steps=epochs * -(-n // batch_size),
        samples=epochs * q,
        hours=None if full is None else full * q / n,
        saved_hours=None if full is None else full * (1 - q / n),
        decompositions=decompositions,
        recommended=recommended,
        reason=reason,
    )


def _kept(n: int, epochs: int, batch_size: int, budgets: Mapping[str, Any], full_hours: float | None) -> int:
    """Returns q, the samples of an epoch that the budget allows."""
    if len(budgets) != 1:
        raise ValueError(
            f"one budget is needed, got {' and '.join(budgets) or 'none'}; give prune_ratio, steps, samples or hours"
        )
    ((name, value),) = budgets.items()
    for hours_name, hours in (("full_hours", full_hours), *budgets.items()):
        if hours_name.endswith("hours") and hours is not None:
            _check_hours(hours_name, hours)
    if name == "prune_ratio":
        check_fraction(name, value, low_open=False, high_open=True)
        q, least = default_sizes(n, value)[1], "a smaller prune ratio"
    elif name == "hours":
        if full_hours is None:
            raise ValueError(
                f"hours must be a share of something, got hours={value} without full_hours; "
                "give the hours of a run on full data as full_hours"
            )
        q, least = math.floor(n * value / full_hours + 1e-9), "more hours"
    else:
        rounds = check_count(name, value) // epochs
        q, least = rounds * (batch_size if name == "steps" else 1), f"at least {epochs}, one an epoch"
    if q < 1:
        raise ValueError(f"the budget must pay for a sample an epoch, got {name}={value}; write {least}")
    return min(q, n)


def _check_hours(name: str, hours: Any) -> None:
    number = isinstance(hours, (int, float)) and not isinstance(hours, bool)
    if not (number and hours > 0 and math.isfinite(hours)):
        raise ValueError(f"{name} must be a positive, finite number, got {hours!r}; write hours such as 2.5")


def _explorations(n: int, q: int) -> list[int]:
    """Returns the sizes s to lay out: from q to n in equal factors, with the default one in the middle."""
    sizes = {round(n * (q / n) ** (step / _SPLITS)) for step in range(_SPLITS + 1)}
    middle = default_exploration(n, q)
    return sorted({min(max(s, q), n) for s in sizes | {q, middle, n}})


def _width(n: int, s: int, q: int) -> float:
    """Returns about how many ranks need a γ: 80 standard deviations of the rank of the q-th best of the draw."""
    variance = q * (s + 1 - q) * (n + 1) * (n - s) / ((s + 1) ** 2 * (s + 2))
    return min(80 * math.sqrt(variance), n)


def _decomposition(n: int, s: int, q: int, epochs: int) -> Decomposition:
    middle = (n + 1) // 2
    squares = ages = dormant = median = 0.0
    for first, length, gammas in stretches(n, s, q):
        times = length / len(gammas)
        some = gammas[: len(gammas) - int(np.searchsorted(gammas[::-1], _NOTHING))]  # γ is non-increasing
        none = length if not len(some) else len(gammas) - len(some)
        with np.errstate(divide="ignore"):  # log(1 - γ) of γ = 1 is -inf, and its exponential 0 is right
            missed = np.expm1(epochs * np.log1p(-some))  # (1 - γ)^E - 1, without cancellation if γ is small
        squares += times * float((some * some).sum())  # not `@`, whose threads wait for each other at this size
        # Σ_{k = 1 .. E} (1 - γ)^k: the epochs since a sample was last trained, at most E.
        ages += times * float((-missed * (1 - some) / some).sum()) + none * epochs
        dormant += times * float((1 + missed).sum()) + none
        if first <= middle < first + length:
            median = float(gammas[min(middle - first, len(gammas) - 1)])
    uniform = q / n
    return Decomposition(
        s=s,
        q=q,
        explore=s / n,
        exploit=q / s,
        best=s / n,
        median=median,
        worst=uniform if q == s else 0.0,
        share_zero=(s - q) / n,
        spectrum_gap=spectrum_gap(n, s, q),
        mean_age=ages / n,
        worst_age=ages / n if q == s else float(epochs),
        dormant=dormant / n,
        never_seen=_never_seen(n, s, q, epochs),
        all_seen=_epochs_until_seen(n, s, q),
        effective_samples=q * q / squares,
    )


def _never_seen(n: int, s: int, q: int, epochs: int) -> float:
    """Returns the expected share of samples that E epochs leave untrained if unseen samples come first.

    Of U unseen samples, an epoch draws X (hypergeometric, here normal) and trains min(X, q). If U is so large that q of
    them are drawn for certain, this is q. In the end U falls by the factor 1 - s/n.
    """
    for epoch, (unseen, all_trained) in enumerate(_unseen(n, s, q)):
        if epoch == epochs:
            return unseen / n
        if all_trained:
            return unseen / n * (1 - s / n) ** (epochs - epoch)
    return 0.0


def _epochs_until_seen(n: int, s: int, q: int) -> int:
    """Returns after how many epochs less than half a sample is expected to be unseen."""
    for epoch, (unseen, all_trained) in enumerate(_unseen(n, s, q)):
        if unseen < 0.5:
            return epoch
        if all_trained:
            return epoch + (1 if s == n else math.ceil(math.log(0.5 / unseen) / math.log1p(-s / n)))
    return 0


def _unseen(n: int, s: int, q: int) -> Iterator[tuple[float, bool]]:
    """Yields, from before the first epoch on, the unseen samples and whether all of them that are drawn are trained."""
    unseen = float(n)
    while True:
        mean = s * unseen / n
        spread = math.sqrt(max(mean * (1 - unseen / n) * (n - s) / max(n - 1, 1), 0.0))
        yield unseen, mean + 9 * spread < q  # then it stays so
        unseen = max(unseen - (mean - _excess(mean, spread, q)), 0.0)


def _excess(mean: float, spread: float, q: int) -> float:
    """Returns E max(X - q, 0) for a normal X."""
    if spread == 0:
        return max(mean - q, 0.0)
    d = (q - mean) / spread
    return spread * (math.exp(-d * d / 2) / math.sqrt(2 * math.pi) - d * math.erfc(d / math.sqrt(2)) / 2)


def _recommend(n: int, q: int, epochs: int, splits: tuple[Decomposition, ...]) -> tuple[Decomposition, str]:
    """Returns the recommended split and the sentence that says why."""
    default = next(split for split in splits if split.s == default_exploration(n, q))
    if q == n:
        return default, "The budget covers full data in every epoch, so there is nothing to prune."
    call = f"OrderDP(prune_ratio={_shortest_ratio(n, q)})"
    if epochs == 1:
        return default, f"{call}: the only epoch knows no losses yet, so every split is a uniform draw of q samples."
    if default.s == q:
        return default, f"{call}: so few samples leave no split between a uniform draw and plain top-q."
    least = max(1 - epochs * q / n, 0.0)
    if default.never_seen > least + _MAY_MISS:
        wider = next(split for split in splits if split.never_seen <= least + _MAY_MISS)
        return wider, (
            f"{_call(n, wider)}: {epochs} epochs never train {_percent(wider.never_seen)} of the samples with it, and "
            f"{_percent(default.never_seen)} with the narrower draws of {call}; the budget allows {_percent(least)}."
        )
    rest = _percent(default.never_seen)
    reach = "train every sample" if n * default.never_seen < 0.5 else f"leave {rest} of the samples untrained"
    return default, (
        f"{call}, half way between a uniform draw and plain top-q: {epochs} epochs {reach}, and once all are "
        f"seen the weights spread as over {default.effective_samples:,.0f} of {n:,}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _call(n: int, split: Decomposition) -> str:
    """Returns the call with the fewest digits that has exactly these sizes."""
    for digits in range(2, 18):
        explore, exploit = float(f"{split.explore:.{digits}g}"), float(f"{split.exploit:.{digits}g}")
        if round(explore * n) == split.s and round(exploit * split.s) == split.q:
            break
    return f"OrderDP(explore={explore}, exploit={exploit})"


def _shortest_ratio(n: int, q: int) -> float:
    """Returns the prune ratio with the fewest digits that has this q."""
    ratios = (float(f"{1 - q / n:.{digits}g}") for digits in range(1, 18))
    return next((ratio for ratio in ratios if default_sizes(n, ratio)[1] == q), 1 - q / n)
