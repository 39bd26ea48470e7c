"""The passes of a step that chooses within its batch, and what they cost on this machine.

Such a step makes two passes. The first one, without gradient, gives the losses to choose by. The second one trains the
samples kept, so the backward pass runs over them alone.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from orderdp.data.base import DataSets, ImageArrays, ImageFiles, inputs_of
from orderdp.strategies import Strategy
from orderdp.training.optim import build_optimizer
from orderdp.training.recipe import Recipe

_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 7
# A round takes about 2.2 training steps, and a step of such a run about 0.8. So the rounds and the one before them
# take less than 1 % of the run.
_STEPS_A_ROUND = 400


@contextmanager
def first_pass(model: nn.Module) -> Iterator[None]:
    """Takes no gradients inside, and leaves the buffers of the model as they were.

    A batch norm normalises by the statistics of the batch, as in training, but its running statistics do not move.
    """
    buffers = list(model.buffers())
    before = [buffer.clone() for buffer in buffers]
    with torch.no_grad():
        yield
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def measure_passes(
    model: nn.Module,
    recipe: Recipe,
    data: DataSets,
    losses_of: Callable[[tuple[Tensor, Tensor], nn.Module], Tensor],
    *,
    steps: int,
) -> dict[str, float] | None:
    """Returns the seconds a sample of the passes of a run's steps, or None if the run needs none or is too short.

    Measures on a copy of the model with made-up samples, in turns, and takes the shortest time, which other programs
    disturbed least. Puts the generators that dropout draws from back, so the run does not change. On a CPU the seconds
    are of the processor. A compiled model would have to be compiled for it, so it is not measured.

    Args:
        model: the model as it is trained, on its device.
        recipe: the settings of the run.
        data: the data set, for the shape of its samples.
        losses_of: from (inputs, labels) and a model to (b,) losses with gradient.
        steps: steps of the run. Below 1,200 of them, measuring would take more than 1 % of the run.

    Returns:
        `first`: a forward pass over the batch without gradient. `kept`: a training step of the samples kept. `full`: a
        training step of the whole batch.
    """
    rounds = min(steps // _STEPS_A_ROUND, _MOST_ROUNDS)
    if rounds < _FEWEST_ROUNDS or recipe.compile or not recipe.strategy.chooses_in_batch:
        return None
    passes = _Passes(copy.deepcopy(model).train(), recipe, data, losses_of)
    calls = {"first": passes.first, "kept": passes.step_of_kept, "full": passes.step}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    clock = time.process_time if passes.device.type == "cpu" else time.perf_counter
    with torch.random.fork_rng([passes.device] if passes.device.type == "cuda" else []):
        for _ in range(rounds + 1):  # the first one warms up
            for name, call in calls.items():
                began_s = clock()
                size = call()
                seconds[name].append((clock() - began_s) / size)
    return {name: min(values[1:]) for name, values in seconds.items()}


def warm_up(
    model: nn.Module,
    recipe: Recipe,
    data: DataSets,
    losses_of: Callable[[tuple[Tensor, Tensor], nn.Module], Tensor],
) -> None:
    """Makes both passes of a copy of the model, so that the first run of a process is not the slowest.

    A compiled model is left out: it would be compiled twice. The arguments are those of `measure_passes`.
    """
    if not recipe.compile:
        passes = _Passes(copy.deepcopy(model).train(), recipe, data, losses_of)
        with torch.random.fork_rng([passes.device] if passes.device.type == "cuda" else []):
            passes.backward()


class _Passes:
    """The passes to measure. Each call waits for the device and returns the number of samples."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        data: DataSets,
        losses_of: Callable[[tuple[Tensor, Tensor], nn.Module], Tensor],
    ) -> None:
        self.model, self.losses_of = model, losses_of
        self.weight = next(model.parameters())
        self.device = self.weight.device
        self.optimizer = build_optimizer(
            model,
            name=recipe.optimizer,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
        for group in self.optimizer.param_groups:  # arithmetic may be slower on the numbers of a copy that diverges
            group["lr"] = 0.0
        rng = torch.Generator().manual_seed(0)
        size = min(recipe.batch_size, len(data.train))
        if not isinstance(data.train, ImageArrays | ImageFiles):
            inputs = inputs_of(data.train)[:size]
            inputs = inputs.to(torch.int64) if data.kind == "graphs" else inputs
        else:
            inputs = torch.randn((size, data.in_channels, data.image_size, data.image_size), generator=rng)
        self.inputs, self.labels = inputs.to(self.device), data.train.labels[:size].to(self.device)
        self.kept = _num_kept(recipe.strategy, size)

    def first(self) -> int:
        with first_pass(self.model):
            float(self.losses_of((self.inputs, self.labels), self.model).sum())
        return len(self.inputs)

    def step_of_kept(self) -> int:
        return self.step(self.kept)

    def backward(self, size: int | None = None) -> None:
        inputs, labels = self.inputs[:size], self.labels[:size]
        self.losses_of((inputs, labels), self.model).mean().backward()  # type: ignore[no-untyped-call]

    def step(self, size: int | None = None) -> int:
        self.backward(size)
        self.optimizer.step()
        self.optimizer.zero_grad()
        float(self.weight.detach().flatten()[0])
        return len(self.inputs[:size])


def _num_kept(strategy: Strategy, batch_size: int) -> int:
    """Returns how many samples of a batch the strategy trains."""
    rng = torch.Generator().manual_seed(0)
    losses, uniforms = torch.rand(2, batch_size, generator=rng).clamp(0.001, 0.999)
    weights = strategy.batch_weights(losses, lambda: uniforms)
    return batch_size if weights is None else int((weights != 0).sum())
