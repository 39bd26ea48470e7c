"""check_strategy refuses every broken law, and says which; what it lets pass the engine can run."""

import math
import random
from dataclasses import dataclass

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


BROKEN = [
    (
        WritesColumns,
        "select writes to nothing that it is given, got 'sort array is read-only', with spread scores in epo",
    ),
    (WritesColumnsAllTheSame, "select writes to nothing that it is given, with spread scores in epoch 0"),
    (WritesPrevious, r"select writes to nothing that it is given, got '.*read-only', with spread scores in epoch 1"),
    (ForgetsItsOwnWeights, "equal generators give equal weights, with spread scores in epoch 0"),
    (ZeroWeights, "weights are finite and positive, with spread scores in epoch 0"),
    (OwnGenerator, "equal generators give equal selections, with spread scores in epoch 0"),
    (GlobalSelect, "select draws from its generator only, with spread scores in epoch 0"),
    (GlobalObserve, "observe draws from no global generator"),
    (DoubleObserve, "observe returns float32, got loss of torch.float64"),
    (GlobalBatch, "batch_weights draws from no global generator"),
    (DoubleBatch, "batch_weights are float32, got torch.float64"),
    (EmptyBatch, r"batch_weights keep at least one sample, got tensor\(\[0.\]\)"),
    (ForgetfulBatch, "batch_weights are alike for equal losses and uniforms"),
    (WritesUniforms, "batch_weights leaves the losses and the uniforms as they were"),
    (
        WithoutRepr,
        r"a copy has the same repr, got <test_testing.WithoutRepr object at .* write @dataclass\(..., repr=F",
    ),
]


@pytest.mark.parametrize(("broken", "law"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_law_is_named(broken, law):
    states = random.getstate(), torch.get_rng_state()
    try:
        with pytest.raises(AssertionError, match=rf"^{law}"):
            check_strategy(broken())
    finally:
        random.setstate(states[0])
        torch.set_rng_state(states[1])


class Raises(Sound):
    def select(self, memory, rng):
        raise ValueError("an error of its own")


def test_an_error_that_breaks_no_law_is_left_as_it_is():
    with pytest.raises(ValueError, match=r"^an error of its own$"):
        check_strategy(Raises())
