import numpy as np

from orderdp import FullData, Memory


def test_every_sample_is_visited_in_a_fresh_order():
    rng = np.random.default_rng(0)
    first, second = (FullData().select(Memory(50, epoch, {}), rng).indices.tolist() for epoch in range(2))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_nothing_is_remembered():
    assert FullData().columns == {}
