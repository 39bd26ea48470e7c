"""The version of saved states, and how older ones are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

STATE_VERSION = 2
_KINDS = {"table": "orderdp.Pruner", "blocks": "orderdp.sharded.ShardedPruner", "window": "orderdp.stream.StreamPruner"}


@contextmanager
def resumed_by(cure: str) -> Iterator[None]:
    """Says of a state that does not fit what the user of a framework writes, who never calls `load_state_dict`.

    Args:
        cure: what to write, instead of all that the message says after its first semicolon.

    Raises:
        ValueError: one was raised in the block.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{str(error).partition('; ')[0]}; {cure}") from None


def check_kind(state: Mapping[str, Any], own: str) -> None:
    """Raises unless this may be a state of the class of pruner at hand.

    Args:
        state: what `state_dict` returned.
        own: the entry that only states of the class at hand have, of `_KINDS`.

    Raises:
        TypeError: no dictionary. ValueError: another dictionary, or a state of another class of pruner.
    """
    rule = f"the state must be what {_KINDS[own]}.state_dict returned"
    cure = "pass the entry of the checkpoint that holds it"
    if not isinstance(state, Mapping):
        raise TypeError(f"{rule}, got {type(state).__name__}; {cure}")
    if "version" not in state:
        raise ValueError(f"{rule}, got a dictionary without version; {cure}")
    for entry, kind in _KINDS.items():
        if entry in state and own not in state:
            raise ValueError(
                f"the state must be one of {_KINDS[own]}, got one of {kind}; load it into a pruner of that class with "
                "the settings that it was saved with"
            )


def checked_state(state: Mapping[str, Any], settings: Mapping[str, Any], *, resume: bool) -> dict[str, Any]:
    """Returns a pruner's state in the form of this version.

    Args:
        state: what `Pruner.state_dict` returned, of this version or of version 1.
        settings: entries that version 1 does not have, for a state that was saved between two epochs.
        resume: whether it is to be resumed inside its epoch.

    Raises:
        ValueError: a state of a loader or of another class, another version, or version 1 inside an epoch.
    """
    if isinstance(state, Mapping) and "pruner" in state:
        raise ValueError(
            f"the state must be one of a pruner, got a loader's with the keys {sorted(state)}; "
            "give it to loader.load_state_dict, or write state['pruner']"
        )
    check_kind(state, "table")
    version = state.get("version")
    if version == STATE_VERSION:
        return dict(state)
    if version != 1:
        raise ValueError(
            f"the state must be of version {STATE_VERSION} or 1, got {version}; "
            "load it with the release of orderdp that wrote it"
        )
    if resume:
        raise ValueError(
            "a state inside an epoch must be of version 2, got version 1, whose batches were cut otherwise; finish "
            "that epoch with the release that wrote it, or load state['pruner'] into the pruner to begin the next epoch"
        )
    table = dict(state["table"])
    last, visits = table["last_epoch"], table["visits"]
    table["visits"] = visits + (last == state["begun"] - 1).to(visits.dtype) if state["begun"] else visits
    table["failed"] = torch.empty(0, dtype=torch.int64)
    settings = {**settings, "scheduled": []}  # which strategy its schedule named next is not known
    return {**settings, **state, "table": table, "record": None, "missing": 0, "recorded": 0, "later": []}
