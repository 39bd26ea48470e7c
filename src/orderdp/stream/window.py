"""One window of a stream, and what a stream's pruner tells its user."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from orderdp.stream.batches import Places, taken


@dataclass(frozen=True)
class StreamReport:
    """What a stream's pruner has done on this rank.

    Args:
        passes: passes over the source that were begun.
        windows: windows that were chosen from.
        seen: samples that came from the source.
        scored: samples that went forward to be scored.
        kept: samples that were kept.
        trained: samples that `update` saw.
        non_finite: losses that were NaN or infinite.
        remembered: keys whose score is remembered.
    """

    passes: int = 0
    windows: int = 0
    seen: int = 0
    scored: int = 0
    kept: int = 0
    trained: int = 0
    non_finite: int = 0
    remembered: int = 0

    def as_dict(self) -> dict[str, int]:
        """Returns the report as plain numbers, as loggers and JSON take them.

        >>> StreamReport(seen=100, kept=50).as_dict()["kept"]
        50
        """
        return asdict(self)


@dataclass
class Window:
    """What was kept of one window, in training order.

    Args:
        before: the report when it began.
        source: the state of the source when it began; None if the source has none.
        places: (q,) where the samples stood in the window.
        ids: of the samples: keys, or (q,) numbers in the stream.
        samples: the samples as one batch.
        cuts: where each batch begins, and where the last one ends.
        factors: of the mean loss of each batch.
        failed: fresh losses of it that were not finite.
        last: whether the source of a rank has ended, and the pass with it.
        trained: numbers of the batches that `update` saw.
    """

    before: StreamReport
    source: Any
    places: Places
    ids: Any
    samples: Any
    cuts: list[int]
    factors: list[float]
    failed: int
    last: bool
    trained: set[int] = field(default_factory=set)

    def part(self, number: int) -> tuple[Any, Any]:
        """Returns (index, batch) of a batch."""
        at = np.arange(self.cuts[number], self.cuts[number + 1])
        return taken(self.ids, at), taken(self.samples, at)

    def ids_of(self, number: int) -> list[Any]:
        """Returns the ids of a batch, as Python values."""
        ids = self.ids[self.cuts[number] : self.cuts[number + 1]]
        return ids.tolist() if isinstance(ids, Tensor) else list(ids)

    def number(self, index: Any) -> int | None:
        """Returns the number of the batch with this index, one that is not trained yet if several have it; or None."""
        given = index.tolist() if isinstance(index, (Tensor, np.ndarray)) else list(index)
        found = [number for number in range(len(self.cuts) - 1) if self.ids_of(number) == given]
        return min(found, key=lambda number: number in self.trained, default=None)
