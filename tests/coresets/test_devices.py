"""The methods that choose together: the same choice on a GPU, and progress bars of long steps."""

import numpy as np
import pytest
import torch

from coresets.data import make_evidence
from orderdp.coresets import CRAIG, ContextualDiversity, FacilityLocation, GraphCut, KCenter, greedy
from orderdp.coresets.base import Work
from orderdp.coresets.similarity import Cosine

EXACT = pytest.mark.parametrize(
    "method",
    [CRAIG(), ContextualDiversity(), FacilityLocation(), FacilityLocation(kernel="gaussian"), GraphCut(), KCenter()],
    ids=repr,
)


@EXACT
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none")
def test_a_gpu_chooses_what_the_processor_does(method):
    evidence = make_evidence(2_000, num_features=16)
    on_gpu = method.choose(evidence, 600, device="cuda")
    assert on_gpu.indices.tolist() == method.choose(evidence, 600).indices.tolist()


@EXACT
def test_large_groups_have_a_bar_for_their_picks(method, monkeypatch):
    monkeypatch.setattr(greedy, "_LARGE", 50)
    shown = []
    monkeypatch.setattr(
        Work, "progress", lambda self, items, label, total=None: (shown.append((label, len(items))), iter(items))[1]
    )
    method.choose(make_evidence(60), 20, quotas=None)
    assert (method.label, 20 if method.name not in ("k_center", "contextual_diversity") else 19) in shown
    shown.clear()
    method.choose(make_evidence(40), 20, quotas=None)
    assert shown == [(method.label, 1)]  # the groups


def test_nothing_of_a_large_group_is_n_by_n(monkeypatch):
    sizes = []
    original = Cosine._between

    def recorded(self, rows, others):
        sizes.append(len(rows) * len(others))
        return original(self, rows, others)

    monkeypatch.setattr(Cosine, "_between", recorded)
    monkeypatch.setattr("orderdp.coresets.cover.HELD", 400)
    monkeypatch.setattr("orderdp.coresets.similarity._ELEMENTS", 2_000)
    FacilityLocation().choose(make_evidence(500), 100, quotas=None)
    assert max(sizes) == 64 * 500  # rows of the smallest block
    assert np.sum(sizes) < 30 * 500**2
