"""Forgetting, dynamic uncertainty and TDDS: by hand, and against plain loops."""

import numpy as np
import pytest

from coresets.data import make_evidence, softmax
from orderdp.coresets import TDDS, DynamicUncertainty, Evidence, Forgetting
from reference import static_scores

STORIES = {  # what each presentation found, and how often the sample was forgotten
    "111111": 0,
    "000000": 6,  # never learned
    "000001": 0,
    "000010": 1,
    "010101": 2,
    "101010": 3,
    "110011": 1,
    "100000": 1,
    "011110": 1,
}


def test_forgetting_counts_of_a_hand_written_trajectory():
    presented = np.array([[mark == "1" for mark in story] for story in STORIES]).T
    assert Forgetting().score(Evidence(presented=presented)).tolist() == list(STORIES.values())


def test_forgetting_is_its_twin():
    presented = np.random.default_rng(0).random((7, 200)) < 0.5
    expected = [static_scores.forgetting(story, 7) for story in presented.T.tolist()]
    assert Forgetting().score(Evidence(presented=presented)).tolist() == expected


def test_a_sample_never_learned_comes_first():
    presented = np.array([[mark == "1" for mark in story] for story in STORIES]).T
    first = Forgetting().choose(Evidence(presented=presented), 2, quotas=None).indices
    assert [list(STORIES)[row] for row in first] == ["000000", "101010"]


def test_the_seed_chooses_among_samples_never_forgotten():
    evidence = Evidence(presented=np.ones((3, 1000), dtype=bool))
    kept = np.concatenate([Forgetting().choose(evidence, 300, quotas=None, seed=seed).indices for seed in range(40)])
    counts = np.bincount(kept, minlength=1000)
    assert abs(counts[:500].sum() - 6000) < 5 * np.sqrt(40 * 300 * 0.25 * 700 / 999)


@pytest.fixture(scope="module")
def evidence():
    """Eight epochs of predictions that drift and jump."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((8, 30, 4)).cumsum(0)
    return Evidence(labels=rng.integers(4, size=30), trajectory=softmax(logits))


@pytest.mark.parametrize("window", [2, 3, 5, 8])
def test_dynamic_uncertainty_is_its_twin(window, evidence):
    expected = [
        static_scores.dynamic_uncertainty(story, y, window)
        for story, y in zip(evidence.trajectory.swapaxes(0, 1).tolist(), evidence.labels, strict=True)
    ]
    np.testing.assert_allclose(DynamicUncertainty(window=window).score(evidence), expected, rtol=1e-10)


@pytest.mark.parametrize(("window", "decay"), [(3, 0.9), (5, 0.5), (8, 1.0)])
def test_tdds_is_its_twin(window, decay, evidence):
    expected = [static_scores.tdds(story, window, decay) for story in evidence.trajectory.swapaxes(0, 1).tolist()]
    np.testing.assert_allclose(TDDS(window=window, decay=decay).score(evidence), expected, rtol=1e-8)


def test_tdds_of_steady_predictions_is_zero_and_of_certain_ones_finite():
    steady = np.full((5, 2, 2), 0.5)
    steady[:, 1] = [0, 1]
    assert TDDS(window=3).score(Evidence(trajectory=steady)).tolist() == [0, 0]
    steady[2, 1] = [1, 0]  # a jump from one certainty to the other
    scores = TDDS(window=3).score(Evidence(trajectory=steady))
    assert np.isfinite(scores).all()
    assert scores[1] > 1


@pytest.mark.parametrize("method", [DynamicUncertainty, TDDS])
def test_a_window_longer_than_the_trajectory_is_refused(method):
    name = method.__name__
    with pytest.raises(ValueError, match=rf"{name} needs a trajectory of at least 10 epochs, got 4.*window=4\)"):
        method().score(make_evidence())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DynamicUncertainty(window=1), ValueError, "window must be at least 2 epochs, got 1"),
        (lambda: TDDS(window=2), ValueError, "window must be at least 3 epochs, got 2"),
        (lambda: TDDS(window=3.0), TypeError, "window must be a whole number, got 3.0; write 3"),
        (lambda: TDDS(decay=0.0), ValueError, r"decay is a fraction and must lie in \(0, 1\]"),
    ],
)
def test_settings_out_of_range_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
