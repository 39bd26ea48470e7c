"""Handwritten digits, which come with scikit-learn."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from orderdp.data.base import DataSets, ImageArrays, from_arrays
from orderdp.data.subsets import stratified_order

_NUM_TEST = 360


def load_digits() -> DataSets:
    """Returns 1,437 training and 360 test images, (n, 1, 8, 8).

    Raises:
        ImportError: scikit-learn is missing.
    """
    table = np.loadtxt(_file(), delimiter=",", dtype=np.uint8)  # 64 pixels of 0 to 16, then the digit
    pixels, target = table[:, :-1], table[:, -1]
    images = torch.from_numpy(np.rint(pixels * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    labels = torch.from_numpy(target.astype(np.int64))
    order = stratified_order(labels)
    train, test = (torch.from_numpy(np.sort(part)) for part in (order[_NUM_TEST:], order[:_NUM_TEST]))
    return from_arrays(*(ImageArrays(images[where], labels[where]) for where in (train, test)))


def _file() -> Path:
    """Returns scikit-learn's own file. To import the package takes several seconds, mostly of SciPy."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ImportError("the digits data set needs scikit-learn: pip install scikit-learn")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
