"""What every static method keeps: one row for each, and adding a method is adding a row."""

import pickle
import re
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from coresets.data import make_evidence
from orderdp import coresets
from orderdp.coresets import (
    CAL,
    CCS,
    CRAIG,
    DP,
    EL2N,
    GLISTER,
    TDDS,
    Calibrated,
    ContextualDiversity,
    DeepFool,
    DynamicUncertainty,
    Entropy,
    Evidence,
    FacilityLocation,
    Forgetting,
    GradMatch,
    GraNd,
    GraphCut,
    Herding,
    Influence,
    KCenter,
    KMeans,
    LeastConfidence,
    Margin,
    Moderate,
    MoSo,
    Random,
    Scorer,
    registry,
)

METHODS = [
    Random(),
    LeastConfidence(),
    Entropy(),
    Margin(),
    EL2N(),
    GraNd(),
    GraNd(layer="last"),
    Forgetting(),
    DynamicUncertainty(window=3),
    TDDS(window=3),
    Moderate(),
    KMeans(),
    KMeans(num_clusters=5, keep="near"),
    CAL(),
    DeepFool(),
    CCS(),
    CCS(hard_cutoff=0.3, num_strata=4),
    Calibrated(),
    Calibrated(uniform_share=1.0),
    GLISTER(),
    GLISTER(rounds=3),
    GradMatch(),
    GradMatch(l2=1e-3),
    Influence(),
    DP(),
    DP(start="smallest"),
    MoSo(),
    Herding(),
    Herding(unit_norm=False),
    KCenter(),
    ContextualDiversity(),
    ContextualDiversity(floor=0.01),
    FacilityLocation(),
    FacilityLocation(kernel="gaussian"),
    GraphCut(),
    GraphCut(redundancy=0.4),
    CRAIG(),
]

ids = [repr(method) for method in METHODS]
each = pytest.mark.parametrize("method", METHODS, ids=ids)
each_scorer = pytest.mark.parametrize("method", [m for m in METHODS if isinstance(m, Scorer)], ids=repr)


@pytest.fixture(scope="module")
def evidence():
    return make_evidence()


def counts(subset, evidence):
    return np.bincount(evidence.labels[subset.indices], minlength=3)


def test_every_registered_method_has_a_row():
    assert {type(method) for method in METHODS} == set(registry.BY_NAME.values())


@each
@pytest.mark.parametrize("size", [1, 7, 30, 59, 60])
@pytest.mark.parametrize("quotas", ["proportional", None])
def test_keeps_exactly_as_many_distinct_samples_as_asked(method, size, quotas, evidence):
    subset = method.choose(evidence, size, quotas=quotas)
    assert subset.indices.shape == (size,)
    assert subset.indices.dtype == np.int64
    assert len(np.unique(subset.indices)) == size
    assert subset.indices.min() >= 0
    assert subset.indices.max() < 60


@each
@pytest.mark.parametrize("quotas", [[3, 0, 5], [0, 8, 0], "equal"])
def test_keeps_the_quota_of_each_class(method, quotas, evidence):
    expected = [3, 3, 2] if quotas == "equal" else quotas
    assert counts(method.choose(evidence, 8, quotas=quotas), evidence).tolist() == expected


@pytest.mark.parametrize(
    ("samples", "quotas", "size", "sizes"),
    [
        ([10, 0, 10, 0], "equal", 4, [2, 0, 2, 0]),  # a class without samples takes none
        ([10, 0, 10, 0], "equal", 5, [3, 0, 2, 0]),
        ([10, 0, 6, 4], "proportional", 7, [4, 0, 2, 1]),  # of 3.5, 2.1 and 1.4
        ([5, 0, 3, 2], "proportional", 5, [3, 0, 1, 1]),  # of 2.5, 1.5 and 1: the lower class first
    ],
)
def test_quotas_are_those_of_a_hand_computation(samples, quotas, size, sizes):
    labels = np.repeat(np.arange(4), samples)
    kept = Random().choose(Evidence(labels=labels), size, quotas=quotas).indices
    assert np.bincount(labels[kept], minlength=4).tolist() == sizes


