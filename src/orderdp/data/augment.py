"""Augmentation as a pure function of (seed, epoch, sample id), for a whole batch at once.

The random numbers of a sample are a hash of seed, epoch and id, not draws from a stream. They do not depend on the
rest of the batch, on workers, ranks or restarts.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.data.imports import import_image_library

Augment: TypeAlias = Literal["none", "crop", "flip_crop", "flip_crop_erase", "flip_crop_random_erase"]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_LOW = np.uint64(2**31 - 1)


class Purpose(IntEnum):
    """What a random number is for; different purposes are independent."""

    VIEW = 0
    TRANSFORM = 1
    SUBSET = 2
    NOISE = 3
    ANGLE = 4
    ERASE = 5
    MIX = 6
    MASK = 7


def draws(seed: int, epoch: int, ids: npt.ArrayLike, purpose: Purpose) -> npt.NDArray[np.uint64]:
    """Returns 64 random bits for each sample, which do not depend on the other samples of the call.

    The number of sample i is output i of a SplitMix64 stream that starts at a hash of (seed, epoch, purpose).

    Args:
        seed: seed of the run; counts modulo 2**64.
        epoch: number of the epoch, from 0.
        ids: (b,) integers, positions in the data set.
        purpose: what the number is for.

    Returns:
        (b,) uint64, uniform.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.

    >>> whole = draws(0, 3, [5, 6, 7], Purpose.VIEW)
    >>> bool((draws(0, 3, [7, 5], Purpose.VIEW) == whole[[2, 0]]).all())
    True
    """
    counter = np.asarray(ids, dtype=np.int64).astype(np.uint64) + np.uint64(1)
    return _mix(_stream(seed, epoch, purpose) + _GAMMA * counter)


@lru_cache(maxsize=64)  # every batch of an epoch needs it again
def _stream(seed: int, epoch: int, purpose: Purpose) -> npt.NDArray[np.uint64]:
    """Returns (1,) uint64, the state in which the stream of (seed, epoch, purpose) starts."""
    state = np.zeros(1, dtype=np.uint64)
    for word in (seed, epoch, int(purpose)):
        state = _mix((state ^ np.uint64(word % 2**64)) + _GAMMA)
    return state


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Returns SplitMix64's output for these states; a bijection of the 64-bit numbers."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def draw_views(augment: Augment, ids: npt.ArrayLike, *, seed: int, epoch: int, padding: int) -> npt.NDArray[np.int64]:
    """Returns how each sample is seen in an epoch: moved down, moved right, flipped.

    Args:
        augment: "none", "crop" (a window moved by at most the padding), "flip_crop" (then a flip or not), or one that
            also erases, which moves and flips alike.
        ids: (b,) integers, positions in the data set.
        seed: seed of the run.
        epoch: number of the epoch, from 0.
        padding: largest move, in pixels.

    Returns:
        (3, b) int64: moves down and to the right, uniform in [-padding, padding]; flips, 0 or 1, equally likely.
    """
    views = np.zeros((3, np.size(ids)), dtype=np.int64)
    if augment != "none":
        bits = draws(seed, epoch, ids, Purpose.VIEW)
        views[0] = _below(2 * padding + 1, bits & _LOW) - padding
        views[1] = _below(2 * padding + 1, bits >> np.uint64(32) & _LOW) - padding
        if augment != "crop":
            views[2] = bits >> np.uint64(63)
    return views


def _below(bound: int, bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Returns integers in [0, bound) from 31 bits each; no value is favoured by more than bound / 2**31."""
    return (bits * np.uint64(bound) >> np.uint64(31)).astype(np.int64)


def padding_of(height: int, width: int) -> int:
    """Returns by how many pixels a crop may move: 4, or 2 if an image is smaller than 16."""
    return 4 if min(height, width) >= 16 else 2


