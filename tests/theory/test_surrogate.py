"""L_q against every draw listed, its gradient against autograd's, and its reading as a spectral risk."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from orderdp.theory import (
    limit_density,
    limit_spectrum,
    spectral_risk,
    spectrum,
    surrogate_loss,
    surrogate_weights,
)
from reference.enumeration import expectation
from reference.gamma import gammas
from reference.sizes import small_sizes


@st.composite
def losses_and_sizes(draw) -> tuple[list[int], int, int]:
    """Losses in whole numbers, so that ties are common, and s and q for them."""
    n, s, q = draw(small_sizes())
    return draw(st.lists(st.integers(-3, 6), min_size=n, max_size=n)), s, q


@given(losses_and_sizes())
def test_it_is_the_expected_mean_of_the_samples_kept(case):
    losses, s, q = case
    ranked = sorted(losses, reverse=True)
    listed = expectation(len(losses), s, lambda draw: Fraction(sum(ranked[rank - 1] for rank in draw[:q]), q))
    assert float(surrogate_loss(np.array(losses), s, q)) == pytest.approx(float(listed), abs=1e-12)
    assert float(surrogate_loss(torch.tensor(losses, dtype=torch.float64), s, q)) == pytest.approx(
        float(listed), abs=1e-12
    )


@given(losses_and_sizes())
def test_its_weights_are_those_of_ties_broken_at_random(case):
    losses, s, q = case
    law = gammas(len(losses), s, q)
    # Over all ways to break ties, each of the equal ones takes each of their ranks equally often.
    expected = []
    for loss in losses:
        first = sum(other > loss for other in losses)
        equal = losses.count(loss)
        expected.append(float(sum(law[first : first + equal], Fraction(0)) / equal / q))
    found = surrogate_weights(np.array(losses, dtype=np.float64), s, q)
    np.testing.assert_allclose(found, expected, atol=1e-15)
    assert found.sum() == pytest.approx(1, rel=1e-13)


@given(losses_and_sizes())
def test_its_weights_are_a_subgradient(case):
    losses, s, q = (np.array(case[0], dtype=np.float64), *case[1:])
    here, weights = float(surrogate_loss(losses, s, q)), surrogate_weights(losses, s, q)
    for seed in range(5):
        there = losses + np.random.default_rng(seed).standard_normal(len(losses))
        assert float(surrogate_loss(there, s, q)) >= here + weights @ (there - losses) - 1e-12


def test_the_gradient_of_a_tensor_is_its_weights():
    losses = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    surrogate_loss(losses, 20, 7).backward()
    np.testing.assert_allclose(losses.grad.numpy(), surrogate_weights(losses, 20, 7).numpy(), rtol=1e-15)
    assert not surrogate_weights(losses, 20, 7).requires_grad
    assert torch.autograd.gradcheck(lambda x: surrogate_loss(x, 20, 7), losses)


def test_the_gradient_runs_through_a_model():
    parameter = torch.tensor(2.0, requires_grad=True)
    losses = parameter * torch.tensor([1.0, 4.0, 2.0])
    surrogate_loss(losses, 3, 1).backward()
    assert parameter.grad == 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_tensor_is_answered_in_its_own_dtype(dtype):
    losses = torch.arange(100, dtype=dtype) / 64
    loss, weights = surrogate_loss(losses, 50, 20), surrogate_weights(losses, 50, 20)
    assert (loss.dtype, weights.dtype, loss.shape) == (dtype, dtype, ())
    exact = surrogate_loss(losses.double().numpy(), 50, 20)
    assert float(loss) == pytest.approx(float(exact), rel=2 * torch.finfo(dtype).eps)


def test_a_million_small_terms_keep_their_digits():
    losses = np.random.default_rng(0).random(10**6).astype(np.float32)
    exact = surrogate_loss(losses.astype(np.float64), 10**6, 10**6)
    assert float(surrogate_loss(torch.from_numpy(losses), 10**6, 10**6)) == pytest.approx(float(exact), rel=1e-7)
    assert float(exact) == pytest.approx(losses.astype(np.float64).mean(), rel=1e-12)


def test_its_ends_are_the_mean_and_the_mean_of_the_largest():
    losses = np.random.default_rng(1).exponential(size=100)
    assert float(surrogate_loss(losses, 40, 40)) == pytest.approx(losses.mean(), rel=1e-13)
    assert float(surrogate_loss(losses, 100, 30)) == pytest.approx(np.sort(losses)[-30:].mean(), rel=1e-13)


def test_the_caller_s_losses_are_not_changed():
    losses = np.array([3.0, 1.0, 2.0])
    surrogate_weights(losses, 2, 1)
    assert losses.tolist() == [3, 1, 2]


@pytest.mark.parametrize(("n", "s", "q"), [(10, 6, 2), (50, 12, 12), (30, 100, 30)])
def test_the_limit_spectrum_is_the_quantile_form(n, s, q):
    losses = np.random.default_rng(2).exponential(size=n)
    ascending = np.sort(losses)

    def integrand(t: float) -> float:
        quantile = ascending[min(max(int(np.ceil(n * t)), 1), n) - 1]  # F_n^{-1}(t) of eq. (28)
        return float(limit_density(1 - t, s, q)) / q * quantile

    pieces = [integrate.quad(integrand, i / n, (i + 1) / n)[0] for i in range(n)]
    assert float(spectral_risk(losses, limit_spectrum(n, s, q))) == pytest.approx(sum(pieces), rel=1e-7)
    assert limit_spectrum(n, s, q).sum() == pytest.approx(1, rel=1e-14)


def test_the_two_spectra_agree_as_n_grows():
    distances = [np.abs(spectrum(n, 40, 15) - limit_spectrum(n, 40, 15)).sum() for n in (100, 1_000, 10_000)]
    assert distances[0] > 8 * distances[1] > 64 * distances[2]


REFUSED = {
    "nan": ([1.0, float("nan"), float("nan")], ValueError, "losses must be finite, got nan at position 1 and 2 such"),
    "infinite": ([float("inf"), 1.0, 2.0], ValueError, "losses must be finite, got inf at position 0 and 1 such"),
    "a matrix": ([[1.0, 2.0]], ValueError, r"losses holds one number a sample, \(n,\), got shape \(1, 2\); pass one"),
    "a mean": (np.float64(1.0), ValueError, r"losses holds one number a sample, \(n,\), got shape \(\); pass one"),
    "none": ([], ValueError, r"losses holds one number a sample, \(n,\), got shape \(0,\)"),
    "text": (["a", "b", "c"], TypeError, "losses holds real numbers, got dtype <U1"),
    "too few for s": ([1.0, 2.0], ValueError, "s must be at most n, got s=3 and n=2"),
}


@pytest.mark.parametrize(("losses", "kind", "line"), list(REFUSED.values()), ids=list(REFUSED))
def test_wrong_losses_get_one_line(losses, kind, line):
    for function in (surrogate_loss, surrogate_weights):
        with pytest.raises(kind, match=rf"^{line}"):
            function(losses, 3, 2)


def test_a_tensor_with_nan_gets_the_same_line():
    with pytest.raises(ValueError, match=r"^losses must be finite, got nan at position 2 and 1 such in all; "):
        surrogate_loss(torch.tensor([1.0, 2.0, float("nan")]), 2, 1)


def test_weights_of_another_length_get_one_line():
    with pytest.raises(ValueError, match=r"^weights holds one number for each of the 2 losses, got shape \(3,\); "):
        spectral_risk(np.array([1.0, 2.0]), [0.5, 0.3, 0.2])


def test_whole_numbers_in_a_tensor_get_one_line():
    with pytest.raises(
        TypeError, match=r"^losses must be floating, got a tensor of torch.int64; write losses.float\(\)$"
    ):
        surrogate_loss(torch.tensor([1, 2, 3]), 2, 1)
    assert float(surrogate_loss([1, 2, 3], 2, 1)) == pytest.approx(8 / 3)


def test_weights_that_are_no_numbers_get_one_line():
    with pytest.raises(ValueError, match=r"^weights must be finite, got nan; write spectrum\(n, s, q\)$"):
        spectral_risk([1.0, 2.0], [0.5, float("nan")])


def test_rows_of_different_lengths_get_one_line():
    with pytest.raises(ValueError, match=r"^losses holds rows of one length, got others"):
        surrogate_loss([[1.0], [1.0, 2.0]], 1, 1)


@pytest.mark.parametrize(("n", "s", "q"), [(10_000, 50, 10), (1_000, 3, 1), (50, 7, 7)])
def test_the_limit_spectrum_falls_to_zero(n, s, q):
    found = limit_spectrum(n, s, q)
    assert (np.diff(found) <= 0).all()
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1, rel=1e-12)


def test_a_limit_spectrum_too_large_for_the_memory_gets_one_line():
    with pytest.raises(MemoryError, match=r"^n must fit into \d+ GB of memory"):
        limit_spectrum(10**13, 3, 2)


def test_large_terms_that_cancel_leave_the_small_one():
    assert float(surrogate_loss(torch.tensor([1e8, 4.0, -1e8]), 3, 3)) == pytest.approx(4 / 3, rel=1e-6)


def test_weights_come_back_on_the_device_of_the_losses():
    with torch.device("meta"):
        assert surrogate_weights(torch.ones(2, device="cpu"), 2, 1).device.type == "cpu"
