"""check_strategy refuses every broken law, and says which; what it lets pass the engine can run."""

import math
import random
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch

from orderdp import FixedSubset, Selection, Strategy
from orderdp.testing import check_strategy


@dataclass(frozen=True, repr=False)
class Sound(Strategy):
    """The highest half, with weights and a choice within the batch: each broken strategy breaks one method of it."""

    @property
    def columns(self):
        return {"loss": math.inf}

    def num_selected(self, num_samples, epoch):
        return num_samples // 2

    def select(self, memory, rng):
        order = rng.permutation(memory.num_samples)
        ranked = order[(-memory.columns["loss"][order]).argsort(kind="stable")]
        kept = rng.permutation(ranked[: memory.num_samples // 2])
        return Selection(kept, np.full(len(kept), 2.0, dtype=np.float32))

    def batch_weights(self, losses, uniforms):
        return torch.ones_like(losses)


class Curriculum(Sound):
    """Leaves nothing to chance: the first samples of the data set, more of them in each epoch."""

    def num_selected(self, num_samples, epoch):
        return min(num_samples, 10 + epoch)

    def select(self, memory, rng):
        return Selection(np.arange(self.num_selected(memory.num_samples, memory.epoch)))


@pytest.mark.parametrize(
    "strategy", [Sound(), Curriculum(), FixedSubset(range(0, 6_000, 3))], ids=lambda strategy: type(strategy).__name__
)
def test_a_strategy_that_keeps_the_laws_passes(strategy):
    check_strategy(strategy, num_samples=6_000)


class WritesColumns(Sound):
    def select(self, memory, rng):
        memory.columns["loss"].sort()
        return super().select(memory, rng)


class WritesColumnsAllTheSame(Sound):
    def select(self, memory, rng):
        memory.columns["loss"].flags.writeable = True
        memory.columns["loss"][0] = -1.0
        return super().select(memory, rng)


class WritesPrevious(Sound):
    def select(self, memory, rng):
        if memory.previous is not None:
            rng.shuffle(memory.previous)
        return super().select(memory, rng)


class ForgetsItsOwnWeights(Sound):
    drawn = np.random.default_rng(0)

    def select(self, memory, rng):
        selection = super().select(memory, rng)
        return Selection(selection.indices, self.drawn.random(len(selection.indices), dtype=np.float32) + 1)


class ZeroWeights(Sound):
    def select(self, memory, rng):
        selection = super().select(memory, rng)
        return Selection(selection.indices, selection.weights * (selection.indices > 3))


class OwnGenerator(Sound):
    drawn = np.random.default_rng(0)

    def select(self, memory, rng):
        return super().select(memory, self.drawn)


class GlobalSelect(Sound):
    def select(self, memory, rng):
        random.random()
        return super().select(memory, rng)


class GlobalObserve(Sound):
    def observe(self, old, losses):
        return {"loss": losses + torch.rand(len(losses))}


class DoubleObserve(Sound):
    def observe(self, old, losses):
        return {"loss": losses.double()}


class GlobalBatch(Sound):
    def batch_weights(self, losses, uniforms):
        return torch.rand(len(losses))


class DoubleBatch(Sound):
    def batch_weights(self, losses, uniforms):
        return torch.ones(len(losses), dtype=torch.float64)


class EmptyBatch(Sound):
    def batch_weights(self, losses, uniforms):
        return torch.zeros_like(losses)


class ForgetfulBatch(Sound):
    drawn = torch.Generator().manual_seed(0)

    def batch_weights(self, losses, uniforms):
        return torch.rand(len(losses), generator=self.drawn) + 1


class WritesUniforms(Sound):
    def batch_weights(self, losses, uniforms):
        return uniforms().add_(1)


class WithoutRepr(Sound):
    __repr__ = object.__repr__


class NoDataclass(Strategy):
    num_selected, select = Sound.num_selected, Sound.select


@dataclass(repr=False)
class Changeable(Strategy):
    keep: float = 0.5
    num_selected, select = Sound.num_selected, Sound.select


@dataclass(frozen=True, repr=False)
class ReprOfAnother(Sound):
    keep: float = 0.5

    def __repr__(self):
        return "ReprOfAnother(keep=0.25)"


class EqualToItselfOnly(Sound):
    __eq__, __hash__ = object.__eq__, object.__hash__


class EqualToItselfAndLong(EqualToItselfOnly):
    def __repr__(self):
        return "<a long one>"


class NanColumn(Sound):
    @property
    def columns(self):
        return {"loss": math.nan}


class ForgetsAColumn(Sound):
    def observe(self, old, losses):
        return {}


class ObservesTheMean(Sound):
    def observe(self, old, losses):
        return {"loss": losses.mean()}


class ObservesNan(Sound):
    def observe(self, old, losses):
        return {"loss": old["loss"] - old["loss"]}  # infinity less itself


class ObserveWritesColumns(Sound):
    def observe(self, old, losses):
        return {"loss": old["loss"].copy_(losses)}


class ObserveWritesLosses(Sound):
    def observe(self, old, losses):
        return {"loss": losses.mul_(2)}


class AnswersOtherwise(Sound):
    asked = np.zeros(1, dtype=int)

    def num_selected(self, num_samples, epoch):
        self.asked[0] += 1
        return num_samples // 2 + self.asked[0] % 2


def with_indices(change):
    return lambda sound: Selection(change(sound.indices), sound.weights)


def with_weights(change):
    return lambda sound: Selection(sound.indices, change(sound.weights))


CHANGES = {
    "array": lambda sound: sound.indices,
    "list of indices": with_indices(lambda indices: indices.tolist()),
    "int16": with_indices(lambda indices: indices.astype(np.int16)),
    "matrix": with_indices(lambda indices: indices[:, None]),
    "one fewer": with_indices(lambda indices: indices[1:]),
    "repeated": with_indices(lambda indices: indices * 0),
    "too high": with_indices(lambda indices: indices + 60),
    "negative": with_indices(lambda indices: indices - 60),
    "list of weights": with_weights(lambda weights: weights.tolist()),
    "float64 weights": with_weights(lambda weights: weights.astype(np.float64)),
    "one weight fewer": with_weights(lambda weights: weights[1:]),
    "infinite weights": with_weights(lambda weights: weights * np.float32(math.inf)),
    "negative weights": with_weights(lambda weights: -weights),
}


@dataclass(frozen=True, repr=False)
class Changed(Sound):
    """A strategy whose selections are those of a sound one, changed."""

    how: str

    def select(self, memory, rng):
        return CHANGES[self.how](super().select(memory, rng))


class Unsized(Sound):
    def num_selected(self, num_samples, epoch):
        return None

    def select(self, memory, rng):
        return Selection(np.empty(0, dtype=np.int64))


class NeedsPrevious(Sound):
    def select(self, memory, rng):
        if memory.epoch and memory.previous is None:
            return Selection(np.zeros(memory.num_samples // 2, dtype=np.int64))
        return super().select(memory, rng)


class KeepsTheLastLosses(Sound):
    """Chooses by what it was given two calls ago, so that an immediate repetition gives the same."""

    given: ClassVar[list] = [None, None]

    def select(self, memory, rng):
        if self.given[1] is not memory:
            self.given[:] = [self.given[1], memory]
        older = self.given[0]
        return super().select(memory if older is None or older.epoch != memory.epoch else older, rng)


class NegativeBatch(Sound):
    def batch_weights(self, losses, uniforms):
        return losses - 10


class ShortBatch(Sound):
    def batch_weights(self, losses, uniforms):
        return torch.ones(1)


class WritesLosses(Sound):
    def batch_weights(self, losses, uniforms):
        return losses.add_(1)


class NowAndThen(Sound):
    calls = np.zeros(1, dtype=int)

    def batch_weights(self, losses, uniforms):
        self.calls[0] += 1
        return None if self.calls[0] % 2 else torch.ones(len(losses))


FIRST = "with spread scores in epoch 0"


class ForgetsToFillUp(Sound):
    """Takes the unseen samples first, and no others where there are any."""

    def select(self, memory, rng):
        unseen = np.flatnonzero(memory.columns["loss"] == math.inf)[: memory.num_samples // 2]
        return Selection(unseen) if len(unseen) else super().select(memory, rng)


class BreaksLate(Sound):
    """As where a schedule of sizes runs out."""

    def select(self, memory, rng):
        sound = super().select(memory, rng)
        return Selection(sound.indices[1:], sound.weights[1:]) if memory.epoch > 2 else sound


class GlobalNumpyObserve(Sound):
    def observe(self, old, losses):
        return {"loss": losses + float(np.random.rand())}  # noqa: NPY002


class InfiniteBatch(Sound):
    def batch_weights(self, losses, uniforms):
        return torch.full_like(losses, math.inf)


class ShufflesWhatItReturned(Sound):
    kept = np.arange(50)

    def select(self, memory, rng):
        rng.shuffle(self.kept)
        return Selection(self.kept)


class StaysFailed(Sound):
    """A moving average never leaves minus infinity."""

    def observe(self, old, losses):
        return {"loss": torch.where(old["loss"] == math.inf, losses, (old["loss"] + losses) / 2)}


class MissesAChange(Curriculum):
    def size_changes(self):
        return (1, 2, 3)


class ChangesInAList(Curriculum):
    def size_changes(self):
        return [1]


class ChangesFromTheFirst(Curriculum):
    def size_changes(self):
        return (0, 1)


class ChangesLate(Sound):
    """One epoch too late, and beyond the epochs that are always compared."""

    def num_selected(self, num_samples, epoch):
        return num_samples // 2 if epoch < 499 else num_samples // 4

    def size_changes(self):
        return (500,)


class WeighsNan(Sound):
    def batch_weights(self, losses, uniforms):
        return torch.where(losses > 1e9, 0, losses / losses.clamp(max=1e9))


BROKEN = [
    (ShufflesWhatItReturned, "equal generators give equal selections, with spread scores in epoch 0"),
    (StaysFailed, r"observe starts anew after a failure, from -inf in every column, got \[-inf, -inf, -inf\] in loss"),
    (MissesAChange, r"size_changes names every change of num_selected, got 14 after 13 in epoch 4, which is not among"),
    (ChangesInAList, "size_changes are a tuple or None, got list"),
    (ChangesFromTheFirst, r"size_changes are epochs after 0, ascending, got \(0, 1\)"),
    (ChangesLate, r"size_changes names every change of num_selected, got 25 after 50 in epoch 499, which is not among"),
    (WeighsNan, "batch_weights are finite and not negative where a loss is nan, got tensor"),
    (ForgetsToFillUp, "as many samples as num_selected says, got 34 for 50, with some unseen scores in epoch 0"),
    (BreaksLate, "as many samples as num_selected says, got 49 for 50, with spread scores in epoch 11"),
    (GlobalNumpyObserve, "observe draws from no global generator"),
    (InfiniteBatch, "batch_weights are finite and not negative, one a sample, got tensor"),
    (
        WritesColumns,
        "select does not change what it is given, got 'sort array is read-only', with spread scores in epo",
    ),
    (WritesColumnsAllTheSame, "select does not change what it is given, with spread scores in epoch 0"),
    (WritesPrevious, r"select does not change what it is given, got '.*read-only', with spread scores in epoch 1"),
    (ForgetsItsOwnWeights, "equal generators give equal weights, with spread scores in epoch 0"),
    (ZeroWeights, "weights are finite and positive, with spread scores in epoch 0"),
    (OwnGenerator, "equal generators give equal selections, with spread scores in epoch 0"),
    (GlobalSelect, "select draws from its generator only, with spread scores in epoch 0"),
    (GlobalObserve, "observe draws from no global generator"),
    (DoubleObserve, "observe returns float32, got loss of torch.float64"),
    (GlobalBatch, "batch_weights draws from no global generator"),
    (DoubleBatch, "batch_weights are float32, got torch.float64"),
    (EmptyBatch, r"batch_weights keep at least one sample, got tensor\(\[0.\]\)"),
    (ForgetfulBatch, "batch_weights are equal for equal losses and uniforms"),
    (WritesUniforms, "batch_weights changes neither the losses nor the uniforms"),
    (
        WithoutRepr,
        r"a copy has the same repr, got <.*test_testing.WithoutRepr object at .* leave __repr__ as in orderdp.Strategy",
    ),
    (NoDataclass, r"a strategy is a frozen dataclass, got .*; write @dataclass\(frozen=True\)"),
    (Changeable, r"settings cannot be changed, but keep can; write @dataclass\(frozen=True\)"),
    (ReprOfAnother, r"repr evaluates back, got ReprOfAnother\(keep=0.25\) of ReprOfAnother\(keep=0.25\); leave"),
    (EqualToItselfOnly, "repr evaluates back, got EqualToItselfOnly"),
    (EqualToItselfAndLong, "a copy is equal and has the same hash, got <a long one>"),
    (NanColumn, "columns begin with a number, got {'loss': nan}; write inf for unseen first"),
    (ForgetsAColumn, r"observe returns the columns \['loss'\], got \[\]"),
    (ObservesTheMean, r"observe returns one value a sample, got loss \(\)"),
    (ObservesNan, "observe returns numbers, got nan in loss"),
    (ObserveWritesColumns, "observe does not change what it is given"),
    (ObserveWritesLosses, "observe does not change what it is given"),
    (AnswersOtherwise, f"num_selected gives the same number when asked twice, {FIRST}"),
    (partial(Changed, "array"), f"select returns a Selection, got ndarray, {FIRST}"),
    (partial(Changed, "list of indices"), f"indices are a NumPy array, got list, {FIRST}"),
    (partial(Changed, "int16"), rf"indices are .q,. int64 or int32, got int16 of shape \(50,\), {FIRST}"),
    (partial(Changed, "matrix"), rf"indices are .q,. int64 or int32, got int64 of shape \(50, 1\), {FIRST}"),
    (partial(Changed, "one fewer"), f"as many samples as num_selected says, got 49 for 50, {FIRST}"),
    (Unsized, f"at least one sample, {FIRST}"),
    (partial(Changed, "repeated"), f"indices are distinct, {FIRST}"),
    (partial(Changed, "too high"), f"indices lie in the data set, {FIRST}"),
    (partial(Changed, "negative"), f"indices lie in the data set, {FIRST}"),
    (partial(Changed, "list of weights"), f"weights are a NumPy array, got list, {FIRST}"),
    (partial(Changed, "float64 weights"), f"weights are float32, got float64, {FIRST}"),
    (partial(Changed, "one weight fewer"), rf"weights are one a sample, got \(49,\), {FIRST}"),
    (partial(Changed, "infinite weights"), f"weights are finite and positive, {FIRST}"),
    (partial(Changed, "negative weights"), f"weights are finite and positive, {FIRST}"),
    (
        NeedsPrevious,
        "indices are distinct, with spread scores in epoch 1 after an epoch that another strategy chose",
    ),
    (KeepsTheLastLosses, "a strategy keeps nothing from one selection to the next, in epoch 0"),
    (NegativeBatch, "batch_weights are finite and not negative, one a sample, got tensor"),
    (ShortBatch, "batch_weights are finite and not negative, one a sample, got tensor"),
    (WritesLosses, "batch_weights changes neither the losses nor the uniforms"),
    (NowAndThen, "batch_weights are equal for equal losses and uniforms"),
]


def name_of(value):
    return value.args[0] if isinstance(value, partial) else getattr(value, "__name__", "")


@pytest.mark.parametrize(("broken", "law"), BROKEN, ids=name_of)
def test_a_broken_law_is_named(broken, law):
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        with pytest.raises(AssertionError, match=rf"^{law}"):
            check_strategy(broken())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


class Raises(Sound):
    def select(self, memory, rng):
        raise ValueError("an error of its own")


def test_an_error_that_breaks_no_law_is_left_as_it_is():
    with pytest.raises(ValueError, match=r"^an error of its own$"):
        check_strategy(Raises())
