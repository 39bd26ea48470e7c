"""Sizes for property tests."""

from hypothesis import strategies as st


@st.composite
def small_sizes(draw) -> tuple[int, int, int]:
    """(n, s, q) with 1 <= q <= s <= n <= 12, small enough for every draw to be listed."""
    n = draw(st.integers(1, 12))
    s = draw(st.integers(1, n))
    return n, s, draw(st.integers(1, s))


@st.composite
def sizes(draw, most: int = 2_000) -> tuple[int, int, int]:
    """(n, s, q) with n up to `most`, the ends s = 1, s = n, q = 1 and q = s often among them."""
    n = draw(st.integers(1, most))
    s = draw(st.sampled_from([1, n, max(1, n - 1)]) | st.integers(1, n))
    return n, s, draw(st.sampled_from([1, s, max(1, s - 1)]) | st.integers(1, s))
