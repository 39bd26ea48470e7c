"""Samplers: a selection as ids, or as batches of ids for each rank, which resume inside an epoch."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from orderdp.accelerate_state import check_skip, refuse_second_split, skipped_by, watch
from orderdp.early_states import refuse_early_state, refuse_stateless_sampler
from orderdp.epochs import EpochSource
from orderdp.ranks import Batching, Steps
from orderdp.states import check_kind
from orderdp.strategies import Selection


class _Pass:
    """Whether a pass over an epoch is under way. A pass that begins replaces one that was left early."""

    def __init__(self) -> None:
        self.under_way = False
        self.number = 0  # of the pass that began last

    def begin(self) -> int:
        """Begins a pass and returns its number."""
        self.under_way = True
        self.number += 1
        return self.number

    def end(self, number: int | None = None) -> None:
        """Ends the pass of this number if it is still under way; without a number, any pass."""
        if number in (None, self.number):
            self.under_way = False


class PrunedSampler(Sampler[int]):
    """Ids of the next epoch one by one, for a DataLoader that forms the batches.

    The epoch begins when a fresh iterator is asked for its first id; making an iterator changes nothing. The length is
    that of the pass under way until all its ids are taken. After that it is the length of the next pass.

    Args:
        pruner: chooses the epoch; a `Pruner` or another `EpochSource`.
    """

    def __init__(self, pruner: EpochSource) -> None:
        self.pruner = pruner
        self.current = _Pass()
        self._count = 0  # ids of the pass under way

    def __len__(self) -> int:
        """Returns how many ids the pass under way yields; between passes, how many the next one yields."""
        return self._count if self.current.under_way else self.pruner.num_selected()

    def __iter__(self) -> Iterator[int]:
        refuse_stateless_sampler(sys._getframe(1))
        num_ranks = self.pruner.ranks()[1]
        if num_ranks > 1:
            raise RuntimeError(
                f"pruner.sampler() cannot keep {num_ranks} ranks in step without the size of a batch, got none; "
                "write DataLoader(..., batch_sampler=pruner.sampler(batch_size=...))"
            )
        indices = self.pruner.begin_epoch().indices
        self._count = len(indices)
        mine = self.current.begin()
        try:
            for begin in range(0, len(indices), 4096):  # Python integers take four times the memory
                yield from indices[begin : begin + 4096].tolist()
        finally:
            self.current.end(mine)


class PrunedBatchSampler(Sampler[list[int]]):
    """Batches of ids of this rank in the next epoch, or in the rest of the epoch that was loaded.

    The epoch begins when a fresh iterator is asked for its first batch. Making an iterator changes nothing, since a
    DataLoader with workers makes two for its first epoch.

    The length is always that of a whole epoch: of the one under way, from its first batch until its pass ends, and
    otherwise of the next one. `remaining` is what is left of it.

    Args:
        pruner: chooses the epoch; a `Pruner` or another `EpochSource`.
        batch_size: samples of one step on one rank, at most.
        drop_last: full batches only.
        stable_shapes: full batches and a rest, instead of batches that are as equal as possible.

    Raises:
        TypeError: something else than a pruner. ValueError: no batch size, or one that leaves no step.
    """

    even_batches = True  # accelerate's `join_uneven_inputs` reads and sets it; all ranks make the same number of steps

    def __init__(
        self, pruner: EpochSource, batch_size: int, *, drop_last: bool = False, stable_shapes: bool = False
    ) -> None:
        if not hasattr(pruner, "begin_epoch"):  # Lightning puts its own sampler here
            raise TypeError(
                f"pruner must choose the epochs, got {type(pruner).__name__}; a pruned loader shares its samples among "
                "the ranks itself: write trainer.fit(model, pruning.batches) for Lightning, and "
                "fabric.setup_dataloaders(loader, use_distributed_sampler=False) for Fabric"
            )
        self.pruner = pruner
        self.batching = Batching(batch_size, drop_last, stable_shapes)
        self.current = _Pass()
        self._steps: Steps | None = None  # of the epoch that this sampler began last, or that was loaded
        self._selection: Selection | None = None  # of the epoch that this sampler began last
        self._in_pass: Sequence[int] = ()  # numbers of the steps that the pass yields
        self._end: int | None = None  # the last step that came, once all have; -1 if none came
        pruner.check_steps(self.batching)

    @property
    def batch_size(self) -> int:
        """Samples of one step on one rank, at most."""
        return self.batching.batch_size

    @property
    def drop_last(self) -> bool:
        """Whether an epoch has full batches only."""
        return self.batching.drop_last

    @property
    def sampler(self) -> Any:
        """There is none. accelerate's `prepare` asks a DataLoader's batch sampler for it, and is noted.

        Raises:
            AttributeError: always.
        """
        watch(self, sys._getframe(1))
        raise AttributeError(f"{type(self).__name__} has no sampler of single ids")

    @property
    def in_pass(self) -> int:
        """How many batches the pass under way yields: fewer than `len` after a resume."""
        return len(self._in_pass)

    @property
    def remaining(self) -> int:
        """Batches of the running epoch that `update` has not seen; 0 between epochs. Waits for the device."""
        if self._steps is None or not self._inside():
            return 0
        return int(np.count_nonzero(~self.pruner.steps_done(self._steps)))

    def __len__(self) -> int:
        if self._steps is not None and self.current.under_way:
            return len(self._steps)
        return len(self.pruner.steps_of(self.batching, self.pruner.num_selected()))

    def __iter__(self) -> Iterator[list[int]]:
        refuse_second_split(sys._getframe(1), self.pruner.ranks()[1])
        skipped = skipped_by(sys._getframe(1))
        resumed, cut = self.pruner.resuming, self.batching
        selection = self.pruner.begin_epoch(cut.batch_size, drop_last=cut.drop_last, stable_shapes=cut.stable_shapes)
        steps = self._steps = self.pruner.steps_of(cut, len(selection.indices))
        self._selection = selection
        done = self.pruner.steps_done(steps) if resumed else None
        if skipped:
            check_skip(skipped, done)
            done = None  # accelerate drops the batches that were trained
        left = range(len(steps)) if done is None else np.flatnonzero(~done).tolist()
        self._in_pass, self._end = left, None
        mine = self.current.begin()
        try:
            for number in left:
                begin, end = steps.batch(number)
                yield selection.indices[begin:end].tolist()
        finally:
            self.current.end(mine)

    def finish(self, number: int, lost: Collection[int] = ()) -> None:
        """Notes that the loop has received every batch of a pass, unless another pass or another loader has begun.

        Args:
            number: of the pass.
            lost: which of its batches raised an error instead, counted from 0.
        """
        if number == self.current.number:
            places = range(len(self._in_pass) - 1, -1, -1)
            self._end = next((self._in_pass[place] for place in places if place not in lost), -1)
            if getattr(self.pruner, "selection", self._selection) is self._selection:
                self.pruner.end_epoch(self._end)

    def _inside(self) -> bool:
        """Whether the running epoch has batches left, by what `update` saw; a loop may have read ahead to its end."""
        if self._steps is None or self._end == -1:
            return False
        done = self.pruner.steps_done(self._steps)
        return not (done.all() if self._end is None else done[self._end])

    def state_dict(self) -> dict[str, Any]:
        """Returns the pruner's state, and how the epoch is cut into steps.

        What counts as trained is what `update` saw, so a loop may read ahead. With several ranks, every rank must call
        it, because the ranks first exchange what they have seen.
        """
        refuse_early_state(sys._getframe(1))
        state = self.pruner.state_dict()
        inside = self._inside()
        return {"pruner": state, "inside": inside, **self._cut(self._steps if inside else None)}

    def load_state_dict(self, state: Mapping[str, Any], *, change: Collection[str] = ()) -> None:
        """Restores the pruner. If the state was taken inside an epoch, the next pass yields what `update` had not seen.

        Another number of ranks may resume it, if the steps have the same size.

        Args:
            state: what `state_dict` returned.
            change: settings that may differ from the state's between two epochs: "strategy", "schedule".

        Raises:
            ValueError: inside an epoch, steps of another size; or what `Pruner.load_state_dict` raises.
            TypeError: no dictionary.
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                f"the state must be what state_dict() returned, got {type(state).__name__}; "
                "write loader.load_state_dict(torch.load(path)['loader'])"
            )
        if "pruner" not in state or not {"inside", "batches"} & set(state):
            raise ValueError(
                f"the state must be one of a loader or sampler, got the keys {sorted(state)}; "
                "give a pruner's state to pruner.load_state_dict"
            )
        inside = state["inside"] if "inside" in state else state["batches"] is not None
        steps = None
        sharded = getattr(self.pruner, "sharded", None)  # None of another source of epochs, with states of its own
        if sharded is not None:
            check_kind(state["pruner"], "blocks" if sharded else "table")
        if inside and "inside" in state:
            steps = self.pruner.steps_of(self.batching, len(state["pruner"]["indices"]))
            now = self._cut(steps)
            saved = {name: state[name] for name in now}
            if saved != now:
                raise ValueError(
                    f"a state inside an epoch needs the steps over all ranks that it was saved with, {saved}, "
                    f"got {now}; use those, or load only state['pruner'] to begin with the next epoch"
                )
        self.pruner.load_state_dict(state["pruner"], resume=inside, change=change)
        self.current.end()
        self._steps, self._end = steps, None

    def _cut(self, steps: Steps | None) -> dict[str, Any]:
        """Returns how an epoch is cut into steps of all ranks, their number, and the size of the last one."""
        cut = self.batching
        return {
            "batch_size": cut.batch_size * self.pruner.ranks()[1],
            "drop_last": cut.drop_last,
            "stable_shapes": cut.stable_shapes,
            "steps": None if steps is None else len(steps),
            "last_step": None if steps is None else steps.size(-1),  # it may depend on the number of ranks
        }
