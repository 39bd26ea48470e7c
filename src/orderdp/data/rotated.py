"""Fashion-MNIST turned by random angles, which are to be predicted: a regression on real images."""

from dataclasses import replace
from math import pi, sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from orderdp.data.augment import Purpose, draws
from orderdp.data.base import DataSets, ImageArrays, from_arrays
from orderdp.data.fashion_mnist import load_fashion_mnist

_LARGEST = pi / 3  # in radians


def load_rotated(*, data_root: Path | None, download: bool) -> DataSets:
    """Returns Fashion-MNIST with each image turned, and angles as labels instead of classes.

    Angles are uniform in [-60°, 60°], positive ones clockwise, and the same in every run. A label is the angle divided
    by its standard deviation, 34.6°. Images are turned with bilinear interpolation, and black fills the corners.

    Raises:
        FileNotFoundError, ValueError, OSError: as `load_fashion_mnist`.
    """
    data = load_fashion_mnist(data_root=data_root, download=download)
    train, test = (_turned(part, number) for number, part in enumerate((data.train, data.test)))
    return from_arrays(train, test)


def _turned(part: object, number: int) -> ImageArrays:
    assert isinstance(part, ImageArrays)
    bits = draws(0, number, np.arange(len(part)), Purpose.ANGLE)
    shares = torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) / 2**53)
    angles = _LARGEST * (2 * shares - 1)
    blocks = zip(torch.split(part.images, 5000), torch.split(angles, 5000), strict=True)
    images = torch.cat([turn(images, some) for images, some in blocks])
    return replace(part, images=images, labels=(angles * sqrt(3) / _LARGEST).to(torch.float32))


def turn(images: Tensor, angles: Tensor) -> Tensor:
    """Returns images turned clockwise about their centres, (n, c, h, w) uint8, by (n,) angles in radians."""
    cos, sin, none = torch.cos(angles), torch.sin(angles), torch.zeros_like(angles)
    rows = torch.stack([torch.stack([cos, sin, none], 1), torch.stack([-sin, cos, none], 1)], 1).to(torch.float32)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    turned = F.grid_sample(images.to(torch.float32), grid, align_corners=False)
    return turned.round().clamp(0, 255).to(torch.uint8)
