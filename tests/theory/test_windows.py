"""γ for other positions of the draw than the top q, against every draw listed."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderdp.theory import inclusion_probabilities, window_probabilities
from reference.enumeration import kept_probabilities
from reference.gamma import gammas_with_uniform_share
from reference.sizes import sizes, small_sizes


@given(small_sizes(), st.data())
def test_any_window_is_what_listing_every_draw_gives(given_sizes, data):
    n, s, _ = given_sizes
    kept = data.draw(st.lists(st.sampled_from([0, 1, 0.25, 0.5]), min_size=s, max_size=s))
    listed = kept_probabilities(n, s, [Fraction(chance) for chance in kept])
    np.testing.assert_allclose(window_probabilities(n, s, kept), [float(p) for p in listed], rtol=1e-12, atol=1e-15)


@given(sizes())
def test_the_top_q_are_the_law_of_the_paper_and_the_bottom_q_its_mirror(given_sizes):
    n, s, q = given_sizes
    positions, law = np.arange(1, s + 1), inclusion_probabilities(n, s, q)
    np.testing.assert_allclose(window_probabilities(n, s, positions <= q), law, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(window_probabilities(n, s, positions > s - q), law[::-1], rtol=1e-12, atol=1e-300)


@given(sizes(most=300), st.data())
def test_the_sum_is_the_number_kept(given_sizes, data):
    n, s, _ = given_sizes
    bounds = sorted(data.draw(st.lists(st.integers(0, s), min_size=4, max_size=4)))
    positions = np.arange(s)
    kept = ((positions >= bounds[0]) & (positions < bounds[1])) | ((positions >= bounds[2]) & (positions < bounds[3]))
    found = window_probabilities(n, s, kept)
    assert found.sum() == pytest.approx(kept.sum(), rel=1e-12, abs=1e-12)
    assert (found >= 0).all()
    assert (found <= s / n * (1 + 1e-12)).all()


@pytest.mark.parametrize(("n", "s"), [(200, 50), (200, 199), (150, 3)])
def test_a_single_position_keeps_its_digits_in_both_tails(n, s):
    for position in {1, 2, s // 2, s}:
        found = window_probabilities(n, s, np.arange(1, s + 1) == position)
        for j in range(1, n + 1):
            exact = Fraction(comb(j - 1, position - 1) * comb(n - j, s - position), comb(n, s))
            assert abs(Fraction(float(found[j - 1])) - exact) <= exact * Fraction(1, 10**10), (position, j)


def test_a_uniform_share_is_the_law_that_the_strategy_follows():
    n, s, q, uniform = 12, 7, 4, 2
    positions = np.arange(1, s + 1)
    kept = np.where(positions <= q - uniform, 1.0, uniform / (s - (q - uniform)))
    listed = gammas_with_uniform_share(n, s, q, uniform)
    np.testing.assert_allclose(window_probabilities(n, s, kept), [float(p) for p in listed], rtol=1e-13)


def test_both_ends_keep_best_and_worst_alike():
    found = window_probabilities(1_000, 100, np.isin(np.arange(100), [0, 1, 98, 99]))
    np.testing.assert_allclose(found, found[::-1], rtol=1e-12)
    assert (found.sum(), found.argmin()) == (pytest.approx(4), pytest.approx(499, abs=1))


REFUSED = {
    "too short": ([True], ValueError, r"kept has one entry for each of the s=3 positions, got shape \(1,\)"),
    "a square": (np.ones((3, 3)), ValueError, r"kept has one entry for each of the s=3 positions, got shape \(3, 3\)"),
    "above one": (
        [0, 1.5, 1],
        ValueError,
        r"kept holds probabilities in \[0, 1\], got 1.5 at position 2; write",
    ),
    "below zero": ([-0.5, 1, 1], ValueError, r"kept holds probabilities in \[0, 1\], got -0.5 at position 1; write"),
    "nan": ([0, 1, np.nan], ValueError, r"kept holds probabilities in \[0, 1\], got nan at position 3; write"),
    "text": (
        ["a", "b", "c"],
        TypeError,
        "kept holds a bool or a number for each position, got dtype <U1; write",
    ),
}


@pytest.mark.parametrize(("kept", "kind", "line"), list(REFUSED.values()), ids=list(REFUSED))
def test_a_wrong_window_gets_one_line(kept, kind, line):
    with pytest.raises(kind, match=rf"^{line}"):
        window_probabilities(10, 3, kept)
