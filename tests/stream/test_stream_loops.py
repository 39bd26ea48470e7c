"""Loops over a stream that leave out updates, read ahead, update twice, mistake the index, or have uneven parts."""

import contextlib
import gc
import itertools
import multiprocessing
import re

import numpy as np
import pytest
import torch
import torch.distributed as dist
from scipy import stats
from torch.utils.data import DataLoader, Dataset

from orderdp import OrderDP
from orderdp.stream import StreamPruner
from reference.loop import joined
from reference.processes import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
HALF = OrderDP(prune_ratio=0.5)


class Source:
    """Batches that are a function of their number, from a place that can be saved."""

    def __init__(self, num_batches: int, size: int = 8) -> None:
        self.num_batches, self.size, self.next = num_batches, size, 0

    def __iter__(self):
        while self.next < self.num_batches:
            self.next += 1
            i = torch.arange(self.size * (self.next - 1), self.size * self.next)
            yield {"i": i, "x": (i * 7919 % 1009).float()}
        self.next = 0

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


def score(batch) -> torch.Tensor:
    return batch["x"]


def with_gradient(batch) -> torch.Tensor:
    return batch["x"].clone().requires_grad_()


def make(kind: str = "remembered", source=None, strategy: OrderDP = HALF, window: int = 2) -> StreamPruner:
    how = {"score": score} if kind == "fresh" else {"key": lambda batch: batch["i"]}
    return StreamPruner(Source(6) if source is None else source, strategy, batch_size=4, window=window, **how)


def passed(stream: StreamPruner, skip: tuple[int, ...] = (), limit: int | None = None) -> list[list[int]]:
    """Trains a pass, or its first batches, without some of the updates; what it trained."""
    found = []
    for number, (index, batch) in enumerate(stream):
        if number not in skip:
            stream.update(index, with_gradient(batch))
            found.append(batch["i"].tolist())
        if number + 1 == limit:
            break
    return found


@pytest.mark.parametrize("skipped", [0, 1])
def test_a_batch_that_was_passed_over_brings_no_trained_window_back(skipped):
    stream = make()
    before = passed(stream, (skipped,), limit=4)
    other = make()
    other.load_state_dict(stream.state_dict())
    after = passed(other)
    trained = joined(before + after)
    assert len(trained) == len(set(trained)) == 24 - 4
    assert other.report().trained == 20


def test_a_pass_that_ended_is_over_though_a_batch_of_it_was_passed_over():
    stream = make(source=list(Source(6)))
    passed(stream, skip=(3,))
    assert not stream.state_dict()["inside"]
    passed(stream, skip=(3, 5))  # the last one too
    assert not stream.state_dict()["inside"]
    resumable = make()
    passed(resumable, skip=(3,))
    assert not resumable.state_dict()["inside"]
    last = passed(resumable, skip=(5,))
    assert resumable.state_dict()["inside"]  # a loop that reads ahead has it still to train
    other = make()
    other.load_state_dict(resumable.state_dict())
    (rest,) = passed(other)
    assert len(rest) == 4
    assert not set(rest) & set(joined(last))


def test_a_loop_may_read_ahead_over_windows_that_keep_nothing():
    stream = make("fresh", Source(40, size=4), OrderDP(prune_ratio=0.95), window=1)
    batches, trained = iter(stream), 0
    index, batch = next(batches)
    for ahead in batches:
        state = stream.state_dict()
        other = make("fresh", Source(40, size=4), OrderDP(prune_ratio=0.95), window=1)
        other.load_state_dict(state)
        assert next(iter(other))[0].tolist() == index.tolist()
        stream.update(index, with_gradient(batch))
        index, batch = ahead
        trained += 1
    assert trained == stream.report().trained == 7
    assert stream.report().kept == 8


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("ahead", [False, True])
def test_the_counters_of_a_resumed_run_are_those_of_one_that_was_not_stopped(steps, ahead):
    bad = lambda batch: torch.where(batch["i"] % 5 == 0, torch.nan, batch["x"])  # noqa: E731
    fresh = lambda: StreamPruner(Source(6), HALF, batch_size=4, window=2, score=bad)  # noqa: E731
    whole, stream, other = fresh(), fresh(), fresh()
    passed(whole)
    batches = iter(stream)
    read = [next(batches)] if ahead else []
    for _ in range(steps):
        read.append(next(batches))
        index, batch = read.pop(0)
        stream.update(index, with_gradient(batch))
    other.load_state_dict(stream.state_dict())
    passed(other)
    assert other.report() == whole.report()
    assert whole.report().non_finite > 0
    assert whole.report().scored == HALF.sizes(48)[0]


def test_keys_are_remembered_whatever_form_the_index_has():
    for form in (torch.tensor, np.array, tuple):
        stream = make()
        for index, batch in stream:
            stream.update(form(index), with_gradient(batch))
        assert all(type(key) is int for key in stream.state_dict()["keys"])
        assert stream.report().remembered == 24