def source_pixels(views: Tensor, height: int, width: int) -> Tensor:
    """Returns which pixel of the stored image each pixel of the augmented one shows.

    A crop is a window of the image's size over the image with reflected borders. The flip comes after it. Indices avoid
    a padded copy.

    Args:
        views: (3, b) int64, from `draw_views`.
        height: of the images.
        width: of the images.

    Returns:
        (b, height * width) int64, positions in an image flattened row by row.
    """
    down, right, flips = views[:, :, None]  # (b, 1) each
    y = _reflect(torch.arange(height, device=views.device) + down, height)  # (b, h)
    x = _reflect(torch.arange(width, device=views.device) + right, width)  # (b, w)
    x = torch.where(flips == 1, x.flip(1), x)
    return (y[:, :, None] * width + x[:, None, :]).flatten(1)


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Returns positions folded into [0, size) without repeating the border: -1 is 1, size is size - 2."""
    return (size - 1) - ((size - 1) - positions.abs()).abs()


def erase(images: Tensor, ids: npt.ArrayLike, *, seed: int, epoch: int) -> Tensor:
    """Sets a square of each image to 0, the mean after normalisation, in place; returns the images.

    Its side is half that of the image. Its centre is any pixel, so a part of it may lie outside.

    Args:
        images: (b, c, h, w), normalised.
        ids: (b,) integers, positions in the data set.
        seed: seed of the run.
        epoch: number of the epoch, from 0.

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with Cutout", 2017.
    """
    bits = draws(seed, epoch, ids, Purpose.ERASE)
    inside = []
    for side, part in zip(images.shape[-2:], (bits & _LOW, bits >> np.uint64(32) & _LOW), strict=True):
        first = torch.from_numpy(_below(side, part) - side // 4)[:, None]
        places = torch.arange(side)
        inside.append((first <= places) & (places < first + side // 2))  # (b, side)
    rows, columns = (each.to(images.device, non_blocking=True) for each in inside)
    return images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def erase_at_random(images: Tensor, ids: npt.ArrayLike, *, seed: int, epoch: int) -> Tensor:
    """Sets a rectangle of a quarter of the images to noise, by timm's random erasing, in place; returns the images.

    The noise is standard normal, of each pixel. A rectangle covers 2 to 33 % of the image.

    Args:
        images: (b, c, h, w), normalised.
        ids: (b,) integers, positions in the data set.
        seed: seed of the run.
        epoch: number of the epoch, from 0.

    Raises:
        ImportError: timm is not installed.

    Source: Zhong et al., "Random erasing data augmentation", AAAI 2020, with timm's numbers for vision transformers.
    """
    erasing = import_image_library("timm.data.random_erasing").RandomErasing(probability=1, mode="pixel", device="cpu")
    bits = draws(seed, epoch, ids, Purpose.ERASE)
    for i in np.flatnonzero(bits % np.uint64(4) == 0):  # a quarter; seeding takes longer than erasing
        with seeded(int(bits[i])):
            erasing(images[i])
    return images


@contextmanager
def seeded(bits: int) -> Iterator[None]:
    """Seeds Python's, NumPy's and torch's global generators of the host inside, and restores them afterwards.

    For functions of other libraries that draw from them only.

    Args:
        bits: the seed, in [0, 2**64).
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    # With the generator's own manual_seed, since torch.manual_seed would seed the generators of all devices.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(bits)
        random.seed(bits)  # noqa: TID251
        np.random.seed([bits & 0xFFFFFFFF, bits >> 32])  # noqa: NPY002 TID251
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002


def normalize(images: Tensor, mean: Tensor, std: Tensor, *, channels_last: bool = False) -> Tensor:
    """Returns (images - mean) / std as float32.

    Args:
        images: (b, c, h, w) uint8.
        mean: (c, 1, 1) float32, on the scale of 0 to 255.
        std: (c, 1, 1) float32, on the scale of 0 to 255.
        channels_last: lay the result out with the channels last.
    """
    normal = images.to(torch.float32).sub_(mean).div_(std)
    # Last, since arithmetic with the three channels innermost takes several times as long on a processor.
    return normal.contiguous(memory_format=torch.channels_last) if channels_last else normal