@each
def test_has_weights_where_declared(method, evidence):
    weights = method.choose(evidence, 20).weights
    assert (weights is not None) == method.weighs
    if weights is not None:
        assert weights.dtype == np.float32
        assert weights.shape == (20,)
        assert (weights >= 0).all()
        assert np.isfinite(weights).all()
        assert weights.sum() > 0


@each
def test_equal_seeds_choose_equal_subsets_and_leave_the_global_generators_alone(method, evidence):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first, second = (method.choose(evidence, 20, seed=3) for _ in range(2))
    assert first.indices.tolist() == second.indices.tolist()
    if method.weighs:
        assert first.weights.tolist() == second.weights.tolist()
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@each
def test_the_seed_breaks_ties(method):
    one = make_evidence()
    rows = np.zeros(60, dtype=int)
    rows[-1] = 1  # of all equal features nothing could be chosen
    copies = replace(one.take(rows, one.given), labels=np.zeros(60, dtype=int))
    chosen = {tuple(sorted(method.choose(copies, 10, seed=seed, quotas=None).indices.tolist())) for seed in range(4)}
    assert len(chosen) > 1


@each
def test_reads_no_more_than_it_needs_and_writes_to_nothing(method, evidence):
    needed = evidence.take(np.arange(60), {*method.needs, "labels"})
    for field in fields(Evidence):
        value = getattr(needed, field.name)
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    assert method.choose(needed, 20).indices.tolist() == method.choose(evidence, 20).indices.tolist()


@each
def test_names_what_is_missing(method, evidence):
    for name in method.needs:
        rest = [given for given in evidence.given if given != name]
        with pytest.raises(ValueError, match=f"needs .*{name}.*add {name}$|add {name}"):
            method.choose(evidence.take(np.arange(60), rest), 20, quotas=None)


@each
def test_repr_evaluates_back_and_pickle_keeps_it(method):
    assert eval(repr(method), vars(coresets).copy()) == method
    assert pickle.loads(pickle.dumps(method)) == method


@each
def test_declares_what_tables_show(method):
    assert method.name == method.name.lower()
    assert method.label
    assert set(method.needs) <= {field.name for field in fields(Evidence)}
    for entry in method.references:
        assert re.match(r"@(inproceedings|article|misc)\{[a-z]+\d{4}[a-z]+,\n", entry)
        for field, value in (("title", r"\{.+\}"), ("author", r"\{[^=]+\}"), ("year", r"\{\d{4}\}")):
            assert re.search(rf"\n  {field} *= {value},?\n", entry), field
        assert entry.count("{") == entry.count("}")


def test_a_citation_key_names_one_publication():
    keys = {entry.split(",")[0]: entry for method in METHODS for entry in method.references}
    assert len(keys) == len({entry for method in METHODS for entry in method.references})


@each_scorer
def test_scores_every_sample(method, evidence):
    scores = method.score(evidence)
    assert scores.shape == (60,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@each_scorer
def test_scores_follow_their_samples(method, evidence):
    if isinstance(method, Random):
        return
    order = np.random.default_rng(0).permutation(60)
    permuted = method.score(evidence.take(order, evidence.given))
    np.testing.assert_allclose(permuted, method.score(evidence)[order], rtol=1e-4, atol=1e-6)


@each_scorer
def test_scores_of_several_proxies_are_averaged(method, evidence):
    other = make_evidence(seed=5)
    mean = method.score([evidence, other])
    np.testing.assert_allclose(mean, (method.score(evidence) + method.score(other)) / 2)


@each_scorer
def test_keeps_the_highest_scores(method, evidence):
    scores = method.score(evidence, seed=1)
    kept = method.choose(evidence, 12, quotas=None, seed=1).indices
    assert scores[kept].tolist() == np.sort(scores)[::-1][:12].tolist()
