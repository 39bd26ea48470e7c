"""CCS and the calibrated draw: budgets by hand and by the published loop, and unbiased weights."""

import numpy as np
import pytest

from coresets.data import make_evidence
from orderdp.coresets import CCS, Calibrated, Evidence
from orderdp.coresets.ccs import strata
from reference import static_scores


@pytest.mark.parametrize("cutoff", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("number", [1, 4, 50])
@pytest.mark.parametrize("size", [1, 11, 60])
def test_ccs_spends_the_budgets_of_the_published_loop(cutoff, number, size):
    scores = np.random.default_rng(0).gamma(1.0, size=100)  # uneven: many low ones, some strata empty
    dropped, groups, budgets = static_scores.ccs_budgets(scores.tolist(), size, cutoff, number)
    kept = set(CCS(hard_cutoff=cutoff, num_strata=number).choose(Evidence(scores=scores), size, quotas=None).indices)
    assert len(kept) == sum(budgets) == size
    assert not kept & dropped
    # Which of two strata of equal size comes first is free, and may shift one sample between them.
    for members in {len(group) for group in groups}:
        same = [(group, budget) for group, budget in zip(groups, budgets, strict=True) if len(group) == members]
        assert sorted(len(kept & set(group)) for group, _ in same) == sorted(budget for _, budget in same)


@pytest.mark.parametrize(("cutoff", "dropped"), [(0.29, 29), (0.35, 35), (0.299, 29)])
def test_ccs_drops_a_share_as_it_is_written(cutoff, dropped):
    kept = CCS(hard_cutoff=cutoff).choose(Evidence(scores=np.arange(100.0)), 60, quotas=None).indices
    assert kept.max() == 99 - dropped


def test_ccs_gives_the_budget_of_empty_strata_to_the_others():
    scores = np.array([0.0] * 6 + [0.1] * 6 + [9.0] + [10.0] * 7)  # strata of 12, 0, 0, 0 and 8
    kept = CCS(hard_cutoff=0.0, num_strata=5).choose(Evidence(scores=scores), 10, quotas=None).indices
    assert [(kept < 12).sum(), (kept >= 12).sum()] == [5, 5]


def test_ccs_draws_uniformly_within_a_stratum():
    evidence = Evidence(scores=np.arange(20.0))
    kept = [CCS(hard_cutoff=0.0, num_strata=2).choose(evidence, 6, quotas=None, seed=s).indices for s in range(600)]
    counts = np.bincount(np.concatenate(kept), minlength=20)  # 3 of 10 in each stratum
    assert (abs(counts - 180) < 5 * np.sqrt(600 * 0.3 * 0.7)).all()


def test_ccs_drops_no_more_than_can_be_spared():
    kept = CCS(hard_cutoff=0.5).choose(Evidence(scores=np.arange(10.0)), 8, quotas=None).indices
    assert sorted(kept.tolist()) == list(range(8))


def test_ccs_keeps_the_maximum_of_negative_scores():
    kept = CCS(hard_cutoff=0.0).choose(Evidence(scores=-np.arange(1.0, 11.0)), 10, quotas=None).indices
    assert sorted(kept.tolist()) == list(range(10))


def test_strata_have_equal_width():
    assert strata(np.array([0.0, 0.99, 1.0, 2.5, 3.99, 4.0]), 4).tolist() == [0, 0, 1, 2, 3, 3]
    assert strata(np.array([7.0, 7.0]), 4).tolist() == [0, 0]


def mean_weights(evidence, size, method, *, runs=3000, quotas=None):
    """(n,) mean weight of each sample over seeds, zero where it was not kept, and its standard error."""
    weights = np.zeros((runs, evidence.num_samples))
    for seed in range(runs):
        subset = method.choose(evidence, size, quotas=quotas, seed=seed)
        weights[seed, subset.indices] = subset.weights
    return weights.mean(0), weights.std(0) / np.sqrt(runs)


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_every_calibrated_sample_weighs_one_on_average_ties_too(share):
    """So the weighted loss of the subset is unbiased. Five equal scores lie at the border of the highest ones."""
    evidence = Evidence(scores=[9.0, 8.0, 5.0, 5.0, 5.0, 5.0, 5.0, 1.0, 0.5, 0.0])
    mean, error = mean_weights(evidence, 5, Calibrated(uniform_share=share))
    assert (abs(mean - 1) <= 5 * error + 1e-6).all()


def test_calibrated_weights_are_unbiased_within_each_class():
    evidence = Evidence(labels=[0] * 8 + [1] * 4, scores=np.arange(12.0))
    mean, error = mean_weights(evidence, 6, Calibrated(), quotas="proportional")
    assert (abs(mean - 1) <= 5 * error + 1e-6).all()


@pytest.mark.parametrize("size", [1, 2, 17, 60])
@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_calibrated_weights_sum_to_the_number_of_samples(size, share):
    weights = Calibrated(uniform_share=share).choose(make_evidence(), size, quotas=None).weights
    assert weights.sum() == pytest.approx(60, rel=1e-5)


def test_calibrated_keeps_the_highest_scores_with_weight_one():
    evidence = Evidence(scores=np.arange(20.0))
    subset = Calibrated(uniform_share=0.25).choose(evidence, 8, quotas=None)
    assert subset.indices[:6].tolist() == [19, 18, 17, 16, 15, 14]
    assert subset.weights.tolist() == [1] * 6 + [7] * 2


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CCS(hard_cutoff=1.0), ValueError, r"hard_cutoff is a fraction and must lie in \[0, 1\)"),
        (lambda: CCS(num_strata=0), ValueError, "num_strata must be at least 1, got 0"),
        (lambda: Calibrated(uniform_share=0.0), ValueError, r"uniform_share is a fraction and must lie in \(0, 1\]"),
        (lambda: Calibrated(uniform_share="half"), TypeError, "uniform_share is a fraction"),
    ],
)
def test_settings_out_of_range_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
