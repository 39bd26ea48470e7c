"""The limit density against Proposition 2 as it is printed, SciPy's own Beta law, and γ itself."""

import sys
from fractions import Fraction
from math import comb, factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from orderdp.theory import inclusion_probabilities, limit_density, limit_distribution
from reference.gamma import gammas


@st.composite
def draws(draw, most: int = 40) -> tuple[int, int]:
    s = draw(st.integers(1, most))
    return s, draw(st.integers(1, s))


def printed(z: float, s: int, q: int) -> float:
    """The sum of Proposition 2, term by term."""
    terms = (
        z ** (l - 1) * (1 - z) ** (s - l) * (factorial(s) // (factorial(l - 1) * factorial(s - l)))
        for l in range(1, q + 1)  # noqa: E741, the paper's letter
    )
    return float(sum(terms))


@given(draws(), st.floats(0, 1))
def test_it_is_the_sum_of_proposition_2(given_sizes, z):
    s, q = given_sizes
    exact = printed(Fraction(z), s, q)
    assert float(limit_density(z, s, q)) == pytest.approx(exact, rel=1e-9, abs=1e-12)


@given(draws(), st.floats(0, 1))
def test_one_minus_its_share_is_the_beta_law(given_sizes, z):
    s, q = given_sizes
    if q < s:
        law = stats.beta(q, s - q)
        assert 1 - float(limit_density(z, s, q)) / s == pytest.approx(law.cdf(z), abs=1e-12)


@pytest.mark.parametrize(("s", "q"), [(1, 1), (5, 5), (7, 2), (100, 30), (100, 99)])
def test_the_distribution_is_its_integral(s, q):
    for end in (0.0, 0.1, 0.3, 0.35, 0.9, 1.0):
        area = integrate.quad(lambda z: float(limit_density(z, s, q)) / q, 0, end, points=[min(end, q / s)])[0]
        assert float(limit_distribution(end, s, q)) == pytest.approx(area, abs=1e-9)


# The largest distance of n·γ_j from the limit for s = 100, q = 30, as first found by another program.
DISTANCES = {400: 4.49, 1_000: 1.66, 10_000: 0.159, 100_000: 0.0159}


@pytest.mark.parametrize("n", list(DISTANCES))
def test_it_is_the_limit_of_the_law(n):
    z = np.arange(1, n + 1) / n
    distance = np.abs(n * inclusion_probabilities(n, 100, 30) - limit_density(z, 100, 30)).max()
    assert float(f"{distance:.3g}") == DISTANCES[n]


def test_the_distance_falls_like_one_over_n_also_in_exact_fractions():
    exact = {}
    for n in (200, 400, 800):
        law = gammas(n, 10, 3)
        exact[n] = max(
            abs(
                n * law[j - 1]
                - sum(comb(9, i) * Fraction(j, n) ** i * (1 - Fraction(j, n)) ** (9 - i) for i in range(3)) * 10
            )
            for j in range(1, n + 1)
        )
    assert float(exact[200] / exact[400]) == pytest.approx(2, abs=0.1)
    assert float(exact[400] / exact[800]) == pytest.approx(2, abs=0.05)


def test_shapes_are_kept_and_large_sizes_stay_exact():
    assert limit_density(np.zeros((2, 3)), 5, 2).shape == (2, 3)
    assert limit_density(0.5, 2 * 10**6, 10**6) == pytest.approx(10**6, rel=1e-3)
    assert limit_density([0.4, 0.6], 2 * 10**6, 10**6).tolist() == [2e6, 0.0]


@pytest.mark.parametrize("function", [limit_density, limit_distribution])
@pytest.mark.parametrize("z", [-0.1, 1.5, float("nan")])
def test_a_rank_outside_the_unit_interval_gets_one_line(function, z):
    with pytest.raises(ValueError, match=rf"^z is a rank divided by n and lies in \[0, 1\], got {z}; write j / n"):
        function([0.5, z], 5, 2)


def test_wrong_sizes_get_one_line():
    with pytest.raises(ValueError, match=r"^q must be at most s, got q=6 and s=5"):
        limit_density(0.5, 5, 6)


def test_without_scipy_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"^the limit density needs SciPy: pip install scipy$"):
        limit_density(0.5, 5, 2)


def test_a_size_that_is_no_whole_number_is_named():
    with pytest.raises(TypeError, match=r"^s must be a whole number, got 100.5; "):
        limit_density(0.3, 100.5, 30)
    with pytest.raises(TypeError, match=r"^z holds numbers in \[0, 1\], got dtype <U1; "):
        limit_density("a", 100, 30)


@pytest.mark.parametrize("q", [2, 5])
def test_single_precision_is_answered_in_double(q):
    z = np.array([0.5], dtype=np.float32)
    assert limit_density(z, 5, q).dtype == limit_distribution(z, 5, q).dtype == np.float64
