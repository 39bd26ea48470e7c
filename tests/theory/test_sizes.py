"""What a size and a fraction may be."""

import numpy as np
import pytest

from orderdp.theory.sizes import check_fraction, check_sizes, largest_remainders


def test_the_largest_data_set_is_taken():
    assert check_sizes(2**53, 1, 1) == (2**53, 1, 1)


def test_of_many_equal_remainders_the_first_are_rounded_up():
    found = largest_remainders(np.tile([3, 4, 5], 20), 3)
    assert np.flatnonzero(found).tolist() == [2, 5, 8]  # of 20 classes of the largest share


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(1), np.int64(1), 1, 0.25])
def test_numbers_of_any_kind_are_fractions(value):
    check_fraction("explore", value, low_open=True, high_open=False)


@pytest.mark.parametrize(
    ("value", "high_open", "hint"),
    [
        (100, False, "for 100 % write 1"),
        (100, True, "write a number such as 0.5"),
        (85, True, "for 85 % write 0.85"),
        (101, False, "write a number such as 0.5"),
        (-1, True, "write a number such as 0.5"),
    ],
)
def test_percent_is_met_with_a_fraction_that_is_taken(value, high_open, hint):
    with pytest.raises(ValueError, match=rf"^explore is a fraction and must lie in .*, got {value}; {hint}$"):
        check_fraction("explore", value, low_open=True, high_open=high_open)
