"""Theorems 1, 3 and 4 on real data, small; the kept results are the large ones."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from orderdp.experiments.digits_models import digits, losses, models
from orderdp.experiments.theorem1 import gradient_means, sample_gradients
from orderdp.experiments.theorem3 import errors_after, problems, slope
from orderdp.experiments.theorem4 import bias_terms
from orderdp.theory import surrogate_loss

RESULTS = Path(__file__).parents[2] / "results" / "theory"


@pytest.fixture(scope="module")
def gradients():
    return gradient_means(draws=1_500, n=600)


def test_the_mean_gradient_is_that_of_the_surrogate(gradients):
    current = [row for row in gradients if row.scores == "current"]
    assert {(row.model, row.block) for row in current} == {
        ("logistic regression", "weight"),
        ("logistic regression", "bias"),
        ("network", "0.weight"),
        ("network", "0.bias"),
        ("network", "2.weight"),
        ("network", "2.bias"),
    }
    assert max(row.to_surrogate for row in current) < 5
    # Were the standard error too large, everything would agree: distances of about one are expected.
    assert 0.3 < np.mean([row.to_surrogate for row in current]) < 2


def test_the_mean_gradient_is_not_that_of_the_mean_loss(gradients):
    assert min(row.to_full for row in gradients if row.scores == "current") > 5


def test_with_stored_scores_the_theorem_does_not_hold(gradients):
    assert min(row.to_surrogate for row in gradients if row.scores == "stored") > 5


def test_sample_gradients_are_those_of_autograd():
    images, labels = digits(20)
    for model in models().values():
        found = sample_gradients(model, images, labels)
        for sample in range(3):
            expected = torch.autograd.grad(losses(model, images, labels)[sample], list(model.parameters()))
            for (name, _), gradient in zip(model.named_parameters(), expected, strict=True):
                torch.testing.assert_close(found[name][sample], gradient.flatten())


@pytest.fixture(scope="module")
def errors():
    return errors_after(horizons=(64, 256, 1_024), runs=2)


@pytest.mark.parametrize("problem", ["least absolute deviations", "logistic"])
def test_the_error_keeps_the_bound_at_every_number_of_steps(errors, problem):
    mine = [row for row in errors if row.problem == problem]
    assert [row.steps for row in mine] == [64, 256, 1_024]
    for row in mine:
        assert 0 < row.best <= row.averaged <= row.bound
        assert row.bound == pytest.approx(5 / row.steps**0.5)


@pytest.mark.parametrize("problem", ["least absolute deviations", "logistic"])
@pytest.mark.parametrize("error", ["best", "averaged"])
def test_the_error_falls_like_one_over_the_root_of_the_steps(errors, problem, error):
    assert slope([row for row in errors if row.problem == problem], error) <= -0.45


def test_the_problems_are_what_the_theorem_asks_for():
    for problem in problems().values():
        rng = np.random.default_rng(0)
        for distance in (1e-3, 0.1, 10):
            other = problem.optimum + distance * rng.standard_normal(len(problem.optimum))
            gradients = problem.subgradients(other)
            assert np.linalg.norm(gradients, axis=1).max() <= problem.lipschitz + 1e-12
            for s, q in ((100, 40), (200, 10), (50, 50)):
                assert float(surrogate_loss(problem.losses(other), s, q)) > problem.least
            sample = 7
            numeric = approx_fprime(other, lambda theta, mine=sample, of=problem: of.losses(theta)[mine], 1e-7)
            np.testing.assert_allclose(gradients[sample], numeric, atol=1e-5)
        at_optimum = surrogate_loss(problem.losses(problem.optimum), 100, 40)
        assert float(at_optimum) == pytest.approx(problem.least, abs=1e-12)
        assert np.linalg.norm(problem.steepest) == pytest.approx(1)


def test_both_bias_terms_shrink():
    rows = bias_terms(n=300)
    by_s: dict[int, list] = {}
    for row in rows:
        by_s.setdefault(row.s, []).append(row)
        assert row.distance <= row.distance_bound
        assert row.sampling == row.spectrum_gap * row.distance_bound
    for mine in by_s.values():
        bias = [row.bias for row in mine]
        assert bias == sorted(bias, reverse=True)
        assert mine[-1].q == mine[-1].s
        assert (mine[-1].bias, mine[-1].spectrum_gap) == (0, 0)
        assert all(row.spectrum_gap >= 1 for row in mine[:-1])  # C_s itself does not shrink to 0
    first = [mine[0] for mine in by_s.values()]
    assert [row.distance_bound for row in first] == sorted((row.distance_bound for row in first), reverse=True)
    assert (first[-1].s, first[-1].sampling, first[-1].distance) == (300, 0, 0)


def kept(name: str) -> list[dict[str, str]]:
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_kept_results_say_the_same_at_full_size():
    for row in kept("theorem1"):
        assert row["draws"] == "10000"
        assert (float(row["to_surrogate"]) < 5) == (row["scores"] == "current")
        assert float(row["to_full"]) > 100
    for row in kept("theorem3"):
        assert 0 < float(row["best"]) <= float(row["averaged"]) <= float(row["bound"])
    fresh = bias_terms()
    for old, new in zip(kept("theorem4"), fresh, strict=True):
        assert [float(cell) for cell in old.values()] == pytest.approx(list(new), rel=1e-6, abs=1e-9)
