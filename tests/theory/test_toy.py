"""The toy comparison against every draw and every coin listed."""

from fractions import Fraction
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderdp.theory import toy_infobatch, toy_orderdp

numbers = st.lists(st.integers(-5, 9), min_size=1, max_size=6)


def test_orderdp_has_the_probabilities_of_the_errata():
    estimate = toy_orderdp()
    assert [outcome.kept for outcome in estimate.outcomes] == [(1,), (2,), (3,), (4,), (5,)]
    assert [outcome.probability for outcome in estimate.outcomes] == [
        Fraction(1, 25),
        Fraction(3, 50),
        Fraction(1, 10),
        Fraction(1, 5),
        Fraction(3, 5),
    ]
    assert (estimate.over_kept, estimate.over_all) == (Fraction(213, 50), Fraction(213, 250))


def test_infobatch_is_the_table_of_the_paper_and_unbiased_over_all():
    estimate = toy_infobatch()
    table = [(outcome.kept, outcome.probability, outcome.mean) for outcome in estimate.outcomes]
    assert table == [
        ((3, 4, 5), Fraction(16, 25), Fraction(4)),
        ((1, 3, 4, 5), Fraction(4, 25), Fraction(17, 4)),
        ((2, 3, 4, 5), Fraction(4, 25), Fraction(11, 2)),
        ((1, 2, 3, 4, 5), Fraction(1, 25), Fraction(27, 5)),
    ]
    assert (estimate.over_kept, estimate.over_all) == (Fraction(542, 125), 3)


@given(numbers, st.data())
def test_orderdp_is_what_listing_every_draw_gives(gradients, data):
    n = len(gradients)
    q = data.draw(st.integers(1, n))
    sizes = data.draw(st.lists(st.integers(q, n), min_size=1, max_size=3))
    listed = Fraction(0)
    for s in sizes:
        draws = list(combinations(gradients, s))
        listed += sum(Fraction(sum(sorted(draw)[-q:]), q) for draw in draws) / len(draws) / len(sizes)
    estimate = toy_orderdp(gradients, sizes, q)
    assert estimate.over_kept == listed
    assert estimate.over_all == listed * q / n
    assert sum(outcome.probability for outcome in estimate.outcomes) == 1


@given(numbers, st.fractions(0, Fraction(9, 10)))
def test_infobatch_is_what_listing_every_coin_gives_and_unbiased(gradients, prune_probability):
    mean = Fraction(sum(gradients), len(gradients))
    over_kept = Fraction(0)
    for coins in product([True, False], repeat=len(gradients)):
        chance, kept = Fraction(1), []
        for gradient, stays in zip(gradients, coins, strict=True):
            if gradient >= mean:
                chance *= stays
                kept.append(Fraction(gradient))
            else:
                chance *= 1 - prune_probability if stays else prune_probability
                kept += [gradient / (1 - prune_probability)] if stays else []
        if chance:
            over_kept += chance * sum(kept) / len(kept)
    estimate = toy_infobatch(gradients, prune_probability)
    assert estimate.over_kept == over_kept
    assert estimate.over_all == mean


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: toy_orderdp(q=6), r"sizes and q must keep 1 <= q <= s <= n=5, got q=6 and sizes \[\]"),
        (lambda: toy_orderdp(sizes=[6]), r"sizes and q must keep 1 <= q <= s <= n=5, got q=1 and sizes \[6\]"),
        (lambda: toy_orderdp(q=0), "sizes and q must keep 1 <= q"),
        (lambda: toy_orderdp([]), r"gradients holds at least one whole number or fraction, got \[\]"),
        (lambda: toy_infobatch([1.5]), r"gradients holds at least one whole number or fraction, got \[1.5\]"),
        (
            lambda: toy_infobatch(prune_probability=Fraction(1)),
            r"prune_probability is a Fraction in \[0, 1\), got Fraction\(1, 1\); ",
        ),
    ],
)
def test_wrong_arguments_get_one_line(call, line):
    with pytest.raises(ValueError, match=rf"^{line}"):
        call()


def test_a_negative_probability_gets_one_line():
    with pytest.raises(ValueError, match=r"^prune_probability is a Fraction in \[0, 1\), got Fraction\(-1, 5\); "):
        toy_infobatch(prune_probability=Fraction(-1, 5))
    with pytest.raises(ValueError, match=r"^prune_probability is a Fraction in \[0, 1\), got 0.8; "):
        toy_infobatch(prune_probability=0.8)
