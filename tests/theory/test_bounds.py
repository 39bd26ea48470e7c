"""The gaps and bounds of Theorems 3 and 4: their definitions, their limits, and that they bound."""

from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orderdp.theory import (
    convergence_bound,
    generalization_bound,
    inclusion_probabilities,
    sampling_bound,
    sampling_distance,
    selection_bias,
    spectrum_gap,
    surrogate_loss,
)
from reference.enumeration import expectation
from reference.gamma import gammas
from reference.sizes import sizes, small_sizes


@given(sizes(most=200))
def test_the_gap_is_the_largest_deviation_of_the_weights(given_sizes):
    n, s, q = given_sizes
    exact = max(abs(n * gamma / q - 1) for gamma in gammas(n, s, q))
    assert spectrum_gap(n, s, q) == pytest.approx(float(exact), rel=1e-14)


def test_the_gap_stays_at_1_until_q_is_s():
    """The paper lets C_s go to 0 as q → s; it does not."""
    assert [spectrum_gap(1_000, 100, q) for q in (25, 50, 90, 99, 100)] == [3, 1, 1, 1, 0]


@given(small_sizes(), st.data())
def test_the_bias_is_the_excess_of_the_surrogate(given_sizes, data):
    n, s, q = given_sizes
    losses = data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    ranked = sorted(losses, reverse=True)
    exact = sum((gamma / q - Fraction(1, n)) * loss for gamma, loss in zip(gammas(n, s, q), ranked, strict=True))
    assert selection_bias(losses, s, q) == pytest.approx(float(exact), abs=1e-12)
    assert exact >= 0


def test_the_bias_falls_to_0_as_q_grows_to_s_and_grows_with_s():
    losses = np.random.default_rng(0).exponential(size=200)
    in_q = [selection_bias(losses, 100, q) for q in range(1, 101)]
    assert (np.diff(in_q) < 0).all()
    assert in_q[-1] == 0
    assert (np.diff([selection_bias(losses, s, 20) for s in range(20, 201, 20)]) > 0).all()


def test_the_bias_of_several_iterates_is_the_least():
    rows = np.random.default_rng(0).exponential(size=(3, 50)) * np.array([[3.0], [1.0], [2.0]])
    each = [selection_bias(row, 30, 10) for row in rows]
    assert selection_bias(rows, 30, 10) == min(each)
    assert selection_bias(torch.from_numpy(rows), 30, 10) == min(each)
    assert min(each) == pytest.approx(float(surrogate_loss(rows[1], 30, 10)) - rows[1].mean(), rel=1e-12)


@given(small_sizes(), st.data())
def test_the_distance_of_a_draw_is_what_listing_every_draw_gives(given_sizes, data):
    n, s, _ = given_sizes
    losses = sorted(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)))

    def area(draw: tuple[int, ...]) -> Fraction:
        """Between the two distribution functions."""
        drawn = [losses[rank - 1] for rank in draw]
        gaps = pairwise(losses)
        return sum(
            (
                (above - below) * abs(Fraction(sum(loss <= below for loss in drawn), s) - Fraction(k, n))
                for k, (below, above) in enumerate(gaps, 1)
            ),
            Fraction(0),
        )

    exact = float(expectation(n, s, area))
    assert sampling_distance(losses, s) == pytest.approx(exact, abs=1e-10)
    assert exact <= sampling_bound(n, s, max(losses)) + 1e-12


def test_the_sampling_term_vanishes_as_s_grows_to_n():
    losses = np.random.default_rng(0).exponential(size=100)
    for term in (lambda s: sampling_distance(losses, s), lambda s: sampling_bound(100, s, losses.max())):
        values = [term(s) for s in range(1, 101)]
        assert (np.diff(values) < 0).all()
        assert values[-1] == 0


@given(small_sizes(), st.integers(0, 2**32))
def test_the_step_of_the_proof_holds(given_sizes, seed):
    """|E L_σ(drawn) - L_σ(all)| <= C_s · E W1 for the spectrum of L_q less the uniform one, as (38) uses Lemma 14."""
    n, s, q = given_sizes
    losses = np.sort(np.random.default_rng(seed).exponential(size=n))
    density = (n * inclusion_probabilities(n, s, q) / q - 1)[::-1]  # on ((i-1)/n, i/n], from the smallest loss

    def risk(values: np.ndarray) -> float:
        """∫ density(t)·quantile(t) dt, by the common grid of all n·s steps."""
        grid = (np.arange(n * s) + 0.5) / (n * s)
        return float(np.mean(density[(grid * n).astype(int)] * values[(grid * len(values)).astype(int)]))

    drawn = np.mean([risk(losses[list(chosen)]) for chosen in combinations(range(n), s)])
    assert abs(drawn - risk(losses)) <= spectrum_gap(n, s, q) * sampling_distance(losses, s) + 1e-10


def test_the_bound_on_the_error_is_that_of_the_theorem():
    steps = np.array([0.1, 0.2, 0.4])
    plain = (4 + 9 * (0.01 + 0.04 + 0.16)) / (2 * 0.7)
    assert convergence_bound(steps, distance=2, lipschitz=3, averaged=True) == pytest.approx(plain, rel=1e-14)
    assert convergence_bound(steps, distance=2, lipschitz=3) == pytest.approx(4 * plain, rel=1e-14)


