"""Handwritten digits, which come with scikit-learn."""

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
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError("the digits data set needs scikit-learn: pip install scikit-learn") from error
    pixels, target = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(np.rint(pixels * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    labels = torch.from_numpy(target.astype(np.int64))
    order = stratified_order(labels)
    train, test = (torch.from_numpy(np.sort(part)) for part in (order[_NUM_TEST:], order[:_NUM_TEST]))
    return from_arrays(*(ImageArrays(images[where], labels[where]) for where in (train, test)))
