"""A method within each class: exact shares, the method's own choice in each class, and labels of the data."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from orderdp import (
    UCB,
    EpsilonGreedy,
    FullData,
    InfoBatch,
    Memory,
    OrderDP,
    PerClass,
    Proportional,
    Pruner,
    RepeatedRandom,
    Scheduled,
    Selection,
    Strategy,
)
from orderdp.strategies.registry import from_table, parse, to_table
from orderdp.testing import check_strategy
from orderdp.theory.sizes import largest_remainders

N = 101
LABELS = np.array([0] * 60 + [3] * 30 + [1] * 11)[np.random.default_rng(0).permutation(N)]
METHODS = [
    OrderDP(prune_ratio=0.3),
    OrderDP(prune_ratio=0.7, debias=1.0, uniform_share=0.3),
    Proportional(prune_ratio=0.5, debias=0.5),
    UCB(prune_ratio=0.5, every=2),
    EpsilonGreedy(prune_ratio=0.6, every=3),
]
each = pytest.mark.parametrize("method", METHODS, ids=repr)


@dataclass(frozen=True)
class Half(Strategy):
    """Has neither a prune ratio nor `size_changes`."""

    def num_selected(self, num_samples, epoch):
        return num_samples // 2

    def select(self, memory, rng):
        return Selection(rng.permutation(memory.num_samples)[: memory.num_samples // 2])


@dataclass(frozen=True)
class Timed(OrderDP):
    epochs: int = 10


def memory(epoch=0, **more):
    scores = np.random.default_rng(5).random(N).astype(np.float32)
    return lambda strategy: Memory(N, epoch, dict.fromkeys(strategy.columns, scores), **more)


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


@each
def test_it_keeps_every_law(method):
    check_strategy(PerClass(strategy=method, labels=LABELS), num_samples=N)


@each
@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_every_class_keeps_its_share_and_chooses_as_the_method_alone(method, epoch):
    strategy = PerClass(strategy=method, labels=LABELS)
    known = memory(epoch)(strategy)
    found = strategy.select(known, np.random.default_rng(7))
    size = method.num_selected(N, epoch)
    sizes = largest_remainders(np.array([60, 11, 30]), size)
    assert len(found.indices) == strategy.num_selected(N, epoch) == size
    rng = np.random.default_rng(7)
    for label, count in zip((0, 1, 3), sizes.tolist(), strict=True):
        ids = np.flatnonzero(label == LABELS)
        inside = Memory(len(ids), epoch, {name: column[ids] for name, column in known.columns.items()})
        alone = replace(method, prune_ratio=1 - count / len(ids)).select(inside, rng)
        mine = LABELS[found.indices] == label
        assert sorted(found.indices[mine].tolist()) == sorted(ids[alone.indices].tolist())
        if alone.weights is not None:
            weights = dict(zip(found.indices.tolist(), found.weights.tolist(), strict=True))
            assert [weights[i] for i in ids[alone.indices].tolist()] == alone.weights.tolist()
    assert found.indices.tolist() != sorted(found.indices.tolist())
    assert abs(np.corrcoef(np.arange(size), LABELS[found.indices])[0, 1]) < 0.4  # not class after class


def test_a_choice_that_is_kept_for_some_epochs_is_kept_within_each_class():
    strategy = PerClass(strategy=EpsilonGreedy(prune_ratio=0.6, every=3), labels=LABELS)
    first = strategy.select(memory(3)(strategy), np.random.default_rng(0)).indices
    again = strategy.select(memory(4, previous=first, previous_epoch=3)(strategy), np.random.default_rng(1)).indices
    assert sorted(again.tolist()) == sorted(first.tolist())
    assert again.tolist() != first.tolist()


def test_visits_and_failures_are_those_of_the_class():
    strategy = PerClass(strategy=RepeatedRandom(prune_ratio=0.5), labels=LABELS)
    visits = np.ones(N, np.int16)
    ids = np.flatnonzero(LABELS == 3)
    visits[ids[:12]], failed = 0, ids[20:22]
    chosen = strategy.select(memory(4, visits=visits, failed=failed)(strategy), np.random.default_rng(0)).indices
    assert set(ids[:12]) < set(chosen.tolist())  # of 15
    assert not set(failed) & set(chosen.tolist())


def test_a_run_of_other_epochs_stretches_its_method():
    strategy = PerClass(strategy=Timed(prune_ratio=0.5, epochs=20), labels=LABELS)
    assert strategy.for_epochs(40, instead_of=20).strategy.epochs == 40


def test_samples_that_failed_come_last_in_their_class():
    strategy = PerClass(strategy=OrderDP(prune_ratio=0.5), labels=LABELS)
    scores = np.ones(N, np.float32)
    bad = np.flatnonzero(LABELS == 3)[:5]
    scores[bad] = -np.inf
    chosen = strategy.select(Memory(N, 2, {"score": scores}), np.random.default_rng(0)).indices
    assert not set(bad.tolist()) & set(chosen.tolist())


def test_a_pruner_trains_with_it_and_a_state_of_other_labels_is_refused():
    def pruner(labels):
        return Pruner(PerClass(strategy=OrderDP(prune_ratio=0.5), labels=labels), N, seed=0)

    mine = pruner(torch.from_numpy(LABELS))
    index = torch.from_numpy(mine.begin_epoch().indices)
    mine.update(index, torch.rand(len(index), requires_grad=True))
    pruner(LABELS).load_state_dict(mine.state_dict())
    with pytest.raises(ValueError, match="strategy"):
        pruner(1 - np.minimum(LABELS, 1)).load_state_dict(mine.state_dict())


def test_it_is_written_as_a_table_without_labels_and_read_back():
    strategy = from_table(parse("per_class:orderdp,prune_ratio=0.5,uniform_share=0.1"), epochs=20)
    assert strategy == PerClass(strategy=OrderDP(prune_ratio=0.5, uniform_share=0.1))
    assert from_table(to_table(strategy)) == strategy
    assert strategy.describe(20) == "OrderDP 50 % uniform share 0.1 per class"
    assert strategy.for_labels(torch.from_numpy(LABELS)) == PerClass(strategy=strategy.strategy, labels=LABELS)
    own = PerClass(strategy=strategy.strategy, labels=LABELS)
    assert own.for_labels(torch.zeros(N, dtype=torch.int64)) is own
    with raises(
        ValueError,
        "labels of strategy 'per_class' are those of the data in a recipe, got 101 of its own; leave labels out",
    ):
        to_table(own)
    assert OrderDP(prune_ratio=0.5).for_labels(None) == OrderDP(prune_ratio=0.5)


def test_a_run_of_the_trainer_has_the_labels_of_its_data(train, digits):
    folder = train(strategy={"name": "per_class", "inner": "orderdp", "prune_ratio": 0.6}, epochs=3)
    shares = np.array(folder.result()["coverage"]["class_shares"])
    counts = np.bincount(digits.train.labels.numpy())
    assert np.abs(shares - counts / counts.sum()).max() < 0.5 / (0.4 * counts.sum())


REFUSED = {
    "no method": ({"strategy": "orderdp"}, TypeError, "strategy must be a method, got 'orderdp'; write OrderDP(pru"),
    "of no fixed size": (
        {"strategy": InfoBatch()},
        ValueError,
        "a method within classes must have a prune ratio and a",
    ),
    "without a ratio": ({"strategy": FullData()}, ValueError, "a method within classes must have a prune ratio and a"),
    "without a ratio, and of no declared size": (
        {"strategy": Half()},
        ValueError,
        "a method within classes must have a prune ratio and a fixed size, and choose before an epoch, got Half(); "
        "write OrderDP(prune_ratio=0.5)",
    ),
    "in steps": (
        {"strategy": OrderDP(prune_ratio=0.5, per="iteration")},
        ValueError,
        "a method within classes must have a prune ratio and a fixed size, and choose before an epoch, got OrderDP(",
    ),
    "scheduled": (
        {"strategy": Scheduled(strategy=OrderDP(prune_ratio=0.5), epochs=3)},
        ValueError,
        "a method within classes must have a prune ratio and a fixed size, and choose before an epoch, got Scheduled("
        "strategy=OrderDP(prune_ratio=0.5), epochs=3); write PerClass(strategy=OrderDP(prune_ratio=0.5)), or use "
        "Scheduled alone",
    ),
    "labels in float": (
        {"labels": np.array([0.0])},
        TypeError,
        "labels must be whole numbers, got dtype float64; write np.asarray(labels).astype(int)",
    ),
    "labels in words": (
        {"labels": ["cat", "dog", "cat"]},
        TypeError,
        "labels must be whole numbers, got dtype <U3; write np.unique(labels, return_inverse=True)[1]",
    ),
    "labels in words, as objects": (
        {"labels": np.array(["cat", "dog"], dtype=object)},
        TypeError,
        "labels must be whole numbers, got dtype object; write np.unique(labels, return_inverse=True)[1]",
    ),
    "labels in a tensor of floats": (
        {"labels": torch.zeros(3)},
        TypeError,
        "labels must be whole numbers, got dtype float32; write labels.long()",
    ),
    "labels of a matrix": ({"labels": np.zeros((2, 2), int)}, ValueError, "labels must have shape (n,), got (2, 2);"),
    "a negative label": ({"labels": np.array([0, -1])}, ValueError, "labels must be at least 0, got -1; number the"),
}


@pytest.mark.parametrize(("settings", "error", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_does_not_fit_is_refused(settings, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        PerClass(**{"strategy": OrderDP(prune_ratio=0.5), **settings})


def test_labels_must_be_there_and_fit():
    bare = PerClass(strategy=OrderDP(prune_ratio=0.5))
    message = "strategy 'per_class' needs the class of each sample, got no labels; write PerClass(strategy=..., "
    with raises(ValueError, f"{message}labels=labels)"):
        Pruner(bare, 10).begin_epoch()
    with raises(ValueError, "labels must be one for each of the 10 samples, got 101; write those of this data set"):
        Pruner(PerClass(strategy=OrderDP(prune_ratio=0.5), labels=LABELS), 10)
    with raises(ValueError, "strategy 'per_class' needs labels that are classes, got numbers; choose another"):
        bare.for_labels(None)
    with raises(ValueError, "inner is needed by strategy 'per_class', got None; write per_class:orderdp"):
        from_table({"name": "per_class", "prune_ratio": 0.5})


def test_what_does_not_fit_a_class_is_refused_when_the_labels_are_there():
    method = OrderDP(prune_ratio=0.3, skip=0.15)
    method.sizes(N)  # of all data, some may be skipped
    with pytest.raises(ValueError, match=r"^skip must leave 4 of the 4 samples drawn, got 0.15 beside prune_ratio=0.1"):
        PerClass(strategy=method, labels=np.array([0] * 96 + [1] * 5))


def test_a_class_without_a_share_is_left_out():
    labels = np.array([0] * 99 + [1])
    strategy = PerClass(strategy=OrderDP(prune_ratio=0.6), labels=labels)
    chosen = strategy.select(Memory(100, 0, {"score": np.ones(100, np.float32)}), np.random.default_rng(0)).indices
    assert len(chosen) == 40
    assert 99 not in chosen.tolist()
