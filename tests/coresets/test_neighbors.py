"""Moderate, CAL and k-means: against plain loops, and the facts that are known of them."""

import sys

import numpy as np
import pytest

from coresets.data import make_evidence
from orderdp.coresets import CAL, Evidence, KMeans, Moderate
from orderdp.coresets.cal import others
from orderdp.coresets.k_means import sorting
from reference import static_scores


@pytest.fixture(scope="module")
def evidence():
    return make_evidence()


def lists(evidence):
    return evidence.features.astype(float).tolist(), evidence.probabilities.astype(float).tolist()


def test_moderate_is_its_twin(evidence):
    features, _ = lists(evidence)
    expected = static_scores.moderate(features, evidence.labels.tolist())
    np.testing.assert_allclose(Moderate().score(evidence), expected, atol=1e-6)


def test_moderate_keeps_the_middle_of_the_distances():
    features = np.array([[0.0], [1.0], [2.0], [4.0], [5.0], [7.0], [9.0], [-28.0]])  # their mean is 0
    kept = Moderate().choose(Evidence(labels=[0] * 8, features=features), 3, quotas=None).indices
    assert sorted(kept.tolist()) == [3, 4, 5] or sorted(kept.tolist()) == [2, 3, 4]  # 2 and 7 are as far from 4.5


@pytest.mark.parametrize("k", [1, 3, 10, 59])
def test_cal_is_its_twin(k, evidence):
    features, predictions = lists(evidence)
    expected = static_scores.cal(features, predictions, k)
    np.testing.assert_allclose(CAL(num_neighbors=k).score(evidence), expected, rtol=1e-6, atol=1e-9)


def test_cal_sees_the_copy_of_a_sample_and_not_the_sample():
    """Doubled rows have one neighbour each: the copy. Their predictions differ, so none of them scores zero."""
    rng = np.random.default_rng(0)
    features = np.tile(rng.standard_normal((20, 3)), (2, 1)).astype(np.float32)
    right = rng.uniform(0.1, 0.9, size=40)
    predictions = np.stack([right, 1 - right], 1)
    expected = [static_scores.kl(predictions[(i + 20) % 40], predictions[i]) for i in range(40)]
    scores = CAL(num_neighbors=1).score(Evidence(features=features, probabilities=predictions))
    np.testing.assert_allclose(scores, expected, rtol=1e-9)
    assert scores.min() > 0


def test_a_row_with_many_copies_is_left_out_wherever_it_was_found():
    found = np.array([[0, 1, 2], [0, 1, 2], [5, 6, 7]])
    assert others(found, np.array([0, 1, 8])).tolist() == [[1, 2], [0, 2], [5, 6]]


def test_cal_in_many_blocks_is_cal_in_one(evidence, monkeypatch):
    whole = CAL().score(evidence)
    monkeypatch.setattr("orderdp.coresets.by_rows._NUMBERS", 200)
    np.testing.assert_allclose(CAL().score(evidence), whole, rtol=1e-9)


def test_cal_takes_half_precision(evidence):
    half = Evidence(features=evidence.features.astype(np.float16), probabilities=evidence.probabilities)
    assert np.isfinite(CAL().score(half)).all()


def test_cal_refuses_as_many_neighbors_as_samples(evidence):
    with pytest.raises(ValueError, match="num_neighbors must be below 60, the number of samples, got 60; write 59"):
        CAL(num_neighbors=60).score(evidence)


def blobs(num_clusters=4, size=25, *, seed=0):
    """Clusters far from each other, their rows shuffled."""
    rng = np.random.default_rng(seed)
    centres = 100 * np.eye(num_clusters, 6)
    labels = rng.permutation(np.repeat(np.arange(num_clusters), size))
    return labels, (centres[labels] + rng.standard_normal((len(labels), 6))).astype(np.float32)


