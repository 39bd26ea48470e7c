"""What a pruner tells its strategy, what it refuses, its counts and its report."""

import copy
import io
import itertools
import math
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import orderdp
from orderdp import DynamicRandom, FullData, Memory, OrderDP, Pruner, Selection, Strategy
from orderdp.loader import PrunedLoader
from reference.loop import LEFT_EARLY, NEVER_UPDATED, TOP_HALF, begun, loss_of, train, train_epoch

# What a strategy knows when it selects.


@NEVER_UPDATED
def test_a_strategy_is_told_the_epoch_the_size_and_the_step():
    told = []

    class Listening(FullData):
        def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
            bounds = memory.step_bounds
            told.append((memory.num_samples, memory.epoch, None if bounds is None else list(bounds)))
            return super().select(memory, rng)

    pruner = Pruner(Listening(), 6)
    pruner.begin_epoch()
    pruner.set_epoch(5)
    pruner.begin_epoch(4)
    list(pruner.loader(range(6), batch_size=2))
    pruner.begin_epoch(4, drop_last=True)
    pruner.begin_epoch(4, stable_shapes=True)
    assert told == [
        (6, 0, None),
        (6, 5, [(0, 3), (3, 6)]),
        (6, 6, [(0, 2), (2, 4), (4, 6)]),
        (6, 7, [(0, 4)]),
        (6, 8, [(0, 4), (4, 6)]),
    ]


@NEVER_UPDATED
def test_a_strategy_of_unknown_size_is_not_told_the_bounds_of_its_steps():
    told = []

    class Listening(orderdp.InfoBatch):
        def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
            told.append(None if memory.step_bounds is None else list(memory.step_bounds))
            return super().select(memory, rng)

    loader = Pruner(Listening(), 6).loader(range(6), batch_size=4)
    for _ in range(2):
        list(loader)
    assert told == [[(0, 3), (3, 6)], None]


def test_a_strategy_is_told_how_often_each_sample_was_trained():
    told = []

    class Listening(DynamicRandom):
        def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
            told.append(memory.visits.tolist())
            with pytest.raises(ValueError, match="read-only"):
                memory.visits[0] = 7
            return super().select(memory, rng)

    pruner, counts = Pruner(Listening(prune_ratio=0.5), 6), np.zeros(6, dtype=int)
    for _ in range(3):
        ids = pruner.begin_epoch().indices
        assert told[-1] == counts.tolist()
        pruner.update(torch.from_numpy(ids), torch.ones(3, requires_grad=True))
        counts[ids] += 1
    pruner.preview()
    assert told[-1] == counts.tolist()


@dataclass(frozen=True)
class Declaring(Strategy):
    """Declares four samples and selects what it is given."""

    indices: tuple[int, ...]
    weights: tuple[float, ...] | None = None
    dtype: str = "int64"
    declared: int | None = 4

    def num_selected(self, num_samples, epoch):
        return self.declared

    def select(self, memory, rng):
        weights = None if self.weights is None else np.array(self.weights, dtype=np.float32)
        return Selection(np.array(self.indices, dtype=self.dtype), weights)


