"""OrderDP on a stream, seen once or a few times, against the stream read in full and a random choice from it.

The loop is that of `docs/streams.md`. The trainer of recipes is not used: it knows its samples by their positions.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from orderdp.comparison.prices import FORWARD
from orderdp.comparison.verdicts import FEWEST_SEEDS, paired_difference
from orderdp.data.base import DataSets
from orderdp.data.registry import load_dataset
from orderdp.data.samples import Samples
from orderdp.paper.exhibit import Shown
from orderdp.report.tables import interval
from orderdp.rng import generator
from orderdp.strategies import OrderDP
from orderdp.stream import StreamPruner
from orderdp.training.data_path import DataPath
from orderdp.training.learning import learning
from orderdp.training.optim import optimization
from orderdp.training.passes import first_pass
from orderdp.training.recipe import Recipe, load_recipe, shipped_recipes

WINDOW = 10  # batches: at both prune ratios, what is kept of a window fills whole batches
_WHOLE = OrderDP(explore=1.0, exploit=1.0)
_MANY = 10**6  # samples, to tell the shares of a strategy

Scores = Literal["fresh", "late", "remembered", "none"]


class Stream(NamedTuple):
    """What is read, and how often.

    Args:
        name: in the table.
        num_samples: that a pass gives.
        passes: how often the source is read.
    """

    name: str
    num_samples: int
    passes: int


class Arm(NamedTuple):
    """One way to train on a stream.

    Args:
        name: in the table.
        ratio: the prune ratio that it is compared at; None for the stream read in full.
        strategy: what is kept of a window.
        scores: where the scores come from; "none" if all that is drawn is kept. "late" is "fresh" in the second half of
            the stream, and a random choice of as many in the first.
        read: share of the stream that is read before it stops, in (0, 1].
    """

    name: str
    ratio: float | None
    strategy: OrderDP
    scores: Scores = "none"
    read: float = 1.0


class Run(NamedTuple):
    """One finished run.

    Args:
        stream: name of the stream.
        method: name of the arm.
        ratio: its prune ratio; 0 for the stream read in full.
        seed: of the weights, the order of the stream and the draws.
        accuracy: on the test set after the last step, in percent.
        read: samples that were read.
        scored: forward passes without gradient of samples, kept or not.
        trained: samples that were trained.
        steps: optimiser steps.
        cost: trained samples, and a third of one for each that was scored.
        processor_s: seconds, with reading and without evaluation.
    """

    stream: str
    method: str
    ratio: float
    seed: int
    accuracy: float
    read: int
    scored: int
    trained: int
    steps: int
    cost: float
    processor_s: float


def open_stream(*, smoke: bool = False, data_root: str | None = None, download: bool = False) -> Shown:
    """The runs of the study as tables: on digits if `smoke`, else on Fashion-MNIST, in `data_root` or as installed."""
    recipe = load_recipe(shipped_recipes()["digits" if smoke else "fashion_mnist"], device="cpu", model="small_cnn")
    if smoke:
        data = load_dataset(recipe.dataset)
        streams = [Stream("once", 640, 1), Stream("2 times", 320, 2)]
        return show(measured(recipe, data, streams, ratios=(0.5,), seeds=(0, 1)), len(data.test))
    data = load_dataset(recipe.dataset, data_root=None if data_root is None else Path(data_root), download=download)
    streams = [Stream("once", 58_880, 1), Stream("4 times", 15_360, 4)]
    return show(measured(recipe, data, streams, ratios=(0.5, 0.7), seeds=range(5)), len(data.test))


def arms(ratios: Collection[float], *, repeats: bool) -> list[Arm]:
    """Returns the stream read in full, and at each prune ratio OrderDP and what costs as much.

    An arm of equal cost is as dear as OrderDP with fresh losses, whose forward passes are paid. One of as many samples
    is as dear as OrderDP with remembered losses. Those choose nothing in a stream that is seen once. With fresh losses
    of the second half alone, OrderDP costs more than these and less than those: it tells which half loses.

    Args:
        ratios: the prune ratios.
        repeats: whether samples come again.
    """
    found = [Arm("read in full", None, _WHOLE)]
    for ratio in ratios:
        method = OrderDP(prune_ratio=ratio)
        scored, kept = (size / _MANY for size in method.sizes(_MANY))
        found.append(Arm("OrderDP, fresh losses", ratio, method, "fresh"))
        found.append(Arm("OrderDP, fresh losses of the second half", ratio, method, "late"))
        if repeats:
            found.append(Arm("OrderDP, remembered losses", ratio, method, "remembered"))
        for cost, share in (("equal cost", kept + scored * FORWARD), ("as many samples", kept)):
            found.append(Arm(f"stopped early, {cost}", ratio, _WHOLE, read=share))
            found.append(Arm(f"random choice, {cost}", ratio, OrderDP(explore=share, exploit=1.0)))
    return found


def measured(
    recipe: Recipe, data: DataSets, streams: Sequence[Stream], *, ratios: Collection[float], seeds: Collection[int]
) -> list[Run]:
    """Trains all arms on all streams with all seeds.

    Args:
        recipe: model, optimiser, learning rate and batch size.
        data: the samples of a stream are a stratified subset of its training samples.
        streams: what is read.
        ratios: the prune ratios.
        seeds: of every arm.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.num_threads or threads)
    try:
        return [
            train(recipe.model_copy(update={"seed": seed}), part, stream, arm)
            for stream in streams
            for part in [data.with_train_size(stream.num_samples)]
            for seed in seeds
            for arm in arms(ratios, repeats=stream.passes > 1)
        ]
    finally:
        torch.set_num_threads(threads)