def test_an_index_with_one_wrong_key_is_refused():
    stream = make()
    index, batch = next(iter(stream))
    with pytest.raises(ValueError, match="index must be that of a batch under way"):
        stream.update([*index[:-1], 999], with_gradient(batch))
    assert stream.report().remembered == 0


def test_batches_of_equal_keys_are_each_trained():
    source = [{"i": torch.zeros(8, dtype=torch.int64), "x": torch.arange(8.0)} for _ in range(4)]
    stream = make(source=source)
    assert len(passed(stream)) == 4
    assert stream.report().trained == 16
    assert not stream.state_dict()["inside"]


def test_losses_are_not_changed_in_place():
    stream = make(strategy=OrderDP(explore=1.0, exploit=1.0))
    index, _ = next(iter(stream))
    weight = torch.ones(4, requires_grad=True)
    losses = torch.exp(weight * torch.tensor([1.0, torch.nan, 3.0, 4.0]))  # its gradient needs the losses themselves
    loss = stream.update(index, losses)
    assert losses.isnan().tolist() == [False, True, False, False]
    assert loss.isnan()
    loss.backward()
    assert weight.grad[0].item() == pytest.approx(np.e / 4)


def test_a_second_update_of_a_batch_counts_once():
    stream = make()
    for index, batch in stream:
        stream.update(index, with_gradient(batch))
        stream.update(index, with_gradient(batch) + 1)
    assert stream.report().trained == stream.report().kept == 24
    assert min(stream.state_dict()["scores"]) >= 1


@pytest.mark.parametrize("passes", [0, 1])
def test_a_source_that_gives_nothing_is_told(passes):
    stream = make(source=iter(list(Source(4)) if passes else []))
    for _ in range(passes):
        passed(stream)
    with pytest.raises(ValueError, match=re.escape("source must give batches in every pass, got none from")):
        passed(stream)


class Broken(Dataset):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, i: int) -> dict:
        if i == 50:
            raise OSError("a file is broken")
        return {"i": i, "x": torch.tensor(float(i))}


@pytest.mark.parametrize("broken", [False, True])
def test_workers_end_with_a_loop_that_is_left(broken):
    stream = make(source=DataLoader(Broken(), batch_size=4, num_workers=2))
    gc.collect()
    gc.disable()  # which would end them later
    try:
        with pytest.raises(OSError, match="a file is broken") if broken else contextlib.nullcontext():
            passed(stream, limit=None if broken else 1)
        assert multiprocessing.active_children() == []
    finally:
        gc.enable()


# What is random.


def places_of(stream: StreamPruner, size: int) -> list[list[int]]:
    """Where the samples that each window trained stood in it."""
    found = []
    for index, batch in stream:
        stream.update(index, with_gradient(batch))
        if stream.report().windows > len(found):
            found.append([])
        found[-1] += (batch["i"] % size).tolist()
    return found


def test_each_window_draws_anew_and_trains_in_random_order():
    windows = places_of(make(source=Source(200, size=4)), 8)  # unseen keys, so that the draw alone decides
    assert len(windows) == 100
    times = np.bincount(joined(windows), minlength=8)
    assert stats.chisquare(times).pvalue > 1e-3
    assert len({tuple(sorted(window)) for window in windows}) > 30  # of the 70 sets
    rises = np.mean([first < second for window in windows for first, second in itertools.pairwise(window)])
    assert rises == pytest.approx(0.5, abs=0.1)


def drawn_by_rank(rank: int) -> list[list[int]]:
    return places_of(make(source=Source(40, size=4)), 8)


def test_ranks_draw_independently_of_each_other(tmp_path):
    first, second = run_ranks(2, drawn_by_rank, tmp_path)
    assert len(first) == len(second) == 20
    assert sum(sorted(a) == sorted(b) for a, b in zip(first, second, strict=True)) < 5


def scored_together(rank: int, sizes: list[int]) -> dict:
    """The score function waits for the other ranks, as a model does that is spread over them."""

    def waiting(batch):
        calls[0] += 1
        dist.all_reduce(torch.zeros(1))
        return batch["x"]

    calls = [0]
    stream = StreamPruner(Source(sizes[rank], size=4), HALF, batch_size=2, window=3, score=waiting)
    steps, report = len(passed(stream)), stream.report()
    return {"calls": calls[0], "steps": steps, "scored": report.scored, "windows": report.windows}


@pytest.mark.parametrize("sizes", [[4, 5], [5, 4], [3, 3], [4, 7]])
def test_ranks_call_the_score_function_equally_often(tmp_path, sizes):
    ranks = run_ranks(2, scored_together, tmp_path, sizes)
    assert ranks[0]["calls"] == ranks[1]["calls"] > 0
    assert ranks[0]["windows"] == ranks[1]["windows"]
    assert ranks[0]["steps"] == ranks[1]["steps"]
    for rank, num_batches in zip(ranks, sizes, strict=True):
        seen = 4 * min(num_batches, 3 * rank["windows"])
        assert rank["scored"] == HALF.sizes(seen)[0]
