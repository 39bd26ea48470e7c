"""The random training order of samples that lie on many ranks, and each rank's part of every step."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from orderdp.ranks import Batching, Steps
from orderdp.sharded.blocks import BLOCKS, Counts, blocks_of, edges, rank_edges, split
from orderdp.sharded.wire import Number, Wire
from orderdp.strategies.base import Indices
from orderdp.strategies.draws import shuffle


class OwnSteps(Steps):
    """Steps whose positions count in this rank's own order, which holds its batches only.

    >>> list(OwnSteps(10, Batching(2), 1, 2))
    [(0, 2), (2, 4), (4, 6)]
    """

    @cached_property
    def _cuts(self) -> tuple[Counts, Counts]:
        """Sizes of the steps on all ranks, and where each begins in this rank's order and the last one ends."""
        sizes = np.diff(self.begins())
        shares = sizes * (self.rank + 1) // self.num_ranks - sizes * self.rank // self.num_ranks
        return sizes, np.concatenate([[0], np.cumsum(shares)])

    def __getitem__(self, step: Any) -> Any:
        if isinstance(step, slice):
            return super().__getitem__(step)
        number = step + len(self) if step < 0 else step
        if not 0 <= number < len(self):
            raise IndexError(f"step must lie in 0 .. {len(self) - 1}, got {step}")
        return int(self._cuts[1][number]), int(self._cuts[1][number + 1])

    def batch(self, step: int) -> tuple[int, int]:
        """Returns where this rank's batch of a step begins and ends in its own order."""
        begin, end = self[step]
        return begin, end

    def size(self, step: int) -> int:
        """Returns the samples of a step on all ranks together."""
        return int(self._cuts[0][step])

    @property
    def room(self) -> int:
        """How many samples of the epoch are this rank's."""
        return int(self._cuts[1][-1])

    def numbers(self, positions: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Returns the number of the step of each position."""
        return np.searchsorted(self._cuts[1], positions, side="right") - 1

    def owned(self, positions: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Returns that all positions are this rank's."""
        return np.ones(len(positions), dtype=np.bool_)


class Places:
    """Where the samples of an epoch stand in the training order of all ranks.

    The order is cut into chunks, which the ranks share out like blocks. The rank of a chunk knows which samples stand
    in it. The rank that trains a step needs its part of it. `to_steps` and `to_chunks` carry values between them.

    Args:
        num_selected: samples of the epoch.
        batching: how it is cut into steps.
        wire: the ranks.
    """

    def __init__(self, num_selected: int, batching: Batching, wire: Wire) -> None:
        self.wire = wire
        begins = Steps(num_selected, batching, 0, wire.num_ranks).begins()
        sizes, firsts = np.diff(begins), begins[:-1]
        starts = firsts + sizes * wire.rank // wire.num_ranks
        stops = firsts + sizes * (wire.rank + 1) // wire.num_ranks
        ends = rank_edges(num_selected, wire.num_ranks)
        # How many of the places of this rank's batches lie in each rank's chunks.
        self._shares = np.array([int((np.clip(stops, *at) - np.clip(starts, *at)).sum()) for at in pairwise(ends)])
        low, high = ends[wire.rank], ends[wire.rank + 1]
        inside = slice(max(0, int(np.searchsorted(begins, low, side="right")) - 1), int(np.searchsorted(begins, high)))
        # Where each rank's batch begins and ends, of these steps alone: all steps would take as much on many ranks.
        cuts = sizes[inside, None] * np.arange(wire.num_ranks + 1) // wire.num_ranks + firsts[inside, None]
        lengths = np.diff(np.clip(cuts, low, high), axis=1)
        # The rank that trains each place of this rank's chunks; -1: in no step, by drop_last.
        self._trainer = np.full(high - low, -1, dtype=np.int16)
        self._trainer[: lengths.sum()] = np.repeat(
            np.tile(np.arange(wire.num_ranks, dtype=np.int16), len(lengths)), lengths.ravel()
        )

    def to_steps(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Returns the values at this rank's batches, in its own order, of values at the places of its chunks."""
        parts = [values[self._trainer == rank] for rank in range(self.wire.num_ranks)]
        return self.wire.swap(parts, self._shares)

    def to_chunks(self, values: npt.NDArray[Number], fill: Any) -> npt.NDArray[Number]:
        """Returns the values at the places of this rank's chunks, of values at its batches; the reverse of `to_steps`.

        Args:
            values: of this rank's batches in its own order.
            fill: stands at places that are in no step.
        """
        sizes = np.array([np.count_nonzero(self._trainer == rank) for rank in range(self.wire.num_ranks)])
        came = self.wire.swap(np.split(values, np.cumsum(self._shares)[:-1]), sizes)
        found = np.full(len(self._trainer), fill, dtype=values.dtype)
        for rank, part in enumerate(np.split(came, np.cumsum(sizes)[:-1])):
            found[self._trainer == rank] = part
        return found


def in_chunks(
    ids: dict[int, Indices],
    kept: Counts,
    wire: Wire,
    *,
    dtype: npt.DTypeLike,
    rng_of: Callable[[str, int | None], np.random.Generator],
) -> Indices:
    """Returns the samples that stand in this rank's chunks of a random training order; every order is equally likely.

    Each block deals its samples out to the chunks, and each chunk shuffles what it got. How many go where follows the
    multivariate hypergeometric law, so this is the shuffle of Rao (1961) and Sandelius (1962).

    Args:
        ids: the samples of each of this rank's blocks; it is emptied, so that they can be freed.
        kept: (BLOCKS,) how many each block keeps.
        wire: the ranks.
        dtype: of the samples.
        rng_of: the generator of a purpose and a block or chunk.
    """
    deals, room = np.zeros((BLOCKS, BLOCKS), dtype=np.int64), np.diff(edges(int(kept.sum())))
    rng = rng_of("deal", None)
    for block in np.flatnonzero(kept):
        deals[block] = split(room, int(kept[block]), rng)
        room = room - deals[block]
    deals = wire.same(deals)
    cuts = np.concatenate([np.zeros((BLOCKS, 1), dtype=np.int64), np.cumsum(deals, axis=1)], axis=1)
    for number, mine in ids.items():
        if len(mine) > 1:
            shuffle(mine, rng_of("block", number))
    parts = []
    for rank in range(wire.num_ranks):
        chunks = blocks_of(rank, wire.num_ranks)
        pieces = [mine[cuts[block, chunks.start] : cuts[block, chunks.stop]] for block, mine in ids.items()]
        parts.append(np.concatenate([np.empty(0, dtype=dtype), *pieces]))
    ids.clear()
    own = blocks_of(wire.rank, wire.num_ranks)
    come = cuts[:, own.stop] - cuts[:, own.start]  # from each block
    sources = [blocks_of(rank, wire.num_ranks) for rank in range(wire.num_ranks)]
    sizes = np.array([come[source.start : source.stop].sum() for source in sources])
    received = wire.swap(parts, sizes)
    return _joined(received, deals[:, own.start : own.stop], lambda chunk: rng_of("chunk", own.start + chunk))


def _joined(received: Indices, deals: Counts, rng_of: Callable[[int], np.random.Generator]) -> Indices:
    """Returns the chunks one after another, each shuffled, of what the blocks sent to them.

    Args:
        received: of each block in order what it sends to each chunk in order.
        deals: (blocks, chunks) how many.
        rng_of: the generator of a chunk.
    """
    starts = np.concatenate([[0], np.cumsum(deals)]).astype(np.int64)
    found, end = np.empty_like(received), 0
    for chunk in range(deals.shape[1]):
        begin = end
        for block in np.flatnonzero(deals[:, chunk]):
            start, size = starts[block * deals.shape[1] + chunk], int(deals[block, chunk])
            found[end : end + size] = received[start : start + size]
            end += size
        if end - begin > 1:
            shuffle(found[begin:end], rng_of(chunk))
    return found
