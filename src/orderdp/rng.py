"""Random numbers from (seed, epoch, purpose), never from global state."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor


def generator(seed: int, epoch: int, purpose: str) -> np.random.Generator:
    """Returns the generator of (seed, epoch, purpose), independent of all others and of global state."""
    key = (epoch, zlib.crc32(purpose.encode()))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def uniforms(index: Tensor, seed: int, epoch: int) -> Tensor:
    """Returns a pseudo-random float32 in (0, 1) for each id: a hash of (seed, epoch, id), equal on every device.

    It is the finaliser of SplitMix64 (Steele et al., OOPSLA 2014) in int64 arithmetic, whose overflow wraps.

    Args:
        index: (b,) integer ids.
        seed: any integer.
        epoch: any integer.

    Returns:
        (b,) float32 on the device of `index`.
    """
    start = int(
        np.random.SeedSequence(seed, spawn_key=(epoch, zlib.crc32(b"uniforms"))).generate_state(1, np.uint64)[0]
    )
    bits = (index.to(torch.int64) + 1) * _signed(0x9E3779B97F4A7C15) + _signed(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ _shifted(bits, shift)) * _signed(factor)
    bits = bits ^ _shifted(bits, 31)
    # To float32 before adding 0.5: an integer plus 0.5 takes the default dtype, perhaps bfloat16.
    return (_shifted(bits, 41).to(torch.float32) + 0.5) * 2.0**-23


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Returns the bits shifted right, filled with zeros and not with the sign."""
    shifted: Tensor = (bits >> places) & (2 ** (64 - places) - 1)
    return shifted