def test_k_means_scores_the_distance_to_the_centre_of_the_cluster():
    labels, features = blobs()
    expected = np.empty(len(labels))
    for label in range(4):
        cluster = features[labels == label].astype(float)
        expected[labels == label] = np.linalg.norm(cluster - cluster.mean(0), axis=1)
    np.testing.assert_allclose(KMeans().score(Evidence(labels=labels, features=features)), expected, rtol=1e-4)


def test_k_means_takes_one_cluster_for_each_class_or_the_number_given():
    labels, features = blobs()
    by_labels = KMeans().score(Evidence(labels=labels, features=features))
    assert KMeans().needs == ("labels", "features")
    assert KMeans(num_clusters=4).needs == ("features",)
    np.testing.assert_array_equal(KMeans(num_clusters=4).score(Evidence(features=features)), by_labels)


def test_k_means_centres_are_the_nearest_and_the_means_of_their_clusters(evidence):
    """What Lloyd's algorithm ends with: no sample is nearer to another centre, no centre is off its mean."""
    from orderdp.coresets.k_means import _clusters

    centres, clusters = _clusters(evidence.features, 5, 0)
    distances = np.linalg.norm(evidence.features[:, None] - centres, axis=2)
    assert (distances.argmin(1) == clusters).all()
    means = np.stack([evidence.features[clusters == number].mean(0) for number in range(5)])
    np.testing.assert_allclose(centres, means, atol=1e-5)


def test_k_means_keeps_far_or_near(evidence):
    far, near = (KMeans(num_clusters=3, keep=keep).score(evidence) for keep in ("far", "near"))
    assert (far == -near).all()


def test_k_means_does_not_depend_on_the_order_of_the_samples_to_the_last_bit(evidence):
    order = np.random.default_rng(1).permutation(60)
    permuted = KMeans(num_clusters=7).score(evidence.take(order, ["features"]))
    assert (permuted == KMeans(num_clusters=7).score(evidence)[order]).all()


def test_the_seed_decides_where_k_means_begins(evidence):
    scores = {tuple(KMeans(num_clusters=7).score(evidence, seed=seed)) for seed in range(4)}
    assert len(scores) > 1


def test_k_means_is_the_same_on_many_threads():
    """With four threads scikit-learn's own k-means ends in one of several clusterings."""
    from threadpoolctl import threadpool_limits

    evidence = Evidence(features=np.random.default_rng(0).standard_normal((4000, 8)).astype(np.float32))
    with threadpool_limits(4):
        runs = [KMeans(num_clusters=20).score(evidence) for _ in range(4)]
    assert all((run == runs[0]).all() for run in runs)


def test_k_means_of_fewer_distinct_rows_than_clusters_scores_zero():
    features = np.repeat(np.eye(3), 4, axis=0)
    assert KMeans(num_clusters=8).score(Evidence(features=features)).tolist() == [0] * 12


def test_rows_are_sorted_by_their_values():
    rows = np.random.default_rng(0).integers(0, 2, size=(40, 3)).astype(float)
    rows[rows == 0] *= np.where(np.random.default_rng(1).random((rows == 0).sum()) < 0.5, -1, 1)  # zeros of both signs
    ordered = rows[sorting(rows)]
    changes = (ordered[1:] != ordered[:-1]).any(1).sum()
    assert changes + 1 == len(np.unique(rows, axis=0))


@pytest.mark.parametrize("method", [CAL(), KMeans()])
def test_without_scikit_learn_they_say_what_to_install(method, evidence, monkeypatch):
    for name in ("sklearn", "sklearn.cluster", "sklearn.neighbors"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"{type(method).__name__} needs scikit-learn: pip install scikit-learn"):
        method.score(evidence)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: KMeans(num_clusters=0), ValueError, "num_clusters must be at least 1, got 0"),
        (lambda: KMeans(keep="hard"), ValueError, 'keep must be "far" or "near", got \'hard\''),
        (lambda: CAL(num_neighbors=0), ValueError, "num_neighbors must be at least 1, got 0"),
        (lambda: CAL(num_neighbors=2.5), TypeError, "num_neighbors must be a whole number, got 2.5"),
    ],
)
def test_settings_out_of_range_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
