"""γ against exact arithmetic, and where arithmetic by hand is out of reach against what must hold."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orderdp.theory import inclusion_blocks, inclusion_probabilities
from orderdp.theory.inclusion import stretches
from reference.enumeration import kept_probabilities
from reference.gamma import gammas
from reference.sizes import sizes, small_sizes

SMALLEST = Fraction(1, 10**300)


def largest_relative_error(found: np.ndarray, exact: list[Fraction]) -> float:
    """Over the probabilities above 1e-300; raises where an exact zero is not zero, or one below it is not small."""
    worst = 0.0
    for value, truth in zip(found.tolist(), exact, strict=True):
        if truth > SMALLEST:
            worst = max(worst, abs(float((Fraction(value) - truth) / truth)))
        elif truth == 0 and value != 0:
            raise AssertionError(f"{value} should be exactly 0")
        elif value > 2 * SMALLEST:
            raise AssertionError(f"{value} should be below 1e-300")
    return worst


def exact_gammas(n: int, s: int, q: int) -> list[Fraction]:
    """γ of eq. (3) from its differences, in integers, fast enough for n = 2,000; checked against eq. (3) below."""
    count, values = comb(n - 1, s - 1), []
    for j in range(1, n + 1):
        values.append(Fraction(count, comb(n, s)))
        if s > q and j < n:
            count -= comb(j - 1, q - 1) * comb(n - j - 1, s - q - 1)
    return values


@given(small_sizes())
def test_it_is_what_listing_every_draw_gives(given_sizes):
    n, s, q = given_sizes
    listed = kept_probabilities(n, s, [Fraction(position <= q) for position in range(1, s + 1)])
    assert listed == gammas(n, s, q)
    assert largest_relative_error(inclusion_probabilities(n, s, q), listed) < 1e-14


@given(sizes(most=60))
def test_the_closed_differences_are_those_of_equation_3(given_sizes):
    assert exact_gammas(*given_sizes) == gammas(*given_sizes)


@settings(max_examples=25)
@given(sizes())
@example((2_000, 1_000, 500))
@example((2_000, 1_999, 1_000))
@example((2_000, 40, 39))
@example((2_000, 1_990, 3))
@example((2_000, 2, 1))
def test_digits_are_kept_down_to_1e_300(given_sizes):
    assert largest_relative_error(inclusion_probabilities(*given_sizes), exact_gammas(*given_sizes)) < 1e-10


def test_digits_are_kept_down_to_1e_300_across_small_pieces():
    n, s, q = 2_000, 1_000, 500
    found = np.zeros(n)
    for first, length, values in stretches(n, s, q, size=16):
        found[first - 1 : first - 1 + length] = values
    assert largest_relative_error(found, exact_gammas(n, s, q)) < 1e-10


@given(sizes(), st.integers(1, 50))
def test_it_is_a_law_of_q_samples(given_sizes, block_size):
    n, s, q = given_sizes
    found = inclusion_probabilities(n, s, q)
    assert found.dtype == np.float64
    assert found.shape == (n,)
    assert found[0] == s / n
    assert (np.diff(found) <= 0).all()
    assert (found >= 0).all()
    assert (found[n - s + q :] == 0).all()
    assert found.sum() == pytest.approx(q, rel=1e-12)
    firsts, blocks = zip(*inclusion_blocks(n, s, q, block_size=block_size), strict=True)
    assert list(firsts) == [1 + before for before in np.cumsum([0, *map(len, blocks[:-1])])]
    assert max(map(len, blocks)) <= block_size
    np.testing.assert_allclose(np.concatenate(blocks), found, rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("s", [10, 1_000, 640_583, 1_281_166])
def test_it_sums_to_q_at_the_size_of_imagenet(s):
    for q in {1, s // 3, s - 1}:
        assert inclusion_probabilities(1_281_167, s, q).sum() == pytest.approx(q, rel=1e-9)


def test_ten_digits_are_kept_up_to_ten_million_ranks():
    n, s = 10**7, 3
    found = inclusion_probabilities(n, s, 1)
    for j in (1, 2, 10**5, 5 * 10**6, 9 * 10**6, n - 3, n - 2):
        exact = Fraction(comb(n - j, s - 1), comb(n, s))
        assert abs(Fraction(float(found[j - 1])) - exact) <= exact / 10**10, j


def test_a_hundred_million_ranks_are_read_in_bounded_memory():
    largest, total, ranks = 0, 0.0, 0
    for first, block in inclusion_blocks(10**8, 10_000, 3_000):
        assert first == ranks + 1
        largest, total, ranks = max(largest, block.size), total + float(block.sum()), ranks + len(block)
    assert (ranks, largest) == (10**8, 2**15)
    assert total == pytest.approx(3_000, rel=1e-9)


def test_stretches_compute_only_where_the_law_changes():
    computed = sum(len(values) for _, _, values in stretches(10**7, 5 * 10**6, 25 * 10**5))
    lengths = sum(length for _, length, _ in stretches(10**7, 5 * 10**6, 25 * 10**5))
    assert (computed < 10**7 / 50, lengths) == (True, 10**7)


def test_too_many_ranks_for_the_memory_get_one_line():
    with pytest.raises(MemoryError, match=r"^n must fit into \d+ GB of memory, got ranks that take 8,000,000 GB; "):
        inclusion_probabilities(10**15, 10, 5)
    first, block = next(iter(inclusion_blocks(10**15, 10**6, 10**6)))
    assert (first, block[0]) == (1, 1e-9)


REFUSED = {
    "q above s": ((400, 100, 130), ValueError, "q must be at most s, got q=130 and s=100; q samples are kept of the s"),
    "s above n": ((400, 401, 130), ValueError, "s must be at most n, got s=401 and n=400; s samples are drawn of n"),
    "no sample": ((0, 1, 1), ValueError, "n must be at least 1, got 0; write a positive whole number"),
    "negative": ((5, -3, 1), ValueError, "s must be at least 1, got -3; write a positive whole number"),
    "nothing kept": ((5, 3, 0), ValueError, "q must be at least 1, got 0; write a positive whole number"),
    "half a sample": ((5, 2.5, 1), TypeError, "s must be a whole number, got 2.5; write an int"),
    "a whole float": ((5.0, 3, 1), TypeError, "n must be a whole number, got 5.0; write 5"),
    "nan": ((5, 3, float("nan")), TypeError, "q must be a whole number, got nan; write an int"),
    "a truth": ((5, True, 1), TypeError, "s must be a whole number, got True; write an int"),
    "text": (("5", 3, 1), TypeError, "n must be a whole number, got '5'; write an int"),
    "too many": ((2**53 + 1, 3, 1), ValueError, r"n must be at most 2\*\*53, got 9007199254740993; beyond it float64"),
}


@pytest.mark.parametrize(("wrong", "kind", "line"), list(REFUSED.values()), ids=list(REFUSED))
@pytest.mark.parametrize("function", [inclusion_probabilities, inclusion_blocks])
def test_wrong_sizes_get_one_line(function, wrong, kind, line):
    with pytest.raises(kind, match=rf"^{line}"):
        function(*wrong)


def test_a_block_has_a_positive_size():
    with pytest.raises(ValueError, match=r"^block_size must be at least 1, got 0; "):
        inclusion_blocks(5, 3, 1, block_size=0)


def test_sizes_of_numpy_are_sizes():
    found = inclusion_probabilities(np.int64(5), np.int32(3), np.uint8(2))
    assert found.tolist() == inclusion_probabilities(5, 3, 2).tolist()
