"""Checks of what a stream's pruner is given: the source, and what the functions of its user return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.states import check_kind


def check_source(source: Any) -> None:
    """Raises TypeError unless a source can be iterated, as a map-style data set and a number cannot."""
    if not hasattr(source, "__iter__"):
        raise TypeError(
            f"source must be an iterable of batches, got {type(source).__name__}; write "
            "DataLoader(dataset, batch_size=32)"
        )


def check_function(score: Any, key: Any) -> None:
    """Raises TypeError unless the one that is given is a function."""
    name, given = ("key", key) if score is None else ("score", score)
    if not callable(given):
        example = "key=lambda batch: batch[0]" if score is None else "score=losses_of"
        raise TypeError(f"{name} must be a function of a batch, got {type(given).__name__} {given!r}; write {example}")


def checked_keys(keys: Any, size: int) -> list[Any]:
    """Returns the keys of a batch as Python values.

    Raises:
        ValueError: not one string or integer for each of the `size` samples.
    """
    cure = 'write what tells the samples apart, one entry a sample, such as key=lambda batch: batch["id"]'
    rule = f"key must return a string or an integer for each of the {size} samples"
    if isinstance(keys, (Tensor, np.ndarray)) and keys.ndim != 1:
        raise ValueError(f"{rule}, got shape {tuple(keys.shape)}; {cure}")
    if isinstance(keys, (str, bytes, Mapping)) or not isinstance(keys, Iterable):
        raise ValueError(f"{rule}, got one {type(keys).__name__} for the batch; {cure}")
    found = keys.tolist() if isinstance(keys, (Tensor, np.ndarray)) else list(keys)
    if len(found) != size or not all(isinstance(key, (str, int)) for key in found):
        raise ValueError(f"{rule}, got {len(found)} of {sorted({type(key).__name__ for key in found})}; {cure}")
    return found


def checked_scores(losses: Any, size: int) -> npt.NDArray[np.float32]:
    """Returns the (size,) losses of a batch.

    Raises:
        ValueError: not one loss for each sample.
    """
    if isinstance(losses, Tensor) and losses.shape == (size,):
        found: npt.NDArray[np.float32] = losses.detach().to("cpu", torch.float32).numpy()
        return found
    got, cure = type(losses).__name__, 'write reduction="none"'
    if isinstance(losses, Tensor):
        got = f"shape {tuple(losses.shape)}"
        if losses.ndim > 1 and len(losses) == size:
            cure = "average the other dimensions: losses.flatten(1).mean(1)"
    raise ValueError(f"score must return one loss a sample, ({size},), got {got}; {cure}")


def can_resume(source: Any) -> bool:
    """Returns whether a source has a state. accelerate's loaders have `state_dict` also where they are not stateful."""
    return hasattr(source, "load_state_dict") and bool(getattr(source, "use_stateful_dataloader", True))


def check_state(state: Mapping[str, Any], settings: Mapping[str, Any], source: Any) -> None:
    """Raises unless a state is of these settings and of a source that can go on where it was saved.

    Raises:
        TypeError: no dictionary. ValueError: a state of another class, of other settings or for another source.
    """
    check_kind(state, "window")
    for name, now in settings.items():
        if state.get(name) != now:
            cure = "load it into a stream with the settings that it was saved with"
            if name == "rank":
                cure = "save the state of each rank and load its own, since a framework's checkpoint may hold one"
            raise ValueError(f"the state must be of {name} {now!r}, got {state.get(name)!r}; {cure}")
    if state["inside"] and not can_resume(source):
        raise ValueError(
            f"a state inside a pass needs a source that can resume, got {type(source).__name__}; read the stream with "
            "torchdata's StatefulDataLoader"
        )
