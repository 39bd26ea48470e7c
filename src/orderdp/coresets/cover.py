"""Greedy choice of samples that cover all: the sum, over all samples, of the similarity to the nearest one chosen."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.coresets.base import Positions
from orderdp.coresets.greedy import Progress
from orderdp.coresets.similarity import HELD, Held, Similarity, blocks

_ENTRIES = 2**26  # of the lists, in expectation: 512 MiB
_FIRST_PICKS = {True: 128, False: 16}  # with and without the matrix: a list is cheap, a pass over all pairs is not
_PROBES = 64


@dataclass(frozen=True, eq=False)
class Covered:
    """What `greedy_cover` chose.

    Args:
        chosen: (k,) int64, positions in the order of choice.
        owner: (n,) int64, the place in `chosen` of the nearest sample that was chosen, the earlier one of two.
    """

    chosen: Positions
    owner: npt.NDArray[np.int64]


def greedy_cover(similarity: Similarity, size: int, progress: Progress = iter) -> Covered:
    """Adds, `size` times, the sample that raises Σ_i max_{j chosen} s(i, j) most; the lowest position wins a tie.

    The choice is that of plain greedy, which computes all gains at each step. It is faster for two reasons. After a
    pick, a gain changes only by the samples that the pick covers better. And a similarity s(i, j) matters no more,
    once sample i is covered better than that. So the first picks update all gains from blocks of similarities. Then
    one pass keeps, for each candidate, a list of the similarities that still matter. They are few: about n² / t after
    t picks. The later picks are lazy greedy (Minoux 1978) on these lists. A gain never grows, so an old gain is a
    bound; only candidates with the largest bounds are evaluated.

    Up to 8,192 samples all similarities are held. Beyond that they are computed whenever they are needed, and nothing
    has n × n numbers.

    Args:
        similarity: of the samples with themselves.
        size: number of picks, in 1 .. n.
        progress: wraps the steps of whatever takes long.
    """
    n = similarity.num_samples
    held = n <= HELD
    cover = Cover(Held(similarity)) if held else Cover(similarity, _first(similarity), progress)
    picks = progress(range(size))
    for _ in cover.chosen:
        next(picks)
    enough = min(size, _FIRST_PICKS[held])
    while True:
        for _ in range(enough - len(cover.chosen)):
            next(picks)
            cover.add(int(cover.gains.argmax()))  # the first of equal ones
        if enough == size or cover.share_left() * n * n <= _ENTRIES:
            break
        enough = min(size, 2 * enough)
    chosen, owner = cover.chosen, cover.owner.cpu().numpy()
    if len(chosen) < size:
        _continue_lazily(_Lists.of(cover, progress), cover.best.cpu().numpy(), owner, chosen, picks)
    for _ in picks:  # lets the bar end
        pass
    return Covered(np.array(chosen), owner)


def _first(similarity: Similarity) -> int | None:
    """Returns the candidate with the highest sum, if that takes no pass over all pairs."""
    known = similarity.sums()
    if known is None:
        return None
    sums, error = known
    near = (sums >= sums.max() - 2 * error).nonzero()[:, 0]
    parts = blocks(near, similarity.num_samples)
    exact = torch.cat([similarity.of_candidates(rows).sum(1, dtype=torch.float64) for rows in parts])
    return int(near[exact.argmax()])  # the first of equal ones


@dataclass(eq=False)
class Cover:
    """All gains, kept up to date.

    Args:
        similarity: of samples with candidates.
        first: a candidate to begin with, if it is known.
        progress: wraps the pass over all pairs.
        total: adds numbers of this process to those of others that hold other samples.

    Attributes:
        gains: (m,) float64, by how much each candidate would raise the sum; -inf for those chosen.
        best: (n,) float32, similarity of each sample with the nearest candidate chosen.
        owner: (n,) int64, place in `chosen` of that candidate.
        chosen: the candidates chosen.
    """

    similarity: Similarity
    first: int | None = None
    progress: Progress = iter
    total: Callable[[Tensor], Tensor] = lambda numbers: numbers
    gains: Tensor = field(init=False)
    best: Tensor = field(init=False)
    owner: Tensor = field(init=False)
    chosen: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        n, width, device = self.similarity.num_samples, self.similarity.num_candidates, self.similarity.device
        self.best = torch.zeros(n, device=device)
        self.owner = torch.zeros(n, dtype=torch.int64, device=device)
        if self.first is not None:
            self.best = self._column(self.first)
            self.chosen.append(self.first)
        gains = torch.zeros(width, dtype=torch.float64, device=device)
        for rows in self.progress(blocks(torch.arange(n, device=device), width)):
            gains += _sum(self.similarity.of_samples(rows).sub_(self.best[rows, None]).clamp_(min=0))
        self.gains = self.total(gains)
        self.gains[self.chosen] = -torch.inf

    def add(self, candidate: int) -> None:
        """Chooses a candidate."""
        column = self._column(candidate)
        covered = (column > self.best).nonzero()[:, 0]
        lost = torch.zeros_like(self.gains)
        for rows in blocks(covered, len(self.gains)):
            before, after = self.best[rows, None], column[rows, None]
            lost += _sum(self.similarity.of_samples(rows).minimum(after).sub_(before).clamp_(min=0))
        self.gains -= self.total(lost)
        self.gains[candidate] = -torch.inf
        self.best[covered] = column[covered]
        self.owner[covered] = len(self.chosen)
        self.chosen.append(candidate)

    def _column(self, candidate: int) -> Tensor:
        return self.similarity.of_candidates(torch.tensor([candidate], device=self.similarity.device))[0]

    def share_left(self) -> float:
        """Returns the share of similarities that still matter, estimated from some candidates."""
        n = self.similarity.num_candidates
        probes = torch.linspace(0, n - 1, min(n, _PROBES), device=self.best.device).long()
        return float((self.similarity.of_candidates(probes) > self.best).float().mean())


@dataclass(frozen=True, eq=False)
class _Lists:
    """For each candidate, the samples that it would cover better, and their similarities; in blocks of candidates."""

    samples: list[npt.NDArray[np.int32]]
    values: list[npt.NDArray[np.float32]]
    ends: list[list[int]]
    rows: int
    gains: npt.NDArray[np.float64]

    @classmethod
    def of(cls, cover: Cover, progress: Progress) -> _Lists:
        n = len(cover.gains)
        parts = blocks(torch.arange(n, device=cover.best.device), n)
        lists = cls([], [], [], len(parts[0]), np.empty(n))
        for rows in progress(parts):
            values = cover.similarity.of_candidates(rows)
            kept = (values > cover.best).cpu().numpy()
            flat = np.flatnonzero(kept)
            samples = (flat % n).astype(np.int32)
            lists.samples.append(samples)
            lists.values.append(values.cpu().numpy().reshape(-1)[flat])
            lists.ends.append([0, *np.cumsum(np.count_nonzero(kept, axis=1)).tolist()])
        best = cover.best.cpu().numpy()
        for candidate in range(n):
            lists.gains[candidate] = lists.gain(candidate, best)
        return lists

    def of_candidate(self, candidate: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        block, row = divmod(candidate, self.rows)
        begin, end = self.ends[block][row : row + 2]
        return self.samples[block][begin:end], self.values[block][begin:end]

    def gain(self, candidate: int, best: npt.NDArray[np.float32]) -> float:
        samples, values = self.of_candidate(candidate)
        more = values - best.take(samples)
        return float(np.maximum(more, 0, out=more).sum(dtype=np.float64))


def _continue_lazily(
    lists: _Lists, best: npt.NDArray[np.float32], owner: npt.NDArray[np.int64], chosen: list[int], picks: Iterator[int]
) -> None:
    """Adds a candidate to `chosen` for each of the picks left."""
    taken = set(chosen)
    heap = [(-gain, candidate) for candidate, gain in enumerate(lists.gains.tolist()) if candidate not in taken]
    heapq.heapify(heap)
    evaluated_at = np.full(len(lists.gains), len(chosen))
    for pick in picks:
        while evaluated_at[(candidate := heap[0][1])] != pick:
            evaluated_at[candidate] = pick
            heapq.heapreplace(heap, (-lists.gain(candidate, best), candidate))
        heapq.heappop(heap)
        samples, values = lists.of_candidate(candidate)
        better = values > best.take(samples)
        best[samples[better]] = values[better]
        owner[samples[better]] = pick
        chosen.append(candidate)


def _sum(block: Tensor) -> Tensor:
    """Returns the sum of the rows in float64; NumPy adds float32 in float64 without a copy, torch does on a GPU."""
    if block.device.type == "cpu":
        array: npt.NDArray[Any] = block.numpy()
        return torch.from_numpy(array.sum(0, dtype=np.float64))
    return block.sum(0, dtype=torch.float64)


def coverage(similarity: Similarity, chosen: Tensor) -> float:
    """Returns Σ_i max_{j chosen} s(i, j)."""
    best = torch.zeros(similarity.num_samples, device=similarity.device)
    for rows in blocks(chosen, similarity.num_samples):
        torch.maximum(best, similarity.of_candidates(rows).amax(0), out=best)
    return float(best.sum(dtype=torch.float64))
