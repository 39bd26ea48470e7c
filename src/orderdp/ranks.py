"""Distributed training: which processes share the data, and each one's part of every optimiser step."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from orderdp.checks import check_integer
from orderdp.lost_ranks import meeting
from orderdp.schedule import size_of, strategy_of
from orderdp.strategies import Strategy

CALLS = ("begin_epoch", "state_dict", "synchronize")


def ranks(group: Any = None) -> tuple[int, int]:
    """Returns (rank, number of ranks) of a process group, (0, 1) without one.

    Args:
        group: the processes that share the data; None is all of them.

    Raises:
        ValueError: this process is not in the group.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    rank = dist.get_rank(group)
    if rank < 0:
        raise ValueError(
            f"process_group must hold this process, got a group without rank {dist.get_rank()}; "
            "give each process the group of those that share its data"
        )
    return rank, dist.get_world_size(group)


def refuse_lone_rank() -> None:
    """Raises RuntimeError if several processes were launched, and this one does not know the others.

    Called when an epoch begins. Before that, frameworks may still initialise the process group, and nothing is lost.
    """
    launched = os.environ.get("WORLD_SIZE", "")
    if launched.isdecimal() and int(launched) > 1 and not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            f"the {launched} processes of WORLD_SIZE must form a process group before an epoch begins, got none, so "
            "that each would train on all data; call torch.distributed.init_process_group, or write "
            "os.environ.pop('WORLD_SIZE') if they are separate runs"
        )


def group_of(given: Any) -> Any:
    """Returns the process group of a group or of a device mesh with one dimension; None stays None.

    Raises:
        ValueError: a mesh with more dimensions. TypeError: neither a group nor a mesh. RuntimeError: no process group
            has been initialised.
    """
    if given is None:
        return None
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "process_group needs torch.distributed, got a group before it is initialised; call init_process_group first"
        )
    if hasattr(given, "get_group") and hasattr(given, "ndim"):
        if given.ndim != 1:
            raise ValueError(
                f"process_group must be one dimension of the mesh, got {given.ndim} ({given.mesh_dim_names}); "
                "write mesh['dp'] with the name of the data dimension"
            )
        given = given.get_group()
    elsewhere = isinstance(given, int) and given == dist.GroupMember.NON_GROUP_MEMBER  # a group of other processes
    if not isinstance(given, dist.ProcessGroup) and not elsewhere:
        raise TypeError(
            f"process_group must be a process group or a device mesh, got {type(given).__name__}; "
            "write dist.new_group(...) or mesh['dp']"
        )
    ranks(given)
    return given


def wire(group: Any = None) -> torch.device:
    """Returns the device on which a group's collectives need their tensors."""
    return torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")


def agree(
    group: Any, call: str, batching: int, checksum: int, counts: tuple[int, int], end: int
) -> tuple[int, int, int]:
    """Checks in one small collective that all ranks make the same call with the same pruner.

    Args:
        group: the processes that share the data; None is all of them.
        call: name of the call, of `CALLS`.
        batching: 32-bit number of how the epoch is cut into steps.
        checksum: 32-bit number of all else that must be the same on all ranks.
        counts: numbers to add up.
        end: where this rank's epoch ends, as `EpochRecord.end` says.

    Returns:
        The sums of `counts` and the maximum of `end` over the ranks.

    Raises:
        RuntimeError: the ranks differ. LostRankError: another rank ended or did not answer in time.
    """
    rank, num_ranks = ranks(group)
    slots = torch.zeros(num_ranks, 6, dtype=torch.int64)
    slots[rank] = torch.tensor([CALLS.index(call), batching, checksum, *counts, end])
    slots = slots.to(wire(group))
    with meeting(call):
        dist.all_reduce(slots, op=dist.ReduceOp.SUM, group=group)
        told = slots.cpu()
    calls, batchings, checksums, *sums, ends = told.T.tolist()
    if len(set(calls)) > 1:
        made = ", ".join(f"rank {number} in {CALLS[made]}" for number, made in enumerate(calls[:8]))
        raise RuntimeError(
            f"every rank must make the same call, got {made}; call state_dict on every rank, also where one alone "
            "saves the state, and let all ranks make the same number of steps"
        )
    if len(set(checksums)) > 1:
        raise RuntimeError(
            "every rank must hold the same pruner, got different strategies, schedules, sizes, seeds, epochs, "
            "selections or recorded scores; build it from the same arguments and load the same state on each rank"
        )
    if len(set(batchings)) > 1:
        raise RuntimeError(
            "every rank must cut an epoch into the same steps, got different batch_size, drop_last or stable_shapes; "
            "give all ranks the same arguments"
        )
    return sum(sums[0]), sum(sums[1]), max(ends)


