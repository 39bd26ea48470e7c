"""Herding against its twin, and how near it keeps the mean."""

import numpy as np
import pytest

from coresets.data import make_evidence
from orderdp.coresets import Evidence, Herding, herding
from reference import coverage as twin


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("held", [8_192, 0])
@pytest.mark.parametrize("unit_norm", [True, False])
def test_herding_is_its_twin(unit_norm, held, monkeypatch):
    monkeypatch.setattr(herding, "HELD", held)
    evidence = make_evidence(60, seed=1)
    features = evidence.features.astype(np.float64)
    expected = twin.herding(unit(features) if unit_norm else features, 40)
    assert Herding(unit_norm=unit_norm).choose(evidence, 40, quotas=None).indices.tolist() == expected


def test_the_mean_of_unit_norm_features_is_far_nearer_than_with_a_uniform_draw():
    evidence = make_evidence(1_000, num_classes=5, num_features=32)
    rows = unit(evidence.features.astype(np.float64))
    rng = np.random.default_rng(0)

    def error(kept):
        return np.linalg.norm(rows[kept].mean(0) - rows.mean(0))

    ratios = []
    for size in (10, 30, 100, 300):
        drawn = np.mean([error(rng.choice(1_000, size, replace=False)) for _ in range(50)])
        ratios.append(error(Herding().choose(evidence, size, quotas=None).indices) / drawn)
    assert ratios == pytest.approx([0.268, 0.197, 0.111, 0.055], rel=0.05)


def test_a_shift_of_raw_features_changes_nothing():
    evidence = make_evidence(60, seed=2)
    shifted = Evidence(features=evidence.features.astype(np.float64) + 100)
    method = Herding(unit_norm=False)
    expected = method.choose(evidence, 20, quotas=None).indices.tolist()
    assert method.choose(shifted, 20, quotas=None).indices.tolist() == expected


def test_wrong_settings_get_one_line():
    with pytest.raises(TypeError, match=r"^unit_norm must be True or False, got 1$"):
        Herding(unit_norm=1)
