"""The table of what is remembered of each sample, and how ranks merge it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

Observe = Callable[[Mapping[str, Tensor], Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Faults:
    """Mistakes that `ScoreTable.record` counted, since it cannot refuse them without waiting for the device.

    Args:
        non_finite: samples whose loss was NaN or infinite and so was not recorded.
        foreign: ids of samples that the running epoch did not select.
        repeated: ids that occurred twice in one batch.
    """

    non_finite: int = 0
    foreign: int = 0
    repeated: int = 0

    def announce(self, epoch: int | None) -> None:
        """Raises RuntimeError for wrong ids of this epoch, and warns of losses that were not finite."""
        if self.foreign or self.repeated:
            raise RuntimeError(
                f"index must hold each sample of the epoch once, got {self.foreign} ids that epoch {epoch} "
                f"did not select and {self.repeated} repeated in a batch; take both from pruner.loader, "
                "and do not read ahead into the next epoch"
            )
        if self.non_finite:
            warnings.warn(
                f"{self.non_finite} losses of epoch {epoch} were NaN or infinite and were not recorded; "
                "these samples keep their last score",
                RuntimeWarning,
                stacklevel=4,
            )


class ScoreTable:
    """The columns a strategy remembers, and when each sample was last trained.

    `record` only queues work on the table's device and never waits for it. Each tensor has one spare entry at its end.
    Writes that must not happen go there, so the host need not know which they are.

    Args:
        num_samples: size n of the data set.
        columns: name of each column to its first value.
        device: device of the table; None takes the device of the first losses, and the host before that.
    """

    def __init__(self, num_samples: int, columns: Mapping[str, float], device: torch.device | None) -> None:
        self.num_samples = num_samples
        self._settled = device is not None
        home = device or torch.device("cpu")
        self.columns = {
            name: torch.full((num_samples + 1,), first, dtype=torch.float32, device=home)
            for name, first in columns.items()
        }
        self.last_epoch = torch.full((num_samples + 1,), -1, dtype=torch.int32, device=home)
        self.visits = torch.zeros(num_samples + 1, dtype=torch.int32, device=home)
        self._weights: Tensor | None = None
        # A copy on the host and one on the device, so that ids are checked where they are, without a transfer.
        self._selected_host = np.zeros(num_samples + 1, dtype=np.bool_)
        self._selected = torch.from_numpy(self._selected_host).to(home)
        self._finite = torch.ones(num_samples + 1, dtype=torch.bool, device=home)  # of the last loss of each sample
        self._mistakes = torch.zeros(2, dtype=torch.int64, device=home)  # foreign and repeated ids

    @property
    def device(self) -> torch.device:
        """Where the table lives."""
        return self.last_epoch.device

    def settle(self, device: torch.device) -> None:
        """Moves the table to the device of the first losses, unless the caller chose one.

        Raises:
            ValueError: the losses are on another device than the table.
        """
        if not self._settled:
            self.move(device)
            self._settled = True
        if device != self.device:
            raise ValueError(
                f"losses must be on the table's device {self.device}, got {device}; "
                f"write Pruner(..., device={str(device)!r})"
            )

    def move(self, device: torch.device) -> None:
        """Moves everything to `device`."""
        self.columns = {name: column.to(device, non_blocking=True) for name, column in self.columns.items()}
        for name in ("last_epoch", "visits", "_weights", "_selected", "_finite", "_mistakes"):
            if getattr(self, name) is not None:
                setattr(self, name, getattr(self, name).to(device, non_blocking=True))

    def expect(self, indices: npt.NDArray[np.int64], weights: npt.NDArray[np.float32] | None) -> None:
        """Notes the samples of the epoch that begins, and their weights."""
        self._selected_host = np.zeros(self.num_samples + 1, dtype=np.bool_)
        self._selected_host[indices] = True
        self._selected = torch.from_numpy(self._selected_host).to(self.device)
        self._weights = None
        if weights is not None:
            spread = np.ones(self.num_samples + 1, dtype=np.float32)
            spread[indices] = weights
            self._weights = torch.from_numpy(spread).to(self.device)

    def record(
        self, index: Tensor, values: Tensor, epoch: int, observe: Observe, kept: Tensor | None = None
    ) -> Tensor | None:
        """Remembers what was seen of a batch.

        Args:
            index: (b,) int64 sample ids, on the host or on the table's device. On the host a wrong id raises at once.
                On the device it is counted, and other epochs' samples are not recorded.
            values: (b,) losses or scores, without gradient, on the table's device. A value that is not finite is
                counted and not recorded, but the sample counts as visited.
            epoch: ordinal of the running epoch among those begun, which never goes back.
            observe: the strategy's rule from old columns and values to new columns.
            kept: (b,) bool, which samples were trained; None for all.

        Returns:
            (b,) float32 weights of these samples in the running epoch, or None if all are one.

        Raises:
            IndexError: an id out of range. ValueError: an id repeated, or not of the running epoch.
        """
        # Non-blocking towards a GPU only: on the host the ids are read at once.
        ids = index.to(self.device, torch.int64, non_blocking=self.device.type != "cpu")
        if index.device.type == "cpu":
            self._check(index)
        else:
            ids = self._count_mistakes(ids)
        values = values.to(torch.float32)
        finite = (values - values) == 0  # NaN - NaN and ∞ - ∞ are NaN; half the kernels of torch.isfinite
        visited = ids if kept is None else torch.where(kept, ids, self.num_samples)
        self.last_epoch.index_fill_(0, visited, epoch)
        self._finite[visited] = finite
        recorded = torch.where(finite, visited, self.num_samples)
        old = {name: column.index_select(0, ids) for name, column in self.columns.items()}
        for name, new in observe(old, values).items():
            self.columns[name][recorded] = new
        return None if self._weights is None else self._weights[ids]

    def take_faults(self) -> Faults:
        """Returns what was counted since the last call; waits for the device."""
        foreign, repeated = self._mistakes.tolist()
        faults = Faults(int((~self._finite[:-1]).sum()), foreign, repeated)
        self._finite.fill_(True)  # noqa: FBT003
        self._mistakes.zero_()
        return faults

    def close(self, epoch: int) -> None:
        """Counts a visit for each sample trained in `epoch`."""
        self.visits += self.last_epoch == epoch

    def snapshot(self) -> dict[str, npt.NDArray[np.float32]]:
        """Returns the columns on the host, each (n,) float32, read-only."""
        columns = {name: column[:-1].cpu().numpy() for name, column in self.columns.items()}
        for column in columns.values():
            column.flags.writeable = False
        return columns

    def merge(self, fingerprint: int) -> Faults:
        """Merges what the ranks have seen, in one collective, and returns the faults of all ranks together.

        The newest entry of each sample wins. Its epoch and the bits of its value travel as one integer, so the maximum
        over the ranks keeps them together. Faults and fingerprints travel in separate slots of the same tensor.

        Args:
            fingerprint: 32-bit number of what must be the same on all ranks.

        Raises:
            RuntimeError: the fingerprints differ.
        """
        faults = self.take_faults()
        rank, num_ranks = dist.get_rank(), dist.get_world_size()
        stamp = (self.last_epoch.to(torch.int64) + 1) << 32
        rows = [stamp | (column.view(torch.int32).to(torch.int64) & 0xFFFFFFFF) for column in self.columns.values()]
        slots = torch.zeros(num_ranks, 4, dtype=torch.int64, device=self.device)
        slots[rank] = torch.tensor([faults.non_finite, faults.foreign, faults.repeated, fingerprint])
        packed = torch.cat([*(rows or [stamp]), slots.flatten()])
        # NCCL needs tensors on a GPU, even before the first losses have moved the table there.
        on_wire = packed.cuda() if dist.get_backend() == "nccl" else packed.cpu()
        dist.all_reduce(on_wire, op=dist.ReduceOp.MAX)
        merged, slots = on_wire[: -slots.numel()].to(self.device), on_wire[-slots.numel() :].view(num_ranks, 4)
        if not bool((slots[:, 3] == fingerprint).all()):
            raise RuntimeError(
                "every rank must hold the same pruner, got different strategies, schedules, sizes, seeds or epochs; "
                "build it from the same arguments and load the same state on each rank"
            )
        merged_rows = merged.view(-1, self.num_samples + 1)
        self.last_epoch = ((merged_rows[0] >> 32) - 1).to(torch.int32)
        for name, row in zip(self.columns, merged_rows, strict=False):
            bits = row & 0xFFFFFFFF
            signed = torch.where(bits >= 2**31, bits - 2**32, bits)
            self.columns[name] = signed.to(torch.int32).view(torch.float32)
        return Faults(*slots[:, :3].sum(0).tolist())

    def state_dict(self) -> dict[str, Any]:
        """Returns copies of all that is remembered, without the spare entries."""
        return {
            "columns": {name: column[:-1].clone() for name, column in self.columns.items()},
            "last_epoch": self.last_epoch[:-1].clone(),
            "visits": self.visits[:-1].clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned; checks all of it before changing anything.

        Raises:
            ValueError: other columns or another number of samples.
        """
        if set(state["columns"]) != set(self.columns):
            raise ValueError(
                f"the state must hold the columns {sorted(self.columns)}, got {sorted(state['columns'])}; "
                "load it into a pruner with the strategy that it was saved with"
            )
        for name, saved in {**state["columns"], "last_epoch": state["last_epoch"], "visits": state["visits"]}.items():
            if saved.shape != (self.num_samples,):
                raise ValueError(
                    f"the state must hold {self.num_samples} samples, got {name} of shape {tuple(saved.shape)}; "
                    "load it into a pruner of the data set that it was saved with"
                )
        for name, column in self.columns.items():
            column[:-1] = state["columns"][name]
        self.last_epoch[:-1] = state["last_epoch"]
        self.visits[:-1] = state["visits"]
        self.take_faults()

    def _check(self, index: Tensor) -> None:
        ids = index.numpy()
        ordered = np.sort(ids)
        if ordered[0] < 0 or ordered[-1] >= self.num_samples:
            wrong = ordered[0] if ordered[0] < 0 else ordered[-1]
            raise IndexError(
                f"index must lie in 0 .. {self.num_samples - 1}, got {wrong}; pass the ids that the loader yields"
            )
        repeated = ordered[1:] == ordered[:-1]
        if repeated.any():
            raise ValueError(
                f"index must hold each sample once, got {ordered[1:][repeated][0]} twice or more; "
                "pass the ids that the loader yields"
            )
        if not self._selected_host[ids].all():
            wrong = ids[~self._selected_host[ids]][0]
            raise ValueError(
                f"index must hold samples selected for the running epoch, got {wrong}; take ids and batches from "
                "pruner.loader or pruner.sampler, do not let a framework replace the sampler, and do not read ahead "
                "into the next epoch"
            )

    def _count_mistakes(self, ids: Tensor) -> Tensor:
        inside = (ids >= 0) & (ids < self.num_samples)
        ids = torch.where(inside, ids, self.num_samples)
        foreign = ~self._selected[ids]
        ordered = ids.sort().values
        self._mistakes[0].add_(foreign.sum())
        self._mistakes[1].add_((ordered[1:] == ordered[:-1]).sum())
        return torch.where(foreign, self.num_samples, ids)


def check_batch(index: Tensor, losses: Tensor, scores: Tensor | None) -> None:
    """Raises ValueError unless ids, losses and scores are one batch, by their types and shapes alone."""
    if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype not in (torch.int64, torch.int32):
        got = f"{index.dtype} of shape {tuple(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
        raise ValueError(f"index must be a (b,) int64 tensor, got {got}; pass the ids that the loader yields")
    if not len(index):
        raise ValueError("index must hold at least one sample, got none; leave out the update of an empty batch")
    _check_values(len(index), losses, "losses")
    if not losses.requires_grad:
        raise ValueError(
            "losses must carry a gradient, got requires_grad=False; pass them before .detach() or .item(), and "
            "outside torch.no_grad()"
        )
    if scores is not None:
        _check_values(len(index), scores, "scores")


def _check_values(size: int, values: Tensor, name: str) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = str(values.dtype) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must be a floating tensor, got {got}; pass one loss per sample")
    if values.shape != (size,):
        cure = 'pass one loss per sample (reduction="none")'
        if values.ndim == 1 and len(values) > 1:
            cure = f"take index and {name} from the same batch"
        raise ValueError(f"{name} has shape {tuple(values.shape)}, but the batch has {size} samples; {cure}")
