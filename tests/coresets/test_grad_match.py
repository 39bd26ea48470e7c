"""GradMatch against a dense solver of non-negative least squares, and what is known of its error."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from coresets.data import make_evidence
from orderdp.coresets import Evidence, GradMatch
from orderdp.coresets.grad_match import _Fit, _pursue
from orderdp.coresets.growing_inverse import GrowingInverse
from orderdp.coresets.last_layer import LastLayer


def dense(evidence):
    """(n, c·(d + 1)) float64, the gradient of each sample."""
    gradients = LastLayer.of(evidence)
    return torch.einsum("nc,nd->ncd", gradients.residuals.double(), gradients.inputs.double()).flatten(1).numpy()


def best_weights(rows, target, l2):
    """Non-negative least squares with a penalty, as a larger problem without one."""
    system = np.vstack([rows.T, np.sqrt(l2) * np.eye(len(rows))])
    return nnls(system, np.concatenate([target, np.zeros(len(rows))]))[0]


def twin(rows, size, l2):
    """Picks, refits and drops with the dense solver. Returns positions, and their weights."""
    target = rows.sum(0)
    kept, weights = [], np.zeros(0)
    while len(kept) < size:
        residual = target - weights @ rows[kept]
        products = rows @ residual
        products[kept] = -np.inf
        if products.max() <= 1e-6 * np.linalg.norm(rows[products.argmax()]) * np.linalg.norm(residual):
            break
        kept.append(int(products.argmax()))
        weights = best_weights(rows[kept], target, l2)
        kept, weights = [row for row, weight in zip(kept, weights, strict=True) if weight > 0], weights[weights > 0]
    return kept, weights


def error(rows, chosen, weights, l2):
    return np.sum((rows.sum(0) - weights @ rows[chosen]) ** 2) + l2 * np.sum(weights**2)


@pytest.mark.parametrize("l2", [1e-3, 0.5, 50.0])
@pytest.mark.parametrize("size", [1, 5, 20, 45])
def test_is_its_twin(l2, size):
    evidence = make_evidence(seed=2)
    rows = dense(evidence)
    expected, weights = twin(rows, size, l2)
    found = GradMatch(l2=l2).choose(evidence, size, quotas=None)
    assert found.indices[: len(expected)].tolist() == expected
    np.testing.assert_allclose(found.weights[: len(expected)], weights, rtol=2e-3, atol=1e-3)
    assert (found.weights[len(expected) :] == 0).all()


def test_quotas_match_the_sum_of_each_class():
    evidence = make_evidence(seed=2)
    found = GradMatch().choose(evidence, 15, quotas=[4, 5, 6])
    for label, size in enumerate([4, 5, 6]):
        members = np.flatnonzero(evidence.labels == label)
        expected, weights = twin(dense(evidence)[members], size, 0.5)
        of_class = evidence.labels[found.indices] == label
        assert found.indices[of_class].tolist() == members[expected].tolist()
        np.testing.assert_allclose(found.weights[of_class], weights, rtol=1e-3)


def test_the_weights_stay_exact_while_samples_leave():
    separable = make_evidence(300, 3, 40)
    evidence = replace(separable, labels=np.random.default_rng(0).integers(3, size=300))
    gradients = LastLayer.of(evidence)
    fit = _Fit(gradients, 0.01, 150)
    picks = sum(1 for _ in _pursue(gradients, fit, 150))
    assert picks > fit.count + 10  # samples left
    chosen, weights = fit.result()
    expected = best_weights(dense(evidence)[chosen], fit.target.flatten().numpy(), 0.01)
    np.testing.assert_allclose(weights, expected, rtol=1e-8)


def test_the_error_falls_with_every_sample_and_lies_far_below_that_of_a_uniform_draw():
    evidence = make_evidence(400, 4, 6)
    rows = dense(evidence)
    errors = []
    for size in (5, 6, 7, 8, 20):
        found = GradMatch(l2=0.01).choose(evidence, size, quotas=None)
        errors.append(error(rows, found.indices, found.weights, 0.01))
    assert errors == sorted(errors, reverse=True)
    rng = np.random.default_rng(0)
    draws = [rng.choice(400, 20, replace=False) for _ in range(20)]
    uniform = [error(rows, draw, best_weights(rows[draw], rows.sum(0), 0.01), 0.01) for draw in draws]
    assert errors[-1] < 0.1 * min(uniform)


def test_the_gradients_have_the_stated_rank_and_as_many_samples_leave_no_residual():
    evidence = make_evidence(200, 3, 5)
    rows = dense(evidence)
    assert np.linalg.matrix_rank(rows, tol=1e-4) == (3 - 1) * (5 + 1)
    found = GradMatch(l2=1e-6).choose(evidence, 12, quotas=None)
    assert np.linalg.norm(rows.sum(0) - found.weights @ rows[found.indices]) < 1e-3 * np.linalg.norm(rows.sum(0))


def test_what_lowers_the_error_no_further_has_weight_zero_and_comes_in_order_of_its_product():
    evidence = make_evidence(seed=2)
    rows = dense(evidence)
    found = GradMatch(l2=50.0).choose(evidence, 60, quotas=None)
    matched = int((found.weights > 0).sum())
    assert 0 < matched < 60
    assert (found.weights[:matched] > 0).all()
    products = (rows @ (rows.sum(0) - found.weights @ rows[found.indices]))[found.indices[matched:]]
    assert (products < 1e-3).all()
    assert (np.diff(products) < 1e-3).all()


def test_samples_without_a_gradient_all_weigh_one():
    evidence = Evidence(
        labels=[0, 1, 1], probabilities=[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], features=[[1.0], [2], [3]]
    )
    assert GradMatch().choose(evidence, 2).weights.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("l2", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_a_penalty_that_is_not_positive(l2):
    with pytest.raises(ValueError, match=r"l2 must lie above 0 and be finite, got .*; write 0\.5"):
        GradMatch(l2=l2)


def test_the_growing_inverse_is_the_inverse_whatever_comes_and_goes():
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.standard_normal((300, 20)))
    inverse, kept = GrowingInverse(60, torch.device("cpu")), []
    for row in range(300):
        if len(kept) == 60 or (kept and rng.random() < 0.3):
            position = int(rng.integers(len(kept)))
            inverse.drop(position)
            kept[position] = kept[-1]
            kept.pop()
        inverse.append(rows[kept] @ rows[row], rows[row] @ rows[row] + 0.1, 0.1)
        kept.append(row)
    expected = torch.linalg.inv(rows[kept] @ rows[kept].T + 0.1 * torch.eye(len(kept)))
    vector = torch.from_numpy(rng.standard_normal(len(kept)))
    torch.testing.assert_close(inverse.times(vector), expected @ vector, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(inverse.column(5), expected[5], rtol=1e-6, atol=1e-6)
