"""One rank's part of a sharded table: it chooses an epoch together with the others, and takes in what they saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from orderdp.record import EpochRecord
from orderdp.scores import ScoreTable
from orderdp.sharded.blocks import blocks_of, edges, rank_edges, split
from orderdp.sharded.order import in_chunks
from orderdp.sharded.top import top
from orderdp.sharded.wire import Wire
from orderdp.strategies.base import Indices
from orderdp.strategies.draws import draw, index_type
from orderdp.strategies.order import count_up_to

Bits = npt.NDArray[np.int32]
RngOf = Callable[[str, int | None], np.random.Generator]

# A value is kept and sent as its 32 bits. Two NaNs that no processor makes say that there is no value.
_NAN, NOT_SEEN, _MISSING = np.array([0x7FC00000, 0x7FC0A001, 0x7FC0A002], dtype=np.int32)


def bits_of(record: EpochRecord) -> Bits:
    """Returns (k,) what a rank saw of its own samples, in its own order."""
    values, seen = record.values(), record.seen()
    bits = np.where(np.isnan(values), _NAN, values.view(np.int32))
    bits[~seen] = NOT_SEEN
    bits[record.missing()] = _MISSING
    return bits


def restore_record(record: EpochRecord, bits: Bits) -> None:
    """Gives a new record what `bits_of` returned."""
    seen = (bits != NOT_SEEN) & (bits != _MISSING)
    state = {
        "values": torch.from_numpy(np.where(seen, bits, 0).view(np.float32)),
        "stamps": torch.from_numpy(seen.astype(np.int32)),
        "left_out": None,
        "expected": len(bits),
        "reached": None,
    }
    record.load_state_dict(state)


class Shard:
    """The scores of one rank's blocks.

    Args:
        num_samples: size of the data set.
        initial_score: of a sample without a loss.
        wire: the ranks.
    """

    def __init__(self, num_samples: int, initial_score: float, wire: Wire) -> None:
        self.num_samples = num_samples
        self.wire = wire
        self.numbers = blocks_of(wire.rank, wire.num_ranks)
        self._ends = rank_edges(num_samples, wire.num_ranks)
        self.first = int(self._ends[wire.rank])  # the first sample of this rank
        self.table = ScoreTable(int(self._ends[wire.rank + 1]) - self.first, {"score": initial_score})
        cuts = (edges(num_samples) - self.first).tolist()
        ends = zip(cuts[self.numbers.start : self.numbers.stop], cuts[self.numbers.start + 1 :], strict=False)
        # Numbers and places of the blocks that are not empty.
        self.blocks = [(number, slice(*at)) for number, at in zip(self.numbers, ends, strict=True) if at[0] < at[1]]

    def choose(self, s: int, q: int, rng_of: RngOf) -> Indices:
        """Draws s samples, keeps the q highest of them, and returns those in this rank's chunks of the training order.

        Args:
            s: how many are drawn on all ranks together.
            q: how many are kept.
            rng_of: the generator of a purpose and a block or chunk.
        """
        sizes = np.diff(edges(self.num_samples))
        counts = self.wire.same(split(sizes, s, rng_of("draw", None)))
        drawn = np.empty(self.table.num_samples, dtype=np.bool_)
        for number, part in self.blocks:
            drawn[part] = draw(part.stop - part.start, int(counts[number]), rng_of("draw", number))
        scores = self.table.columns["score"]
        kept = top(
            *(scores, drawn, self.blocks, q, self.wire),
            num_blocks=len(sizes),
            rng_of=lambda number: rng_of("ties", number),
        )
        dtype = index_type(self.num_samples)
        ids = {
            number: np.add(np.flatnonzero(drawn[part]), self.first + part.start, dtype=dtype, casting="unsafe")
            for number, part in self.blocks
        }
        del drawn
        return in_chunks(ids, kept, self.wire, dtype=dtype, rng_of=rng_of)

    def take_in(self, ids: Indices, bits: Bits, ordinal: int, *, table: ScoreTable | None = None) -> tuple[int, int]:
        """Sends what each rank saw to the ranks that remember it, and closes an epoch with what comes.

        Args:
            ids: (k,) distinct samples that this rank trained or left out.
            bits: (k,) what it saw of them.
            ordinal: of the epoch.
            table: a copy of the table to close it in; None is the table itself.

        Returns:
            How many samples of this rank's blocks were left without a loss, and how many losses were not finite.
        """
        told = bits != NOT_SEEN
        if not told.all():
            ids, bits = ids[told], bits[told]
        del told
        ids_to: list[Indices] = []
        bits_to: list[Bits] = []
        for low, high in pairwise(self._ends):
            mine = (ids >= low) & (ids < high)
            ids_to.append(ids[mine])
            bits_to.append(bits[mine])
        del ids, bits
        sizes = self.wire.lengths(ids_to)
        ids, bits = self.wire.swap(ids_to, sizes), self.wire.swap(bits_to, sizes)
        ids -= ids.dtype.type(self.first)
        missing = bits == _MISSING
        seen, values = ids[~missing], bits[~missing].view(np.float32)
        if len(ids):  # none come of an epoch that `record` has ended, whose failures must stay
            (self.table if table is None else table).close(seen, values, ids[missing], ordinal, None)
        return int(np.count_nonzero(missing)), int(np.count_nonzero(~np.isfinite(values)))

    def record(self, ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]) -> None:
        """Takes in those of the scores, (k,), that are of this rank's samples."""
        mine = (ids >= self.first) & (ids < self.first + self.table.num_samples)
        self.table.record(ids[mine] - self.first, scores[mine], None)

    def counts(self, table: ScoreTable, ordinal: int, missing: int, non_finite: int) -> npt.NDArray[np.int64]:
        """Returns (ranks, 8) what a report says of the samples of each rank.

        The columns are how many were trained in the epoch begun last, visits, how many were seen, the sum of their
        ages, `missing`, `non_finite`, how many are mastered, and the largest age.

        Args:
            table: of this rank.
            ordinal: of the epoch begun last.
            missing: samples of this rank that were left without a loss.
            non_finite: losses of this rank that were not finite.
        """
        ages = ordinal - table.last_epoch[table.last_epoch >= 0].astype(np.int64)
        counts = np.zeros((self.wire.num_ranks, 8), dtype=np.int64)
        counts[self.wire.rank] = (
            *(np.count_nonzero(ages == 0), table.visits.sum(dtype=np.int64), len(ages), ages.sum()),
            *(missing, non_finite, count_up_to(table.columns["score"], math.log(2)), ages.max(initial=0)),
        )
        return self.wire.sum(counts)

    def failed(self, table: ScoreTable) -> list[int]:
        """Returns the samples of all ranks that failed, ascending."""
        to_all = [table.failed + self.first] * self.wire.num_ranks
        return [int(sample) for sample in self.wire.swap(to_all, self.wire.lengths(to_all))]

    def state_dict(self) -> dict[str, Any]:
        """Returns copies of this rank's blocks by number."""
        table = self.table
        columns = {"score": table.columns["score"], "last_epoch": table.last_epoch, "visits": table.visits}
        types = {"score": np.float32, "last_epoch": np.int32, "visits": np.int32}
        return {
            str(number): {name: torch.from_numpy(column[part].astype(types[name])) for name, column in columns.items()}
            for number, part in self.blocks
        }

    def load_state_dict(self, blocks: Mapping[str, Any]) -> None:
        """Restores this rank's blocks.

        Raises:
            ValueError: a block is missing, or has another size.
        """
        names = ("score", "last_epoch", "visits")
        for number, part in self.blocks:
            block = blocks.get(str(number))
            if block is None or any(block[name].shape != (part.stop - part.start,) for name in names):
                raise ValueError(
                    f"the state must hold blocks {self.numbers.start} .. {self.numbers.stop - 1} of this rank, got "
                    f"none, or another size, for block {number}; load it with torch.distributed.checkpoint, which "
                    "gives each rank its blocks"
                )
        mine, none = [blocks[str(number)] for number, _ in self.blocks], torch.empty(0, dtype=torch.int32)
        joined = {name: torch.cat([none, *(block[name].cpu() for block in mine)]) for name in names}
        failed = joined["score"] == -torch.inf  # a failed sample has this score
        if self.table.first["score"] == -torch.inf:  # and one that was never seen
            failed &= joined["last_epoch"] >= 0
        state = {**joined, "columns": {"score": joined["score"]}, "failed": torch.nonzero(failed).flatten()}
        self.table = self.table.restored(state)
