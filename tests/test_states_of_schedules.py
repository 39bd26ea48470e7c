"""A run that is saved under one schedule is not resumed under another in silence."""

import functools
from dataclasses import dataclass

import pytest
import torch

from orderdp import UCB, Constant, EpsilonGreedy, FullData, InfoBatch, OrderDP, Pruner
from reference.loop import train, train_epoch
from reference.steps import bounds_of

pytestmark = pytest.mark.filterwarnings("ignore:epoch . was left after:RuntimeWarning")
HALF = OrderDP(explore=1.0, exploit=0.5)
N = 20


def full_first(strategy, epoch):
    return strategy if epoch else FullData()


def full_twice(strategy, epoch):
    return strategy if epoch > 1 else FullData()


def from_epoch(strategy, epoch, *, start):
    return strategy if epoch >= start else FullData()


@dataclass(frozen=True)
class WarmUp:
    """All the data before an epoch."""

    start: int

    def __call__(self, strategy, epoch):
        return strategy if epoch >= self.start else FullData()


class PlainWarmUp:
    """The same without a repr that says its settings."""

    def __init__(self, start):
        self.start = start

    def __call__(self, strategy, epoch):
        return strategy if epoch >= self.start else FullData()


def later_by(start):
    return lambda strategy, epoch: from_epoch(strategy, epoch, start=start)


class Methods:
    def full_first(self, strategy, epoch):
        return full_first(strategy, epoch)


def saved(schedule, epochs=1, stop_batch=0):
    pruner = Pruner(HALF, N, schedule=schedule)
    loader = pruner.loader(range(N), batch_size=5)
    batches = train(pruner, loader, epochs)
    if stop_batch:
        batches.append(train_epoch(pruner, loader, stop_batch))
    return pruner, loader, batches


ALIKE = {
    "function": (full_first, full_first),
    "lambda": (lambda strategy, epoch: full_first(strategy, epoch), None),
    "partial": (functools.partial(from_epoch, start=2), functools.partial(from_epoch, start=2)),
    "dataclass": (WarmUp(2), WarmUp(2)),
    "instance": (PlainWarmUp(2), PlainWarmUp(2)),
    "method": (Methods().full_first, Methods().full_first),
    "none and constant": (None, Constant()),
}


@pytest.mark.parametrize("schedules", ALIKE.values(), ids=ALIKE.keys())
@pytest.mark.parametrize("stop_batch", [0, 1])
@pytest.mark.parametrize("epochs", [0, 1, 2, 3])
def test_a_run_goes_on_under_the_same_schedule(schedules, epochs, stop_batch):
    first, second = schedules[0], schedules[1] or schedules[0]
    unbroken, _, _ = saved(first, epochs=0)
    expected = train(unbroken, unbroken.loader(range(N), batch_size=5), 5)
    _, loader, batches = saved(first, epochs, stop_batch)
    twin = Pruner(HALF, N, schedule=second)
    resumed = twin.loader(range(N), batch_size=5)
    resumed.load_state_dict(loader.state_dict())
    rest = train(twin, resumed, 5 - epochs)
    if stop_batch:
        rest[0] = batches.pop() + rest[0]
    assert batches + rest == expected


OTHERS = {
    "none": (full_first, None, "state must be of schedule", 1),
    "another function": (full_first, full_twice, "state must be of schedule", 1),
    "one where there was none": (None, full_first, "state must be of schedule", 1),
    "another lambda": (lambda s, e: full_first(s, e), lambda s, e: full_twice(s, e), "schedule must name", 1),
    "settings of a dataclass": (WarmUp(2), WarmUp(3), "state must be of schedule", 1),
    "settings of a partial": (
        functools.partial(from_epoch, start=2),
        functools.partial(from_epoch, start=3),
        "state must be of schedule",
        1,
    ),
    "function of a partial": (
        functools.partial(WarmUp(2)),
        functools.partial(from_epoch, start=2),
        "state must be of schedule",
        1,
    ),
    "settings of an instance": (PlainWarmUp(2), PlainWarmUp(3), "schedule must name", 2),
    "settings that matter much later": (PlainWarmUp(5), PlainWarmUp(30), "schedule must name", 1),
    "a closure": (later_by(2), later_by(7), "schedule must name", 1),
}