class Listing(Declaring):
    def select(self, memory, rng):
        return list(self.indices)


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        (
            Declaring((0, 1, 2)),
            "must select as many samples as num_selected says, 4, got 3 in epoch 0; run orderdp.tes",
        ),
        (Declaring((), declared=None), "must select at least one sample, got none in epoch 0"),
        (Declaring((0, 1, 2, 1)), "must select distinct samples, got 4 of which 3 differ in epoch 0"),
        (Declaring((0, 1, 2, 8)), "must select positions in 0 .. 7, got 0 .. 8 in epoch 0"),
        (Declaring((0, 1, -1, 2)), "must select positions in 0 .. 7, got -1 .. 2 in epoch 0"),
        (Listing((0, 1, 2, 3)), "must select its samples as a Selection, got list in epoch 0"),
        (
            Declaring((0, 1, 2, 3), dtype="int16"),
            "must select a (q,) int64 or int32 array, got int16 of shape (4,) in epoch 0",
        ),
        (
            Declaring((0, 1, 2, 3), weights=(1.0,)),
            "must select one float32 weight a sample, got float32 of shape (1,) f",
        ),
    ],
)
def test_a_selection_that_is_not_what_its_strategy_declares_is_refused_and_changes_nothing(strategy, text):
    pruner = Pruner(strategy, 8, schedule=lambda strategy, epoch: FullData() if epoch == 1 else strategy)
    for choose in (pruner.preview, pruner.begin_epoch):
        with pytest.raises(RuntimeError) as caught:
            choose()
        assert str(caught.value).startswith(f"{type(strategy).__name__}(indices=(")
        assert text in str(caught.value)
        assert str(caught.value).endswith("; run orderdp.testing.check_strategy on it")
    assert (pruner.epoch, pruner.next_epoch) == (None, 0)
    assert pruner.report().epoch == -1
    pruner.set_epoch(1)
    assert len(pruner.begin_epoch().indices) == 8


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_a_selection_may_be_of_either_integer_type_and_is_kept_in_the_smaller_one(dtype):
    pruner = Pruner(Declaring((3, 0, 2, 1), dtype=dtype), 8)
    indices = pruner.begin_epoch().indices
    assert (indices.dtype, indices.tolist()) == (np.int32, [3, 0, 2, 1])


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("orderdp", 8), TypeError, "strategy must be a Strategy, got 'orderdp'; write OrderDP(prune_ratio=0.5)"),
        ((OrderDP, 8), TypeError, "strategy must be a Strategy, got <class"),
        ((TOP_HALF, 0), ValueError, "num_samples must be an integer of at least 1 and less than"),
        (
            (TOP_HALF, [1, 2]),
            TypeError,
            "num_samples must be an integer of at least 1, got list [1, 2]; write len(data",
        ),
        ((TOP_HALF, True), TypeError, "num_samples must be an integer of at least 1, got bool True"),
        ((TOP_HALF, 1), ValueError, "the sizes must keep at least one of the 1 samples"),
        ((DynamicRandom(prune_ratio=0.9), 3), ValueError, "prune_ratio must leave at least one of the 3 samples"),
    ],
)
def test_a_pruner_refuses_arguments_that_mean_nothing(arguments, error, text):
    with pytest.raises(error) as caught:
        Pruner(*arguments)
    assert text in str(caught.value)


@dataclass(frozen=True)
class Labelled(FullData):
    """Has a setting of any kind."""

    labels: Any = None


@dataclass
class Changing:
    """An object that may change."""

    value: int = 0


UNFIT = {
    "a list": ([0, 1], "got a list; write a tuple, or an array of many numbers"),
    "a list within a tuple": ((0, [1]), "got a list; write a tuple"),
    "a list within a strategy": (Labelled([1]), "got a list; write a tuple"),
    "a dict": ({"a": 1}, "got a dict; write a tuple of pairs"),
    "a set": ({1, 2}, "got a set; write a sorted tuple"),
    "a frozen set": (frozenset([1]), "got a set; write a sorted tuple"),
    "a function": (len, "got a function; write its name"),
    "a lambda": (lambda: 0, "got a function; write its name"),
    "an array of objects": (np.array([object()]), "got an array of objects; write an array of numbers"),
    "a sparse tensor": (torch.eye(2).to_sparse(), "got a sparse or quantized tensor; write a dense tensor"),
    "an object": (object(), "got an object of object; write numbers"),
    "an object that may change": (Changing(), "got an object of Changing; write numbers"),
}


@pytest.mark.parametrize(("value", "text"), UNFIT.values(), ids=UNFIT.keys())
def test_a_setting_that_cannot_be_saved_or_compared_is_refused_when_the_pruner_is_built(value, text):
    with pytest.raises(TypeError) as caught:
        Pruner(Labelled(value), 8)
    assert f"labels of Labelled must be a value that cannot change, {text}" in str(caught.value)


@pytest.mark.parametrize(("size", "kind"), [(4.0, TypeError), (True, TypeError), (0, ValueError), (9, ValueError)])
def test_a_strategy_that_declares_no_size_of_the_data_is_refused_when_the_pruner_is_built(size, kind):
    text = f"num_selected of Declaring must return a whole number in 1 .. 8 or None, got {size!r} for epoch 0; write "
    with pytest.raises(kind, match=f"^{re.escape(text)}"):
        Pruner(Declaring((), declared=size), 8)
    size = Pruner(Declaring((), declared=np.int64(4)), 8).num_selected()
    assert (size, type(size)) == (4, int)


def test_a_strategy_that_is_no_dataclass_is_refused():
    class Bare(Strategy):
        def num_selected(self, num_samples, epoch):
            return num_samples

        def select(self, memory, rng):
            return Selection(np.arange(memory.num_samples))

    with pytest.raises(TypeError, match=r"a strategy must be a frozen dataclass, got Bare; write @dataclass\(frozen=T"):
        Pruner(Bare(), 8)


