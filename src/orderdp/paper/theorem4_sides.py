"""Theorem 4 as a whole: both sides of its inequality, on softmax regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from orderdp.paper.digits_models import digits
from orderdp.paper.exhibit import Shown
from orderdp.strategies import Memory, OrderDP
from orderdp.theory import generalization_bound, spectral_risk, spectrum

Array: TypeAlias = npt.NDArray[np.float64]

_SMOKE = {"explore": (0.5,), "exploit": (0.4, 1.0), "n": 200, "steps": 50, "runs": 1}


def theorem4_sides(*, smoke: bool = False) -> Shown:
    """The measurement of `sides` as a table."""
    return show(sides(**_SMOKE) if smoke else sides())  # type: ignore[arg-type]


def show(rows: list[SidesRow]) -> Shown:
    """Returns the rows as a table."""
    header = (
        "s, q",
        "left",
        "left, unseen data",
        "right",
        "sampling",
        "−Q_n",
        "optimisation",
        "left, T → ∞",
        "right, T → ∞",
    )
    lines = [
        (
            f"{row.s}, {row.q}",
            *(
                f"{value:.3f}".replace("-", "−")
                for value in (
                    row.left,
                    row.left_unseen,
                    row.right,
                    row.sampling,
                    0.0 - row.bias,
                    row.optimization,
                    row.left_limit,
                    row.right_limit,
                )
            ),
        )
        for row in rows
    ]
    after, unseen = (sum(getattr(row, side) > row.right for row in rows) for side in ("left", "left_unseen"))
    beyond = [row for row in rows if row.left_limit > row.right_limit]
    steps, empty = max(row.steps for row in rows), sum(row.sampling == 0 for row in beyond)
    note = (
        "The theorem says that the left side is at most the right one. A larger left side would contradict it. "
        f"After {steps:,} steps, it is larger in {after} of {len(rows)} rows on the training data, and in {unseen} on "
        f"unseen data. In the limit T → ∞, whose left side is of unseen data, it is larger in {len(beyond)} of "
        f"{len(rows)} rows, in {empty} of which the sampling term is 0. So for unseen data, "
        "of which the bound has no term, the theorem does not hold as printed."
    )
    return Shown({}, {"theorem4_sides": (SidesRow._fields, rows)}, (header, lines), note)


class SidesRow(NamedTuple):
    """Both sides of Theorem 4 at one (s, q); all in nats but the sizes, the distance and G.

    Args:
        n: number of samples.
        s: exploration size.
        q: exploitation size.
        steps: T.
        distance: ‖θ¹ - θ*‖, where θ* minimises L_q.
        lipschitz: G, a bound on the norm of every sample's gradient at any θ.
        largest_gradient: the largest such norm at the iterates.
        sampling: the first bias term, with B the largest loss at the iterates.
        bias: Q_n, the least at the iterates.
        optimization: the bound of Theorem 3.
        right: sampling - bias + optimization.
        left: the largest L(θ*) - E[L_q(θ^t)] over the iterates, with L the mean loss of the n samples.
        left_unseen: the same with L the mean loss of images that are not among the n, an estimate of the expected risk.
        left_limit: L(θ*) - L_q(θ*) with that estimate: the left side at the optimum.
        right_limit: sampling - Q_n, with θ* among the iterates: the right side without its optimisation term.
    """

    n: int
    s: int
    q: int
    steps: int
    distance: float
    lipschitz: float
    largest_gradient: float
    sampling: float
    bias: float
    optimization: float
    right: float
    left: float
    left_unseen: float
    left_limit: float
    right_limit: float


class SoftmaxRegression:
    """Softmax regression with label smoothing: convex and Lipschitz, and with smoothing its minimiser is finite.

    Without smoothing, digits are linearly separable, and no finite θ minimises the loss.

    Args:
        images: (n, 64) pixels; a constant is added to each.
        labels: (n,) digits.
        label_smoothing: share of the target spread over all classes.
    """

    def __init__(self, images: Array, labels: npt.NDArray[np.int64], *, label_smoothing: float = 0.1) -> None:
        self.features = np.column_stack([images, np.ones(len(images))])
        self.targets = np.full((len(labels), 10), label_smoothing / 10)
        self.targets[np.arange(len(labels)), labels] += 1 - label_smoothing
        self.norms = np.linalg.norm(self.features, axis=1)

    @property
    def lipschitz(self) -> float:
        """G: the gradient (p - t)·xᵀ is longest where p is all on one wrong class."""
        wrong = np.eye(10)[1] - np.sort(self.targets[0])[::-1]  # the largest target first, and p on the next
        return float(np.linalg.norm(wrong) * self.norms.max())

    def at(self, theta: Array) -> tuple[Array, Array]:
        """Returns the (n,) losses at (65, 10) weights, and (n, 10) their gradients by the logits."""
        logits = self.features @ theta
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return -(self.targets * log_p).sum(axis=1), np.exp(log_p) - self.targets

    def gradient(self, by_logits: Array, weights: Array) -> Array:
        """Returns the (65, 10) gradient of the weighted sum of the losses."""
        return np.asarray(self.features.T @ (weights[:, None] * by_logits))


def sides(
    *,
    explore: Sequence[float] = (0.25, 0.5, 1.0),
    exploit: Sequence[float] = (0.2, 0.6, 1.0),
    n: int = 500,
    steps: int = 1_000,
    runs: int = 2,
) -> list[SidesRow]:
    """Measures both sides of Theorem 4 over a grid of sizes, on softmax regression on n handwritten digits.

    Each run makes T steps of Algorithm 1 with current scores from a random θ¹, with the step ‖θ¹ - θ*‖/(G·√T).
    E[L_q(θ^t)] is the mean over the runs. θ* comes from L-BFGS on L_q. The other digits stand for unseen data.

    Source: OrderDP, Theorem 4.
    """
    images, labels = (tensor.numpy() for tensor in digits(10**6))  # all there are
    problem, unseen = SoftmaxRegression(images[:n], labels[:n]), SoftmaxRegression(images[n:], labels[n:])
    return [
        _row(problem, unseen, s, round(share * s), steps, runs)
        for s in (round(share * n) for share in explore)
        for share in exploit
    ]


def _row(problem: SoftmaxRegression, unseen: SoftmaxRegression, s: int, q: int, steps: int, runs: int) -> SidesRow:
    n = len(problem.features)
    sigma = spectrum(n, s, q)
    best = minimiser(problem, sigma)
    first = 0.2 * np.random.default_rng(0).standard_normal(best.shape)
    distance, lipschitz = float(np.linalg.norm(first - best)), problem.lipschitz
    size = distance / (lipschitz * steps**0.5)
    strategy = OrderDP(explore=s / n, exploit=q / s)
    losses, largest = np.empty((runs, steps, n)), 0.0
    for run in range(runs):
        rng, theta = np.random.default_rng((run, s, q)), first
        for step in range(steps):
            losses[run, step], by_logits = problem.at(theta)
            largest = max(largest, float((np.linalg.norm(by_logits, axis=1) * problem.norms).max()))
            scores = losses[run, step].astype(np.float32)
            weights = np.zeros(n)
            weights[strategy.select(Memory(n, step, {"score": scores}), rng).indices] = 1 / q
            theta = theta - size * problem.gradient(by_logits, weights)
    iterates = losses.reshape(-1, n)
    at_best = problem.at(best)[0]
    bound, limit = (
        generalization_bound(rows, s, q, np.full(steps, size), distance=distance, lipschitz=lipschitz)
        for rows in (iterates, np.vstack([iterates, at_best]))
    )
    reached = np.array([spectral_risk(row, sigma) for row in iterates]).reshape(runs, steps).mean(axis=0)
    risk = float(unseen.at(best)[0].mean())
    return SidesRow(
        n=n,
        s=s,
        q=q,
        steps=steps,
        distance=distance,
        lipschitz=lipschitz,
        largest_gradient=largest,
        sampling=bound.sampling,
        bias=bound.bias,
        optimization=bound.optimization,
        right=bound.total,
        left=float(at_best.mean() - reached.min()),
        left_unseen=float(risk - reached.min()),
        left_limit=float(risk - spectral_risk(at_best, sigma)),
        right_limit=limit.sampling - limit.bias,
    )


def minimiser(problem: SoftmaxRegression, sigma: Array) -> Array:
    """Returns (65, 10) weights that minimise the mean of the losses weighted by rank, by L-BFGS.

    It starts at the minimiser of the mean loss. At θ = 0 all losses are equal, and the order of equal losses is no
    direction to descend.

    Raises:
        ImportError: without SciPy.
    """
    from scipy.optimize import minimize

    shape = (problem.features.shape[1], problem.targets.shape[1])

    def risk(flat: Array, by_rank: Array) -> tuple[float, Array]:
        losses, by_logits = problem.at(flat.reshape(shape))
        weights = np.empty_like(losses)
        weights[np.argsort(-losses, kind="stable")] = by_rank
        return float(weights @ losses), problem.gradient(by_logits, weights).ravel()

    found = np.zeros(shape).ravel()
    for by_rank in (np.full(len(sigma), 1 / len(sigma)), sigma):
        most = {"maxiter": 2_000, "maxfun": 4_000}
        found = minimize(risk, found, args=(by_rank,), jac=True, method="L-BFGS-B", options=most).x
    return np.asarray(found.reshape(shape))
