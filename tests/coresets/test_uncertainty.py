"""Least confidence, entropy, margin, EL2N and GraNd: against plain sums, by hand, and against autograd."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coresets.data import make_evidence
from orderdp.coresets import EL2N, Entropy, Evidence, GraNd, LeastConfidence, Margin
from reference import static_scores


@pytest.fixture(scope="module")
def evidence():
    return make_evidence()


def predictions(evidence):
    return evidence.probabilities.astype(float).tolist()


def test_least_confidence_is_what_the_largest_probability_leaves(evidence):
    expected = [1 - max(p) for p in predictions(evidence)]
    np.testing.assert_allclose(LeastConfidence().score(evidence), expected, atol=1e-12)


def test_entropy_is_its_sum(evidence):
    expected = [static_scores.entropy(p) for p in predictions(evidence)]
    np.testing.assert_allclose(Entropy().score(evidence), expected, atol=1e-12)


def test_entropy_of_a_certain_prediction_is_zero_and_of_a_uniform_one_the_most_there_is():
    scores = Entropy().score(Evidence(probabilities=[[0.0, 1.0, 0.0, 0.0], [0.25] * 4, [0.5, 0.5, 0.0, 0.0]]))
    np.testing.assert_allclose(scores, [0, math.log(4), math.log(2)], atol=1e-15)
    assert not np.signbit(scores).any()


def test_margin_is_between_the_two_most_probable_classes(evidence):
    expected = [1 - static_scores.margin(p) for p in predictions(evidence)]
    np.testing.assert_allclose(Margin().score(evidence), expected, atol=1e-12)


def test_with_two_classes_margin_ranks_as_least_confidence():
    right = np.random.default_rng(0).random(50)
    evidence = Evidence(probabilities=np.stack([right, 1 - right], 1))
    assert (Margin().score(evidence).argsort() == LeastConfidence().score(evidence).argsort()).all()


def test_margin_refuses_one_class():
    with pytest.raises(ValueError, match="Margin needs probabilities of at least 2 classes, got 1"):
        Margin().score(Evidence(probabilities=[[1.0], [1.0]]))


def test_el2n_is_the_norm_of_the_error(evidence):
    pairs = zip(predictions(evidence), evidence.labels, strict=True)
    np.testing.assert_allclose(EL2N().score(evidence), [static_scores.el2n(p, y) for p, y in pairs], atol=1e-12)


def test_scores_in_half_precision_are_sums_in_double():
    p = np.full((2, 1000), 1e-3, dtype=np.float16)
    expected = 1000 * static_scores.entropy([float(p[0, 0])])
    np.testing.assert_allclose(Entropy().score(Evidence(probabilities=p)), expected, rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 7, 59, 60])
def test_scores_in_blocks_are_those_of_all_rows(rows, evidence, monkeypatch):
    """Also where one row is left for the last block."""
    methods = (EL2N(), Entropy(), Margin(), LeastConfidence())
    whole = [method.score(evidence) for method in methods]
    monkeypatch.setattr("orderdp.coresets.by_rows._NUMBERS", 3 * rows)
    for method, expected in zip(methods, whole, strict=True):
        np.testing.assert_array_equal(method.score(evidence), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_score_writes_to_its_evidence(dtype, evidence):
    own = Evidence(labels=evidence.labels, probabilities=evidence.probabilities.astype(dtype))
    before = own.probabilities.copy()
    for method in (LeastConfidence(), Entropy(), Margin(), EL2N()):
        method.score(own)
    assert (own.probabilities == before).all()


def test_grand_is_the_norm_it_is_given(evidence):
    assert (GraNd().score(evidence) == evidence.gradient_norms).all()


def test_last_layer_grand_is_the_norm_that_autograd_finds():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (20,), generator=generator)
    weight = torch.randn(4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = []
    for row, label in zip(features, labels, strict=True):
        gradients = torch.autograd.grad(F.cross_entropy(weight @ row + bias, label), [weight, bias])
        expected.append(torch.cat([part.flatten() for part in gradients]).norm().item())
    probabilities = (features @ weight.T + bias).softmax(1)
    evidence = Evidence(labels=labels, probabilities=probabilities, features=features)
    np.testing.assert_allclose(GraNd(layer="last").score(evidence), expected, rtol=1e-5)


def test_grand_declares_what_each_layer_needs():
    assert GraNd().needs == ("gradient_norms",)
    assert GraNd(layer="last").needs == ("labels", "probabilities", "features")


def test_grand_refuses_another_layer():
    with pytest.raises(ValueError, match='layer must be "all" or "last", got \'first\''):
        GraNd(layer="first")