LARGE = {
    "array": lambda: np.arange(100_000),
    "array of texts": lambda: np.array(["cat", "dog"] * 5000),
    "array of no order": lambda: np.arange(10_000).reshape(100, 100).T,
    "tensor": lambda: torch.arange(100_000),
    "tensor in bfloat16": lambda: torch.arange(100_000).bfloat16(),
    "tuple": lambda: tuple(range(100_000)),
    "tuple of arrays": lambda: (np.arange(5000), torch.arange(5000)),
}


def changed(value):
    """A copy that differs in its middle."""
    if isinstance(value, tuple):
        middle = len(value) // 2
        new = changed(value[middle]) if hasattr(value[middle], "shape") else value[middle] + 1
        return (*value[:middle], new, *value[middle + 1 :])
    copied = value.clone() if isinstance(value, torch.Tensor) else value.copy()
    flat = copied.reshape(-1)
    middle = len(flat) // 2
    flat[middle] = flat[1]
    return flat.reshape(copied.shape)


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE.keys())
def test_a_large_setting_is_digested_so_states_stay_small_and_equal_ones_load(make):
    pruner = Pruner(Labelled(make()), 8)
    train(pruner, pruner.loader(range(8), batch_size=4), 2)
    stream = io.BytesIO()
    torch.save(pruner.state_dict(), stream)
    assert stream.tell() < 12_000
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    same = Pruner(Labelled(make()), 8)
    same.load_state_dict(state)
    assert same.next_epoch == 2
    other = changed(make())
    with pytest.raises(ValueError, match="the state must be of strategy <Labelled"):
        Pruner(Labelled(other), 8).load_state_dict(state)
    assert len(repr(pruner)) < 400


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**64, ValueError), (0.5, TypeError), (None, TypeError), (True, TypeError)]
)
def test_a_seed_is_an_integer_of_64_bits(seed, error):
    with pytest.raises(error, match=r"seed must be an integer of at least 0.*write a number such as 0"):
        Pruner(TOP_HALF, 8, seed=seed)
    Pruner(TOP_HALF, 8, seed=2**64 - 1).begin_epoch()


@pytest.mark.parametrize(("epoch", "error"), [(-1, ValueError), (1.0, TypeError), ("1", TypeError)])
def test_an_epoch_is_a_number_from_zero(epoch, error):
    with pytest.raises(error, match="epoch must be an integer of at least 0"):
        Pruner(TOP_HALF, 8).set_epoch(epoch)


@pytest.mark.parametrize(("epochs", "error"), [(0, ValueError), (2.5, TypeError)])
def test_total_steps_needs_a_number_of_epochs(epochs, error):
    with pytest.raises(error, match="epochs must be an integer of at least 1"):
        Pruner(TOP_HALF, 8).total_steps(epochs, 4)


@pytest.mark.parametrize(("num_ranks", "error"), [(0, ValueError), (-2, ValueError), (2.0, TypeError)])
def test_a_number_of_ranks_is_a_positive_integer(num_ranks, error):
    pruner = Pruner(TOP_HALF, 8)
    for count in (pruner.steps_per_epoch, lambda batch_size, **more: pruner.total_steps(3, batch_size, **more)):
        with pytest.raises(error, match=r"num_ranks must be an integer of at least 1.*write the number of processes"):
            count(2, num_ranks=num_ranks)
        assert count(2, num_ranks=1) == count(2) == 2 * count(2, num_ranks=2)


@pytest.mark.parametrize("fingerprint", [7, b"sha", ["a"]])
def test_a_fingerprint_is_a_string(fingerprint):
    with pytest.raises(TypeError, match=r"fingerprint must be a string, got \w+; write a name or a digest"):
        Pruner(TOP_HALF, 8, fingerprint=fingerprint)


@pytest.mark.parametrize("batch_size", [0, -3, 2.0, True, None, "8"])
def test_a_batch_size_is_a_positive_integer(batch_size):
    with pytest.raises(ValueError, match=r"batch_size must be a positive integer, got .*; write a number such as 128"):
        Pruner(TOP_HALF, 8).steps_per_epoch(batch_size)


