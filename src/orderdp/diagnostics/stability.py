"""How much the selection changes from one epoch, or one checkpoint, to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from orderdp.diagnostics.dynamics import on_host


def jaccard(first: Any, second: Any) -> float:
    """Returns |A ∩ B| / |A ∪ B| of two sets of sample ids.

    Such sets are `pruner.selection.indices` of two epochs, or of two checkpoints. Two independent uniform draws of q
    from n have about q/(2n - q). Compare a measured value with that.

    Args:
        first: (a,) distinct ids, array or tensor.
        second: (b,) distinct ids.

    Raises:
        ValueError: both are empty, ids are repeated, or they are no whole numbers (a mask, for example).

    Source: OrderDP, Appendix D.3.

    >>> jaccard([1, 2, 3], [3, 4])
    0.25
    """
    sets = [np.unique(_ids(ids), return_counts=True) for ids in (first, second)]
    if any((counts > 1).any() for _, counts in sets):
        raise ValueError("ids must be distinct, got some repeated; pass the selection of one epoch")
    (a, _), (b, _) = sets
    common = len(np.intersect1d(a, b, assume_unique=True))
    together = len(a) + len(b) - common
    if not together:
        raise ValueError("at least one id is needed, got none; pass pruner.selection.indices")
    return common / together


def similarity(before: Tensor | None, now: Tensor) -> float | None:
    """Returns `jaccard` of two masks, without a sort; None if there is no first one, or both are empty.

    Args:
        before: (n,) bool, whether each sample was trained; None if nothing was trained before.
        now: (n,) bool.
    """
    if before is None or not (before | now).any():
        return None
    return int((before & now).sum()) / int((before | now).sum())


def _ids(ids: Any) -> npt.NDArray[np.int64]:
    array = np.asarray(on_host(ids))
    if len(array) and array.dtype.kind not in "iu":
        hint = "np.flatnonzero(mask)" if array.dtype.kind == "b" else "whole numbers"
        raise ValueError(f"ids are positions in the data set, got dtype {array.dtype}; write {hint}")
    return array.astype(np.int64)
