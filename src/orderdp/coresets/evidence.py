"""What static methods read: outputs of a trained proxy, checked once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.floating[Any]]

_SUMS_TO = 1e-2  # how far the probabilities of a sample may sum from one; half precision of 1,000 classes stays below


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of n samples when a static method looks at them. Give what the method needs and no more.

    Everything may be a NumPy array, a tensor or a list. Arrays of the right type are kept without a copy and never
    written to. Large ones may be memory-mapped.

    Args:
        labels: (n,) integers, class of each sample, from 0.
        probabilities: (n, c) float, softmax outputs of the proxy.
        features: (n, d) float, inputs of its last layer (penultimate features), or any other embedding.
        gradient_norms: (n,) float, norm of the loss gradient of each sample in all parameters.
        perturbations: (n,) float, L2 norm of the smallest change of the input found that changes the prediction.
        presented: (t, n) bool, whether the prediction was right when epoch t presented the sample.
        trajectory: (t, n, c) float, `probabilities` after each of t epochs.
        alignments: (t, n) float, product of each sample's loss gradient with the mean gradient, at t checkpoints.
        learning_rates: (t,) float, the learning rate at the checkpoints of `alignments`.
        scores: (n,) float, scores of another method, for methods that choose by them.
        validation: the same for samples that were held out.

    Raises:
        ValueError: nothing is given, a shape does not fit, a value is not finite, probabilities do not sum to one, a
            label is negative or beyond the classes, or all features are equal.
        TypeError: labels that are no integers, or arrays that are no numbers.

    >>> Evidence(labels=[0, 1], probabilities=[[0.9, 0.1], [0.5, 0.5]]).num_samples
    2
    """

    labels: Any = None
    probabilities: Any = None
    features: Any = None
    gradient_norms: Any = None
    perturbations: Any = None
    presented: Any = None
    trajectory: Any = None
    alignments: Any = None
    learning_rates: Any = None
    scores: Any = None
    validation: Evidence | None = None

    def __post_init__(self) -> None:
        shape_of = {name: getattr(self, name) for name in _AXES if getattr(self, name) is not None}
        if not shape_of:
            raise ValueError(f"evidence needs at least one of {', '.join(_AXES)}; got none")
        for name, value in shape_of.items():
            object.__setattr__(self, name, _checked(name, value))
        sizes = {name: getattr(self, name).shape[_AXES[name].index("n")] for name in shape_of if "n" in _AXES[name]}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{size} in {name}" for name, size in sizes.items())
            raise ValueError(f"evidence must hold the same samples everywhere, got {told}; leave none out")
        _check_probabilities(self)
        if self.features is not None and len(self.features) > 1 and not np.ptp(self.features, axis=0).any():
            raise ValueError(
                "features must differ between samples, got the same row for all; pass the model's features"
            )
        if self.validation is not None and not isinstance(self.validation, Evidence):
            raise TypeError(f"validation must be Evidence, got {type(self.validation).__name__}; write Evidence(...)")

    @property
    def num_samples(self) -> int:
        """Returns the number n of samples."""
        return next(
            int(getattr(self, name).shape[axes.index("n")])
            for name, axes in _AXES.items()
            if "n" in axes and getattr(self, name) is not None
        )

    @property
    def given(self) -> tuple[str, ...]:
        """Returns the names of what is there."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)

    def take(self, rows: npt.NDArray[np.intp], names: Iterable[str]) -> Evidence:
        """Returns these samples, in this order, with what is named. What is not by sample stays as it is."""
        return Evidence._unchecked(
            {
                name: value if "n" not in _AXES.get(name, "") else np.take(value, rows, axis=_AXES[name].index("n"))
                for name in names
                if (value := getattr(self, name)) is not None
            }
        )

    def only(self, names: Iterable[str]) -> Evidence:
        """Returns all samples with what is named, without a copy."""
        return Evidence._unchecked({name: getattr(self, name) for name in names})

    @classmethod
    def _unchecked(cls, values: dict[str, Any]) -> Evidence:
        new = object.__new__(cls)
        for field in fields(cls):
            object.__setattr__(new, field.name, values.get(field.name))
        return new


_AXES = {  # the letters of the docstring
    "labels": "n",
    "probabilities": "nc",
    "features": "nd",
    "gradient_norms": "n",
    "perturbations": "n",
    "presented": "tn",
    "trajectory": "tnc",
    "alignments": "tn",
    "learning_rates": "t",
    "scores": "n",
}


def _checked(name: str, value: Any) -> Array:
    array = _array(name, value)
    axes = _AXES[name]
    if array.ndim != len(axes) or 0 in array.shape:
        raise ValueError(f"{name} must have shape ({', '.join(axes)}), got {array.shape}")
    if name == "labels":
        if array.dtype.kind not in "iu":
            hint = "; write labels.astype(int)" if array.dtype.kind in "fb" else "; number the classes from 0"
            raise TypeError(f"labels must be integers, got dtype {array.dtype}{hint}")
        if array.min() < 0:
            raise ValueError(f"labels must be at least 0, got {array.min()}; leave samples without a label out")
        return array.astype(np.int64, copy=False)
    if name == "presented":
        if array.dtype.kind != "b":
            raise TypeError(f"presented must be bool, got dtype {array.dtype}; write predictions == labels")
        return array
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be numbers, got dtype {array.dtype}")
    if array.dtype.kind != "f":
        array = array.astype(np.float32)
    for block in _blocks(array):
        if not np.isfinite(block).all():
            where = np.argwhere(~np.isfinite(array))[0].tolist()
            raise ValueError(
                f"{name} must be finite, got {_count_bad(array)} values that are not, the first at {where}; "
                "mend what computed them"
            )
    return array


def _array(name: str, value: Any) -> Array:
    if isinstance(value, Tensor):
        plain = value.detach().cpu()
        return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()  # NumPy has no bfloat16
    try:
        return np.asanyarray(value)
    except ValueError:  # of lists of different lengths
        axes = ", ".join(_AXES[name])
        raise ValueError(f"{name} must have shape ({axes}), got rows of different lengths") from None


def _blocks(array: Array, size: int = 2**24) -> Iterable[Array]:
    rows = max(1, size * len(array) // array.size)
    return (array[begin : begin + rows] for begin in range(0, len(array), rows))


def _count_bad(array: Array) -> int:
    return sum(int(np.count_nonzero(~np.isfinite(block))) for block in _blocks(array))


def _check_probabilities(evidence: Evidence) -> None:
    for name in ("probabilities", "trajectory"):
        array = getattr(evidence, name)
        if array is None:
            continue
        for block in _blocks(array):
            sums = block.sum(-1, dtype=np.float64)
            if block.min() < 0 or np.abs(sums - 1).max() > _SUMS_TO:
                raise ValueError(
                    f"{name} must be at least 0 and sum to 1 for each sample, got values from {block.min():.3g} and "
                    f"sums from {sums.min():.3g} to {sums.max():.3g}; write logits.softmax(-1)"
                )
        if evidence.labels is not None and evidence.labels.max() >= array.shape[-1]:
            raise ValueError(
                f"labels must lie in 0 .. {array.shape[-1] - 1}, the classes of {name}, got {evidence.labels.max()}"
            )
