"""Chances in proportion to sizes, against fractions."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderdp.theory import proportional_probabilities
from reference.proportional import chances


@given(sizes=st.lists(st.floats(0, 1e6), min_size=1, max_size=40), data=st.data())
def test_they_are_those_in_fractions(sizes, data):
    q = data.draw(st.integers(1, len(sizes)))
    found = proportional_probabilities(sizes, q)
    np.testing.assert_allclose(found, chances(sizes, q), rtol=1e-9, atol=1e-15)
    assert math.fsum(found) == pytest.approx(q)


def test_few_sizes_above_zero_are_certain_and_the_rest_share_what_is_left():
    assert proportional_probabilities([0, 5, 0, 0, 2], 4).tolist() == [2 / 3, 1, 2 / 3, 2 / 3, 1]
    assert proportional_probabilities([0, 0, 0, 0], 1).tolist() == [0.25] * 4
    assert proportional_probabilities([3, 0.5, 1], 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("sizes", "q", "message"),
    [
        ([1, -2], 1, "sizes must be finite and at least 0, got -2.0 at 1; write the loss above its floor"),
        ([1, math.nan], 1, "sizes must be finite and at least 0, got nan at 1; write the loss above its floor"),
        ([[1]], 1, "sizes must have the shape (n,), got (1, 1); write one size for each sample"),
        ([1, 2], 3, "q must be at most n, got q=3 and n=2; each sample is drawn at most once"),
    ],
)
def test_bad_sizes_are_refused(sizes, q, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        proportional_probabilities(sizes, q)
