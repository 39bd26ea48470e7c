"""What the next epoch would visit, asked beforehand, and what an epoch has trained so far."""

import numpy as np
import pytest
import torch

import orderdp
from orderdp import FullData, OrderDP, Pruner
from orderdp.ranks import Batching
from reference.loop import LEFT_EARLY, NEVER_UPDATED, loss_of, train, train_epoch

N, BATCH, EPOCHS = 97, 8, 6
STRATEGIES = [
    orderdp.FullData(),
    orderdp.FixedSubset(range(40)),
    orderdp.DynamicRandom(prune_ratio=0.5),
    orderdp.RepeatedRandom(prune_ratio=0.7),
    OrderDP(prune_ratio=0.5),
    OrderDP(explore=0.8, exploit=0.5, uniform_share=0.2),
    OrderDP(prune_ratio=0.5, per="iteration"),
    OrderDP(prune_ratio=0.5, per="iteration", fresh=True),
    orderdp.InfoBatch(epochs=EPOCHS),
    orderdp.EpsilonGreedy(prune_ratio=0.5, every=3),
    orderdp.UCB(prune_ratio=0.5, every=2),
    orderdp.SeTa(prune_ratio=0.3, epochs=EPOCHS),
    orderdp.Kakurenbo(epochs=EPOCHS, hide=0.5),
    orderdp.OrderedSGD(keep=0.5),
    orderdp.SelectiveBackprop(keep=0.5),
]
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)


def warm_up(strategy, epoch):
    return FullData() if epoch < 2 else strategy


def begun_at(pruner, number):
    """The loader of a pruner that has trained so many epochs and then three batches."""
    loader = pruner.loader(range(N), batch_size=BATCH)
    train(pruner, loader, number)
    train_epoch(pruner, loader, 3)
    return loader


def compare(selection, other):
    assert selection.indices.tolist() == other.indices.tolist()
    assert (selection.weights is None) == (other.weights is None)
    if selection.weights is not None:
        assert selection.weights.tolist() == other.weights.tolist()


def plain(state):
    """A state with lists in the place of tensors, which can be compared."""
    if isinstance(state, dict):
        return {name: plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, torch.Tensor) else state


@each_strategy
@pytest.mark.parametrize("schedule", [None, warm_up])
def test_a_preview_is_what_the_next_epoch_visits(strategy, schedule):
    pruner = Pruner(strategy, N, seed=5, schedule=schedule)
    loader = pruner.loader(range(N), batch_size=BATCH)
    for _ in range(EPOCHS):
        expected = pruner.preview(BATCH)
        train_epoch(pruner, loader)
        compare(pruner.selection, expected)


@NEVER_UPDATED
def test_a_preview_knows_that_the_last_step_is_dropped():
    told = []

    class Listening(OrderDP):
        def select(self, memory, rng):
            told.append(list(memory.step_bounds))
            return super().select(memory, rng)

    pruner = Pruner(Listening(prune_ratio=0.8, per="iteration"), N)
    loader = pruner.loader(range(N), batch_size=BATCH, drop_last=True)
    expected = pruner.preview(BATCH, drop_last=True)
    assert [len(index) for index, _ in loader] == [BATCH, BATCH]
    compare(pruner.selection, expected)
    assert told == [[(0, 8), (8, 16)]] * 2


@LEFT_EARLY
@each_strategy
def test_a_preview_inside_an_epoch_knows_what_was_seen_so_far(strategy):
    pruner = Pruner(strategy, N)
    begun_at(pruner, 2)
    expected = pruner.preview(BATCH)
    compare(pruner.begin_epoch(BATCH), expected)


@NEVER_UPDATED
def test_a_preview_is_of_the_epoch_that_was_set():
    pruner = Pruner(orderdp.DynamicRandom(prune_ratio=0.5), N)
    pruner.begin_epoch()
    following = pruner.preview()
    pruner.set_epoch(7)
    expected = pruner.preview()
    assert expected.indices.tolist() != following.indices.tolist()
    compare(pruner.begin_epoch(), expected)


@each_strategy
@pytest.mark.parametrize("resume", [False, True])
def test_a_preview_after_a_load_is_what_begins_then(strategy, resume):
    """With resume that is the rest of the epoch that was saved, by its own selection."""
    pruner = Pruner(strategy, N)
    begun_at(pruner, 2)
    twin = Pruner(strategy, N)
    twin.load_state_dict(pruner.state_dict(), resume=resume)
    expected = twin.preview(BATCH)
    if resume:
        compare(pruner.selection, expected)
    compare(twin.begin_epoch(BATCH), expected)


