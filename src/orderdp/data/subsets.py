"""Stratified subsets: each class in proportion, the same in every run."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from orderdp.data.augment import Purpose, draws


def subset(labels: Tensor, size: int) -> npt.NDArray[np.int64]:
    """Returns the positions of a stratified subset, ascending; a smaller one is part of a larger one.

    Raises:
        ValueError: fewer than one sample, or more than there are.
    """
    if not 1 <= size <= len(labels):
        raise ValueError(
            f"train_size must lie in [1, {len(labels)}], the number of samples, got {size}; leave it out to take all"
        )
    return np.sort(stratified_order(labels)[:size])


def stratified_order(labels: Tensor) -> npt.NDArray[np.int64]:
    """Returns all positions in a fixed random order of which every beginning has the classes about in proportion.

    The r-th of a class's m samples, in random order, stands at (r + 1/2) / m of the way. Equals stand in random order.
    A beginning therefore has each class in proportion, up to one sample, if the classes are of equal size. Among many
    small classes, which all come at the same places, a beginning may have more of a large class. Labels that are
    numbers or several tokens have no classes, so the order is random alone.
    """
    classes = np.zeros(len(labels)) if labels.is_floating_point() or labels.ndim > 1 else labels.numpy()
    chance = draws(0, 0, np.arange(len(classes)), Purpose.SUBSET)
    place = np.empty(len(classes))
    for members in (np.flatnonzero(classes == label) for label in np.unique(classes)):
        place[members[np.argsort(chance[members])]] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((chance, place))