@dataclass(frozen=True)
class Batching:
    """How an epoch is cut into optimiser steps.

    Args:
        batch_size: samples of one step on one rank, at most.
        drop_last: full batches only; the samples of the last step are left out if it is not full.
        stable_shapes: full batches and one smaller last step, so that most batches have one shape.

    Raises:
        ValueError: a batch size that is not a positive integer; both of the others.
    """

    batch_size: int
    drop_last: bool = False
    stable_shapes: bool = False

    def __post_init__(self) -> None:
        size = self.batch_size
        if isinstance(size, bool) or not hasattr(size, "__index__") or operator.index(size) < 1:
            raise ValueError(f"batch_size must be a positive integer, got {size!r}; write a number such as 128")
        object.__setattr__(self, "batch_size", operator.index(size))  # a NumPy integer too
        if self.drop_last and self.stable_shapes:
            raise ValueError(
                "stable_shapes keeps the last step and drop_last leaves it out, got both as True; "
                "drop_last alone gives one shape"
            )

    def steps(self, num_selected: int, *, rank: int = 0, num_ranks: int = 1, exact: bool = True) -> Steps:
        """Returns the steps of an epoch.

        Args:
            num_selected: length q of the selection.
            rank: this rank.
            num_ranks: number of ranks.
            exact: False if q depends on the losses. `drop_last` then keeps one step if none is full.

        Raises:
            ValueError: there are no such steps.
        """
        keep_one = not exact and num_ranks <= num_selected < self.batch_size * num_ranks
        return Steps(num_selected, replace(self, drop_last=False) if keep_one else self, rank, num_ranks)


