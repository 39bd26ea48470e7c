"""What counts as trained is what `update` saw: loops that read ahead, skip or stop anywhere resume exactly."""

import contextlib
import gc
import itertools
import multiprocessing
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from orderdp import UCB, IndexedDataset, InfoBatch, OrderDP, Pruner
from reference.loaders import HALF, N, Squares
from reference.loop import loss_of

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
BATCHES = 7  # of an epoch
STRATEGIES = [HALF, UCB(prune_ratio=0.5), OrderDP(explore=1.0, exploit=0.5, per="iteration"), InfoBatch()]


def ahead(batches: Iterable[Any], count: int) -> Iterator[Any]:
    """Yields batches after `count` more have been asked for."""
    waiting: deque[Any] = deque()
    for batch in batches:
        waiting.append(batch)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


class Prefetched:
    """Reads batches in a thread of its own, as torchdata's Prefetcher does."""

    def __init__(self, batches: Iterable[Any], count: int) -> None:
        self.batches, self.count = batches, count

    def __iter__(self) -> Iterator[Any]:
        waiting: queue.Queue[Any] = queue.Queue(self.count)
        stopped = threading.Event()

        def read() -> None:
            for batch in self.batches:
                waiting.put(batch)
                if stopped.is_set():
                    return
            waiting.put(None)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield from iter(waiting.get, None)
        finally:
            stopped.set()
            while reader.is_alive():  # it may wait for room
                waiting.queue.clear()
                with waiting.not_full:
                    waiting.not_full.notify()
                reader.join(0.01)


LOOPS = {
    "at once": lambda loader: loader,
    "one ahead": lambda loader: ahead(loader, 1),
    "two ahead": lambda loader: ahead(loader, 2),
    "all ahead": lambda loader: list(loader),
    "pairwise": lambda loader: (first for first, _ in itertools.pairwise([*loader, None])),
    "a thread ahead": lambda loader: Prefetched(loader, 3),
}


def by_loader(pruner: Pruner, workers: int = 0) -> tuple[Any, Any]:
    loader = pruner.loader(Squares(), batch_size=3, num_workers=workers)
    return loader, loader


def by_sampler(pruner: Pruner, workers: int = 0) -> tuple[Any, Any]:
    """A DataLoader of the caller's own; the sampler saves and loads."""
    own = DataLoader(IndexedDataset(Squares()), batch_sampler=pruner.sampler(3), num_workers=workers)
    return own, own.batch_sampler


MAKERS = {"loader": by_loader, "own DataLoader": by_sampler}
WITH_WORKERS = {
    "loader, workers": lambda pruner: by_loader(pruner, workers=2),
    "own DataLoader, workers": lambda pruner: by_sampler(pruner, workers=2),
}
EACH = pytest.mark.parametrize("make", [*MAKERS.values(), *WITH_WORKERS.values()], ids=[*MAKERS, *WITH_WORKERS])
CASES = [
    *itertools.product(MAKERS.items(), LOOPS.items(), range(BATCHES + 1)),
    *itertools.product(WITH_WORKERS.items(), list(LOOPS.items())[:2], (0, 3, BATCHES - 1)),
    *itertools.product(WITH_WORKERS.items(), list(LOOPS.items())[-1:], (0, 3, BATCHES - 1)),
]


def update(pruner: Pruner, index: torch.Tensor) -> list[int]:
    pruner.update(index, loss_of(index, pruner.epoch))
    return index.tolist()


def unbroken(strategy: Any, epochs: int) -> tuple[Pruner, list[list[list[int]]]]:
    pruner = Pruner(strategy, N)
    loader, _ = by_loader(pruner)
    return pruner, [[update(pruner, index) for index, _ in loader] for _ in range(epochs)]


