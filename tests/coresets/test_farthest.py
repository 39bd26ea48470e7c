"""K-Center, contextual diversity, graph cut: the engine against plain greedy, and the facts that are known of them."""

import numpy as np
import pytest
import torch

from coresets.data import make_evidence
from orderdp.coresets import ContextualDiversity, Evidence, GraphCut, KCenter, greedy
from orderdp.coresets.base import Work
from orderdp.coresets.farthest import Separated, farthest_first
from reference import coverage as twin

ROUTES = {"one pool": (64, 1), "small pools": (3, 16), "single candidates": (1, 1_000)}


@pytest.fixture(params=ROUTES.values(), ids=ROUTES.keys())
def route(request, monkeypatch):
    """Lets pools end after few picks."""
    monkeypatch.setattr(greedy, "_MIN_POOL", request.param[0])
    monkeypatch.setattr(greedy, "_POOL_SHARE", request.param[1])
    monkeypatch.setattr(greedy, "_ELEMENTS", 20)


@pytest.mark.parametrize("seed", range(3))
def test_the_engine_is_plain_farthest_first_and_the_lowest_position_wins_a_tie(route, seed):
    grid = np.random.default_rng(seed).integers(4, size=(50, 2)).astype(np.float32)  # equal distances, and copies
    rows = torch.from_numpy(grid).double()
    samples = Separated(rows.square().sum(1), rows, rows)
    assert farthest_first(samples, 7, 50).tolist() == twin.farthest_first(twin.distances(grid) ** 2, 7, 50)


def test_k_center_is_its_twin(route):
    evidence = make_evidence(60, seed=1)
    around = np.linalg.norm(evidence.features - evidence.features.mean(0), axis=1)
    expected = twin.farthest_first(twin.distances(evidence.features), int(around.argmin()), 30)
    assert KCenter().choose(evidence, 30, quotas=None).indices.tolist() == expected


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_k_center_s_radius_is_within_twice_the_smallest(size):
    for seed in range(10):
        evidence = make_evidence(13, num_features=2, seed=seed)
        apart = twin.distances(evidence.features)
        kept = KCenter().choose(evidence, size, quotas=None).indices
        radius = apart[:, kept].min(1).max()
        assert KCenter().radius(evidence, kept) == pytest.approx(radius, rel=1e-4)
        assert radius <= 2 * twin.smallest_radius(apart, size) * (1 + 1e-6)


def test_k_center_s_radius_is_far_below_that_of_a_uniform_draw():
    evidence = make_evidence(300, num_features=2)
    rng = np.random.default_rng(0)
    drawn = [KCenter().radius(evidence, rng.choice(300, 20, replace=False)) for _ in range(50)]
    assert KCenter().radius(evidence, KCenter().choose(evidence, 20, quotas=None).indices) < min(drawn)


@pytest.mark.parametrize(("scale", "shift"), [(1e-25, 0), (1, 0), (1, 1000), (1e25, 0)])
def test_the_place_and_scale_of_features_do_not_matter(scale, shift):
    evidence = make_evidence(40)
    moved = Evidence(features=evidence.features.astype(np.float64) * scale + shift)
    expected = KCenter().choose(evidence, 9, quotas=None).indices.tolist()
    assert KCenter().choose(moved, 9, quotas=None).indices.tolist() == expected


@pytest.mark.parametrize("floor", [1e-6, 0.01])
def test_contextual_diversity_is_its_twin(route, floor):
    evidence = Evidence(probabilities=make_evidence(60, num_classes=4, seed=2).trajectory[0])
    apart = twin.symmetric_divergences(np.vstack([evidence.probabilities, evidence.probabilities.mean(0)]), floor)
    expected = twin.farthest_first(apart[:60, :60], int(apart[60, :60].argmin()), 25)
    assert ContextualDiversity(floor=floor).choose(evidence, 25, quotas=None).indices.tolist() == expected


def test_contextual_diversity_takes_certain_predictions():
    evidence = Evidence(probabilities=np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 1, 2, 2, 3]])
    kept = ContextualDiversity().choose(evidence, 4, quotas=None).indices
    assert sorted(evidence.probabilities[kept].argmax(1).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("redundancy", [0, 0.4, 1.0, 3.0])
def test_graph_cut_is_its_twin(route, redundancy):
    evidence = make_evidence(50, seed=3)
    expected = twin.graph_cut(twin.cosine_similarity(evidence.features), 25, redundancy)
    assert GraphCut(redundancy=redundancy).choose(evidence, 25, quotas=None).indices.tolist() == expected


def test_graph_cut_takes_rows_of_zeros():
    features = make_evidence(30, seed=13).features.copy()
    features[[4, 17]] = 0
    work = Work(np.random.default_rng(0), torch.device("cpu"))
    kept = GraphCut()._choose(Evidence(features=features), 30, work).indices
    matrix = twin.cosine_similarity(features)
    matrix[[4, 17], [4, 17]] = 0.5
    assert kept.tolist() == twin.graph_cut(matrix, 30, 1.0)


def test_graph_cut_with_one_is_the_weight_of_the_cut():
    """Greedy on the weight of the edges between those kept and the others takes the same samples."""
    evidence = make_evidence(40, seed=4)
    matrix = twin.cosine_similarity(evidence.features)

    def cut(chosen, sample):
        kept = [*chosen, sample]
        rest = np.setdiff1d(np.arange(40), kept)
        return matrix[np.ix_(kept, rest)].sum()

    assert GraphCut().choose(evidence, 15, quotas=None).indices.tolist() == twin.greedy(40, 15, cut)


def test_wrong_settings_get_one_line():
    with pytest.raises(ValueError, match=r"^floor is a fraction and must lie in \(0, 1\), got 0"):
        ContextualDiversity(floor=0)
    with pytest.raises(ValueError, match=r"^redundancy must be a finite number of at least 0, got -1; write 1.0$"):
        GraphCut(redundancy=-1)
    with pytest.raises(TypeError, match=r"^redundancy must be a number, got '1'; write a number such as 1.0$"):
        GraphCut(redundancy="1")