@dataclass(frozen=True)
class Steps(Sequence[tuple[int, int]]):
    """Where each optimiser step of all ranks together begins and ends in the selection.

    The steps follow each other without gaps, from 0. By default their sizes differ by one sample at most, and there are
    as few as `batch_size` allows. With batch_size=1, a step may give a rank two samples where one would be left over.
    With `stable_shapes`, each step takes the next num_ranks·batch_size samples and the last step takes the rest. If the
    rest is less than one sample per rank, the step before it gives up some of its samples.

    Args:
        num_selected: length q of the selection.
        batching: how it is cut.
        rank: this rank.
        num_ranks: number of ranks.

    Raises:
        ValueError: there are no such steps.

    >>> list(Batching(4).steps(10))
    [(0, 3), (3, 6), (6, 10)]
    >>> list(Batching(4, stable_shapes=True).steps(9, num_ranks=2))
    [(0, 7), (7, 9)]
    """

    num_selected: int
    batching: Batching
    rank: int = 0
    num_ranks: int = 1

    def __post_init__(self) -> None:
        q, ranks_, chunk = self.num_selected, self.num_ranks, self.chunk
        if self.batching.drop_last and q < chunk:
            raise ValueError(
                f"drop_last leaves no batch, got {q} selected samples for {ranks_} x {self.batching.batch_size} a "
                "step; give more samples, or write a smaller batch_size or drop_last=False"
            )
        if q < ranks_:
            raise ValueError(
                f"every rank needs a sample in every step, got {q} selected samples for {ranks_} ranks; "
                "prune less or use fewer ranks"
            )

    @property
    def chunk(self) -> int:
        """Samples of a full step of all ranks."""
        return self.batching.batch_size * self.num_ranks

    def __len__(self) -> int:
        q, chunk = self.num_selected, self.chunk
        if self.batching.drop_last:
            return q // chunk
        return min(-(-q // chunk), q // self.num_ranks)

    @overload
    def __getitem__(self, step: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, step: slice) -> list[tuple[int, int]]: ...
    def __getitem__(self, step: int | slice) -> tuple[int, int] | list[tuple[int, int]]:
        if isinstance(step, slice):
            return [self[number] for number in range(*step.indices(len(self)))]
        number = step + len(self) if step < 0 else step
        if not 0 <= number < len(self):
            raise IndexError(f"step must lie in 0 .. {len(self) - 1}, got {step}")
        return self._begin(number), self._begin(number + 1)

    def batch(self, step: int) -> tuple[int, int]:
        """Returns where this rank's batch of a step begins and ends in the selection.

        The ranks share each step evenly. So every rank makes the same number of steps, and the union over the ranks is
        the selection, without repeats.

        >>> steps = Batching(2).steps(10, rank=1, num_ranks=2)
        >>> [steps.batch(step) for step in range(len(steps))]
        [(1, 3), (4, 6), (8, 10)]
        """
        begin, end = self[step]
        size = end - begin
        return begin + size * self.rank // self.num_ranks, begin + size * (self.rank + 1) // self.num_ranks

    def size(self, step: int) -> int:
        """Returns the samples of a step on all ranks together."""
        begin, end = self[step]
        return end - begin

    def factor(self, step: int) -> float:
        """Returns what this rank's mean loss is multiplied by, so that the mean over the ranks is that of the step."""
        begin, end = self.batch(step)
        return self.num_ranks * (end - begin) / self.size(step)

    @property
    def room(self) -> int:
        """About how many samples of the epoch are this rank's."""
        return -(-self[-1][1] // self.num_ranks)

    def numbers(self, positions: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Returns the number of the step of each position, len(self) for a position after the last step."""
        return np.searchsorted(self.begins(), positions, side="right") - 1

    def owned(self, positions: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Returns which positions belong to this rank's batches."""
        begins = self.begins()
        step = np.minimum(np.searchsorted(begins, positions, side="right") - 1, len(self) - 1)
        first, size = begins[step], begins[step + 1] - begins[step]
        offset = np.asarray(positions, dtype=np.int64) - first
        mine = (offset >= size * self.rank // self.num_ranks) & (offset < size * (self.rank + 1) // self.num_ranks)
        return np.asarray(mine)

    def begins(self) -> npt.NDArray[np.int64]:
        """Returns (len(self) + 1,) where each step begins, and where the last one ends."""
        numbers = np.arange(len(self) + 1)
        if not (self.batching.drop_last or self.batching.stable_shapes):
            return self.num_selected * numbers // len(self)
        begins = numbers * self.chunk
        if self.batching.stable_shapes:
            begins[-2:] = self._begin(len(self) - 1), self.num_selected
        return begins

    def _begin(self, step: int) -> int:
        """Returns where a step begins; for len(self), where the last one ends."""
        q, chunk = self.num_selected, self.chunk
        if self.batching.drop_last:
            return step * chunk
        if not self.batching.stable_shapes:
            return q * step // len(self)
        if step == len(self):
            return q
        last = step == len(self) - 1
        return min(step * chunk, q - self.num_ranks) if last else step * chunk


def step_runs(
    strategy: Strategy,
    num_samples: int,
    batching: Batching,
    *,
    epochs: int,
    num_ranks: int = 1,
    schedule: Callable[[Strategy, int], Strategy] | None = None,
) -> list[tuple[int, int | None]]:
    """Returns the optimiser steps of the epochs 0 .. epochs - 1, without selecting a sample.

    Args:
        strategy: the method.
        num_samples: size of the data set.
        batching: how an epoch is cut into steps.
        epochs: number of epochs.
        num_ranks: number of ranks.
        schedule: strategy to use at each epoch, a function of (strategy, epoch); None uses `strategy` throughout.

    Returns:
        (number of epochs, steps of each) for runs of equal epochs, in order. The steps are None if the number of
        samples depends on the losses.

    Raises:
        ValueError: the strategy keeps no sample, or an epoch has no step. TypeError: it declares no whole number.

    >>> from orderdp.strategies import UCB
    >>> step_runs(UCB(prune_ratio=0.5), 1000, Batching(64), epochs=1_000_000)
    [(1, 16), (999999, 8)]
    """

    def steps(epoch: int) -> int | None:
        chooser = strategy_of(schedule, strategy, epoch) if schedule else strategy
        size = size_of(chooser, num_samples, epoch)
        return None if size is None else len(batching.steps(size, num_ranks=num_ranks))

    changes = None if schedule else strategy.size_changes()
    if changes is None:
        return [(sum(1 for _ in run), size) for size, run in groupby(map(steps, range(epochs)))]
    begins = [0, *(epoch for epoch in changes if epoch < epochs), epochs]
    return [(end - begin, steps(begin)) for begin, end in pairwise(begins) if end > begin]


def total(runs: Sequence[tuple[int, int | None]], *, of: str, accumulate: int = 1) -> int:
    """Returns the sum of all steps.

    Args:
        runs: as `step_runs` returns them.
        of: what the steps belong to, for the message.
        accumulate: how many of them make one together; the last one of an epoch may have fewer.

    Raises:
        ValueError: steps that depend on the losses; an accumulation of no steps.
    """
    accumulate = check_integer("accumulate", accumulate, 1, 2**31, "write how many batches make one optimiser step")
    begun = steps = 0
    for epochs, each in runs:
        if each is None:
            raise ValueError(
                f"the steps of {of} depend on the losses, got epoch {begun} of unknown size; let the learning rate "
                "follow the share of the run that is done, (epoch + step / steps) / epochs with "
                "steps = pruner.steps_per_epoch(batch_size, epoch=epoch) taken inside the epoch"
            )
        begun += epochs
        steps += epochs * -(-each // accumulate)
    return steps