@each_strategy
def test_a_preview_changes_nothing(strategy):
    pruner = Pruner(strategy, N)
    begun_at(pruner, 2)
    before, selection, epoch = plain(pruner.state_dict()), pruner.selection, pruner.epoch
    indices = selection.indices.copy()
    for _ in range(2):
        preview = pruner.preview(BATCH)
        preview.indices[:] = 0
    assert plain(pruner.state_dict()) == before
    assert pruner.selection is selection
    assert np.array_equal(selection.indices, indices)
    assert pruner.epoch == epoch


@each_strategy
def test_a_run_with_previews_trains_the_batches_of_one_without(strategy):
    pruner, twin = Pruner(strategy, N), Pruner(strategy, N)
    expected = train(pruner, pruner.loader(range(N), batch_size=BATCH), EPOCHS)
    loader = twin.loader(range(N), batch_size=BATCH)
    for batches in expected:
        twin.preview(BATCH)
        for number, (index, _) in enumerate(loader):
            twin.preview(BATCH)
            twin.update(index, loss_of(index, twin.epoch)).backward()
            assert index.tolist() == batches[number]
    assert {name: column.tolist() for name, column in twin.scores().items()} == {
        name: column.tolist() for name, column in pruner.scores().items()
    }


def test_a_scheduled_strategy_with_foreign_columns_is_refused_before_anything_changes():
    pruner = Pruner(OrderDP(), N, schedule=lambda strategy, epoch: orderdp.InfoBatch() if epoch == 1 else strategy)
    pruner.begin_epoch()
    before = plain(pruner.state_dict())
    text = (
        r"^a scheduled strategy may use only the columns \['score'\], got InfoBatch\(\), which needs others; build the "
        r"pruner with the strategy that remembers most$"
    )
    for call in (pruner.preview, pruner.begin_epoch):
        with pytest.raises(ValueError, match=text):
            call()
        assert plain(pruner.state_dict()) == before


# What an epoch has trained.


def test_before_the_first_epoch_nothing_is_trained():
    trained = Pruner(OrderDP(), 8).trained()
    assert (trained.dtype, trained.tolist()) == (torch.bool, [False] * 8)


def test_trained_are_the_samples_of_the_running_epoch_seen_so_far():
    pruner = Pruner(OrderDP(prune_ratio=0.5), N)
    for number in (0, 0, 3):  # a number that comes again is an epoch of its own
        pruner.set_epoch(number)
        ids = torch.from_numpy(pruner.begin_epoch().indices.copy())
        assert not pruner.trained().any()
        for seen in (8, 30, len(ids)):
            part = ids[int(pruner.trained().sum()) : seen]
            pruner.update(part, loss_of(part, number))
            assert pruner.trained().nonzero().squeeze(1).tolist() == sorted(ids[:seen].tolist())
    assert pruner.visits().sum() == 3 * len(ids)


@pytest.mark.parametrize("resume", [False, True])
def test_a_state_tells_what_its_epoch_had_trained(resume):
    pruner = Pruner(OrderDP(), N)
    begun_at(pruner, 1)
    twin = Pruner(OrderDP(), N)
    twin.load_state_dict(pruner.state_dict(), resume=resume)
    assert twin.trained().tolist() == pruner.trained().tolist()
    seen = Batching(BATCH).steps(29)[2][1]  # three batches
    assert int(twin.trained().sum()) == seen == 21
    twin.begin_epoch(BATCH)
    assert int(twin.trained().sum()) == (seen if resume else 0)


@pytest.mark.parametrize(
    "strategy",
    [
        orderdp.OrderedSGD(keep=0.25),
        orderdp.SelectiveBackprop(keep=0.25),
        OrderDP(explore=1.0, exploit=0.25, per="iteration", fresh=True),
    ],
    ids=repr,
)
def test_of_a_batch_that_is_chosen_from_only_what_was_kept_is_trained(strategy):
    pruner = Pruner(strategy, 64)
    kept = set()
    for number, (index, _) in enumerate(pruner.loader(range(64), batch_size=BATCH), 1):
        losses = index.float().requires_grad_()
        pruner.update(index, losses).backward()
        kept |= set(index[losses.grad > 0].tolist())
        assert set(pruner.trained().nonzero().squeeze(1).tolist()) == kept
        assert len(kept) == 2 * number
        if not isinstance(strategy, orderdp.SelectiveBackprop):
            assert set(index.tolist()) & kept == set(index.sort().values[-2:].tolist())
