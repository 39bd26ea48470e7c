"""Influence against retraining without each sample, also far from the minimum; its Hessian against autograd."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

from coresets.data import make_evidence
from orderdp.coresets import Influence, hessian, softmax_regression
from orderdp.coresets.hessian import Hessian
from orderdp.coresets.last_layer import LastLayer

PENALTY = 0.1


def inputs_of(features):
    return torch.cat([torch.ones(len(features), 1), torch.from_numpy(features)], 1).double()


def loss(weight, inputs, labels):
    return F.cross_entropy(inputs @ weight.T, labels) + PENALTY / 2 * weight.square().sum()


def train(inputs, labels, start=None):
    """(c, d + 1) the minimum of the penalised loss, by L-BFGS."""
    start = torch.zeros(3, inputs.shape[1], dtype=torch.float64) if start is None else start
    weight = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weight], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(weight, inputs, labels)
        value.backward()
        return value

    optimizer.step(closure)
    return weight.detach()


def trained():
    """Evidence of a converged last layer on 60 samples, a fifth with labels at random, and what it was trained on."""
    made = make_evidence(60, seed=3)
    labels = made.labels.copy()
    labels[:12] = np.random.default_rng(0).integers(3, size=12)
    inputs, targets = inputs_of(made.features), torch.from_numpy(labels)
    weight = train(inputs, targets)
    held_out = replace(made.validation, probabilities=(inputs_of(made.validation.features) @ weight.T).softmax(1))
    return replace(made, labels=labels, probabilities=(inputs @ weight.T).softmax(1), validation=held_out), weight


def stopped_early(evidence, weight):
    """The same evidence from a last layer that training left away from its minimum."""
    moved = weight + torch.randn(weight.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    held_out = evidence.validation
    there = replace(held_out, probabilities=(inputs_of(held_out.features) @ moved.T).softmax(1))
    return replace(evidence, probabilities=(inputs_of(evidence.features) @ moved.T).softmax(1), validation=there)


@pytest.mark.parametrize("at_minimum", [True, False])
def test_orders_and_sizes_samples_as_retraining_without_each_of_them_does(at_minimum):
    evidence, weight = trained()
    given = evidence if at_minimum else stopped_early(evidence, weight)
    inputs, labels = inputs_of(evidence.features), torch.from_numpy(evidence.labels)
    held_out = inputs_of(evidence.validation.features), torch.from_numpy(evidence.validation.labels)
    rises = []
    for row in range(60):
        others = [other for other in range(60) if other != row]
        without = train(inputs[others], labels[others], weight)
        rises.append(float(F.cross_entropy(held_out[0] @ without.T, held_out[1])))
    rises = np.array(rises) - float(F.cross_entropy(held_out[0] @ weight.T, held_out[1]))
    scores = Influence(damping=PENALTY).score(given)
    assert spearmanr(scores, rises).statistic > 0.95
    assert np.polyfit(scores / 60, rises, 1)[0] == pytest.approx(1, abs=0.25)


def test_the_hessian_is_that_of_autograd():
    evidence, weight = trained()
    inputs, labels = inputs_of(evidence.features), torch.from_numpy(evidence.labels)
    expected = torch.autograd.functional.hessian(lambda w: loss(w, inputs, labels), weight).reshape(18, 18)
    found = Hessian.of(evidence, LastLayer.of(evidence), PENALTY)
    torch.testing.assert_close(found.matrix(), expected, rtol=1e-4, atol=1e-6)
    direction = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(found.times(direction).flatten(), expected @ direction.flatten(), rtol=1e-4, atol=1e-6)


def test_conjugate_gradients_in_blocks_score_as_the_factorised_matrix_does(monkeypatch):
    evidence = make_evidence()
    direct = Influence().score(evidence)
    monkeypatch.setattr(hessian, "_DIRECT", 0)
    monkeypatch.setattr(hessian, "_BLOCK", 7)
    np.testing.assert_allclose(Influence().score(evidence), direct, rtol=1e-4, atol=1e-6)


def test_the_minimum_found_in_blocks_is_that_of_all_rows(monkeypatch):
    evidence, weight = trained()
    inputs, labels = inputs_of(evidence.features), torch.from_numpy(evidence.labels)
    monkeypatch.setattr(softmax_regression, "_BLOCK", 7)
    found = softmax_regression.fitted(inputs, labels, 3, PENALTY)
    torch.testing.assert_close(found, weight, rtol=1e-3, atol=1e-4)
    predicted = softmax_regression.predicted(inputs, found)
    torch.testing.assert_close(predicted, (inputs @ found.T).softmax(1).float())


def test_tells_when_conjugate_gradients_do_not_converge(monkeypatch):
    monkeypatch.setattr(hessian, "_DIRECT", 0)
    monkeypatch.setattr(hessian, "_MOST_STEPS", 2)
    with pytest.raises(RuntimeError, match=r"did not converge in 2 steps, damping=1e-06; raise it tenfold"):
        Influence(damping=1e-6).score(make_evidence())


def test_a_training_set_that_is_the_validation_set_helps():
    held_out = make_evidence().validation
    assert Influence().score(replace(held_out, validation=held_out)).mean() > 0


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_a_damping_that_is_not_positive(damping):
    with pytest.raises(ValueError, match=r"damping must lie above 0 and be finite, got .*; write 0\.01"):
        Influence(damping=damping)