def test_the_best_constant_step_gives_one_over_the_root_of_the_steps():
    for count in (1, 100, 10_000):
        best = 2 / (3 * count**0.5)
        bound = convergence_bound(np.full(count, best), distance=2, lipschitz=3)
        assert bound == pytest.approx(6 / count**0.5, rel=1e-12)
        for other in (0.9 * best, 1.1 * best):
            assert convergence_bound(np.full(count, other), distance=2, lipschitz=3) > bound


def test_the_bound_on_generalization_has_three_terms():
    losses = np.random.default_rng(0).exponential(size=(4, 60))
    bound = generalization_bound(losses, 30, 10, [0.1] * 50, distance=1.0, lipschitz=2.0, averaged=True)
    assert bound.sampling == 2.0 * sampling_bound(60, 30, losses.max())  # not the least of the iterates' largest
    assert bound.bias == selection_bias(losses, 30, 10)
    assert bound.optimization == convergence_bound([0.1] * 50, distance=1.0, lipschitz=2.0, averaged=True)
    assert bound.total == bound.sampling - bound.bias + bound.optimization
    assert (
        generalization_bound(torch.from_numpy(losses), 30, 10, [0.1] * 50, distance=1.0, lipschitz=2.0)[:2] == bound[:2]
    )


def test_the_largest_loss_counts_by_its_size():
    bound = generalization_bound([-9.0, 1.0, 2.0, 3.0], 2, 1, [0.1], distance=1.0, lipschitz=1.0)
    assert bound.sampling == sampling_bound(4, 2, 9.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_of_any_floating_dtype_are_taken(dtype):
    losses = torch.tensor([1.0, 2.0, 4.0], dtype=dtype)
    assert selection_bias(losses, 2, 1) == selection_bias([1.0, 2.0, 4.0], 2, 1)
    assert sampling_distance(losses, 2) == sampling_distance([1.0, 2.0, 4.0], 2)
    assert generalization_bound(losses, 2, 1, [0.1], distance=1.0, lipschitz=1.0).bias == selection_bias(losses, 2, 1)
    assert isinstance(sampling_bound(10, 5, torch.tensor(1.0)), float)


def test_a_uniform_draw_leaves_the_error_of_sgd_only():
    bound = generalization_bound([1.0, 2.0, 3.0], 2, 2, [0.5], distance=1.0, lipschitz=1.0)
    assert bound[:2] == (0, 0)
    assert bound.total == bound.optimization == 1.25


@pytest.mark.parametrize(
    ("steps", "others", "line"),
    [
        ([], {}, r"step_sizes has shape \(T,\), got \(0,\); write one learning rate a step"),
        (0.1, {}, r"step_sizes has shape \(T,\), got \(\); write one learning rate a step"),
        ([0.1, 0.0], {}, r"step_sizes must be positive and finite, got 0.0 .. 0.1; write"),
        ([0.1, np.nan], {}, r"step_sizes must be positive and finite, got nan .. nan; write"),
        ([0.1], {"distance": -1.0}, "distance must be a finite number and not negative, got -1.0"),
        ([0.1], {"lipschitz": float("inf")}, "lipschitz must be a finite number and not negative, got inf"),
    ],
)
def test_wrong_arguments_of_the_bound_get_one_line(steps, others, line):
    with pytest.raises(ValueError, match=rf"^{line}"):
        convergence_bound(steps, **{"distance": 1.0, "lipschitz": 1.0, **others})


def test_wrong_losses_get_one_line():
    with pytest.raises(ValueError, match=r"^losses has shape \(n,\) or \(T, n\), got \(1, 1, 1\); write one row"):
        selection_bias([[[1.0]]], 1, 1)
    with pytest.raises(ValueError, match=r"^losses must be finite, got nan"):
        selection_bias([[1.0, 2.0], [1.0, float("nan")]], 1, 1)
    with pytest.raises(ValueError, match=r"^losses must be finite, got nan"):
        sampling_distance([1.0, float("nan")], 1)
    with pytest.raises(ValueError, match=r"^max_loss must be a finite number and not negative, got nan"):
        sampling_bound(10, 5, float("nan"))


def test_the_bound_on_generalization_passes_every_argument_on():
    steps, given = [0.1, 0.4], {"distance": 1.0, "lipschitz": 1.0}
    for averaged in (False, True):
        found = generalization_bound([1.0, 2.0], 2, 1, steps, averaged=averaged, **given).optimization
        assert found == convergence_bound(steps, averaged=averaged, **given)
    assert generalization_bound(torch.tensor([1.0, 2.0], requires_grad=True), 2, 1, steps, **given).bias == 0.5


def test_infinite_steps_and_no_losses_get_one_line():
    with pytest.raises(ValueError, match=r"^step_sizes must be positive and finite"):
        convergence_bound([0.1, np.inf], distance=1.0, lipschitz=1.0)
    with pytest.raises(ValueError, match=r"^losses has shape \(n,\) or \(T, n\), got"):
        selection_bias([], 1, 1)
