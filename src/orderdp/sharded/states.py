"""What a saved state of a sharded pruner must hold for a rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from orderdp.ranks import Batching
from orderdp.sharded.blocks import Counts
from orderdp.sharded.shard import Bits
from orderdp.states import check_kind
from orderdp.strategies.base import Indices


def check_settings(state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises ValueError unless a state is of a sharded pruner and has these settings."""
    check_kind(state, "blocks")
    for name, now in settings.items():
        if state.get(name) != now:
            raise ValueError(
                f"the state must be of {name} {now!r}, got {state.get(name)!r}; load it into a pruner with the "
                "settings that it was saved with"
            )


def chunks_of(state: Mapping[str, Any], numbers: range, sizes: Counts) -> tuple[Indices, Bits]:
    """Returns what a state says of a rank's chunks, joined: the samples, and what was seen of them.

    Args:
        state: what `ShardedPruner.state_dict` returned.
        numbers: of the rank's chunks.
        sizes: of the rank's chunks.

    Raises:
        ValueError: a chunk is missing, or has another size.
    """
    chunks = [state["chunks"].get(str(number)) for number in numbers]
    if any(chunk is None or len(chunk["ids"]) != size for chunk, size in zip(chunks, sizes, strict=True)):
        raise ValueError("the state must hold the chunks of this rank; load it with torch.distributed.checkpoint")
    ids, bits = (torch.cat([chunk[name] for chunk in chunks]).cpu().numpy() for name in ("ids", "bits"))
    return ids, np.asarray(bits)


def batching_of(state: Mapping[str, Any], num_ranks: int) -> Batching:
    """Returns how the epoch of a state is cut into steps on this number of ranks.

    Raises:
        ValueError: no epoch had begun, or its steps cannot be shared out over the ranks.
    """
    if state["step"] is None:
        raise ValueError(
            "a state is resumed inside an epoch, got one without; load it without resume=True to begin with the next"
        )
    size, drop_last, stable_shapes = state["step"]
    if size % num_ranks:
        raise ValueError(
            f"steps of {size} samples must be shared out evenly to be resumed, got {num_ranks} ranks; use a number of "
            "ranks that divides them, or load without resume=True to begin with the next epoch"
        )
    return Batching(size // num_ranks, drop_last, stable_shapes)
