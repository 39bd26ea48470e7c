"""How often each sample was used, and how unevenly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from orderdp.diagnostics.dynamics import on_host
from orderdp.diagnostics.moment import Moment
from orderdp.theory.sizes import check_count

Counts = npt.NDArray[np.int64]


class Coverage(NamedTuple):
    """How the training was spread over the samples.

    Args:
        never_seen: share of the samples with no visit.
        gini: Gini coefficient of the visits: 0 if all are equal, near 1 if few samples have all of them.
        histogram: (most + 1,) int64, number of samples with 0, 1, 2, ... visits.
        class_shares: (classes,) float64, share of all visits that each class had; None without labels.
        realised_ratio: 1 minus the visits over those of full data; None without epochs.
        mean_age: epochs since a sample was last trained, mean over the trained samples; nan if there are none, None
            without ages.
        max_age: the largest such age; 0 if no sample was trained, None without ages.
    """

    never_seen: float
    gini: float
    histogram: Counts
    class_shares: npt.NDArray[np.float64] | None = None
    realised_ratio: float | None = None
    mean_age: float | None = None
    max_age: int | None = None


def coverage(visits: Any, *, labels: Any = None, epochs: int | None = None, ages: Any = None) -> Coverage:
    """Returns how often samples were used, summed up; costs O(n).

    Args:
        visits: (n,) whole numbers, array or tensor: in how many epochs each sample was trained, `Pruner.visits()`.
        labels: (n,) class of each sample from 0, for the share of each class.
        epochs: epochs trained, for the realised prune ratio.
        ages: (n,) epochs since each sample was last trained, -1 for never, `Pruner.ages()`.

    Raises:
        TypeError: epochs that are no whole number.
        ValueError: visits, labels or ages of another shape, negative numbers, or fewer epochs than a sample has visits.

    >>> coverage([0, 1, 1, 2], epochs=2).realised_ratio
    0.5
    """
    counts = _whole_numbers("visits", visits)
    shares = None
    if labels is not None:
        classes = _whole_numbers("labels", labels)
        if classes.shape != counts.shape:
            raise ValueError(f"labels has one class for each of the {len(counts)} samples, got shape {classes.shape}")
        shares = np.bincount(classes, weights=counts) / max(counts.sum(), 1)
    if epochs is not None and counts.max() > check_count("epochs", epochs):
        raise ValueError(
            f"epochs must be at least the {counts.max()} visits of a sample, got {epochs}; write the epochs run"
        )
    trained = None if ages is None else _ages_of_trained(ages, len(counts))
    return Coverage(
        never_seen=float((counts == 0).mean()),
        gini=gini(counts),
        histogram=np.bincount(counts),
        class_shares=shares,
        realised_ratio=None if epochs is None else float(1 - counts.sum() / (len(counts) * epochs)),
        mean_age=None if trained is None else float(trained.mean()) if len(trained) else math.nan,
        max_age=None if trained is None else int(trained.max(initial=0)),
    )


def run_coverage(moment: Moment) -> dict[str, Any]:
    """Returns the coverage of a run so far, in plain values."""
    pruner = moment.pruner
    found = coverage(pruner.visits(), labels=moment.labels, epochs=moment.epochs, ages=pruner.ages())
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found._asdict().items()}


def gini(values: Any) -> float:
    """Returns the Gini coefficient of non-negative numbers: half their mean difference, over their mean.

    Args:
        values: (n,) numbers, array or tensor.

    Returns:
        A number in [0, 1 - 1/n]; 0 if all are 0.

    Raises:
        ValueError: another shape, negative or infinite numbers, or NaN.

    Source: Gini 1912, by the sorted form Σ_i (2i - n - 1)·x_i / (n·Σ x).

    >>> gini([1, 1, 1]), gini([0, 0, 3])
    (0.0, 0.6666666666666666)
    """
    ordered = np.sort(_array(values).astype(np.float64))
    if not np.isfinite(ordered[-1]):  # NaN is sorted to the end
        raise ValueError(f"numbers must be finite, got {ordered[-1]}; leave it out")
    total = ordered.sum()
    if not total:
        return 0.0
    n = len(ordered)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * total))


def _array(values: Any) -> npt.NDArray[Any]:
    array = np.asarray(on_host(values))
    if array.ndim != 1 or not len(array):
        raise ValueError(f"one number a sample is needed, (n,), got shape {array.shape}; pass pruner.visits()")
    if (array < 0).any():
        raise ValueError(f"numbers must not be negative, got {array.min()}; pass pruner.visits()")
    return array


def _ages_of_trained(ages: Any, num_samples: int) -> Counts:
    array = np.asarray(on_host(ages))
    if array.shape != (num_samples,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"ages holds a whole number for each of the {num_samples} samples, got {array.dtype} of shape "
            f"{array.shape}; pass pruner.ages()"
        )
    return array[array >= 0].astype(np.int64)


def _whole_numbers(name: str, values: Sequence[int]) -> Counts:
    array = _array(values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} holds whole numbers, got dtype {array.dtype}; pass an integer array")
    return array.astype(np.int64)
