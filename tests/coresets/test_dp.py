"""DP against all subsets of a tiny data set, and against what leaving its choice out does to trained parameters."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coresets.data import make_evidence
from orderdp.coresets import DP, dp
from orderdp.coresets.dp import influences
from orderdp.coresets.last_layer import LastLayer

PENALTY = 0.1


def dense(evidence, damping=0.01):
    """(n, c·(d + 1)) float64, the influence of each sample."""
    factors = influences(evidence, damping)
    return torch.einsum("nc,nd->ncd", factors.residuals.double(), factors.inputs.double()).flatten(1).numpy()


def summed(rows, kept):
    """The norm of the summed influence of the samples left out, less as many means."""
    return np.linalg.norm(np.delete(rows - rows.mean(0), kept, axis=0).sum(0))


def noisy(num_samples, seed=0):
    """Evidence of a proxy that is rarely certain, with a quarter of the labels at random."""
    made = make_evidence(num_samples, seed=seed)
    labels = made.labels.copy()
    labels[::4] = np.random.default_rng(seed).integers(3, size=len(labels[::4]))
    return replace(made, labels=labels, probabilities=made.trajectory[0])


def test_influences_are_the_damped_kronecker_inverse_times_the_gradients():
    evidence = make_evidence()
    gradients = LastLayer.of(evidence)
    probabilities, inputs = torch.from_numpy(evidence.probabilities).double(), gradients.inputs.double()
    small = (torch.diag_embed(probabilities) - probabilities[:, :, None] * probabilities[:, None]).mean(0)
    large = (inputs[:, :, None] * inputs[:, None]).mean(0)
    ratio = ((small.trace() / 3) / (large.trace() / 6)).sqrt()
    small = small + 0.1 * ratio * torch.eye(3)
    large = large + 0.1 / ratio * torch.eye(6)
    flat = torch.einsum("nc,nd->ncd", gradients.residuals, gradients.inputs).flatten(1).double()
    expected = torch.linalg.solve(torch.kron(small, large), flat.T).T
    np.testing.assert_allclose(dense(evidence), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("start", ["uniform", "smallest"])
def test_no_swap_improves_and_nearly_no_subset_is_better(start):
    ranks = []
    for seed in range(10):
        evidence = noisy(12, seed)
        rows = dense(evidence)
        kept = DP(start=start).choose(evidence, 7, quotas=None, seed=seed).indices.tolist()
        out = [row for row in range(12) if row not in kept]
        found = summed(rows, kept)
        for back, leaving in product(out, kept):
            assert summed(rows, [row for row in [*kept, back] if row != leaving]) > found * (1 - 1e-4)
        norms = np.array([summed(rows, list(subset)) for subset in combinations(range(12), 7)])
        ranks.append(np.mean(norms < found * (1 - 1e-4)))
    assert np.mean(ranks) < 0.02  # of 792 subsets


def test_with_quotas_no_swap_within_a_class_improves_its_own_sum():
    """The influences are those of the Hessian of all classes."""
    evidence = noisy(30)
    rows = dense(evidence)
    kept = DP().choose(evidence, 15, quotas="equal").indices
    for label in range(3):
        members = np.flatnonzero(evidence.labels == label)
        inside = np.flatnonzero(np.isin(members, kept)).tolist()
        out = np.setdiff1d(np.arange(len(members)), inside).tolist()
        found = summed(rows[members], inside)
        for back, leaving in product(out, inside):
            swapped = [row for row in [*inside, back] if row != leaving]
            assert summed(rows[members], swapped) > found * (1 - 1e-4)


def test_with_room_for_few_pairs_the_sample_whose_return_lowers_the_norm_most_comes_back(monkeypatch):
    monkeypatch.setattr(dp, "_PAIRS", 0)  # one sample left out, against all kept
    for seed in range(5):
        evidence = noisy(20, seed)
        factors, rows = influences(evidence, 0.01), dense(evidence)
        out = torch.zeros(20, dtype=torch.bool)
        out[torch.from_numpy(np.random.default_rng(seed).choice(20, 8, replace=False))] = True
        before = out.clone()
        left_out = before.nonzero().flatten()
        total = factors.take(left_out).sum().double()
        without = np.linalg.norm(total.flatten().numpy() - rows[left_out], axis=1)
        assert dp._swap(factors, factors.norms().square(), out, total)
        assert (before & ~out).nonzero().flatten().tolist() == [int(left_out[without.argmin()])]


def test_the_summed_influence_is_far_below_that_of_a_uniform_draw():
    evidence = noisy(300)
    rows = dense(evidence)
    rng = np.random.default_rng(0)
    uniform = np.mean([summed(rows, rng.choice(300, 200, replace=False)) for _ in range(20)])
    for quotas, share in ((None, 0.15), ("proportional", 0.4)):
        assert summed(rows, DP().choose(evidence, 200, quotas=quotas).indices) < share * uniform


def train(inputs, labels, start):
    weight = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weight], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = F.cross_entropy(inputs @ weight.T, labels) + PENALTY / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    return weight.detach()


def test_trained_parameters_move_less_without_its_choice_than_without_a_uniform_draw():
    made = noisy(200)
    inputs = torch.cat([torch.ones(200, 1), torch.from_numpy(made.features)], 1).double()
    labels = torch.from_numpy(made.labels)
    weight = train(inputs, labels, torch.zeros(3, 6, dtype=torch.float64))
    evidence = replace(made, probabilities=(inputs @ weight.T).softmax(1))

    def moved(kept):
        return float((train(inputs[kept], labels[kept], weight) - weight).norm())

    rng = np.random.default_rng(0)
    uniform = [moved(rng.choice(200, 140, replace=False)) for _ in range(10)]
    chosen = [moved(DP(damping=PENALTY).choose(evidence, 140, quotas=None, seed=seed).indices) for seed in range(10)]
    assert np.mean(chosen) < 0.5 * np.mean(uniform)


def test_the_smallest_start_leaves_easier_samples_out():
    evidence = noisy(300)
    norms = np.linalg.norm(dense(evidence), axis=1)
    left_out = {
        start: np.delete(norms, DP(start=start).choose(evidence, 200, quotas=None).indices).mean()
        for start in ("uniform", "smallest")
    }
    assert left_out["smallest"] < 0.8 * left_out["uniform"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"damping": 0.0}, "damping must lie above 0 and be finite, got 0.0; write 0.01"),
        ({"start": "random"}, 'start must be "uniform" or "smallest", got \'random\''),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_refuses_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        DP(**settings)
