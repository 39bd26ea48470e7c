"""Two ranks that hold different samples choose one subset together."""

import numpy as np
import pytest

from coresets.data import make_evidence
from orderdp.coresets import Evidence, FacilityLocation, Herding, KCenter, greedi
from reference import coverage as twin
from reference.processes import run_ranks

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

FEATURES = make_evidence(90, num_features=4, seed=11).features
PARTS = [FEATURES[:35], FEATURES[35:]]
METHODS = pytest.mark.parametrize("method", [FacilityLocation(), KCenter()], ids=repr)


def choose(rank, method, size, parts=PARTS):
    return greedi(method, Evidence(features=parts[rank]), size, seed=3).indices.tolist()


def quality(method, indices):
    """Higher is better."""
    evidence = Evidence(features=FEATURES)
    return -method.radius(evidence, indices) if isinstance(method, KCenter) else method.objective(evidence, indices)


def first_round(method, size):
    """What each rank chooses alone, as positions in all samples."""
    return [
        method.choose(Evidence(features=part), size, quotas=None, seed=3 + rank).indices + 35 * rank
        for rank, part in enumerate(PARTS)
    ]


def second_round(method, union, size):
    """Plain greedy from the union: facility location counts all samples, K-Center begins near the union's mean."""
    if isinstance(method, FacilityLocation):
        matrix = twin.cosine_similarity(FEATURES)[:, union]
        chosen = twin.greedy(len(union), size, lambda chosen, sample: matrix[:, [*chosen, sample]].max(1).sum())
    else:
        rows = FEATURES[union]
        first = np.linalg.norm(rows - rows.mean(0), axis=1).argmin()
        chosen = twin.farthest_first(twin.distances(rows), first, size)
    return union[chosen]


@METHODS
@pytest.mark.parametrize("size", [3, 20])
def test_ranks_keep_the_best_of_the_second_round_and_of_each_rank(method, size, tmp_path):
    first, second = run_ranks(2, choose, tmp_path, method, size)
    assert first == second
    alone = first_round(method, size)
    candidates = [second_round(method, np.concatenate(alone), size), *alone]
    best = max(candidates, key=lambda indices: quality(method, indices))
    assert first == best.tolist()


def test_the_radius_of_a_subset_is_that_of_all_ranks_whatever_the_scale_of_each(tmp_path):
    """From 0 the farthest sample is 100 away, from 5 it is 105, both on the first rank, whose samples spread wide."""
    wide, narrow = np.linspace(-100, 100, 9)[:, None], 5 + np.linspace(-1, 1, 5)[:, None]
    assert run_ranks(2, choose, tmp_path, KCenter(), 1, [wide, narrow]) == [[4], [4]]


def test_little_is_lost(tmp_path):
    together = FacilityLocation().choose(Evidence(features=FEATURES), 8, quotas=None).indices
    first, _ = run_ranks(2, choose, tmp_path, FacilityLocation(), 8)
    assert quality(FacilityLocation(), first) >= 0.99 * quality(FacilityLocation(), together)


@METHODS
@pytest.mark.parametrize("size", [1, 90])
def test_a_rank_may_hold_fewer_samples_than_are_kept(method, size, tmp_path):
    first, second = run_ranks(2, choose, tmp_path, method, size)
    assert first == second
    assert len(set(first)) == size


@METHODS
def test_one_process_chooses_what_the_method_does(method):
    evidence = Evidence(features=FEATURES)
    expected = method.choose(evidence, 8, quotas=None, seed=3).indices
    assert set(greedi(method, evidence, 8, seed=3).indices.tolist()) == set(expected.tolist())


def test_what_does_not_fit_gets_one_line(tmp_path):
    evidence = Evidence(features=FEATURES)
    with pytest.raises(TypeError, match=r"^method must be FacilityLocation\(\) or KCenter\(\), got Herding\(unit"):
        greedi(Herding(), evidence, 8)
    with pytest.raises(ValueError, match=r'^greedi needs the kernel "cosine", got \'gaussian\'; its scale is that'):
        greedi(FacilityLocation(kernel="gaussian"), evidence, 8)
    with pytest.raises(ValueError, match=r"^size must lie in 1 .. 90, the number of samples, got 91$"):
        greedi(KCenter(), evidence, 91)
    with pytest.raises(ValueError, match=r"^every rank must have the same features, at least one, got \[0\] by rank$"):
        greedi(KCenter(), Evidence(labels=[0, 1]), 1)
    lines = run_ranks(2, choose, tmp_path, KCenter(), 8, [FEATURES[:35], FEATURES[35:, :3]])
    assert lines == ["ValueError: every rank must have the same features, at least one, got [4, 3] by rank"] * 2
