"""The running and the next epoch: what each visits, and how a loaded state is resumed."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import is_dataclass
from itertools import takewhile
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from orderdp.ranks import Batching, Steps
from orderdp.rng import generator
from orderdp.schedule import Constant, size_of, strategy_of
from orderdp.scores import mask_of
from orderdp.strategies import Memory, Selection, Strategy

_FORESEEN = 100  # epochs for which a state holds what the schedule names


class EpochSource(Protocol):
    """What loaders and samplers need. A `Pruner` provides it, and any other object may.

    A loader begins an epoch with each pass. It saves the state of this object together with how it cuts an epoch into
    steps.
    """

    @property
    def num_samples(self) -> int:
        """Size of the data set."""

    @property
    def resuming(self) -> bool:
        """Whether the next epoch resumes one that a loaded state had begun."""

    def ranks(self) -> tuple[int, int]:
        """Returns (rank, number of ranks) among those that share the data."""

    def num_selected(self) -> int:
        """Returns how many samples the next epoch visits; an estimate if that depends on the losses."""

    def begin_epoch(
        self, batch_size: int | None = None, *, drop_last: bool = False, stable_shapes: bool = False
    ) -> Selection:
        """Begins the next epoch, or resumes the loaded one, and returns what it visits.

        Args:
            batch_size: samples of one step on one rank; None if the training loop forms the batches.
            drop_last: full batches only.
            stable_shapes: full batches and a rest, instead of batches that are as equal as possible.
        """

    def steps_of(self, batching: Batching, num_selected: int) -> Steps:
        """Returns the steps of an epoch of that size, with this rank's part of each."""

    def check_steps(self, batching: Batching) -> None:
        """Raises ValueError if an epoch to come is known to be too small for a step."""

    def steps_done(self, steps: Steps) -> npt.NDArray[np.bool_]:
        """Returns (len(steps),) bool: which steps of the epoch begun last have been trained, on any rank."""

    def end_epoch(self, last: int) -> None:
        """Notes that the loop has received every batch of the epoch begun last.

        Args:
            last: number of the last step that came, perhaps not trained yet; -1 if none came.
        """

    def total_steps(
        self,
        epochs: int,
        batch_size: int,
        *,
        drop_last: bool = False,
        stable_shapes: bool = False,
        accumulate: int = 1,
    ) -> int:
        """Returns the number of optimiser steps of epochs 0 .. epochs - 1, each of `accumulate` batches at most."""

    def worker_seed(self) -> int:
        """Returns the seed of this rank's worker processes in the next epoch, in [0, 2**63)."""

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and plain values; `indices` holds the (q,) selection of the epoch begun last, or None."""

    def load_state_dict(self, state: Mapping[str, Any], *, resume: bool = False, change: Collection[str] = ()) -> None:
        """Restores a state.

        Args:
            state: what `state_dict` returned.
            resume: begin with the saved epoch and its selection, not with the epoch after it.
            change: names of settings that may differ from those of the state.
        """


class Epochs:
    """The running epoch, the next epoch, and what they visit.

    What an epoch visits is a pure function of (strategy, what is remembered, seed, epoch). Epoch numbers may go back or
    be repeated, so each epoch that begins also has an ordinal, which only grows.

    Args:
        strategy: the method.
        num_samples: size of the data set.
        seed: decides every draw.
        schedule: strategy to use at each epoch, a function of (strategy, epoch).
        fingerprint: name or digest of the data set; None compares none.
    """

    def __init__(
        self,
        strategy: Strategy,
        num_samples: int,
        *,
        seed: int,
        schedule: Callable[[Strategy, int], Strategy],
        fingerprint: str | None = None,
    ) -> None:
        self.strategy = strategy
        self.num_samples = num_samples
        self.seed = seed
        self.schedule = schedule
        self.fingerprint = fingerprint
        self.next = 0  # number of the epoch to begin next
        self.running: int | None = None  # number of the epoch begun last
        self.selection: Selection | None = None  # what the epoch begun last visits
        self.chooser = strategy  # of the epoch begun last
        self.mask: npt.NDArray[np.bool_] | None = None  # (n,) which samples were selected last; None if not known
        self.added = 0  # samples drawn beside those that the strategy selected, since they were too few
        self._chose = ""  # its repr, which a state may bring
        self.begun = 0  # how many epochs have begun
        self._loaded = False  # a state was loaded, and no epoch has begun since
        self._resume = False  # that state is to be resumed inside its epoch

    @property
    def ordinal(self) -> int:
        """How many epochs had begun before the one begun last; -1 before the first."""
        return self.begun - 1

    @property
    def is_open(self) -> bool:
        """Whether an epoch has begun whose batches may be trained now."""
        return self.running is not None and not self._loaded

    @property
    def resuming(self) -> bool:
        """Whether the next epoch resumes one that a loaded state had begun."""
        return self._resume and self.running == self.next

    def scheduled(self, epoch: int | None = None) -> Strategy:
        """Returns the strategy that the schedule names for an epoch; None is the next one."""
        return strategy_of(self.schedule, self.strategy, self.next if epoch is None else epoch)

    def declared(self, epoch: int | None = None) -> int | None:
        """Returns how many samples the strategy of an epoch declares; None if that depends on the losses."""
        epoch = self.next if epoch is None else epoch
        return size_of(self.scheduled(epoch), self.num_samples, epoch)

    def num_selected(self, epoch: int | None = None) -> int:
        """Returns how many samples an epoch visits; None is the next one to begin.

        If the strategy declares no number, it is the size of the epoch begun last. Before the first epoch it is n.
        """
        declared = self.declared(epoch)
        if declared is not None:
            return declared
        return self.num_samples if self.selection is None else len(self.selection.indices)

    def select(
        self,
        columns: Mapping[str, npt.NDArray[np.float32]],
        visits: npt.NDArray[Any],
        failed: npt.NDArray[Any] | None,
        step_bounds: Sequence[tuple[int, int]] | None,
        *,
        at_least: int = 1,
    ) -> tuple[Selection, npt.NDArray[np.bool_] | None]:
        """Returns what the next epoch visits if it is not resumed, and changes nothing.

        The other result is (n,) which samples it visits, if that was found out by the way.

        Args:
            columns: what is remembered, each (n,) float32, read-only.
            visits: (n,) integers, in how many epochs each sample was trained, read-only.
            failed: (k,) integers, the samples that failed, read-only; None if there are none.
            step_bounds: as in `Memory`.
            at_least: if the strategy selects fewer samples than this, and declares no number, others are drawn too.

        Raises:
            ValueError: the schedule names a strategy that needs other columns. RuntimeError: the strategy selects
                something other than it declares.
        """
        chooser, epoch = self.checked(), self.next
        previous, previous_epoch = self._previous(chooser)
        memory = Memory(self.num_samples, epoch, columns, step_bounds, previous, previous_epoch, visits, failed)
        selection = chooser.select(memory, generator(self.seed, epoch, "select"))
        mask: npt.NDArray[np.bool_] | None = _check_selection(chooser, selection, self.num_samples, epoch)
        self.added = max(0, at_least - len(selection.indices)) if self.declared() is None else 0
        if self.added:
            selection, mask = self._with_more(selection), None
        if self.num_samples < 2**31:
            selection = Selection(selection.indices.astype(np.int32, copy=False), selection.weights)
        return selection, mask

    def _with_more(self, selection: Selection) -> Selection:
        """Returns a selection with other samples added at random."""
        rest = np.setdiff1d(np.arange(self.num_samples), selection.indices)
        more = generator(self.seed, self.next, "more").permutation(rest)[: self.added]
        weights = selection.weights
        if weights is not None:
            weights = np.concatenate([weights, np.ones(len(more), dtype=np.float32)])
        return Selection(np.concatenate([selection.indices, more]), weights)

    def begin(self, selection: Selection, mask: npt.NDArray[np.bool_] | None = None) -> None:
        """Begins the next epoch with its selection, or with the loaded selection if it is resumed."""
        self.chooser = self.checked()
        self._chose = repr(self.chooser)
        if not self.resuming:
            self.begun += 1
            self.running, self.selection, self.mask = self.next, selection, mask
        self.next += 1
        self._loaded = self._resume = False

    def end(self) -> None:
        """Ends the epoch begun last, also if it was to be resumed. The next one does not repeat its selection."""
        self.next += self.resuming
        self._resume = False
        self._chose = ""

    def drop_details(self) -> None:
        """Forgets all of an epoch that is over but its samples in their order."""
        self.mask = None
        if self.selection is not None:
            self.selection = Selection(self.selection.indices)

    def checked(self) -> Strategy:
        """Returns the strategy of the next epoch; raises if it needs columns that are not remembered."""
        chooser, columns = self.scheduled(), self.strategy.columns
        if not set(chooser.columns) <= set(columns):
            raise ValueError(
                f"a scheduled strategy may use only the columns {sorted(columns)}, got {shown(chooser)}, "
                "which needs others; build the pruner with the strategy that remembers most"
            )
        return chooser

    def _previous(self, chooser: Strategy) -> tuple[npt.NDArray[Any], int] | tuple[None, None]:
        """Returns what the epoch begun last visits and its number, if an equal strategy chose it."""
        if self.selection is None or self.running is None or self._chose != repr(chooser):
            return None, None
        previous = self.selection.indices.view()
        previous.flags.writeable = False  # only this view, which the strategy gets
        return previous, self.running

    def checksum(self, chooser: Strategy, *more: object) -> int:
        """Returns a 32-bit number of what must be the same on all ranks, including the epoch's strategy."""
        selected = 0 if self.selection is None else zlib.crc32(self.selection.indices.tobytes())
        values = (*self._settings().values(), repr(chooser), self._chose, self.next, self.running, selected, *more)
        return zlib.crc32(repr(values).encode())

    def _settings(self) -> dict[str, Any]:
        """Returns what must be the same in a state and in the epochs that load it."""
        return {
            "strategy": repr(self.strategy),
            "num_samples": self.num_samples,
            "seed": self.seed,
            "schedule": _name(self.schedule),
            "fingerprint": self.fingerprint,
        }

    def state_dict(self) -> dict[str, Any]:
        """Returns copies of everything that determines the next epoch, as tensors and plain values."""
        indices = None if self.selection is None else self.selection.indices
        weights = None if self.selection is None else self.selection.weights
        following = self.next + 1 if self.resuming else self.next
        return {
            **self._settings(),
            "scheduled": self._foreseen(following),
            "next_epoch": following,
            "running": self.running,
            "begun": self.begun,
            "chooser": self._chose,
            "indices": None if indices is None else torch.from_numpy(indices.copy()),
            "weights": None if weights is None else torch.from_numpy(weights.copy()),
        }

    def _named(self, epoch: int) -> str | None:
        """Returns the strategy of an epoch as text; None if the schedule has none, as after the end of a list."""
        try:
            return repr(self.scheduled(epoch))
        except (LookupError, ValueError):
            return None

    def _foreseen(self, first: int) -> list[str]:
        """Returns the strategies of the next epochs, so that schedules of one name can be told apart."""
        if isinstance(self.schedule, Constant):
            return [repr(self.strategy)]
        named = (self._named(epoch) for epoch in range(first, first + _FORESEEN))
        return [name for name in takewhile(bool, named) if name]  # up to the end of the schedule

    def restored(self, state: Mapping[str, Any], *, resume: bool, change: Collection[str] = ()) -> Epochs:
        """Returns epochs with these settings and the position that `state_dict` saved; no epoch is open.

        Args:
            state: what `state_dict` returned, among other entries.
            resume: begin with the saved epoch and its selection, not with the epoch after it.
            change: settings that may differ from the state's, of "strategy" and "schedule".

        Raises:
            ValueError: the state is of another strategy, size, seed, schedule or data set.
        """
        for name, now in self._settings().items():
            if state[name] != now and name not in change:
                raise ValueError(
                    f"the state must be of {name} {shown(now)}, got {shown(state[name])}; {_how_to_change(name)}"
                )
        named = list(enumerate(state["scheduled"], state["next_epoch"]))
        named = [(state["running"], state["chooser"])] * (resume and bool(state["chooser"])) + named
        for epoch, saved in [] if change else named:
            if (now := self._named(epoch)) not in (saved, None):
                raise ValueError(
                    f"the schedule must name {shown(saved)} in epoch {epoch}, as in the state, got {shown(now)}; "
                    f"{_how_to_change('schedule')}"
                )
        epochs = Epochs(
            self.strategy, self.num_samples, seed=self.seed, schedule=self.schedule, fingerprint=self.fingerprint
        )
        indices, weights = state["indices"], state["weights"]
        if indices is not None:
            copies = indices.cpu().numpy().copy(), None if weights is None else weights.cpu().numpy().copy()
            epochs.selection = Selection(*copies)
        epochs.running, epochs.begun = state["running"], state["begun"]
        epochs._chose = state["chooser"]
        epochs._loaded, epochs._resume = True, resume and epochs.running is not None
        epochs.next = state["running"] if epochs._resume else state["next_epoch"]
        if epochs._resume:
            epochs.chooser = epochs.scheduled()
        return epochs


