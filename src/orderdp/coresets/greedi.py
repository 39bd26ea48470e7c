"""Greedy choice from data that no single machine holds, in two rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from orderdp.coresets.base import Positions, Subset
from orderdp.coresets.cover import Cover, coverage
from orderdp.coresets.evidence import Evidence, Floats
from orderdp.coresets.facility_location import FacilityLocation
from orderdp.coresets.farthest import farthest_first, to_nearest
from orderdp.coresets.k_center import KCenter, separated
from orderdp.coresets.quotas import check_size
from orderdp.coresets.rows import unit_rows
from orderdp.coresets.similarity import Cosine
from orderdp.ranks import group_of, ranks, wire


def greedi(
    method: FacilityLocation | KCenter,
    evidence: Evidence,
    size: int,
    *,
    seed: int = 0,
    process_group: Any = None,
    device: str | torch.device = "cpu",
    show: bool = False,
) -> Subset:
    """Returns `size` samples of all ranks, the same on every rank. Each rank calls it with the samples that it holds.

    In the first round each rank chooses `size` of its own samples. Their features are gathered. In the second round
    `size` of these are chosen, by how well they cover the samples of all ranks. The subset kept is the best of the
    second round's and of those of single ranks. Communication is the features chosen and, for facility location, one
    number for each of them at each pick.

    Classes are ignored. For quotas, call it once for each class.

    Args:
        method: `FacilityLocation()` or `KCenter()`.
        evidence: features of this rank's samples.
        size: how many samples to keep, at most those of all ranks together.
        seed: breaks ties.
        process_group: the ranks that share the data; None for all.
        device: where large products are computed.
        show: show progress bars of the first round.

    Returns:
        Positions in the samples of all ranks, those of rank 0 first.

    Raises:
        TypeError: another method, or a size that is no whole number.
        ValueError: a Gaussian kernel, no features, other numbers of features or another size on other ranks, or a
            size that does not fit.

    Source: Mirzasoleiman et al., "Distributed submodular maximization: Identifying representative elements in massive
        data", NeurIPS 2013, the protocol GreeDi. Departures: the second round counts the samples of all ranks, not of
        one. For K-Center, the better subset is the one with the smaller radius; the publication has no such case.
    """
    if not isinstance(method, FacilityLocation | KCenter):
        raise TypeError(f"method must be FacilityLocation() or KCenter(), got {method!r}")
    if isinstance(method, FacilityLocation) and method.kernel != "cosine":
        raise ValueError(f'greedi needs the kernel "cosine", got {method.kernel!r}; its scale is that of all samples')
    group = _Group(process_group)
    counts = group.counts(evidence, size)
    size = check_size(size, sum(counts))
    own = method.choose(
        evidence, min(size, evidence.num_samples), quotas=None, seed=seed + group.rank, device=device, show=show
    ).indices
    taken = [min(size, count) for count in counts]
    features = group.gathered(np.asarray(evidence.features)[own], taken)
    positions = group.gathered(own + sum(counts[: group.rank]), taken)
    second = _Covering if isinstance(method, FacilityLocation) else _Centring
    problem = second(evidence.features, features, torch.device(device), group)
    ends = np.cumsum(taken)
    candidates = [problem.chosen(size)]
    candidates += [np.arange(end - size, end) for end, number in zip(ends, taken, strict=True) if number == size]
    values = [problem.value(candidate) for candidate in candidates]
    return Subset(positions[candidates[int(np.argmax(values))]])


class _Group:
    """The ranks that share the data; without a process group, this process alone."""

    def __init__(self, process_group: Any) -> None:
        self._group = group_of(process_group)
        self.rank, self.num_ranks = ranks(self._group)

    def counts(self, evidence: Evidence, size: int) -> list[int]:
        """Returns the number of samples of each rank, and checks that all ranks ask for the same."""
        features = evidence.features
        width = 0 if features is None else features.shape[1]
        own = torch.tensor([evidence.num_samples, width, size])
        told = torch.stack(self._gather(own, [len(own)] * self.num_ranks)).T.tolist()
        for what, numbers in zip(("features", "size"), told[1:], strict=True):
            if len(set(numbers)) > 1 or 0 in numbers:
                raise ValueError(f"every rank must have the same {what}, at least one, got {numbers} by rank")
        return [int(count) for count in told[0]]

    def gathered(self, rows: npt.NDArray[Any], counts: list[int]) -> npt.NDArray[Any]:
        """Returns the rows of all ranks, those of rank 0 first."""
        return torch.cat(self._gather(torch.from_numpy(rows), counts)).numpy()

    def sum(self, numbers: Tensor) -> Tensor:
        """Returns the sums over the ranks."""
        return self._reduced(numbers, dist.ReduceOp.SUM)

    def largest(self, number: float) -> float:
        """Returns the largest number of a rank."""
        return float(self._reduced(torch.tensor(number, dtype=torch.float64), dist.ReduceOp.MAX))

    def _gather(self, rows: Tensor, counts: list[int]) -> list[Tensor]:
        if self.num_ranks == 1:
            return [rows]
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        padded = padded.to(wire(self._group))
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded, group=self._group)
        return [part[:count].cpu() for part, count in zip(parts, counts, strict=True)]

    def _reduced(self, numbers: Tensor, operation: Any) -> Tensor:
        if self.num_ranks == 1:
            return numbers
        sent = numbers.to(wire(self._group), copy=True)
        dist.all_reduce(sent, op=operation, group=self._group)
        return sent.to(numbers.device)


class _Covering:
    """The second round of facility location, over the samples of all ranks."""

    def __init__(self, features: Floats, candidates: Floats, device: torch.device, group: _Group) -> None:
        self._similarity = Cosine(unit_rows(features, device), unit_rows(candidates, device))
        self._group = group

    def chosen(self, size: int) -> Positions:
        cover = Cover(self._similarity, total=self._group.sum)
        for _ in range(size):
            cover.add(int(cover.gains.argmax()))
        return np.array(cover.chosen, dtype=np.int64)

    def value(self, chosen: Positions) -> float:
        covered = coverage(self._similarity, torch.from_numpy(chosen).to(self._similarity.device))
        return float(self._group.sum(torch.tensor(covered, dtype=torch.float64)))


class _Centring:
    """The second round of K-Center. A subset's value is minus its squared radius, over the samples of all ranks."""

    def __init__(self, features: Floats, candidates: Floats, device: torch.device, group: _Group) -> None:
        both, scale = separated(np.concatenate([features, candidates]), device)
        self._samples = both.take(slice(0, len(features)))
        self._candidates = both.take(slice(len(features), None))
        self._scale = scale
        self._alone, _ = separated(candidates, device)  # the same numbers on every rank
        self._group = group

    def chosen(self, size: int) -> Positions:
        return farthest_first(self._alone, int(self._alone.own.argmin()), size)

    def value(self, chosen: Positions) -> float:
        centres = self._candidates.take(torch.from_numpy(chosen).to(self._candidates.own.device))
        return -self._group.largest(self._scale**2 * float(to_nearest(self._samples, centres).max()))
