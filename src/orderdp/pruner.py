"""The one object that a training loop holds."""

from __future__ import annotations

import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.loader import PrunedLoader
from orderdp.ranks import batch_bounds, ranks
from orderdp.rng import generator, uniforms
from orderdp.samplers import PrunedBatchSampler, PrunedSampler
from orderdp.schedule import Constant, Schedule
from orderdp.scores import Faults, ScoreTable
from orderdp.strategies import Memory, Selection, Strategy

STATE_VERSION = 1


@dataclass(frozen=True)
class Report:
    """What a pruner has done so far.

    Args:
        epoch: number of the running or last epoch, from 0; -1 before the first.
        num_samples: size n of the data set.
        num_selected: samples that this epoch visits.
        visits: samples trained in all epochs together, the running one included.
        never_seen: samples that no epoch has trained.
        mean_age: epochs since a sample was last trained, mean over those seen; nan where none was.
        max_age: the largest such age; 0 where none was.
        non_finite: losses that were NaN or infinite and so were not recorded.
        selection_s: seconds spent on choosing.
    """

    epoch: int
    num_samples: int
    num_selected: int
    visits: int
    never_seen: int
    mean_age: float
    max_age: int
    non_finite: int
    selection_s: float


class Pruner:
    """Chooses what each epoch visits, and remembers the losses.

    The choice of an epoch is a pure function of (strategy, what was remembered, seed, epoch): the same with any number
    of workers, ranks and restarts. Under torch.distributed all ranks hold the same pruner; what they observed is
    exchanged in one collective when the next epoch begins.

    Args:
        strategy: the method, such as `OrderDP(prune_ratio=0.5)`.
        num_samples: size of the data set, `len(dataset)`.
        seed: decides every draw, 0 <= seed < 2**64.
        schedule: strategy to use at each epoch, a function of (strategy, epoch); None uses `strategy` throughout.
        device: where the table lives; None takes the device of the first losses.

    Raises:
        TypeError: arguments of another type. ValueError: a seed out of range, or sizes that keep no sample.

    >>> from orderdp import OrderDP
    >>> pruner = Pruner(OrderDP(prune_ratio=0.5), 1000, seed=0)
    >>> pruner.steps_per_epoch(batch_size=64)
    8
    """

    def __init__(
        self,
        strategy: Strategy,
        num_samples: int,
        *,
        seed: int = 0,
        schedule: Schedule | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if not isinstance(strategy, Strategy):
            raise TypeError(f"strategy must be a Strategy, got {strategy!r}; write OrderDP(prune_ratio=0.5)")
        _check_integer("num_samples", num_samples, 1, 2**63, "write len(dataset)")
        _check_integer("seed", seed, 0, 2**64, "write a number such as 0")
        self.strategy = strategy
        self.num_samples = int(num_samples)  # a NumPy integer in the state could not be loaded with weights_only=True
        self.seed = int(seed)
        self.schedule = schedule or Constant()
        self._device = None if device is None else torch.device(device)
        self._table = ScoreTable(self.num_samples, strategy.columns, self._device or torch.device("cpu"))
        self._next_epoch = 0
        self._running: int | None = None  # epoch of the present selection
        self._begun = 0  # epochs begun: what the table is stamped with, since `set_epoch` may go back
        self._loaded = False  # a state was loaded, and no epoch begun since
        self._resume = False  # that state was taken inside its epoch
        self.selection: Selection | None = None  # what the epoch begun last visits
        self._chooser = strategy  # strategy of the present selection
        self._non_finite = 0
        self.selection_s = 0.0  # seconds spent on choosing so far
        self.num_selected(0)

    @property
    def epoch(self) -> int:
        """The epoch begun last; before the first one and after loading a state, the one that comes next."""
        return self._next_epoch if self._running is None or self._loaded else self._running

    @property
    def resuming(self) -> bool:
        """Whether the next epoch to begin is the rest of one that a loaded state had begun."""
        return self._resume and self._running == self._next_epoch

    def num_selected(self, epoch: int | None = None) -> int:
        """Returns how many samples an epoch visits; None is the next one to begin.

        Exact where the strategy declares it, and for the epoch begun last. For another one, where the number depends on
        the losses, it is that of the epoch begun last, and before the first n, the most there can be.
        """
        epoch = self._next_epoch if epoch is None else epoch
        declared = self._declared(epoch)
        if declared is not None:
            return declared
        return self.num_samples if self.selection is None else len(self.selection.indices)

    def _declared(self, epoch: int) -> int | None:
        return self.schedule(self.strategy, epoch).num_selected(self.num_samples, epoch)

    def steps_per_epoch(self, batch_size: int, *, drop_last: bool = False, epoch: int | None = None) -> int:
        """Returns the exact number of optimiser steps of an epoch.

        Args:
            batch_size: samples of one step on one rank.
            drop_last: as given to the loader.
            epoch: which one; None is the next to begin.
        """
        return len(batch_bounds(self.num_selected(epoch), batch_size, drop_last=drop_last, num_ranks=ranks()[1]))

    def total_steps(self, epochs: int, batch_size: int, *, drop_last: bool = False) -> int:
        """Returns the exact number of optimiser steps of epochs 0 .. epochs - 1, to size a learning-rate schedule.

        Raises:
            ValueError: the strategy's number of samples depends on the losses.
        """
        _check_integer("epochs", epochs, 1, 2**31, "write a number such as 90")
        unknown = [epoch for epoch in range(epochs) if self._declared(epoch) is None]
        if unknown:
            raise ValueError(
                f"the steps of {_shown(self.strategy)} depend on the losses, got epoch {unknown[0]} of unknown size; "
                "let the learning rate follow the share of the run that is done, (epoch + step / steps) / epochs with "
                "steps = pruner.steps_per_epoch(batch_size, epoch=epoch) taken inside the epoch"
            )
        return sum(self.steps_per_epoch(batch_size, drop_last=drop_last, epoch=epoch) for epoch in range(epochs))

    def loader(
        self,
        dataset: Any,
        *,
        batch_size: int = 1,
        drop_last: bool = False,
        collate_fn: Callable[[Any], Any] | None = None,
        **dataloader_arguments: Any,
    ) -> PrunedLoader:
        """Returns a DataLoader of (index, batch) over the chosen samples; see `PrunedLoader` for the arguments."""
        return PrunedLoader(
            self, dataset, batch_size=batch_size, drop_last=drop_last, collate_fn=collate_fn, **dataloader_arguments
        )

    def sampler(self, batch_size: int | None = None, *, drop_last: bool = False) -> PrunedBatchSampler | PrunedSampler:
        """Returns a sampler for a loop that builds its own DataLoader; wrap the data set in `IndexedDataset`.

        Args:
            batch_size: samples of one step on one rank, for `DataLoader(batch_sampler=...)`; None gives ids one by one,
                for `DataLoader(sampler=...)`.
            drop_last: leave out the last step of an epoch if it is not full; with `batch_size` only.
        """
        return PrunedSampler(self) if batch_size is None else PrunedBatchSampler(self, batch_size, drop_last=drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the next one to begin. Only needed to leave the order 0, 1, 2, ..."""
        _check_integer("epoch", epoch, 0, 2**31, "write the number of the epoch, from 0")
        self._next_epoch = int(epoch)

    def worker_seed(self) -> int:
        """Returns the seed of this rank's worker processes in the next epoch to begin."""
        return int(generator(self.seed, self._next_epoch, f"workers of rank {ranks()[0]}").integers(2**63))

    def begin_epoch(self, batch_size: int | None = None) -> Selection:
        """Begins the next epoch and returns what it visits; loader and sampler call this.

        After loading a state that was taken inside an epoch, returns the selection of that epoch.

        Args:
            batch_size: samples of one optimiser step over all ranks, for strategies that choose by the step.

        Raises:
            RuntimeError: ids on the device were mistaken in the epoch before; the ranks hold different pruners; the
                strategy selects something else than it declares.
        """
        begin_s = time.perf_counter()
        resuming = self.resuming
        self._synchronize(self.schedule(self.strategy, self._next_epoch))
        self._chooser = self._scheduled(self._next_epoch)
        if not resuming:
            self.selection = self._choose(self._chooser, batch_size)
            if self._begun:
                self._table.close(self._begun - 1)
            self._begun += 1
            self._running = self._next_epoch
        assert self.selection is not None
        assert self._running is not None
        self._table.expect(self.selection.indices, self.selection.weights)
        self._next_epoch = self._running + 1
        self._loaded = self._resume = False
        self.selection_s += time.perf_counter() - begin_s
        return self.selection

    def preview(self, batch_size: int | None = None) -> Selection:
        """Returns what the next epoch would visit if it began now, and changes nothing.

        Under several ranks call `synchronize` on all of them before.

        Args:
            batch_size: as for `begin_epoch`.

        Raises:
            ValueError: the schedule names a strategy that needs other columns than are remembered.
        """
        if self.resuming:
            assert self.selection is not None
            return self.selection
        return self._choose(self._scheduled(self._next_epoch), batch_size)

    def _scheduled(self, epoch: int) -> Strategy:
        chooser = self.schedule(self.strategy, epoch)
        if not set(chooser.columns) <= set(self._table.columns):
            raise ValueError(
                f"a scheduled strategy must do with the columns {sorted(self._table.columns)}, got {_shown(chooser)} "
                "which needs others; build the pruner with the strategy that remembers most"
            )
        return chooser

    def _choose(self, chooser: Strategy, batch_size: int | None) -> Selection:
        visits = self.visits().cpu().numpy()
        visits.flags.writeable = False
        previous, previous_epoch = self._previous(chooser)
        columns = self._table.snapshot()
        memory = Memory(self.num_samples, self._next_epoch, columns, batch_size, previous, previous_epoch, visits)
        selection = chooser.select(memory, generator(self.seed, self._next_epoch, "select"))
        _check_selection(chooser, selection, self.num_samples, self._next_epoch)
        return selection

    def _previous(self, chooser: Strategy) -> tuple[npt.NDArray[np.int64], int] | tuple[None, None]:
        """Returns what the epoch begun last visits and its number, if the same strategy chose it, by value."""
        if self.selection is None or self._running is None or self.schedule(self.strategy, self._running) != chooser:
            return None, None
        previous = self.selection.indices.view()
        previous.flags.writeable = False  # the strategy's hands only
        return previous, self._running

    def update(self, index: Tensor, losses: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Remembers the losses of a batch and returns the scalar to back-propagate, the mean of weights·losses.

        Queues its work on the device and never waits for it; `losses` is not changed. A loss that is NaN or infinite is
        not recorded; how many there were is warned of when the epoch is over.

        Args:
            index: (b,) int64 ids as the loader yields them. Best left on the host, where a mistake raises at once; on
                a GPU it is found when the epoch is over.
            losses: (b,) floating, one loss for each sample, with gradient.
            scores: (b,) to remember in place of the losses; higher is kept.

        Returns:
            () scalar with gradient.

        Raises:
            ValueError: losses reduced, of another length, without gradient or on another device than the table; ids
                repeated or not of this epoch. IndexError: ids out of range. RuntimeError: no epoch has begun.
        """
        if self._running is None or self._loaded:
            raise RuntimeError("update needs an epoch, got none begun; take index and batch from pruner.loader")
        _check_batch(index, losses, "losses")
        if not losses.requires_grad:
            raise ValueError(
                "losses must carry a gradient, got requires_grad=False; pass them before .detach() or .item(), and "
                "outside torch.no_grad()"
            )
        if scores is not None:
            _check_batch(index, scores, "scores")
        seen = losses.detach()
        if self._device is None:
            self._device = seen.device
            self._table.move(seen.device)
        if seen.device != self._table.device:
            raise ValueError(
                f"losses must be on the table's device {self._table.device}, got {seen.device}; "
                f"write Pruner(..., device={str(seen.device)!r})"
            )
        values = seen if scores is None else scores.detach().to(seen.device, non_blocking=seen.device.type != "cpu")
        epoch, waits = self._running, seen.device.type == "cpu"
        factors = self._chooser.batch_weights(
            values.to(torch.float32),
            lambda: uniforms(index.to(seen.device, non_blocking=not waits), self.seed, epoch),
        )
        kept = None if factors is None else factors != 0
        weights = self._table.record(index, values, self._begun - 1, self.strategy.observe, kept)
        if factors is not None and kept is not None:
            losses = torch.where(kept, losses, 0) * factors  # zero times a loss that is not finite would be NaN
        if weights is not None:
            losses = losses * weights
        return losses.mean()

    def synchronize(self) -> None:
        """Gives every rank what any rank has seen, in one collective, and warns of losses that were not finite.

        Every rank must call it. Beginning an epoch and `state_dict` do this themselves; in between, and after the last
        epoch, `report`, `visits`, `ages`, `trained` and `scores` of a rank know of the running epoch only what that
        rank has trained.

        Raises:
            RuntimeError: ids on the device were mistaken; the ranks hold different pruners.
        """
        self._synchronize(self._chooser)

    def _synchronize(self, chooser: Strategy) -> None:
        """As `synchronize`, for ranks that must also have in common which strategy their schedules name."""
        if ranks()[1] > 1:
            strategies = (repr(self.strategy), repr(chooser))
            common = (*strategies, self.num_samples, self.seed, self._next_epoch, self._running)
            self._note(self._table.merge(zlib.crc32(repr(common).encode())))
        else:
            self._note(self._table.take_faults())

    def report(self) -> Report:
        """Returns what was chosen, seen and left out so far; waits for the device.

        Under several ranks call `synchronize` on all of them before.
        """
        if ranks()[1] == 1:  # else what this rank took, the others would never hear of
            self._note(self._table.take_faults())
        ages = self.ages()
        seen = ages >= 0
        running = -1 if self._running is None else self._running
        return Report(
            epoch=running,
            num_samples=self.num_samples,
            num_selected=0 if self.selection is None else len(self.selection.indices),
            visits=int(self.visits().sum()),
            never_seen=int((~seen).sum()),
            mean_age=float(ages[seen].double().mean()),
            max_age=int(ages[seen].max()) if seen.any() else 0,
            non_finite=self._non_finite,
            selection_s=self.selection_s,
        )

    def visits(self) -> Tensor:
        """Returns (n,) int32: in how many epochs each sample was trained, the running one included.

        Under several ranks call `synchronize` on all of them before.
        """
        visits = self._table.visits[:-1]
        return visits if self._running is None else visits + self.trained()

    def ages(self) -> Tensor:
        """Returns (n,) int32: epochs begun since each sample was last trained, -1 where it never was.

        0 for what the epoch begun last has trained. A sample whose loss was not finite was trained, though the score
        that it keeps is older. Under several ranks call `synchronize` on all of them before.
        """
        last = self._table.last_epoch[:-1]
        return torch.where(last >= 0, self._begun - 1 - last, -1)

    def trained(self) -> Tensor:
        """Returns (n,) bool: which samples the epoch begun last has trained so far; none before the first.

        Under several ranks call `synchronize` on all of them before.
        """
        return self._table.last_epoch[:-1] == (self._begun - 1 if self._begun else -2)

    def scores(self) -> dict[str, Tensor]:
        """Returns copies of the remembered columns by name, each (n,) float32."""
        return {name: column[:-1].clone() for name, column in self._table.columns.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns all that decides the choices to come: tensors and plain values only.

        Inside an epoch take the state of the loader, or of the sampler of batches, instead: it adds the position. Under
        several ranks every rank must call it: what the ranks have seen is exchanged first.
        """
        self.synchronize()
        selection = self.selection
        return {
            "version": STATE_VERSION,
            "strategy": repr(self.strategy),
            "num_samples": self.num_samples,
            "seed": self.seed,
            "next_epoch": self._running + 1 if self.resuming and self._running is not None else self._next_epoch,
            "running": self._running,
            "begun": self._begun,
            "indices": None if selection is None else torch.from_numpy(selection.indices.copy()),
            "weights": None
            if selection is None or selection.weights is None
            else torch.from_numpy(selection.weights.copy()),
            "non_finite": self._non_finite,
            "selection_s": self.selection_s,
            "table": self._table.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, resume: bool = False) -> None:
        """Restores what `state_dict` returned; the next epoch to begin is the one after it.

        Args:
            state: of a pruner with the same strategy, size and seed.
            resume: begin with the saved epoch's own selection again, as the loader does inside an epoch.

        Raises:
            ValueError: the state does not fit; nothing is changed.
        """
        if "pruner" in state:
            raise ValueError(
                f"the state must be one of a pruner, got a loader's with the keys {sorted(state)}; "
                "give it to loader.load_state_dict, or write state['pruner']"
            )
        if state.get("version") != STATE_VERSION:
            raise ValueError(
                f"the state must be of version {STATE_VERSION}, got {state.get('version')}; "
                "load it with the release of orderdp that wrote it"
            )
        for name, now in (
            ("strategy", repr(self.strategy)),
            ("num_samples", self.num_samples),
            ("seed", self.seed),
        ):
            if state[name] != now:
                raise ValueError(
                    f"the state must be of {name} {_shown(now)}, got {_shown(state[name])}; "
                    "build the pruner as it was saved"
                )
        running, begun = state["running"], state["begun"]
        indices, weights = state["indices"], state["weights"]
        self._table.load_state_dict(state["table"])
        self.selection = (
            None
            if indices is None
            else Selection(indices.cpu().numpy().copy(), None if weights is None else weights.cpu().numpy().copy())
        )
        self._chooser = self.strategy  # of no epoch yet
        self._running, self._begun = running, begun
        self._loaded, self._resume = True, resume and self._running is not None
        self._next_epoch = state["running"] if self._resume else state["next_epoch"]
        self._non_finite = state["non_finite"]
        self.selection_s = state["selection_s"]

    def _note(self, faults: Faults) -> None:
        self._non_finite += faults.non_finite
        if faults.foreign or faults.repeated:
            raise RuntimeError(
                f"index must hold each sample of the epoch once, got {faults.foreign} ids that epoch {self._running} "
                f"did not select and {faults.repeated} repeated in a batch; take both from pruner.loader, "
                "and read no batch of the next epoch ahead"
            )
        if faults.non_finite:
            warnings.warn(
                f"{faults.non_finite} losses of epoch {self._running} were NaN or infinite and were not recorded; "
                "these samples keep their last score",
                RuntimeWarning,
                stacklevel=3,
            )


def _shown(value: object) -> str:
    """Returns a value as a message shows it, its middle left out where it is long."""
    text = str(value)
    return text if len(text) <= 200 else f"{text[:120]} ... {text[-60:]}"


def _check_selection(strategy: Strategy, selection: Selection, num_samples: int, epoch: int) -> None:
    """Raises unless a selection is what its strategy declares; O(n) with a small constant."""
    indices, weights = selection.indices, selection.weights
    declared = strategy.num_selected(num_samples, epoch)
    if not isinstance(indices, np.ndarray) or indices.dtype != np.int64 or indices.ndim != 1:
        broken = f"a (q,) int64 array, got {_kind(indices)}"
    elif declared not in (None, len(indices)):
        broken = f"as many samples as num_selected says, {declared}, got {len(indices)}"
    elif not len(indices):
        broken = "at least one sample, got none"
    elif indices.min() < 0 or indices.max() >= num_samples:
        broken = f"positions in 0 .. {num_samples - 1}, got {indices.min()} .. {indices.max()}"
    elif (distinct := _num_distinct(indices, num_samples)) < len(indices):
        broken = f"distinct samples, got {len(indices)} of which {distinct} differ"
    elif weights is not None and (
        not isinstance(weights, np.ndarray) or weights.dtype != np.float32 or weights.shape != indices.shape
    ):
        broken = f"one float32 weight a sample, got {_kind(weights)} for {len(indices)}"
    else:
        return
    raise RuntimeError(
        f"{_shown(strategy)} must select {broken} in epoch {epoch}; run orderdp.testing.check_strategy on it"
    )


def _num_distinct(indices: npt.NDArray[np.int64], num_samples: int) -> int:
    seen = np.zeros(num_samples, dtype=np.bool_)
    seen[indices] = True
    return int(np.count_nonzero(seen))


def _kind(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _check_integer(name: str, value: Any, low: int, high: int, instead: str) -> None:
    rule = f"{name} must be an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{rule}, got {type(value).__name__} {value!r}"[:200] + f"; {instead}")
    if not low <= value < high:
        raise ValueError(f"{rule} and less than {high}, got {value}; {instead}")


def _check_batch(index: Tensor, values: Tensor, name: str) -> None:
    if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype not in (torch.int64, torch.int32):
        got = f"{index.dtype} of shape {tuple(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
        raise ValueError(f"index must be a (b,) int64 tensor, got {got}; pass the ids that the loader yields")
    if not len(index):
        raise ValueError("index must hold at least one sample, got none; leave out the update of an empty batch")
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = str(values.dtype) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must be a floating tensor, got {got}; pass one loss per sample")
    if values.shape != index.shape:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, but the batch has {len(index)} samples; "
            'pass one loss per sample (reduction="none")'
        )