@pytest.mark.parametrize(
    ("make", "loop", "stop"),
    [pytest.param(make, loop, stop, id=f"{one}, {other}, {stop}") for (one, make), (other, loop), stop in CASES],
)
def test_a_loop_that_reads_ahead_resumes_with_exactly_the_batches_that_it_did_not_train(make, loop, stop):
    whole, expected = unbroken(HALF, 3)
    pruner = Pruner(HALF, N)
    loader, saver = make(pruner)
    seen = [[update(pruner, index) for index, _ in loop(loader)]]
    last, batches = [], iter(loop(loader))
    for index, _ in batches:
        if len(last) == stop:  # this batch and those read ahead are not trained
            break
        last.append(update(pruner, index))
    assert saver.remaining == BATCHES - stop
    state = saver.state_dict()
    assert state["inside"] == (stop < BATCHES)
    del batches

    twin = Pruner(HALF, N)
    loader, saver = make(twin)
    saver.load_state_dict(state)
    assert len(loader) == BATCHES
    if stop < BATCHES:
        last += [update(twin, index) for index, _ in loop(loader)]
    rest = [update(twin, index) for index, _ in loop(loader)]
    assert [*seen, last, rest] == expected
    for name, column in whole.table().items():
        assert torch.equal(twin.table()[name], column), name


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("trained", [[0, 2, 5], [6], [1, 0, 3, 2], [3, 4, 5, 6], [6, 5, 4, 3, 2, 1]], ids=str)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_what_was_trained_is_a_set_of_batches_and_no_prefix(make, trained, strategy):
    """Batches may be trained in any order. The others come after a resume, in the order of the selection."""
    pruner = Pruner(strategy, N)
    loader, saver = make(pruner)
    iterator = iter(loader)
    batches = [next(iterator)[0]]  # the first one begins the epoch
    batches += [next(iterator)[0] for _ in range(len(loader) - 1)]  # the loop does not know that these are all
    trained = [number for number in trained if number < len(batches)]
    for number in trained:
        update(pruner, batches[number])
    state = saver.state_dict()
    del iterator
    twin = Pruner(strategy, N)
    loader, saver = make(twin)
    saver.load_state_dict(state)
    left = [batch.tolist() for number, batch in enumerate(batches) if number not in trained]
    assert saver.remaining == len(left)
    assert [update(twin, index) for index, _ in loader] == left
    assert saver.remaining == 0
    assert twin.report().trained == sum(map(len, batches))


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("cut", [{"batch_size": 4}, {"batch_size": 4, "stable_shapes": True}], ids=str)
def test_ids_may_come_back_in_any_order_and_in_any_parts(cut, shuffled):
    """A loop may sort a batch by length, split it, or join two."""
    alone, pruner = Pruner(HALF, N), Pruner(HALF, N)
    whole, loader = alone.loader(Squares(), **cut), pruner.loader(Squares(), **cut)
    for epoch in range(3):
        for index, _ in whole:
            update(alone, index)
        ids = torch.cat([index for index, _ in loader])
        if shuffled:
            ids = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(epoch))]
        for part in ids.split([1, 5, 3, 7, 4]):
            update(pruner, part)
    for name, column in alone.table().items():
        assert torch.equal(pruner.table()[name], column), name


def test_a_batch_that_comes_back_sorted_is_found_and_its_losses_kept_apart():
    pruner = Pruner(HALF, N)
    for index, _ in pruner.loader(Squares(), batch_size=5):
        ordered = index.sort().values
        pruner.update(ordered, (ordered + 0.5).requires_grad_())
    ids = torch.from_numpy(pruner.selection.indices).long()
    assert torch.equal(pruner.scores()["score"][ids], ids + 0.5)


@EACH
def test_an_interrupt_between_a_batch_and_its_update_loses_nothing(make):
    _, expected = unbroken(HALF, 1)
    pruner = Pruner(HALF, N)
    loader, saver = make(pruner)
    seen = []
    try:
        for index, _ in loader:
            if len(seen) == 3:
                raise KeyboardInterrupt
            seen.append(update(pruner, index))
    except KeyboardInterrupt:
        saver.load_state_dict(saver.state_dict())  # on the same pruner
    seen += [update(pruner, index) for index, _ in loader]
    assert [seen] == expected


def test_a_loop_may_save_and_load_after_every_batch():
    _, expected = unbroken(HALF, 2)
    seen: list[list[int]] = []
    state = None
    while len(seen) < 2 * BATCHES:
        pruner = Pruner(HALF, N)
        loader, _ = by_loader(pruner)
        if state is not None:
            loader.load_state_dict(state)
        index, _ = next(iter(loader))
        seen.append(update(pruner, index))
        state = loader.state_dict()
    assert seen == list(itertools.chain.from_iterable(expected))


# A data set that raises for one item, where the loop catches it and goes on.


class Unreadable(Squares):
    """Raises for some samples."""

    def __init__(self, bad: Iterable[int]) -> None:
        self.bad = set(bad)

    def __getitem__(self, index):
        if index in self.bad:
            raise OSError(f"sample {index} is unreadable")
        return super().__getitem__(index)


def train_what_can_be_read(pruner: Pruner, loader: Any, most: int | None = None) -> list[list[int] | None]:
    """Trains an epoch, or its first `most` batches; None stands for a batch that could not be read."""
    batches: list[list[int] | None] = []
    iterator = iter(loader)
    with contextlib.suppress(StopIteration):
        while len(batches) != most:
            trained = None
            with contextlib.suppress(OSError):
                trained = update(pruner, next(iterator)[0])
            batches.append(trained)
    return batches