def _name(schedule: Callable[[Strategy, int], Strategy]) -> str:
    """Returns what tells one schedule from another in a state."""
    if is_dataclass(schedule):
        return repr(schedule)
    if isinstance(schedule, functools.partial):
        settings = (*schedule.args, *sorted(schedule.keywords.items()))
        return f"partial({', '.join([_name(schedule.func), *map(repr, settings)])})"
    named = schedule if hasattr(schedule, "__qualname__") else type(schedule)
    return f"{named.__module__}:{named.__qualname__}"


def _how_to_change(name: str) -> str:
    if name in ("strategy", "schedule"):
        return (
            f"build the pruner as it was saved, or write load_state_dict(state, change=({name!r},)) between two epochs "
            "to go on with the new one"
        )
    if name == "num_samples":
        return "build the pruner of the size that was saved, load, and call pruner.resize(n) if the data set grew"
    return "build the pruner as it was saved"


def shown(value: object) -> str:
    """Returns a value as a message shows it, without its middle if it is long."""
    text = str(value)
    return text if len(text) <= 200 else f"{text[:120]} ... {text[-60:]}"


def _check_selection(strategy: Strategy, selection: Selection, num_samples: int, epoch: int) -> npt.NDArray[np.bool_]:
    """Returns (n,) which samples are selected; raises unless the selection is what its strategy declares."""
    indices, weights = (selection.indices, selection.weights) if isinstance(selection, Selection) else (None, None)
    declared = strategy.num_selected(num_samples, epoch)
    if not isinstance(selection, Selection):
        broken = f"its samples as a Selection, got {_kind(selection)}"
    elif not isinstance(indices, np.ndarray) or indices.dtype not in (np.int64, np.int32) or indices.ndim != 1:
        broken = f"a (q,) int64 or int32 array, got {_kind(indices)}"
    elif declared not in (None, len(indices)):
        broken = f"as many samples as num_selected says, {declared}, got {len(indices)}"
    elif not len(indices):
        broken = "at least one sample, got none"
    elif indices.min() < 0 or indices.max() >= num_samples:
        broken = f"positions in 0 .. {num_samples - 1}, got {indices.min()} .. {indices.max()}"
    elif (distinct := np.count_nonzero(mask := mask_of(indices, num_samples))) < len(indices):
        broken = f"distinct samples, got {len(indices)} of which {distinct} differ"
    elif weights is not None and (
        not isinstance(weights, np.ndarray) or weights.dtype != np.float32 or weights.shape != indices.shape
    ):
        broken = f"one float32 weight a sample, got {_kind(weights)} for {len(indices)}"
    else:
        return mask
    raise RuntimeError(
        f"{shown(strategy)} must select {broken} in epoch {epoch}; run orderdp.testing.check_strategy on it"
    )


def _kind(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
