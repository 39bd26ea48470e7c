"""What a rank says when another one has ended, or does not answer in time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

# gloo's errors have no type of their own (torch 2.13).
_OF_GLOO = re.compile(
    r"gloo|connection (closed|reset|refused)|broken pipe|timed out waiting|pair closure", re.IGNORECASE
)


class LostRankError(RuntimeError):
    """A collective failed, since another rank ended or did not answer in time."""


@contextmanager
def meeting(call: str) -> Iterator[None]:
    """Says which call failed, and what to do, if a collective in the block fails since a rank was lost.

    Args:
        call: what every rank takes part in, for the message.

    Raises:
        LostRankError: another rank ended or did not answer in time. Other errors pass.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_loss(error):
            raise
        raise LostRankError(
            f"every rank must take part in {call}, but another one ended, or did not answer within the timeout of "
            f"init_process_group ({reason_of_loss(error)}); find out why from the messages of the other ranks, and "
            "restart all of them from the last checkpoint"
        ) from error


def is_loss(error: BaseException) -> bool:
    """Returns whether an error says that another rank was lost, in a collective of this library or of others."""
    if isinstance(error, (LostRankError, dist.DistBackendError, dist.DistNetworkError)):
        return True
    return type(error) is RuntimeError and _OF_GLOO.search(str(error)) is not None


def reason_of_loss(error: BaseException) -> str:
    """Returns the first sentence of a collective's error, without the place in the source of its backend."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\[[^\]]*\]\s*", "", lines[0]).split(". ")[0].rstrip(".")
