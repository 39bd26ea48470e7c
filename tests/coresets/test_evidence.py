"""What static methods read is checked once, and kept as it is."""

import re

import numpy as np
import pytest
import torch

from orderdp.coresets import EL2N, Evidence

PROBABILITIES = np.full((3, 2), 0.5)

REFUSED = {
    "nothing": ({}, ValueError, "evidence needs at least one of labels, probabilities, features,"),
    "another shape": ({"features": [1.0, 2.0]}, ValueError, "features must have shape (n, d), got (2,)"),
    "no sample": ({"labels": np.array([], int)}, ValueError, "labels must have shape (n), got (0,)"),
    "rows of different lengths": (
        {"features": [[1.0], [1.0, 2.0]]},
        ValueError,
        "features must have shape (n, d), got rows of different lengths",
    ),
    "other samples": (
        {"labels": [0, 1], "probabilities": PROBABILITIES},
        ValueError,
        "evidence must hold the same samples everywhere, got 2 in labels, 3 in probabilities; leave none out",
    ),
    "labels as numbers": (
        {"labels": [0.0, 1.0]},
        TypeError,
        "labels must be integers, got dtype float64; write labels.astype(int)",
    ),
    "labels as names": (
        {"labels": ["a"]},
        TypeError,
        "labels must be integers, got dtype <U1; number the classes",
    ),
    "a negative label": ({"labels": [0, -1]}, ValueError, "labels must be at least 0, got -1; leave samples without a"),
    "a label beyond the classes": (
        {"labels": [0, 1, 2], "probabilities": PROBABILITIES},
        ValueError,
        "labels must lie in 0 .. 1, the classes of probabilities, got 2",
    ),
    "a label beyond the classes of a trajectory": (
        {"labels": [2], "trajectory": [[[0.5, 0.5]]]},
        ValueError,
        "labels must lie in 0 .. 1, the classes of trajectory, got 2",
    ),
    "one sample of several that does not sum to one": (
        {"probabilities": [[0.5, 0.5], [0.5, 0.6]]},
        ValueError,
        "probabilities must be at least 0 and sum to 1 for each sample, got values from 0.5 and sums from 1 to 1.1;",
    ),
    "predictions for presented": (
        {"presented": [[1, 0]]},
        TypeError,
        "presented must be bool, got dtype int64; write predictions == labels",
    ),
    "texts": ({"scores": ["a"]}, TypeError, "scores must be numbers, got dtype <U1"),
    "NaN": (
        {"features": [[1.0, 2.0], [3.0, np.nan], [np.inf, 1.0]]},
        ValueError,
        "features must be finite, got 2 values that are not, the first at [1, 1]; mend what computed them",
    ),
    "logits": (
        {"probabilities": [[2.0, -1.0]]},
        ValueError,
        "probabilities must be at least 0 and sum to 1 for each sample, got values from -1 and sums from 1 to 1; write",
    ),
    "a trajectory of logits": (
        {"trajectory": [[[0.9, 0.9]]]},
        ValueError,
        "trajectory must be at least 0 and sum to 1 for each sample, got values from 0.9 and sums from 1.8 to 1.8;",
    ),
    "constant features": (
        {"features": np.ones((4, 3))},
        ValueError,
        "features must differ between samples, got",
    ),
    "validation of another type": (
        {"labels": [0], "validation": {"labels": [0]}},
        TypeError,
        "validation must be Evidence, got dict; write Evidence(...)",
    ),
}


@pytest.mark.parametrize(("given", "error", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_does_not_fit_is_refused_in_one_line(given, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        Evidence(**given)


def test_what_is_given_is_read_without_a_copy():
    for array in (np.eye(3), np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float16)):
        assert Evidence(features=array).features is array
    tensor = torch.eye(3, requires_grad=True)
    assert np.shares_memory(Evidence(features=tensor).features, tensor.detach().numpy())
    assert Evidence(features=[[1, 2], [3, 4]]).features.dtype == np.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_of_any_precision_are_read(dtype):
    probabilities = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=dtype)
    evidence = Evidence(labels=torch.tensor([0, 1]), probabilities=probabilities)
    assert EL2N().score(evidence).round(6).tolist() == [0.353553, 0.707107]
    assert evidence.given == ("labels", "probabilities")
    assert evidence.num_samples == 2