def test_numpy_integers_are_integers():
    pruner, twin = Pruner(TOP_HALF, np.int64(8), seed=np.int64(3)), Pruner(TOP_HALF, 8, seed=3)
    pruner.set_epoch(np.int64(2))
    twin.set_epoch(2)
    assert pruner.begin_epoch().indices.tolist() == twin.begin_epoch().indices.tolist()
    assert {type(pruner.state_dict()[name]) for name in ("num_samples", "seed", "next_epoch", "running")} == {int}


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
@LEFT_EARLY
def test_a_batch_size_may_be_an_integer_of_numpy(kind):
    """A state with it must still load with weights_only."""
    pruner, twin = Pruner(TOP_HALF, 40), Pruner(TOP_HALF, 40)
    loader, plain = pruner.loader(range(40), batch_size=kind(6)), twin.loader(range(40), batch_size=6)
    whole = train(twin, plain, 3)
    assert train(pruner, loader, 2) == whole[:2]
    assert train_epoch(pruner, loader, 2) == whole[2][:2]
    stream = io.BytesIO()
    torch.save(loader.state_dict(), stream)
    stream.seek(0)
    plain.load_state_dict(torch.load(stream, weights_only=True))
    assert train_epoch(twin, plain) == whole[2][2:]
    assert pruner.total_steps(kind(2), kind(6)) == twin.total_steps(2, 6)
    assert pruner.steps_per_epoch(kind(6), num_ranks=kind(2)) == twin.steps_per_epoch(6, num_ranks=2)


def test_a_whole_number_is_the_same_setting_as_a_float():
    assert repr(OrderDP(explore=1, initial_score=3)) == repr(OrderDP(explore=1.0, initial_score=3.0))


# Steps, report, copies.


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "steps"),
    [(4, False, 3), (3, False, 4), (3, True, 3), (4, True, 2), (10, True, 1), (99, False, 1)],
)
def test_steps_per_epoch_are_those_the_loader_makes(batch_size, drop_last, steps):
    pruner = Pruner(TOP_HALF, 20)
    assert pruner.steps_per_epoch(batch_size, drop_last=drop_last) == steps
    loader = pruner.loader(range(20), batch_size=batch_size, drop_last=drop_last)
    assert len(loader) == len(list(loader)) == steps == loader.total_steps(1)


def test_a_report_says_what_was_seen_and_how_long_ago():
    pruner = Pruner(TOP_HALF, 8)
    empty = pruner.report()
    assert (empty.epoch, empty.num_selected, empty.visits, empty.never_seen, empty.max_age) == (-1, 0, 0, 8, 0)
    assert math.isnan(empty.mean_age)
    first = torch.from_numpy(pruner.begin_epoch().indices.copy())
    pruner.update(first, loss_of(first, 0))
    pruner.begin_epoch()  # the other half, unseen
    report = pruner.report()
    assert (report.epoch, report.num_samples, report.num_selected) == (1, 8, 4)
    assert (report.visits, report.never_seen, report.mean_age, report.max_age) == (4, 4, 1.0, 1)
    assert (report.trained, report.non_finite, report.missing, report.failed) == (0, 0, 0, ())
    second = torch.from_numpy(pruner.selection.indices.copy())[:3]
    pruner.update(second, loss_of(second, 1))
    assert (pruner.report().trained, pruner.report().visits, pruner.report().never_seen) == (3, 7, 1)
    assert report.selection_s > 0


