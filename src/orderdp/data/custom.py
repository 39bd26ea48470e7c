"""Custom data sets, returned by a function of the user, MODULE:FUNCTION.

The function returns ((train_images, train_labels), (test_images, test_labels)) of arrays or tensors. Images are uint8
of shape (n, c, h, w), square; labels are whole numbers from 0, shape (n,). Classes, channels, size, mean and standard
deviation come from the training part. A function whose inputs are files, texts or rows of numbers, or whose labels are
numbers to predict, returns a `DataSets`.

The function may take `data_root`, `download` and `image_size`; it gets the ones in its signature.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from orderdp.data.base import (
    EDGE_KINDS,
    DataSetRow,
    DataSets,
    Features,
    Graphs,
    ImageArrays,
    Option,
    Part,
    Texts,
    Windows,
    from_arrays,
)
from orderdp.output.custom import import_custom

_RESULT = "((train images, train labels), (test images, test labels))"


def custom_row(name: str) -> DataSetRow:
    """Returns the row of a custom data set; imports its module.

    Args:
        name: MODULE:FUNCTION; the module may lie in the working directory.

    Raises:
        ValueError: no such module or function. TypeError: no function, or one that needs other arguments.
    """
    function = import_custom("dataset", name)
    if not callable(function):
        kind = type(function).__name__
        raise TypeError(f"dataset must name a function, got {name!r} of type {kind}; write MODULE:FUNCTION")
    options = get_args(Option)
    parameters = inspect.signature(function).parameters
    for parameter in parameters.values():
        if parameter.name not in options and parameter.default is parameter.empty and parameter.kind not in _VARIABLE:
            raise TypeError(
                f"a data set function gets {', '.join(map(repr, options))}, but {name} needs '{parameter.name}'; "
                "give it a default"
            )
    takes = tuple(option for option in options if option in parameters)
    return DataSetRow(name, "custom data set", _checked(name, function), takes)


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _checked(name: str, function: Callable[..., Any]) -> Callable[..., DataSets]:
    """Returns the function with its result checked."""

    def load(**options: Any) -> DataSets:
        found = function(**options)
        if not isinstance(found, DataSets):
            return data_sets(found, name)
        for part in (found.train, found.test):
            _check_part(part, found, name)
        _check_features(found, name)
        return found

    return load


def _check_part(part: Part, data: DataSets, name: str) -> None:
    """Raises ValueError if classes or tokens of a part are others than the data set says."""
    labels = part.labels
    if data.num_classes and (labels.is_floating_point() or labels.min() < 0 or labels.max() >= data.num_classes):
        raise ValueError(
            f"labels must be whole numbers in 0 .. {data.num_classes - 1}, got {_dtype(labels)} from {labels.min():g} "
            f"to {labels.max():g} from {name}; write the right num_classes, or 0 for numbers to predict"
        )
    if not isinstance(part, Texts | Windows | Graphs):
        if data.vocabulary:
            raise ValueError(f"vocabulary is of texts, got {data.vocabulary} for {data.kind} from {name}; leave it out")
        return
    if isinstance(part, Graphs):
        _check_graphs(part, name)
    what, found = ("tokens", part.tokens) if not isinstance(part, Graphs) else ("kinds of nodes", _nodes(part))
    if found.min() < 0 or found.max() >= data.vocabulary:
        raise ValueError(
            f"{what} must lie in [0, vocabulary), got {found.min()} to {found.max()} and vocabulary {data.vocabulary}"
            f" from {name}; write vocabulary={int(found.max()) + 1} or more"
        )


def _check_features(data: DataSets, name: str) -> None:
    """Raises ValueError if a part holds other rows of numbers than a model could learn from the training part."""
    if not isinstance(data.train, Features):
        return
    for part in (data.train, data.test):
        values = part.values if isinstance(part, Features) else torch.zeros(0)
        if values.dtype != torch.float32 or values.shape[1:] != data.train.values.shape[1:] or values.ndim != 2:
            raise ValueError(
                f"values of both parts must be float32 of shape (n, k) with the same k, got {_dtype(values)} of "
                f"{tuple(values.shape)} from {name}; convert them"
            )
        if not values.isfinite().all():
            raise ValueError(f"values must be finite, got some that are not from {name}; fill in what is missing")


def _nodes(part: Graphs) -> Tensor:
    return part.matrices.diagonal(dim1=1, dim2=2)


def _check_graphs(part: Graphs, name: str) -> None:
    """Raises ValueError if an edge has a direction or an unknown kind, or if nodes do not come first."""
    nodes = _nodes(part)
    edges = part.matrices - torch.diag_embed(nodes)
    if not torch.equal(edges, edges.mT):
        raise ValueError(f"matrices of graphs must be symmetric, got others from {name}; write each edge twice")
    if edges.max() > EDGE_KINDS:
        raise ValueError(f"edges must be of at most {EDGE_KINDS} kinds, got {edges.max()} from {name}; join some")
    there = nodes != 0
    if (there[:, 1:] & ~there[:, :-1]).any() or (edges.amax(2).bool() & ~there).any():
        raise ValueError(
            f"the nodes of a graph must come first, got 0 before a node or an edge from {name}; number them"
        )


def data_sets(found: Any, name: str) -> DataSets:
    """Returns the data set of ((train images, train labels), (test images, test labels)).

    Args:
        found: arrays or tensors; images (n, c, h, w) uint8, labels (n,) whole numbers.
        name: of the function, for messages.

    Raises:
        TypeError: another structure. ValueError: arrays of another type, shape or range.
    """
    try:
        (train_images, train_labels), (test_images, test_labels) = found
    except (TypeError, ValueError):
        raise TypeError(f"a data set function must return {_RESULT}, got {_kind(found)} from {name}") from None
    train = _part("train", train_images, train_labels)
    test = _part("test", test_images, test_labels)
    if train.images.shape[1:] != test.images.shape[1:]:
        sizes = f"{tuple(train.images.shape[1:])} and {tuple(test.images.shape[1:])}"
        raise ValueError(f"train and test images must have the same shape, got {sizes} from {name}; resize them")
    data = from_arrays(train, test)
    if int(train.labels.min()) > 0:
        raise ValueError(
            f"train labels must be classes from 0, got {int(train.labels.min())} as the lowest from {name}; number the "
            "classes from 0"
        )
    if int(test.labels.max()) >= data.num_classes:
        raise ValueError(
            f"test labels must be classes of the training labels, 0 to {data.num_classes - 1}, got "
            f"{int(test.labels.max())} from {name}; number the classes from 0"
        )
    if not all(data.std):
        raise ValueError(
            f"each channel of the train images must vary, got channel {data.std.index(0)} constant from {name}; "
            "leave it out"
        )
    return data


def _part(part: str, images: Any, labels: Any) -> ImageArrays:
    pixels, classes = _tensor(images), _tensor(labels)
    shape = tuple(pixels.shape)
    if pixels.dtype != torch.uint8:
        raise ValueError(
            f"{part} images must be uint8, 0 to 255, got {_dtype(images)}; for values in [0, 1] write "
            "(255 * images).round().astype(np.uint8)"
        )
    if len(shape) != 4 or 0 in shape:
        hint = "write images[:, None]" if len(shape) == 3 else "write one array of all images"
        raise ValueError(f"{part} images must have shape (n, c, h, w), got {shape}; {hint}")
    if shape[2] != shape[3]:
        hint = "write images.transpose(0, 3, 1, 2)" if shape[1] == shape[2] else "crop or resize them"
        raise ValueError(f"{part} images must be square, (n, c, h, w) with h = w, got {shape}; {hint}")
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise ValueError(
            f"{part} labels must be whole numbers, got {_dtype(labels)}; write labels.astype(np.int64), or for numbers "
            "to predict return orderdp.data.base.from_arrays(...)"
        )
    if classes.shape != pixels.shape[:1]:
        raise ValueError(
            f"{part} labels must have one class for each of the {len(pixels)} images, got shape {tuple(classes.shape)}"
        )
    if (lowest := int(classes.min())) < 0:
        raise ValueError(f"{part} labels must be classes from 0, got {lowest}; number the classes from 0")
    return ImageArrays(pixels.contiguous(), classes.to(torch.int64))


def _tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    array = np.asarray(values)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"images and labels must be arrays of numbers, got dtype {array.dtype}; convert them")
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.int64)  # torch supports few unsigned types
    return torch.from_numpy(np.ascontiguousarray(array))


def _dtype(values: Any) -> str:
    return str(values.dtype if hasattr(values, "dtype") else np.asarray(values).dtype).removeprefix("torch.")


def _kind(found: Any) -> str:
    return f"a {type(found).__name__} of {len(found)}" if isinstance(found, (tuple, list)) else type(found).__name__
