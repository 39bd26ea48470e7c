"""How many samples of each class are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from orderdp.theory.sizes import largest_remainders

Quotas: TypeAlias = Literal["proportional", "equal"] | Sequence[int] | npt.NDArray[np.integer[Any]] | None


def check_size(size: int, num_samples: int) -> int:
    """Returns the number of samples to keep as an int.

    Raises:
        TypeError: it is no whole number. ValueError: it is below 1 or above the number of samples.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"size counts the samples to keep, got {size!r}; write round(0.3 * {num_samples}) for 30 %")
    if not 1 <= size <= num_samples:
        raise ValueError(f"size must lie in 1 .. {num_samples}, the number of samples, got {size}")
    return int(size)


def class_sizes(labels: npt.NDArray[np.int64], size: int, quotas: Quotas) -> npt.NDArray[np.int64]:
    """Returns how many samples of each class to keep.

    "proportional" keeps the same share of every class, to within one sample: the largest remainders are rounded up,
    the lower class first among equals. "equal" keeps the same number of every class, to within one; the lower classes
    have one more. A list gives the numbers.

    Args:
        labels: (n,) int64.
        size: samples to keep, in 1 .. n.
        quotas: as above.

    Returns:
        (c,) int64 that sum to `size`.

    Raises:
        ValueError: a class has fewer samples than its quota, or a list has another length or sum.
        TypeError: quotas of another kind.

    >>> class_sizes(np.array([0, 0, 0, 0, 1, 1]), 3, "proportional")
    array([2, 1])
    """
    available = np.bincount(labels)
    if isinstance(quotas, str):
        if quotas == "proportional":
            sizes = largest_remainders(available, size)
        elif quotas == "equal":
            present = available > 0
            sizes = np.zeros_like(available)
            base, more = divmod(size, int(present.sum()))
            sizes[present] = base + (np.arange(present.sum()) < more)
        else:
            raise ValueError(f'quotas must be "proportional", "equal", a list or None, got {quotas!r}')
    else:
        sizes = _given(quotas, size, len(available))
    short = np.flatnonzero(sizes > available)
    if len(short):
        first = short[0]
        raise ValueError(
            f"a quota must not exceed the samples of its class, got {sizes[first]} for class {first} with "
            f'{available[first]} samples; write quotas="proportional"'
        )
    return sizes


def _given(quotas: Any, size: int, num_classes: int) -> npt.NDArray[np.int64]:
    sizes = np.asarray(quotas)
    if sizes.dtype.kind not in "iu" or sizes.shape != (num_classes,) or sizes.min() < 0:
        raise ValueError(f"quotas must be {num_classes} whole numbers, one for each class, got {quotas!r}")
    if sizes.sum() != size:
        raise ValueError(f"quotas must sum to size, got {sizes.sum()} and {size}; write size={sizes.sum()}")
    return sizes.astype(np.int64)
