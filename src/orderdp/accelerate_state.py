"""What accelerate must know of a loader. Does nothing unless the program has loaded accelerate itself."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any


class GradientStateMember:
    """A loader's place in accelerate's GradientState, which decides when accumulated gradients are applied.

    accelerate reads `end_of_dataloader` and `remainder` of the loader that is iterated last.

    Args:
        loader: the loader, on which both attributes are set.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        loader.end_of_dataloader, loader.remainder = False, 0  # no sample is added to fill the last batch
        accelerate = sys.modules.get("accelerate.state")
        self.state: Any = None if accelerate is None else accelerate.GradientState()
        if self.state is not None:
            self.state._add_dataloader(loader)

    def last_batch(self) -> None:
        """Says that the next batch is the last of the pass."""
        self.loader.end_of_dataloader = True

    def leave(self) -> None:
        """Leaves the state when the pass ends."""
        if self.state is not None and self.loader in self.state.dataloader_references:
            self.state._remove_dataloader(self.loader)
        self.state = None


def refuse_second_split(caller: FrameType | None, num_ranks: int) -> None:
    """Raises RuntimeError if accelerate is about to split batches that are already one rank's part.

    Args:
        caller: the frame that asks for the batches.
        num_ranks: number of ranks.
    """
    if num_ranks < 2 or caller is None or caller.f_globals.get("__name__") != "accelerate.data_loader":
        return
    if caller.f_code.co_name in ("_iter_with_split", "_iter_with_no_split"):  # of BatchSamplerShard
        raise RuntimeError(
            "the batches are already this rank's part, got an accelerate.prepare that splits them again; "
            "do not prepare this DataLoader, or use pruner.loader, which accelerate leaves as it is"
        )