def test_a_report_adds_up_the_seconds_of_every_selection(monkeypatch):
    """By a clock that gains a second each time it is asked, which is twice a selection."""
    clock = itertools.count()
    monkeypatch.setattr("orderdp.pruner.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    pruner = Pruner(TOP_HALF, 8)
    loader = pruner.loader(range(8), batch_size=4)
    for epoch in range(3):
        train_epoch(pruner, loader)
        assert pruner.report().selection_s == epoch + 1


def test_visits_are_counted_epoch_by_epoch_and_include_the_running_one():
    pruner = Pruner(FullData(), 6)
    for epoch in range(3):
        ids = torch.from_numpy(pruner.begin_epoch().indices.copy())
        pruner.update(ids, loss_of(ids, epoch))
        assert pruner.visits().tolist() == [epoch + 1] * 6


def test_a_choice_that_fails_counts_no_visit_twice():
    strategy = OrderDP(per="iteration")
    pruner = Pruner(strategy, 40)
    train(pruner, pruner.loader(range(40), batch_size=4), 1)
    for _ in range(3):
        with pytest.raises(ValueError, match="per='iteration' must know the batches"):
            pruner.begin_epoch()
    pruner.begin_epoch(4)
    assert pruner.report().visits == 12


def test_a_copied_pruner_goes_its_own_way():
    pruner, ids = begun()
    twin = copy.deepcopy(pruner)
    pruner.update(ids, loss_of(ids, 0))
    assert twin.visits().sum() == 0
    twin.update(ids, loss_of(ids, 0))
    assert twin.begin_epoch().indices.tolist() == pruner.begin_epoch().indices.tolist()


def test_two_pruners_do_not_disturb_each_other():
    alone = train(pruner := Pruner(TOP_HALF, 20), pruner.loader(range(20), batch_size=4), 3)
    first, second = Pruner(TOP_HALF, 20), Pruner(OrderDP(), 20, seed=1)
    loaders = [first.loader(range(20), batch_size=4), second.loader(range(20), batch_size=2)]
    together = []
    for _ in range(3):
        together += train(first, loaders[0], 1)
        train(second, loaders[1], 1)
    assert together == alone


class TestSizesThatDependOnLosses:
    def test_the_steps_are_not_promised(self):
        pruner = Pruner(orderdp.InfoBatch(), 100)
        with pytest.raises(
            ValueError, match=r"^the steps of InfoBatch\(\) depend on the losses, got epoch 1 of unknown"
        ):
            pruner.total_steps(5, batch_size=10)
        assert pruner.total_steps(1, batch_size=10) == 10

    def test_a_running_epoch_has_its_own_length(self):
        pruner = Pruner(orderdp.InfoBatch(), 100)
        loader = pruner.loader(range(100), batch_size=10)
        assert len(loader) == 10
        for epoch in range(3):
            batches = 0
            for index, _ in loader:
                batches += 1
                assert len(loader) == math.ceil(len(pruner.selection.indices) / 10)
                pruner.update(index, loss_of(index, epoch)).backward()
            assert batches == len(loader)
            assert (batches < 10) == (epoch > 0)

    def test_weights_reach_the_gradient(self):
        pruner = Pruner(orderdp.InfoBatch(prune_probability=0.75), 100, seed=0)
        for epoch in range(2):
            index = torch.from_numpy(pruner.begin_epoch().indices)
            losses = loss_of(index, epoch)
            pruner.update(index, losses).backward()
        weights = torch.from_numpy(pruner.selection.weights)
        torch.testing.assert_close(losses.grad, weights / len(index))
        assert set(weights.tolist()) == {1.0, 4.0}

    @pytest.mark.parametrize(
        "strategy",
        [
            orderdp.InfoBatch(),
            orderdp.SeTa(prune_ratio=0.3, epochs=20),
            orderdp.Kakurenbo(epochs=20, hide=0.5),
            orderdp.EpsilonGreedy(prune_ratio=0.5, every=3),
            orderdp.UCB(prune_ratio=0.5, every=2),
            orderdp.RepeatedRandom(prune_ratio=0.7),
            orderdp.SelectiveBackprop(keep=0.5),
        ],
        ids=lambda strategy: type(strategy).__name__,
    )
    @pytest.mark.parametrize("stop_at", [0, 3])
    def test_a_state_goes_on_alike(self, strategy, stop_at):
        def fresh() -> tuple[Pruner, PrunedLoader]:
            pruner = Pruner(strategy, 97, seed=5)
            return pruner, pruner.loader(range(97), batch_size=8)

        pruner, loader = fresh()
        whole = train(pruner, loader, 6)
        pruner, loader = fresh()
        train(pruner, loader, 3)
        if stop_at:
            first = train_epoch(pruner, loader, stop_at)
        state = loader.state_dict()
        twin, twin_loader = fresh()
        twin_loader.load_state_dict(state)
        rest = train(twin, twin_loader, 3)
        assert (first if stop_at else []) + rest[0] == whole[3]
        assert rest[1:] == whole[4:]


@pytest.mark.parametrize(
    ("strategy", "said"),
    [(OrderDP(), ["OrderDP without a size leaves out 70 % of the data"]), (OrderDP(prune_ratio=0.7), [])],
)
def test_a_size_that_nobody_gave_is_said_once_when_the_pruner_is_built(strategy, said, caplog):
    pruner = Pruner(strategy, 1000)
    pruner.begin_epoch()
    assert [record.getMessage()[: len(text)] for record, text in zip(caplog.records, said, strict=True)] == said
    assert "visits 300 of 1,000 samples" in repr(pruner)