def read_what_can_be_read(loader: Any) -> list[list[int] | None]:
    read: list[list[int] | None] = []
    iterator = iter(loader)
    with contextlib.suppress(StopIteration):
        while True:
            ids = None
            with contextlib.suppress(OSError):
                ids = next(iterator)[0].tolist()
            read.append(ids)
    return read


ANY_WORKERS = pytest.mark.parametrize("workers", [0, 1, 2])
UNREADABLE = {
    "in the middle": [2],
    "the first": [0],
    "the last": [BATCHES - 1],
    "the last two": [BATCHES - 2, BATCHES - 1],
    "three": [0, 3, 4],
    "all": range(BATCHES),
}


def unreadable(bad_batches: Iterable[int]) -> tuple[Unreadable, list[list[int] | None]]:
    """A data set in which the second sample of these batches of epoch 0 is unreadable, and what epoch 0 then trains."""
    _, (batches,) = unbroken(HALF, 1)
    bad_batches = set(bad_batches)
    dataset = Unreadable(batches[number][1] for number in bad_batches)
    return dataset, [None if number in bad_batches else batch for number, batch in enumerate(batches)]


@ANY_WORKERS
@pytest.mark.parametrize("bad", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_epoch_goes_on_after_an_error_of_the_data_set_as_torch_does(bad, workers):
    dataset, expected = unreadable(bad)
    pruner = Pruner(HALF, N)
    loader = pruner.loader(dataset, batch_size=3, num_workers=workers)
    assert train_what_can_be_read(pruner, loader) == expected
    plain = DataLoader(dataset, batch_sampler=[list(b) for b in Pruner(HALF, N).sampler(3)], num_workers=workers)
    assert read_what_can_be_read(plain) == expected
    assert loader.remaining == 0


@pytest.mark.parametrize("bad", UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize("stop", [None, 3, 5])
def test_the_state_after_an_error_is_the_same_for_any_number_of_workers(bad, stop):
    dataset, expected = unreadable(bad)
    states, left = [], []
    for workers in (0, 1, 2):
        pruner = Pruner(HALF, N)
        loader = pruner.loader(dataset, batch_size=3, num_workers=workers)
        train_what_can_be_read(pruner, loader, stop)
        states.append(loader.state_dict())
        twin = Pruner(HALF, N)
        resumed = twin.loader(Squares(), batch_size=3, num_workers=workers)  # the file was mended
        resumed.load_state_dict(states[-1])
        left.append([update(twin, index) for index, _ in resumed] if states[-1]["inside"] else [])
    _, (batches,) = unbroken(HALF, 1)
    again = [batch for number, batch in enumerate(batches) if stop and (number >= stop or not expected[number])]
    assert left == [again] * 3
    for state in states[1:]:
        assert {name: value for name, value in state.items() if name != "pruner"} == {
            name: value for name, value in states[0].items() if name != "pruner"
        }
        for part in ("record", "table"):
            torch.testing.assert_close(state["pruner"][part], states[0]["pruner"][part], rtol=0, atol=0)


def test_workers_end_with_the_loop_that_caught_their_error():
    dataset, _ = unreadable(UNREADABLE["in the middle"])
    before = set(multiprocessing.active_children())
    gc.disable()  # only it would free the error, which torch keeps in a cycle with its workers
    try:
        pruner = Pruner(HALF, N)
        train_what_can_be_read(pruner, pruner.loader(dataset, batch_size=3, num_workers=2), 4)
        assert set(multiprocessing.active_children()) == before
    finally:
        gc.enable()


@ANY_WORKERS
@pytest.mark.parametrize("bad", [bad for bad in UNREADABLE.values() if len(bad) < BATCHES], ids=str)
@pytest.mark.filterwarnings("ignore:.* samples of epoch . were left without a loss:RuntimeWarning")
def test_samples_of_a_batch_that_could_not_be_read_have_failed(bad, workers):
    dataset, expected = unreadable(bad)
    _, (batches,) = unbroken(HALF, 1)
    pruner = Pruner(HALF, N)
    loader = pruner.loader(dataset, batch_size=3, num_workers=workers)
    assert train_what_can_be_read(pruner, loader) == expected
    failed = tuple(sorted(itertools.chain.from_iterable(batches[number] for number in bad)))
    assert pruner.report().failed == failed
    assert pruner.report().missing == len(failed)
    assert pruner.report().trained == N // 2 - len(failed)
    following = train_what_can_be_read(pruner, loader)
    assert None not in following  # half of the samples rank above those that failed
    assert pruner.report().failed == failed
