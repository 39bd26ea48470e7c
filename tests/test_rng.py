"""Random numbers from (seed, epoch, purpose), against their definition."""

import math
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orderdp.rng import generator, uniforms


@pytest.mark.parametrize("other", [(1, 0, "select"), (0, 1, "select"), (0, 0, "workers"), (2**63, 0, "select")])
def test_a_generator_is_its_own_for_each_seed_epoch_and_purpose(other):
    first, again = (generator(0, 0, "select").integers(2**63, size=4).tolist() for _ in range(2))
    assert first == again
    assert generator(*other).integers(2**63, size=4).tolist() != first


def test_golden_generator():
    assert generator(0, 0, "select").integers(1000, size=4).tolist() == [428, 481, 209, 79]


def test_uniforms_do_not_depend_on_the_default_dtype():
    expected = uniforms(torch.arange(1_000), 0, 0)
    before = torch.get_default_dtype()
    try:
        for dtype in (torch.float64, torch.bfloat16):
            torch.set_default_dtype(dtype)
            assert torch.equal(uniforms(torch.arange(1_000), 0, 0), expected)
    finally:
        torch.set_default_dtype(before)


def split_mix(sample: int, start: int) -> float:
    """SplitMix64's finaliser in Python's integers, to 23 bits."""
    z = ((sample + 1) * 0x9E3779B97F4A7C15 + start) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return (((z ^ (z >> 31)) >> 41) + 0.5) / 2**23


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=20), st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_uniforms_are_splitmix_of_seed_epoch_and_id(ids, seed, epoch):
    key = (epoch, zlib.crc32(b"uniforms"))
    start = int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0])
    found = uniforms(torch.tensor(ids), seed, epoch)
    assert found.dtype == torch.float32
    assert found.tolist() == [split_mix(sample, start) for sample in ids]
    assert 0 < float(found.min()) <= float(found.max()) < 1


def test_uniforms_look_drawn():
    draws = torch.stack([uniforms(torch.arange(100_000), seed, epoch) for seed in (0, 1) for epoch in (0, 1)]).numpy()
    counts = np.stack([np.histogram(row, bins=20, range=(0, 1))[0] for row in draws])
    assert (np.abs(counts - 5_000) <= 5 * math.sqrt(100_000 * 0.05 * 0.95)).all()
    correlations = np.corrcoef(np.concatenate([draws[:, 1:], draws[:, :-1]]))
    assert np.abs(correlations - np.eye(8)).max() < 5 / math.sqrt(100_000)
