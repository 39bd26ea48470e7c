import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderdp.strategies.order import draw, largest
from reference import paper_loop


@given(
    values=st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, np.inf]), min_size=1, max_size=40),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_largest_is_the_slow_sort(values, share, seed):
    k = round(share * len(values))
    found = largest(np.array(values), k, np.random.default_rng(seed))
    assert found.dtype == np.int64
    assert found.tolist() == paper_loop.largest(values, k, np.random.default_rng(seed))


@given(n=st.integers(1, 200), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_draw_is_the_slow_draw(n, share, seed):
    size = round(share * n)
    found = draw(n, size, np.random.default_rng(seed))
    assert found.dtype == np.int64
    assert found.tolist() == paper_loop.draw(n, size, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("values", "k"), [([3.0, 1.0, 2.0], 2), ([1.0, 1.0], 2), ([1.0, 1.0], 0), ([2.0, 1.0, 1.0], 1)]
)
def test_the_generator_is_left_alone_where_no_tie_crosses_the_threshold(values, k):
    rng = np.random.default_rng(0)
    largest(np.array(values), k, rng)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_ties_are_broken_by_the_generator_and_not_by_position():
    chosen = {tuple(largest(np.zeros(4), 2, np.random.default_rng(seed)).tolist()) for seed in range(200)}
    assert chosen == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}


def test_keys_that_tie_are_broken_too():
    class FewKeys(np.random.Generator):
        """Draws keys of two values only, so that nearly every draw ties."""

        def integers(self, low, high, size, dtype):
            return super().integers(0, 2, size, dtype=dtype)

    for seed in range(50):
        chosen = draw(9, 4, FewKeys(np.random.PCG64(seed)))
        assert len(set(chosen.tolist())) == 4