def train(recipe: Recipe, data: DataSets, stream: Stream, arm: Arm) -> Run:
    """Trains a new model on what an arm keeps of a stream; equal seeds have equal weights and an equal stream."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # noqa: TID251
        model, objective, _, _ = learning(recipe, data)
    path = DataPath(recipe, data, torch.device("cpu"))
    num_read = round(arm.read * stream.num_samples * stream.passes)
    source = _Source(path.samples(data.train, recipe.augment), num_read, recipe)

    def losses_of(batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return objective.losses(model(batch[1]), batch[2])

    scored, chance = 0, generator(recipe.seed, 0, "scores of the first half")

    def score(batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        nonlocal scored
        if arm.scores == "late" and source.given <= num_read / 2:
            return torch.from_numpy(chance.random(len(batch[0])))
        scored += len(batch[0])
        with first_pass(model):
            return losses_of(batch)

    how: dict[str, Any] = {"score": score} if arm.scores in ("fresh", "late") else {"key": lambda batch: batch[0]}
    pruner = StreamPruner(source, arm.strategy, batch_size=recipe.batch_size, window=WINDOW, seed=recipe.seed, **how)
    steps = pruner.total_steps(1, num_read, recipe.batch_size)
    optimizer, schedule = optimization(model, recipe, total_steps=steps)
    model.train()
    began_s = time.process_time()
    for index, batch in pruner:
        pruner.update(index, losses_of(batch)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    processor_s, report = time.process_time() - began_s, pruner.report()
    model.eval()
    with torch.no_grad():
        tested = path.in_order(path.samples(data.test, "none"))
        sums = torch.stack([objective.sums(model(inputs), labels) for _, (inputs, labels) in tested]).sum(0)
    accuracy = objective.evaluation(sums.tolist())["accuracy"]
    assert accuracy is not None
    return Run(
        stream=stream.name,
        method=arm.name,
        ratio=arm.ratio or 0.0,
        seed=recipe.seed,
        accuracy=accuracy,
        read=report.seen,
        scored=scored,
        trained=report.trained,
        steps=steps,
        cost=report.trained + scored * FORWARD,
        processor_s=processor_s,
    )


class _Source:
    """A stream: batches of (ids, inputs, labels), in an order that is new in each pass over the samples.

    Args:
        samples: of a pass.
        num_read: samples until the stream ends, perhaps inside a pass.
        recipe: its seed and its batch size.

    Attributes:
        given: samples so far.
    """

    def __init__(self, samples: Samples, num_read: int, recipe: Recipe) -> None:
        self._samples: Any = samples
        self._num_read, self._recipe = num_read, recipe
        self.given = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        left, epoch = self._num_read, 0
        while left:
            order = generator(self._recipe.seed, epoch, "order of the stream").permutation(len(self._samples))
            self._samples.set_epoch(epoch)
            for ids in torch.split(torch.from_numpy(order[:left]), self._recipe.batch_size):
                self.given += len(ids)
                yield ids, *self._samples.__getitems__(ids)
            left, epoch = left - min(left, len(order)), epoch + 1


def show(runs: Sequence[Run], test_size: int) -> Shown:
    """Returns the runs as a table, and a summary of their accuracies and paired differences.

    Args:
        runs: of all arms, each with the same seeds.
        test_size: samples that the accuracies were measured on.
    """
    groups: dict[tuple[str, float, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.stream, run.ratio, run.method].append(run)
    header = (
        "stream, pruned: method",
        "accuracy, %",
        "cost, %",
        "time, %",
        "steps",
        "minus stopped early",
        "minus random choice",
    )
    lines = []
    for (stream, ratio, method), mine in groups.items():
        full = groups[stream, 0.0, "read in full"]
        cost = "equal cost" if method == "OrderDP, fresh losses" else "as many samples"
        differences = [
            _minus(mine, groups[stream, ratio, f"{other}, {cost}"], test_size) if method.startswith("OrderDP") else ""
            for other in ("stopped early", "random choice")
        ]
        shares = [
            f"{100 * fmean(getattr(run, key) for run in mine) / fmean(getattr(run, key) for run in full):.0f}"
            for key in ("cost", "processor_s")
        ]
        lines.append(
            (
                f"{stream}{f', {100 * ratio:.0f} %' if ratio else ''}: {method}",
                _mean_of([run.accuracy for run in mine]),
                *shares,
                str(mine[0].steps),
                *differences,
            )
        )
    return Shown({}, {"open_stream": (Run._fields, runs)}, (header, lines), _note(runs))


def _mean_of(values: Sequence[float]) -> str:
    return f"{fmean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def _note(runs: Sequence[Run]) -> str:
    """Returns what the columns are, and what is subtracted from what."""
    seeds = sorted({run.seed for run in runs})
    few = "" if len(seeds) >= FEWEST_SEEDS else f" Fewer than {FEWEST_SEEDS} seeds support no conclusion."
    return (
        "Accuracy after the last step, in percent: mean ± standard deviation over the seeds "
        f"{', '.join(map(str, seeds))}. Cost and processor time are in percent of the stream read in full. A forward "
        "pass that scores a sample costs a third of a training step. Last columns: accuracy of OrderDP minus that of "
        "the stream stopped early, and minus that of a random choice from the whole stream, in percentage points. From "
        "“OrderDP, fresh losses” the ones of equal cost are subtracted, from every other OrderDP those of as many "
        f"samples, which may cost less. Brackets: 95 % intervals by Student's t, paired by seed.{few}"
    )


def _minus(mine: Sequence[Run], others: Sequence[Run], test_size: int) -> str:
    values: list[Mapping[int, float]] = [{run.seed: run.accuracy for run in runs} for runs in (mine, others)]
    return interval(paired_difference(*values, test_size=test_size), len(mine))
