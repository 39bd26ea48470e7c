"""Last-layer gradients against autograd."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coresets.data import make_evidence
from orderdp.coresets.last_layer import LastLayer


@pytest.fixture(scope="module")
def gradients():
    return LastLayer.of(make_evidence(num_samples=20))


def dense(evidence) -> torch.Tensor:
    """(n, c, d + 1) float64, the gradient of each sample by autograd; any logits with these softmax outputs will do."""
    rows = []
    for label, probabilities, features in zip(evidence.labels, evidence.probabilities, evidence.features, strict=True):
        inputs = torch.cat([torch.ones(1), torch.from_numpy(features)]).double()
        target = torch.from_numpy(probabilities).double().log()
        weight = torch.outer(target, inputs) / (inputs @ inputs)  # its outputs are the logits
        weight.requires_grad_()
        F.cross_entropy(weight @ inputs, torch.tensor(label)).backward()
        rows.append(weight.grad)
    return torch.stack(rows)


def test_products_norms_and_sums_are_those_of_autograd(gradients):
    expected = dense(make_evidence(num_samples=20))
    flat = expected.flatten(1).float()
    rows, others = torch.tensor([3, 0, 3]), torch.arange(20)
    weights = torch.linspace(0, 1, 20)
    direction = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(gradients.products(rows, others), flat[rows] @ flat.T, **close)
    torch.testing.assert_close(gradients.norms(), flat.norm(dim=1), **close)
    torch.testing.assert_close(gradients.mean(), expected.mean(0).float(), **close)
    torch.testing.assert_close(gradients.sum(weights), (weights[:, None, None] * expected).sum(0).float(), **close)
    torch.testing.assert_close(gradients.along(direction), flat @ direction.flatten(), **close)


def test_sums_of_several_blocks_are_those_of_one(gradients, monkeypatch):
    weights = torch.linspace(0, 1, 20)
    whole = gradients.sum(weights)
    monkeypatch.setattr("orderdp.coresets.last_layer._BLOCK", 7)
    torch.testing.assert_close(gradients.sum(weights), whole)


def test_the_evidence_is_left_alone():
    evidence = make_evidence(num_samples=20)
    before = evidence.probabilities.copy(), evidence.features.copy()
    LastLayer.of(evidence).take(torch.tensor([1]))
    np.testing.assert_array_equal(evidence.probabilities, before[0])
    np.testing.assert_array_equal(evidence.features, before[1])
