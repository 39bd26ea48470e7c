"""The running and the next epoch: what each visits, and how a loaded state is resumed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from orderdp.rng import generator
from orderdp.strategies import Memory, Selection, Strategy


class EpochSource(Protocol):
    """What loaders and samplers need. A `Pruner` provides it, and any other object may.

    A loader begins an epoch with each pass. It saves the state of this object together with its position in the epoch.
    """

    @property
    def num_samples(self) -> int:
        """Size of the data set."""

    @property
    def resuming(self) -> bool:
        """Whether the next epoch resumes one that a loaded state had begun."""

    def num_selected(self) -> int:
        """Returns how many samples the next epoch visits; an estimate if that depends on the losses."""

    def begin_epoch(self, batch_size: int | None = None, *, drop_last: bool = False) -> Selection:
        """Begins the next epoch, or resumes the loaded one, and returns what it visits.

        Args:
            batch_size: samples of one step on one rank; None if the training loop forms the batches.
            drop_last: the last step is left out if it is not full.
        """

    def worker_seed(self) -> int:
        """Returns the seed of this rank's worker processes in the next epoch, in [0, 2**63)."""

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and plain values; `indices` holds the (q,) selection of the epoch begun last, or None."""

    def load_state_dict(self, state: Mapping[str, Any], *, resume: bool = False) -> None:
        """Restores a state.

        Args:
            state: what `state_dict` returned.
            resume: begin with the saved epoch and its selection, not with the epoch after it.
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
    """

    def __init__(
        self, strategy: Strategy, num_samples: int, *, seed: int, schedule: Callable[[Strategy, int], Strategy]
    ) -> None:
        self.strategy = strategy
        self.num_samples = num_samples
        self.seed = seed
        self.schedule = schedule
        self.next = 0  # number of the epoch to begin next
        self.running: int | None = None  # number of the epoch begun last
        self.selection: Selection | None = None  # what the epoch begun last visits
        self.chooser = strategy  # of the epoch begun last
        self.begun = 0  # how many epochs have begun
        self._loaded = False  # a state was loaded, and no epoch has begun since
        self._resume = False  # that state is to be resumed inside its epoch

    @property
    def current(self) -> int:
        """The epoch begun last; before the first one and after loading a state, the one that comes next."""
        return self.next if self.running is None or self._loaded else self.running

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
        return self.schedule(self.strategy, self.next if epoch is None else epoch)

    def declared(self, epoch: int | None = None) -> int | None:
        """Returns how many samples the strategy of an epoch declares; None if that depends on the losses."""
        epoch = self.next if epoch is None else epoch
        return self.scheduled(epoch).num_selected(self.num_samples, epoch)

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
        visits: npt.NDArray[np.int32],
        step_bounds: tuple[tuple[int, int], ...] | None,
    ) -> Selection:
        """Returns what the next epoch visits if it is not resumed, and changes nothing.

        Args:
            columns: what is remembered, each (n,) float32, read-only.
            visits: (n,) int32, in how many epochs each sample was trained, read-only.
            step_bounds: as in `Memory`.

        Raises:
            ValueError: the schedule names a strategy that needs other columns. RuntimeError: the strategy selects
                something other than it declares.
        """
        chooser, epoch = self._checked(), self.next
        previous, previous_epoch = self._previous(chooser)
        memory = Memory(self.num_samples, epoch, columns, step_bounds, previous, previous_epoch, visits)
        selection = chooser.select(memory, generator(self.seed, epoch, "select"))
        _check_selection(chooser, selection, self.num_samples, epoch)
        return selection

    def begin(self, selection: Selection) -> None:
        """Begins the next epoch with its selection, or with the loaded selection if it is resumed."""
        self.chooser = self._checked()
        if not self.resuming:
            self.begun += 1
            self.running, self.selection = self.next, selection
        self.next += 1
        self._loaded = self._resume = False

    def _checked(self) -> Strategy:
        """Returns the strategy of the next epoch; raises if it needs columns that are not remembered."""
        chooser, columns = self.scheduled(), self.strategy.columns
        if not set(chooser.columns) <= set(columns):
            raise ValueError(
                f"a scheduled strategy may use only the columns {sorted(columns)}, got {shown(chooser)}, "
                "which needs others; build the pruner with the strategy that remembers most"
            )
        return chooser

    def _previous(self, chooser: Strategy) -> tuple[npt.NDArray[np.int64], int] | tuple[None, None]:
        """Returns what the epoch begun last visits and its number, if an equal strategy chose it."""
        if self.selection is None or self.running is None or self.scheduled(self.running) != chooser:
            return None, None
        previous = self.selection.indices.view()
        previous.flags.writeable = False  # only this view, which the strategy gets
        return previous, self.running

    def fingerprint(self, chooser: Strategy) -> int:
        """Returns a 32-bit number of what must be the same on all ranks, including the epoch's strategy."""
        strategies = (repr(self.strategy), repr(chooser))
        return zlib.crc32(repr((*strategies, self.num_samples, self.seed, self.next, self.running)).encode())

    def _settings(self) -> dict[str, Any]:
        """Returns what must be the same in a state and in the epochs that load it."""
        return {"strategy": repr(self.strategy), "num_samples": self.num_samples, "seed": self.seed}

    def state_dict(self) -> dict[str, Any]:
        """Returns copies of everything that determines the next epoch, as tensors and plain values."""
        indices = None if self.selection is None else self.selection.indices
        weights = None if self.selection is None else self.selection.weights
        return {
            **self._settings(),
            "next_epoch": self.next + 1 if self.resuming else self.next,
            "running": self.running,
            "begun": self.begun,
            "indices": None if indices is None else torch.from_numpy(indices.copy()),
            "weights": None if weights is None else torch.from_numpy(weights.copy()),
        }

    def restored(self, state: Mapping[str, Any], *, resume: bool) -> Epochs:
        """Returns epochs with these settings and the position that `state_dict` saved; no epoch is open.

        Args:
            state: what `state_dict` returned, among other entries.
            resume: begin with the saved epoch and its selection, not with the epoch after it.

        Raises:
            ValueError: the state is of another strategy, size or seed.
        """
        for name, now in self._settings().items():
            if state[name] != now:
                raise ValueError(
                    f"the state must be of {name} {shown(now)}, got {shown(state[name])}; "
                    "build the pruner as it was saved"
                )
        epochs = Epochs(self.strategy, self.num_samples, seed=self.seed, schedule=self.schedule)
        indices, weights = state["indices"], state["weights"]
        if indices is not None:
            copies = indices.cpu().numpy().copy(), None if weights is None else weights.cpu().numpy().copy()
            epochs.selection = Selection(*copies)
        epochs.running, epochs.begun = state["running"], state["begun"]
        epochs._loaded, epochs._resume = True, resume and epochs.running is not None
        epochs.next = state["running"] if epochs._resume else state["next_epoch"]
        return epochs


def shown(value: object) -> str:
    """Returns a value as a message shows it, without its middle if it is long."""
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
        f"{shown(strategy)} must select {broken} in epoch {epoch}; run orderdp.testing.check_strategy on it"
    )


def _num_distinct(indices: npt.NDArray[np.int64], num_samples: int) -> int:
    seen = np.zeros(num_samples, dtype=np.bool_)
    seen[indices] = True
    return int(np.count_nonzero(seen))


def _kind(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