@pytest.mark.parametrize(("first", "second", "text", "epochs"), OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize("stop_batch", [0, 1])
def test_another_schedule_is_refused_by_name_and_changes_nothing(first, second, text, epochs, stop_batch):
    # Where a schedule does not say what it is, the strategies tell: of the next epoch, or of the one that is resumed.
    _, loader, _ = saved(first, epochs, stop_batch)
    twin = Pruner(HALF, N, schedule=second)
    untouched = Pruner(HALF, N, schedule=second)
    with pytest.raises(ValueError, match=rf"the {text} .*change=\('schedule',\)\) between two epochs"):
        twin.loader(range(N), batch_size=5).load_state_dict(loader.state_dict())
    fresh = [pruner.loader(range(N), batch_size=5) for pruner in (twin, untouched)]
    assert train(twin, fresh[0], 2) == train(untouched, fresh[1], 2)


@pytest.mark.parametrize(("first", "second", "text", "epochs"), OTHERS.values(), ids=OTHERS.keys())
def test_another_schedule_is_taken_by_an_explicit_change_between_two_epochs(first, second, text, epochs):
    pruner, _, _ = saved(first, epochs)
    twin = Pruner(HALF, N, schedule=second)
    twin.load_state_dict(pruner.state_dict(), change=("schedule",))
    assert torch.equal(twin.scores()["score"], pruner.scores()["score"])
    for _ in range(3):
        scheduled = twin.schedule(HALF, twin.next_epoch)
        train_epoch(twin, twin.loader(range(N), batch_size=5))
        assert len(twin.selection.indices) == (N if scheduled == FullData() else N // 2)


def test_what_may_change_is_named_one_by_one():
    pruner, _, _ = saved(full_first, 1)
    other = Pruner(OrderDP(explore=1.0, exploit=0.25), N, schedule=full_twice)
    with pytest.raises(ValueError, match="the state must be of strategy "):
        other.load_state_dict(pruner.state_dict(), change=("schedule",))
    with pytest.raises(ValueError, match="the state must be of schedule "):
        other.load_state_dict(pruner.state_dict(), change=("strategy",))
    other.load_state_dict(pruner.state_dict(), change=("strategy", "schedule"))
    assert other.next_epoch == 1


@pytest.mark.parametrize("change", ["schedule", ("batch_size",), ("seed",), ["schedule", "epochs"]], ids=str)
def test_what_may_not_change_is_refused(change):
    pruner, _, _ = saved(full_first, 1)
    with pytest.raises(ValueError, match=r"change names settings, 'strategy' or 'schedule', got .*; write change="):
        Pruner(HALF, N, schedule=full_first).load_state_dict(pruner.state_dict(), change=change)


@pytest.mark.parametrize("change", [("schedule",), ("strategy",), ("strategy", "schedule")], ids=str)
def test_nothing_changes_inside_an_epoch(change):
    _, loader, _ = saved(full_first, 1, stop_batch=1)
    state = loader.state_dict()
    twin = Pruner(HALF, N, schedule=full_twice)
    resumed = twin.loader(range(N), batch_size=5)
    with pytest.raises(
        ValueError,
        match=r"can change between two epochs, got a state inside one; write pruner\.load_state",
    ):
        resumed.load_state_dict(state, change=change)
    twin.load_state_dict(state["pruner"], change=("schedule",))
    assert twin.next_epoch == 2


# The strategy and its settings may change in the same way.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HALF, OrderDP(explore=1.0, exploit=0.25)),
        (HALF, EpsilonGreedy(prune_ratio=0.5)),
        (HALF, UCB(prune_ratio=0.5)),
        (UCB(prune_ratio=0.5), HALF),
        (InfoBatch(epochs=4), InfoBatch(epochs=8)),
        (InfoBatch(epochs=4), FullData()),
        (FullData(), HALF),
    ],
    ids=repr,
)
def test_another_strategy_is_taken_by_an_explicit_change(before, after):
    pruner = Pruner(before, N)
    train(pruner, pruner.loader(range(N), batch_size=5), 2)
    state = pruner.state_dict()
    with pytest.raises(
        ValueError, match=r"the state must be of strategy .*write load_state_dict\(state, change=\('stra"
    ):
        Pruner(after, N).load_state_dict(state)
    twin = Pruner(after, N)
    twin.load_state_dict(state, change=("strategy",))
    assert twin.next_epoch == 2
    assert torch.equal(twin.visits(), pruner.visits())
    assert torch.equal(twin.ages(), pruner.ages())
    for name in set(before.columns) & set(after.columns):
        assert torch.equal(twin.scores()[name], pruner.scores()[name])
    train(twin, twin.loader(range(N), batch_size=5), 2)
    assert twin.epoch == 3
    with pytest.raises(ValueError, match="the state must be of strategy "):
        Pruner(before, N).load_state_dict(twin.state_dict())


@pytest.mark.parametrize("batch_size", [3, 7, 20])
def test_the_batch_size_may_change_between_two_epochs(batch_size):
    _, loader, _ = saved(None, 2)
    twin = Pruner(HALF, N)
    resumed = twin.loader(range(N), batch_size=batch_size)
    resumed.load_state_dict(loader.state_dict())
    expected = [end - begin for begin, end in bounds_of(N // 2, batch_size)]
    assert [len(batch) for batch in train_epoch(twin, resumed)] == expected


def test_a_schedule_may_be_a_list_that_ends_with_the_run():
    def listed(strategy, epoch):
        return [FullData(), strategy][epoch]

    pruner, loader, _ = saved(listed, 2)
    twin = Pruner(HALF, N, schedule=listed)
    twin.loader(range(N), batch_size=5).load_state_dict(loader.state_dict())
    assert twin.next_epoch == pruner.next_epoch == 2


def test_a_state_saved_right_after_it_was_loaded_may_be_loaded_again():
    """Inside an epoch, under a schedule that only its strategies tell apart."""
    _, loader, batches = saved(PlainWarmUp(2), epochs=1, stop_batch=1)
    state = loader.state_dict()
    for _ in range(3):
        twin = Pruner(HALF, N, schedule=PlainWarmUp(2))
        resumed = twin.loader(range(N), batch_size=5)
        resumed.load_state_dict(state)
        state = resumed.state_dict()
    unbroken, _, _ = saved(PlainWarmUp(2), epochs=0)
    expected = train(unbroken, unbroken.loader(range(N), batch_size=5), 3)
    rest = train(twin, resumed, 2)
    assert [batches[0], batches[1] + rest[0], rest[1]] == expected
