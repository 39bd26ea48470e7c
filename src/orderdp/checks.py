"""Checks of what a training loop gives to a pruner, by types and shapes alone: they never wait for a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def check_integer(name: str, value: Any, low: int, high: int, instead: str) -> int:
    """Returns a whole number as a Python integer.

    Raises:
        TypeError: no whole number. ValueError: outside low .. high - 1.
    """
    rule = f"{name} must be an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{rule}, got {type(value).__name__} {value!r}"[:200] + f"; {instead}")
    if not low <= value < high:
        raise ValueError(f"{rule} and less than {high}, got {value}; {instead}")
    return int(value)


def check_update(index: Any, losses: Any, weights: Any, reduction: Any) -> None:
    """Raises ValueError unless these are the arguments of one update: a batch, its weights or None, and a reduction."""
    check_batch(index, losses)
    if weights is not None:
        check_values(len(index), weights, "weights")
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}; write 'mean'")


def check_batch(index: Any, losses: Any) -> None:
    """Raises ValueError unless ids and losses are those of one batch, and the losses carry a gradient."""
    fits = (
        isinstance(index, Tensor)
        and isinstance(losses, Tensor)
        and index.dtype is torch.int64
        and index.ndim == 1
        and losses.shape == index.shape
        and index.numel() > 0
        and losses.is_floating_point()
        and losses.requires_grad
    )
    if not fits:  # find out why
        check_index(index)
        check_values(len(index), losses, "losses")
        check_losses(losses)


def check_index(index: Any) -> None:
    """Raises ValueError unless ids are a (b,) integer tensor of at least one."""
    if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype not in (torch.int64, torch.int32):
        got = f"{index.dtype} of shape {tuple(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
        array = ", or torch.from_numpy(index)" if isinstance(index, np.ndarray) else ""
        raise ValueError(f"index must be a (b,) int64 tensor, got {got}; pass the ids that the loader yields{array}")
    if not len(index):
        raise ValueError("index must hold at least one sample, got none; leave out the update of an empty batch")


def check_values(size: int, values: Any, name: str) -> None:
    """Raises ValueError unless values are a floating tensor of shape (size,)."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = str(values.dtype) if isinstance(values, Tensor) else type(values).__name__
        cure = (
            f"write {name}.float()"
            if name == "weights"
            else 'pass the tensor of one loss per sample (reduction="none")'
        )
        if isinstance(values, np.ndarray):
            cure = f"write torch.from_numpy({name})"
        elif name == "weights" and not isinstance(values, Tensor):
            cure = "write torch.tensor(class_weights)[y]"
        raise ValueError(f"{name} must be a floating tensor, got {got}; {cure}")
    if values.shape != (size,):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, but the batch has {size} samples; {_cure(size, values, name)}"
        )


def check_losses(losses: Tensor) -> None:
    """Raises ValueError unless losses carry a gradient."""
    if not losses.requires_grad:
        raise ValueError(
            "losses must carry a gradient, got requires_grad=False; pass them before .detach() or .item(), and "
            "outside torch.no_grad()"
        )


def _cure(size: int, values: Tensor, name: str) -> str:
    """Returns what to write instead of values of the wrong shape."""
    if name == "weights":
        return "pass one weight per sample, such as class_weights[y]"
    if values.ndim == 0 and size > 1:
        return 'pass one loss per sample (reduction="none")'
    if values.ndim > 1 and values.shape[0] == size:
        if values.numel() == size:
            return f"write {name}.squeeze({values.ndim - 1})" if values.ndim == 2 else f"write {name}.flatten()"
        return (
            f"average the other dimensions: {name}.flatten(1).mean(1); for tokens, take the mean over the unmasked "
            "tokens of each sample"
        )
    if values.ndim > 1 and size in values.shape:  # such as (tokens, batch)
        first = f"{name}.movedim({values.shape.index(size)}, 0)"
        return f"put the batch first and average the rest: {first}.flatten(1).mean(1)"
    if values.numel() > size and values.numel() % size == 0:
        return (
            f"got {values.numel() // size} values a sample: {name}.view({size}, -1).mean(1); for tokens, take the mean "
            "over the unmasked tokens of each sample"
        )
    if values.ndim == 1 and len(values) > 1:
        return f"take index and {name} from the same batch"
    return 'pass one loss per sample (reduction="none")'


def scores_of(index: Tensor, scores: Tensor, device: torch.device) -> Tensor:
    """Returns the scores of a batch on a device, without gradient; raises unless there is one a sample."""
    check_values(len(index), scores, "scores")
    return scores.detach().to(device, non_blocking=device.type != "cpu")


def check_faults(faults: tuple[int, int], epoch: int | None) -> None:
    """Raises RuntimeError if ids from a device were not of their epoch, or repeated."""
    if any(faults):
        raise RuntimeError(
            f"index must hold each sample of the epoch once, got {faults[0]} ids that epoch {epoch} "
            f"did not select and {faults[1]} repeated in a batch; take both from pruner.loader, "
            "and do not read ahead into the next epoch"
        )


def checked_scores(index: Any, scores: Any, num_samples: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Returns ids and scores from outside on the host, (k,) each.

    Raises:
        ValueError: scores of another length or not finite, ids repeated. IndexError: ids out of range.
    """
    check_index(index)
    check_values(len(index), scores, "scores")
    ids, values = index.detach().cpu().numpy(), scores.detach().to("cpu", torch.float32).numpy()
    if ids.min() < 0 or ids.max() >= num_samples:
        raise IndexError(
            f"index must lie in 0 .. {num_samples - 1}, got {ids.min()} .. {ids.max()}; write positions in the data set"
        )
    if len(np.unique(ids)) < len(ids):
        raise ValueError(
            f"index must hold each sample once, got {len(ids)} of which {len(np.unique(ids))} differ; leave repeats out"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"scores must be finite, got {np.count_nonzero(~np.isfinite(values))} that are not; leave them out"
        )
    return ids, values
