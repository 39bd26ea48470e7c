"""Facility location and CRAIG: the engine against plain greedy, and the facts that are known of both."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from coresets.data import make_evidence
from orderdp.coresets import CRAIG, Evidence, FacilityLocation, cover, similarity
from orderdp.coresets.base import Work
from orderdp.coresets.cover import Cover, coverage, greedy_cover
from orderdp.coresets.rows import centred_rows, unit_rows
from orderdp.coresets.similarity import Cosine, Held, squared_distances
from reference import coverage as twin

CPU = torch.device("cpu")
ROUTES = {  # HELD, first picks, elements of a block, fewest rows of a block
    "held": (8_192, 128, 2**20, 64),
    "held, then lists": (8_192, 3, 2**20, 64),
    "in blocks": (0, 128, 32, 1),
    "in blocks, then lists": (0, 2, 100, 3),
}


@pytest.fixture(params=ROUTES.values(), ids=ROUTES.keys())
def route(request, monkeypatch):
    """Sends small groups through every part of the engine."""
    held, first, elements, rows = request.param
    monkeypatch.setattr(cover, "HELD", held)
    monkeypatch.setattr(cover, "_FIRST_PICKS", {True: first, False: first})
    monkeypatch.setattr(similarity, "_ELEMENTS", elements)
    monkeypatch.setattr(similarity, "_MIN_ROWS", rows)


def signs(num_samples, num_features, seed):
    """Rows of ±1, many of them equal: products, similarities and gains are exact, and ties are everywhere."""
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(num_samples, num_features)).astype(np.float32)


def soft(evidence):
    """The same with uncertain predictions, so that few gradients are almost zero."""
    return replace(evidence, probabilities=evidence.trajectory[0])


def chosen_by(method, features, size):
    """What the method chooses where the lowest position wins a tie."""
    rows = method.similarity(np.asarray(features, dtype=np.float32), CPU)
    return greedy_cover(rows, size)


@pytest.mark.parametrize("seed", range(3))
def test_the_engine_is_plain_greedy_and_the_lowest_position_wins_a_tie(route, seed):
    features = signs(45, 4, seed)
    expected = twin.facility_location(twin.cosine_similarity(features), 45)
    assert chosen_by(FacilityLocation(), features, 45).chosen.tolist() == expected


@pytest.mark.parametrize("kernel", ["cosine", "gaussian"])
def test_the_engine_is_plain_greedy_where_no_two_gains_are_equal(route, kernel):
    features = make_evidence(60, seed=4).features
    matrix = {"cosine": twin.cosine_similarity, "gaussian": twin.gaussian_similarity}[kernel](features)
    assert chosen_by(FacilityLocation(kernel=kernel), features, 30).chosen.tolist() == twin.facility_location(
        matrix, 30
    )


def test_each_sample_belongs_to_its_nearest_pick(route):
    features = make_evidence(60, seed=5).features
    covered = chosen_by(FacilityLocation(), features, 12)
    nearest = twin.cosine_similarity(features)[:, covered.chosen].argmax(1)
    assert covered.owner.tolist() == nearest.tolist()


def test_gains_stay_exact_sums_of_the_matrix():
    rows = unit_rows(make_evidence(50).features, CPU)
    held = Held(Cosine(rows))
    state = Cover(held)
    for candidate in (3, 17, 40, 8):
        state.add(candidate)
    matrix = held.of_samples(torch.arange(50)).numpy().astype(np.float64)
    gains = np.maximum(matrix - matrix[state.chosen].max(0), 0).sum(1)
    gains[state.chosen] = -np.inf
    assert state.gains.tolist() == gains.tolist()


def test_numbers_do_not_depend_on_the_order_of_a_sum():
    features = np.random.default_rng(0).standard_normal((50, 600))
    order = np.random.default_rng(1).permutation(600)
    for rows in (unit_rows(features, CPU), centred_rows(features, CPU)[0]):
        assert torch.equal(rows[:, order] @ rows[:, order].T, rows @ rows.T)
    assert torch.equal(squared_distances(rows[:, order], rows[:, order]), squared_distances(rows, rows))
    for method in (FacilityLocation(), FacilityLocation(kernel="gaussian")):
        matrix = method.similarity(features, CPU).of_samples(torch.arange(50)).double()
        assert torch.equal(matrix.diagonal(), torch.ones(50, dtype=torch.float64))
        assert torch.equal((matrix * 2**23).round(), matrix * 2**23)


def test_the_first_pick_is_exact_where_its_sum_is_known_roughly():
    class Rough(Cosine):
        def sums(self):
            sums, error = super().sums()
            sums[expected] -= 2
            return sums, error + 2

    rows = unit_rows(make_evidence(60, seed=12).features, CPU)
    expected = int(Cosine(rows).sums()[0].argmax())
    assert int(Rough(rows).sums()[0].argmax()) != expected
    assert cover._first(Rough(rows)) == cover._first(Cosine(rows)) == expected


def test_lists_begin_once_they_fit(monkeypatch):
    """With hardly any room, the first phase goes on until few similarities matter, and the choice stays the same."""
    features = make_evidence(60, seed=6).features
    expected = chosen_by(FacilityLocation(), features, 40).chosen.tolist()
    monkeypatch.setattr(cover, "HELD", 0)
    monkeypatch.setattr(cover, "_FIRST_PICKS", {False: 1})
    monkeypatch.setattr(cover, "_ENTRIES", 90)
    entries = []
    original = cover._Lists.of.__func__
    monkeypatch.setattr(
        cover._Lists,
        "of",
        classmethod(lambda kind, state, *rest: (entries.append(len(state.chosen)), original(kind, state, *rest))[1]),
    )
    assert chosen_by(FacilityLocation(), features, 40).chosen.tolist() == expected
    assert entries[0] > 8


@pytest.mark.parametrize("kernel", ["cosine", "gaussian"])
def test_greedy_reaches_its_share_of_the_largest_cover(kernel):
    for seed in range(5):
        evidence = make_evidence(12, seed=seed)
        method = FacilityLocation(kernel=kernel)
        matrix = {"cosine": twin.cosine_similarity, "gaussian": twin.gaussian_similarity}[kernel](evidence.features)
        kept = method.choose(evidence, 3, quotas=None).indices
        value = twin.cover(matrix, kept.tolist())
        assert value >= (1 - 1 / math.e) * twin.largest_cover(matrix, 3)
        assert method.objective(evidence, kept) == pytest.approx(value / 12, rel=1e-6)


def test_facility_location_covers_better_than_a_uniform_draw():
    evidence = make_evidence(300, num_features=8)
    method = FacilityLocation()
    rng = np.random.default_rng(0)
    drawn = [method.objective(evidence, rng.choice(300, 20, replace=False)) for _ in range(50)]
    assert method.objective(evidence, method.choose(evidence, 20, quotas=None).indices) > max(drawn)


def test_a_row_of_zeros_is_half_similar_to_all():
    rows = unit_rows(np.array([[0.0, 0.0], [3.0, 4.0], [1e-30, 0.0]]), CPU)
    assert Cosine(rows).of_samples(torch.tensor([0])).tolist() == [[0.5, 0.5, 0.5]]
    assert Cosine(rows).of_samples(torch.tensor([1]))[0].tolist() == pytest.approx([0.5, 1.0, 0.8])
    assert coverage(Cosine(rows), torch.tensor([1])) == pytest.approx(2.3)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_the_scale_of_features_does_not_matter(scale):
    evidence = make_evidence(40)
    scaled = Evidence(features=evidence.features.astype(np.float64) * scale, labels=evidence.labels)
    for kernel in ("cosine", "gaussian"):
        method = FacilityLocation(kernel=kernel)
        assert method.choose(scaled, 9).indices.tolist() == method.choose(evidence, 9).indices.tolist()


@pytest.mark.parametrize("label", [0, None])
def test_craig_is_its_twin(route, label):
    """Within a class and without classes, where the lowest position wins a tie, as of two nearest to each other."""
    evidence = soft(make_evidence(60, seed=7))
    if label is not None:
        evidence = evidence.take(np.flatnonzero(evidence.labels == label), evidence.given)
    subset = CRAIG()._choose(evidence, 15, Work(np.random.default_rng(0), CPU))
    chosen, sizes = twin.craig(twin.last_layer_gradients(evidence), 15)
    assert subset.indices.tolist() == chosen
    assert subset.weights.tolist() == sizes.tolist()


@pytest.mark.parametrize("size", [3, 10, 60])
@pytest.mark.parametrize("quotas", ["proportional", None])
def test_craig_s_weights_sum_to_the_samples_of_each_class(size, quotas):
    evidence = make_evidence(60, seed=8)
    subset = CRAIG().choose(evidence, size, quotas=quotas)
    assert subset.weights.sum() == 60
    if quotas:
        kept = evidence.labels[subset.indices]
        assert np.bincount(kept, weights=subset.weights).tolist() == np.bincount(evidence.labels).tolist()


def test_craig_s_gradient_differs_by_no_more_than_the_sum_of_distances():
    evidence = make_evidence(60, seed=9)
    gradients = twin.last_layer_gradients(evidence)
    errors = []
    for size in (3, 10, 30, 60):
        subset = CRAIG().choose(evidence, size)
        error = np.linalg.norm(gradients.sum(0) - subset.weights @ gradients[subset.indices])
        same = evidence.labels[:, None] == evidence.labels[subset.indices]
        apart = np.linalg.norm(gradients[:, None] - gradients[subset.indices], axis=2)
        assert error <= np.where(same, apart, np.inf).min(1).sum() + 1e-5
        errors.append(error)
    assert errors[-1] == pytest.approx(0, abs=1e-4)


def test_craig_counts_copies_as_one_cluster_each():
    one = make_evidence(12, seed=10)
    copies = one.take(np.repeat(np.arange(12), 4), one.given)
    subset = CRAIG().choose(copies, 12)
    assert sorted((subset.indices // 4).tolist()) == list(range(12))
    assert subset.weights.tolist() == [4.0] * 12


def test_craig_takes_gradients_of_zero():
    evidence = Evidence(labels=[0, 0, 0], probabilities=[[1.0, 0.0]] * 3, features=[[1.0], [2.0], [3.0]])
    assert CRAIG().choose(evidence, 2).weights.tolist() == [3.0, 0.0]


def test_wrong_settings_get_one_line():
    with pytest.raises(ValueError, match=r"^kernel must be one of cosine, gaussian, got 'rbf'$"):
        FacilityLocation(kernel="rbf")
