"""Theorem 3 measured: the error of L_q after T steps of Algorithm 1, against its bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from orderdp.output.drawing import new_axes
from orderdp.output.palette import GREY, SERIES
from orderdp.paper.digits_models import digits
from orderdp.paper.exhibit import Shown
from orderdp.strategies import Memory, OrderDP
from orderdp.theory import convergence_bound, surrogate_loss

Array: TypeAlias = npt.NDArray[np.float64]


def theorem3(*, smoke: bool = False) -> Shown:
    """The measurement of `errors_after` as a picture on logarithmic axes and a table."""
    return show(errors_after(horizons=(64, 128), runs=1) if smoke else errors_after())


def show(rows: list[ConvergenceRow]) -> Shown:
    """Returns the rows as a picture and a table of slopes."""
    picture, axes = new_axes(
        "steps T", "error of the surrogate loss", title="Algorithm 1 on convex problems", width=9.6
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    slopes, largest = [], 0.0
    for color, name in zip(SERIES, dict.fromkeys(row.problem for row in rows), strict=False):
        mine = [row for row in rows if row.problem == name]
        for error, line in (("averaged", "-"), ("best", "--")):
            values = [getattr(row, error) for row in mine]
            rate = slope(mine, error)
            label = f"{name}, {error} iterate (slope {rate:.2f})"
            axes.plot([row.steps for row in mine], values, line, marker="o", markersize=4, color=color, label=label)
            nearest = max(value / row.bound for value, row in zip(values, mine, strict=True))
            largest = max(largest, nearest)
            slopes.append((f"{name}, {error} iterate", f"{rate:.3f}", f"{nearest:.3f}"))
    bounds = {row.steps: row.bound for row in rows}
    axes.plot(list(bounds), list(bounds.values()), ":", color=GREY, label="bound of Theorem 3 (slope -0.50)")
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    header = ("error of", "slope of log error over log T", "largest error / bound")
    note = (
        "The theorem bounds the error after T steps. A ratio above 1 would contradict it; the largest here is "
        f"{largest:.3f}, over T from {min(bounds):,} to {max(bounds):,}. The bound itself has the slope −0.5."
    )
    return Shown({"theorem3": picture}, {"theorem3": (ConvergenceRow._fields, rows)}, (header, slopes), note)


class Problem(NamedTuple):
    """A convex problem on real features with a known minimiser of L_q, whatever s and q.

    Args:
        losses: θ to the (n,) losses.
        subgradients: θ to an (n, d) subgradient of each.
        n: number of samples.
        optimum: θ*.
        least: L_q(θ*).
        lipschitz: G.
        steepest: (d,) of norm 1, the direction in which the features vary most. Along it, losses move far from θ*'s.
    """

    losses: Callable[[Array], Array]
    subgradients: Callable[[Array], Array]
    n: int
    optimum: Array
    least: float
    lipschitz: float
    steepest: Array


def problems(n: int = 200) -> dict[str, Problem]:
    """Returns two convex, Lipschitz problems on the pixels of handwritten digits, scaled to norms of at most 1.

    Least absolute deviations are |a·θ - b| with b = a·θ*. Every loss is 0 at θ*, so L_q is too. Logistic regression is
    log(1 + exp(-y·a·θ)), on n/2 images each with y = 1 and y = -1. There L_q is convex and even, so θ* = 0 and
    L_q = log 2.
    """
    pixels = digits(n)[0].numpy()
    features = pixels - pixels.mean(axis=0)
    features = features / np.linalg.norm(features, axis=1).max()
    target = np.random.default_rng(1).standard_normal(features.shape[1])
    steepest = np.linalg.svd(features, full_matrices=False)[2][0]
    signed = np.concatenate([features[: n // 2], -features[: n // 2]])

    def deviations(theta: Array) -> Array:
        return np.asarray(features @ (theta - target))

    return {
        "least absolute deviations": Problem(
            losses=lambda theta: np.abs(deviations(theta)),
            subgradients=lambda theta: np.sign(deviations(theta))[:, None] * features,
            n=n,
            optimum=target,
            least=0.0,
            lipschitz=1.0,
            steepest=steepest,
        ),
        "logistic": Problem(
            losses=lambda theta: np.logaddexp(0, -(signed @ theta)),
            subgradients=lambda theta: -signed / (1 + np.exp(signed @ theta))[:, None],
            n=len(signed),
            optimum=np.zeros(features.shape[1]),
            least=float(np.log(2)),
            lipschitz=1.0,
            steepest=steepest,
        ),
    }


class ConvergenceRow(NamedTuple):
    """The error of L_q after T steps, the mean over some runs, and what Theorem 3 allows.

    Args:
        problem: name of the problem.
        steps: T.
        best: error of the best iterate, (6).
        averaged: error of the averaged iterate, (18).
        bound: on either, since the step is constant.
    """

    problem: str
    steps: int
    best: float
    averaged: float
    bound: float


def errors_after(
    *,
    horizons: Sequence[int] = (64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192),
    runs: int = 5,
    distance: float = 5.0,
    explore: float = 0.5,
    exploit: float = 0.4,
) -> list[ConvergenceRow]:
    """Measures Theorem 3: Algorithm 1 with current scores, on `problems`, for several T.

    Every step scores all samples at the current θ, as the theorem assumes. It draws by `OrderDP.select` and takes the
    constant step ‖θ¹ - θ*‖/(G·√T). The step depends on T, so each T is a separate run. All runs start at the given
    distance, in the direction in which the features vary most. In a random direction, the losses would start near the
    optimum's, and few steps would change little.

    Source: OrderDP, Theorem 3, eqs. (6), (18).
    """
    strategy = OrderDP(explore=explore, exploit=exploit)
    rows = []
    for name, problem in problems().items():
        s, q = strategy.sizes(problem.n)
        for steps in horizons:
            size = distance / (problem.lipschitz * steps**0.5)
            errors = np.empty((runs, steps))
            averaged = np.empty(runs)
            for run in range(runs):
                rng = np.random.default_rng((run, steps))
                theta = problem.optimum + distance * problem.steepest
                total = np.zeros_like(theta)
                for step in range(steps):
                    losses = problem.losses(theta)
                    errors[run, step] = float(surrogate_loss(losses, s, q)) - problem.least
                    total += theta
                    kept = strategy.select(Memory(problem.n, step, {"score": losses.astype(np.float32)}), rng).indices
                    theta = theta - size * problem.subgradients(theta)[kept].mean(axis=0)
                averaged[run] = float(surrogate_loss(problem.losses(total / steps), s, q)) - problem.least
            bound = convergence_bound(np.full(steps, size), distance=distance, lipschitz=problem.lipschitz)
            rows.append(ConvergenceRow(name, steps, best_of_mean(errors), float(averaged.mean()), bound))
    return rows


def best_of_mean(errors: Array) -> float:
    """Returns min_t E[error of θ^t] for (runs, T) errors: first the mean over the runs, then the best iterate."""
    return float(errors.mean(axis=0).min())


def slope(rows: Sequence[ConvergenceRow], error: str) -> float:
    """Returns the least-squares slope of log error over log T; `error` is "best" or "averaged"."""
    steps = np.log([row.steps for row in rows])
    return float(np.polyfit(steps, np.log([getattr(row, error) for row in rows]), 1)[0])
