"""GLISTER against autograd: its gain is what one real step does to the validation loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coresets.data import make_evidence, softmax
from orderdp.coresets import GLISTER, Evidence
from orderdp.coresets.glister import Validation, _counts
from orderdp.coresets.last_layer import LastLayer


def linear_proxy(seed=0, num_samples=40):
    """A last layer in float64, and the evidence that it gives of a training and a validation set."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((3, 6))

    def evidence(count, validation=None):
        features = rng.standard_normal((count, 5)).astype(np.float32)
        logits = np.concatenate([np.ones((count, 1)), features], 1) @ weight.T
        return Evidence(
            labels=rng.integers(3, size=count),
            probabilities=softmax(logits).astype(np.float32),
            features=features,
            validation=validation,
        )

    return torch.from_numpy(weight), evidence(num_samples, evidence(25))


def losses(weight, evidence):
    inputs = torch.cat([torch.ones(len(evidence.labels), 1), torch.from_numpy(evidence.features)], 1).double()
    return F.cross_entropy(inputs @ weight.T, torch.from_numpy(evidence.labels), reduction="none")


def gradient(weight, evidence, rows=slice(None)):
    leaf = weight.clone().requires_grad_()
    losses(leaf, evidence)[rows].mean().backward()
    return leaf.grad


def twin(weight, evidence, size, learning_rate):
    """One sample at a time, by autograd on the last layer."""
    chosen = []
    rows = [gradient(weight, evidence, [row]) for row in range(evidence.num_samples)]
    for _ in range(size):
        moved = weight if not chosen else weight - learning_rate * gradient(weight, evidence, chosen)
        direction = gradient(moved, evidence.validation)
        gains = [-np.inf if row in chosen else float((rows[row] * direction).sum()) for row in range(len(rows))]
        chosen.append(int(np.argmax(gains)))
    return chosen


@pytest.mark.parametrize("learning_rate", [0.1, 3.0])
def test_is_its_twin(learning_rate):
    weight, evidence = linear_proxy()
    found = GLISTER(learning_rate=learning_rate, rounds=40).choose(evidence, 25, quotas=None)
    assert found.indices.tolist() == twin(weight, evidence, 25, learning_rate)


def test_each_class_looks_at_the_validation_samples_of_its_own():
    weight, evidence = linear_proxy(num_samples=90)
    names = ("labels", "probabilities", "features")
    kept = GLISTER(learning_rate=3.0, rounds=90).choose(evidence, 30, quotas="equal").indices
    held_out = evidence.validation
    for label in range(3):
        rows = np.flatnonzero(evidence.labels == label)
        own = held_out.take(np.flatnonzero(held_out.labels == label), names)
        alone = replace(evidence.take(rows, names), validation=own)
        expected = rows[twin(weight, alone, 10, 3.0)]
        assert kept[evidence.labels[kept] == label].tolist() == expected.tolist()


def test_a_class_without_validation_samples_looks_at_all_of_them():
    weight, evidence = linear_proxy(num_samples=60)
    names = ("labels", "probabilities", "features")
    held_out = evidence.validation.take(np.flatnonzero(evidence.validation.labels > 0), names)
    kept = GLISTER(rounds=60).choose(replace(evidence, validation=held_out), 18, quotas="equal").indices
    rows = np.flatnonzero(evidence.labels == 0)
    alone = replace(evidence.take(rows, names), validation=held_out)
    assert kept[:6].tolist() == rows[twin(weight, alone, 6, 0.1)].tolist()


def test_gains_are_what_one_real_step_does_to_the_validation_loss():
    weight, evidence = linear_proxy()
    gains = LastLayer.of(evidence).along(Validation.of(evidence, torch.device("cpu")).gradients.mean())
    before = losses(weight, evidence.validation).mean()
    rate = 1e-4
    for row, gain in enumerate(gains.tolist()):
        stepped = weight - rate * gradient(weight, evidence, [row])
        falls = (before - losses(stepped, evidence.validation).mean()) / rate
        assert float(falls) == pytest.approx(gain, rel=1e-3, abs=1e-3)


def test_the_mean_after_a_step_is_the_gradient_there():
    weight, evidence = linear_proxy()
    step = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    found = Validation.of(evidence, torch.device("cpu")).mean_after(step)
    torch.testing.assert_close(found, gradient(weight + step, evidence.validation).float(), rtol=1e-4, atol=1e-5)


def test_one_round_takes_the_largest_gains_and_more_rounds_end_at_a_lower_validation_loss():
    weight, evidence = linear_proxy(num_samples=400)
    gains = LastLayer.of(evidence).along(Validation.of(evidence, torch.device("cpu")).gradients.mean()).numpy()
    once = GLISTER(rounds=1).choose(evidence, 60, quotas=None).indices
    assert set(once.tolist()) == set(np.argsort(-gains)[:60].tolist())
    after = {}
    for rounds in (1, 60):
        method = GLISTER(learning_rate=3.0, rounds=rounds)
        kept = method.choose(evidence, 60, quotas=None).indices.tolist()
        after[rounds] = float(losses(weight - 3.0 * gradient(weight, evidence, kept), evidence.validation).mean())
    assert after[60] < after[1]


@pytest.mark.parametrize(("size", "rounds"), [(10, 4), (7, 7), (5, 9), (199, 100)])
def test_rounds_take_equally_many_samples_to_within_one(size, rounds):
    counts = _counts(size, rounds)
    assert (len(counts), sum(counts)) == (min(size, rounds), size)
    assert max(counts) - min(counts) <= 1


def test_a_validation_set_that_does_not_fit_is_refused():
    evidence = make_evidence()
    held_out = evidence.validation
    without = held_out.take(np.arange(30), ["labels", "features"])
    with pytest.raises(ValueError, match=r"validation needs .*; add probabilities to Evidence\(validation=\.\.\.\)"):
        GLISTER().choose(replace(evidence, validation=without), 5)
    other = replace(held_out, features=held_out.features[:, :3])
    with pytest.raises(ValueError, match="features must have 5 features in validation too, got 3"):
        GLISTER().choose(replace(evidence, validation=other), 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must lie above 0 and be finite, got 0.0; write 0.1"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
    ],
)
def test_refuses_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        GLISTER(**settings)
