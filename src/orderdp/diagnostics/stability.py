"""How much the choice, and the gradient norm, move from one epoch or step to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_MOST_NUMBERS = 2**20


def jaccard(first: Any, second: Any) -> float:
    """Returns |A ∩ B| / |A ∪ B| of two sets of sample ids, such as two epochs' `pruner.selection.indices`.

    Of two independent uniform draws of q from n it is about q/(2n - q): hold a measured value against that.

    Args:
        first: (a,) distinct ids, array or tensor.
        second: (b,) distinct ids.

    Raises:
        ValueError: both are empty, ids are repeated, or no whole numbers: masks are not taken for ids.

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


def rolling_deviation(values: Any, window: int) -> npt.NDArray[np.float64]:
    """Returns the standard deviation over each `window` neighbouring values, such as gradient norms by the step.

    Takes the memory of a few million numbers, however long the series and the window.

    Args:
        values: (t,) numbers, array or tensor.
        window: how many, at least 2.

    Returns:
        (t - window + 1,) float64, with the divisor window - 1; empty where there are fewer values.

    Raises:
        ValueError: a window below 2, or values that are not (t,).

    >>> rolling_deviation([1.0, 3.0, 3.0], 2).round(4)
    array([1.4142, 0.    ])
    """
    series = np.asarray(_on_host(values), dtype=np.float64)
    if series.ndim != 1:
        raise ValueError(f"values has shape (t,), got {series.shape}; pass one number a step")
    if window < 2:
        raise ValueError(f"window must be at least 2, got {window}; write the steps to look back")
    if len(series) < window:
        return np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(series, window)
    rows = max(1, _MOST_NUMBERS // window)  # the deviation of a view is taken from a copy of it
    parts = [windows[begin : begin + rows].std(axis=1, ddof=1) for begin in range(0, len(windows), rows)]
    return np.concatenate(parts)


def _ids(ids: Any) -> npt.NDArray[np.int64]:
    array = np.asarray(_on_host(ids))
    if len(array) and array.dtype.kind not in "iu":
        hint = "np.flatnonzero(mask)" if array.dtype.kind == "b" else "whole numbers"
        raise ValueError(f"ids are positions in the data set, got dtype {array.dtype}; write {hint}")
    return array.astype(np.int64)


def _on_host(values: Any) -> Any:
    return values.detach().cpu() if hasattr(values, "detach") else values
