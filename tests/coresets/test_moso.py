"""MoSo against training without each sample, and against its formula."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional as F

from coresets.data import make_evidence
from orderdp.coresets import Evidence, MoSo
from orderdp.coresets.per_sample import alignments

NUM_SAMPLES = 80


def data():
    """Features and labels, a fifth of them drawn at random."""
    evidence = make_evidence(NUM_SAMPLES, 3, 5, seed=4)
    drawn = np.random.default_rng(0).integers(3, size=NUM_SAMPLES // 5)
    labels = np.concatenate([drawn, evidence.labels[len(drawn) :]])
    return torch.from_numpy(evidence.features) / 3, torch.from_numpy(labels)


def losses_of(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def train(batch, rates, seen=None):
    """Full-batch gradient descent of a linear classifier from zero. Alignments before each step go to `seen`."""
    model = nn.Linear(5, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters())
    for rate in rates:
        if seen is not None:
            seen.append(alignments(model, losses_of, [batch]))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        losses_of(model, batch).mean().backward()
        optimizer.step()
    return model


def scores_and_rises(rates):
    """The scores, and by how much the risk of the other samples rises once training has left one out."""
    inputs, targets = data()
    seen = []
    whole = train((inputs, targets), rates, seen)
    rises = []
    for row in range(NUM_SAMPLES):
        others = [other for other in range(NUM_SAMPLES) if other != row]
        batch = inputs[others], targets[others]
        without = train(batch, rates)
        with torch.no_grad():
            rises.append(float((losses_of(without, batch).double() - losses_of(whole, batch).double()).mean()))
    return MoSo().score(Evidence(alignments=np.stack(seen), learning_rates=rates)), np.array(rises)


def test_orders_and_sizes_samples_as_training_without_each_of_them_does():
    scores, rises = scores_and_rises([0.05] * 10)
    assert spearmanr(scores, rises).statistic > 0.98
    slope = np.polyfit(scores / NUM_SAMPLES, rises, 1)[0]
    assert slope == pytest.approx(0.85, abs=0.1)  # it approaches one as the steps become small
    right = data()[1].numpy() == make_evidence(NUM_SAMPLES, 3, 5, seed=4).labels
    assert scores[~right].max() < np.median(scores[right])


def test_the_order_is_lost_near_the_minimum_as_the_card_says():
    scores, rises = scores_and_rises([2.0] * 15)
    assert spearmanr(scores, rises).statistic < 0.8


def test_is_the_sum_over_checkpoints():
    evidence = make_evidence()
    expected = [
        sum(rate * row[sample] for rate, row in zip(evidence.learning_rates, evidence.alignments, strict=True))
        for sample in range(60)
    ]
    np.testing.assert_allclose(MoSo().score(evidence), expected, rtol=1e-6)


def test_refuses_another_number_of_learning_rates():
    with pytest.raises(ValueError, match="one for each checkpoint of alignments, got 1 for 2"):
        MoSo().score(Evidence(alignments=[[1.0, 2.0], [3.0, 4.0]], learning_rates=[0.1]))
