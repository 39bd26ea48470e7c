"""Batches of any form: how many samples they hold, some of their samples, and several batches as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Places = npt.NDArray[np.integer[Any]]
_SINGLE = "if the source gives single samples, write DataLoader(dataset, batch_size=32), or else "


def num_samples_of(batch: Any) -> int:
    """Returns how many samples a batch holds.

    Args:
        batch: a tensor or array whose first dimension are the samples; a list or tuple of strings, bytes or numbers,
            one for each sample; or tuples, lists and dictionaries of those.

    Raises:
        TypeError: of another form. ValueError: parts of different lengths.

    >>> num_samples_of((torch.zeros(3, 2), {"name": ["a", "b", "c"]}))
    3
    """
    sizes = {len(column) for column in _columns(batch)}
    if len(sizes) != 1:
        raise ValueError(
            f"each part of a batch must hold the same samples, got lengths {sorted(sizes)}; {_SINGLE}write a collate "
            "function whose parts all have one entry a sample"
        )
    return sizes.pop()


def taken(batch: Any, places: Places) -> Any:
    """Returns a batch of some of a batch's samples, in the order of the places, (k,) integers.

    >>> taken({"x": torch.tensor([5, 6, 7]), "name": ["a", "b", "c"]}, np.array([2, 0]))
    {'x': tensor([7, 5]), 'name': ['c', 'a']}
    """
    if isinstance(batch, Tensor):
        return batch[torch.from_numpy(places.astype(np.int64)).to(batch.device)]
    if isinstance(batch, np.ndarray):
        return batch[places]
    if _is_column(batch):
        return type(batch)([batch[place] for place in places])
    if isinstance(batch, Mapping):
        return {name: taken(part, places) for name, part in batch.items()}
    return _like(batch, [taken(part, places) for part in batch])


def joined(batches: Sequence[Any]) -> Any:
    """Returns several batches of one form as one.

    >>> joined([(torch.tensor([1, 2]), ["a", "b"]), (torch.tensor([3]), ["c"])])
    (tensor([1, 2, 3]), ['a', 'b', 'c'])
    """
    first = batches[0]
    if isinstance(first, Tensor):
        return torch.cat(list(batches))
    if isinstance(first, np.ndarray):
        return np.concatenate(batches)
    if _is_column(first):
        return type(first)([entry for batch in batches for entry in batch])
    if isinstance(first, Mapping):
        return {name: joined([batch[name] for batch in batches]) for name in first}
    return _like(first, [joined(parts) for parts in zip(*batches, strict=True)])


def gathered(batches: Sequence[Any], places: Places) -> Any:
    """Returns the samples at some places of several batches, counted through, as one batch in that order.

    >>> gathered([torch.tensor([5, 6]), torch.tensor([7, 8, 9])], np.array([4, 0, 2]))
    tensor([9, 5, 7])
    """
    order = np.argsort(places, kind="stable")
    ascending, begin, parts = places[order], 0, []
    for batch in batches:
        end = begin + num_samples_of(batch)
        first, last = np.searchsorted(ascending, (begin, end))
        if first < last:
            parts.append(taken(batch, ascending[first:last] - begin))
        begin = end
    return taken(joined(parts), np.argsort(order, kind="stable"))


def _columns(batch: Any) -> list[Any]:
    if (isinstance(batch, (Tensor, np.ndarray)) and batch.ndim) or _is_column(batch):
        return [batch]
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else []
    if not len(parts):
        got = f"{type(batch).__name__} of shape ()" if isinstance(batch, (Tensor, np.ndarray)) else type(batch).__name__
        raise TypeError(
            f"a batch must be tensors, or tuples, lists or dictionaries of them, got {got}; {_SINGLE}write a collate "
            "function that makes one"
        )
    return [column for part in parts for column in _columns(part)]


def _is_column(part: Any) -> bool:
    """Whether a list or tuple holds one entry a sample, and not one part of the batch each."""
    return isinstance(part, (list, tuple)) and all(isinstance(entry, (str, bytes, int, float)) for entry in part[:1])


def _like(batch: Any, parts: list[Any]) -> Any:
    """Returns the parts as a list, a tuple or a named tuple, as the batch is."""
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
