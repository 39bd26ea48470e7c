"""Losses of a probability, against torch's cross-entropy."""

import math
import re

import pytest
import torch
from torch.nn import functional as F

from orderdp.theory import loss_at


@pytest.mark.parametrize("probability", [0.01, 0.5, 0.91, 0.999])
@pytest.mark.parametrize(("classes", "smoothing"), [(2, 0.0), (10, 0.1), (100, 0.3)])
def test_it_is_torchs_cross_entropy(probability, classes, smoothing):
    predicted = torch.full((1, classes), (1 - probability) / (classes - 1), dtype=torch.float64)
    predicted[0, 1] = probability
    expected = F.cross_entropy(predicted.log(), torch.tensor([1]), label_smoothing=smoothing)
    assert loss_at(probability, classes, smoothing) == pytest.approx(expected.item())


def test_the_lowest_loss_is_that_of_the_smoothed_target():
    lowest = loss_at(0.91, 10, 0.1)
    assert lowest == pytest.approx(-0.91 * math.log(0.91) - 0.09 * math.log(0.01))
    assert min(loss_at(p, 10, 0.1) for p in (0.9, 0.905, 0.915, 0.92)) > lowest
    assert loss_at(1, 10) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10), "probability is a fraction and must lie in (0, 1], got 0; write a number such as 0.5"),
        ((1, 10, 0.1), "probability is a fraction and must lie in (0, 1), got 1; write a number such as 0.5"),
        ((0.5, 1), "num_classes must be at least 2, got 1; one class has no other to predict"),
        ((0.5, 10, 1), "label_smoothing is a fraction and must lie in [0, 1), got 1; write a number such as 0.5"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        loss_at(*arguments)
