import re
from itertools import pairwise

import pytest
import torch

from orderdp import UCB, Constant, DynamicRandom, EpsilonGreedy, FullData, Memory, OrderDP, OrderedSGD, Pruner, Strategy
from orderdp.loader import PrunedLoader
from orderdp.rng import generator
from reference.loop import NEVER_UPDATED, train, train_epoch

PRUNED = OrderDP(explore=0.5, exploit=0.5)


def warm_up(strategy, epoch):
    return FullData() if epoch < 2 else strategy


def test_constant_returns_the_strategy_itself():
    assert Constant()(PRUNED, 7) is PRUNED
    assert Constant() == Constant()


@NEVER_UPDATED
def test_a_warm_up_visits_all_the_data_and_then_a_part():
    pruner = Pruner(PRUNED, 40, schedule=warm_up)
    assert [len(pruner.begin_epoch().indices) for _ in range(4)] == [40, 40, 10, 10]


@NEVER_UPDATED
@pytest.mark.parametrize(("drop_last", "steps"), [(False, [6, 6, 2, 2]), (True, [5, 5, 1, 1])])
def test_steps_follow_the_schedule_exactly(drop_last, steps):
    pruner = Pruner(PRUNED, 40, schedule=warm_up)
    loader = pruner.loader(range(40), batch_size=7, drop_last=drop_last)
    assert [pruner.steps_per_epoch(7, drop_last=drop_last, epoch=epoch) for epoch in range(4)] == steps
    assert pruner.total_steps(4, 7, drop_last=drop_last) == sum(steps)
    for expected in steps:
        assert len(loader) == expected  # asked before the epoch begins
        assert len(list(loader)) == expected


def test_an_epoch_on_all_the_data_still_records_every_score():
    pruner = Pruner(PRUNED, 10, schedule=warm_up)
    ids = torch.from_numpy(pruner.begin_epoch().indices.copy())
    pruner.update(ids, ids.float().requires_grad_())
    assert pruner.scores()["score"].tolist() == list(range(10))


def test_a_warm_up_on_all_the_data_trains_all_of_a_batch_though_later_epochs_choose_within_it():
    fresh = OrderDP(explore=1.0, exploit=0.5, per="iteration", fresh=True)
    pruner = Pruner(fresh, 8, schedule=warm_up)
    means = []
    for _ in range(3):
        ids = torch.from_numpy(pruner.begin_epoch(8).indices.copy())
        means.append(pruner.update(ids, torch.arange(8.0, requires_grad=True)).item())
    assert means == [3.5, 3.5, 5.5]


EXAMPLE = "write schedule=lambda strategy, epoch: FullData() if epoch < 2 else strategy"


@pytest.mark.parametrize(
    ("schedule", "got"),
    [
        (0.5, f"0.5; {EXAMPLE}"),
        (0, f"0; {EXAMPLE}"),
        (lambda epoch: FullData(), f"one of (epoch); {EXAMPLE}"),
        (FullData(), "a strategy, FullData(); pass it as the strategy"),
    ],
    ids=["number", "zero", "one argument", "strategy"],
)
def test_a_schedule_that_cannot_be_called_with_strategy_and_epoch_is_refused_at_construction(schedule, got):
    message = f"schedule must be a function of (strategy, epoch), got {got}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        Pruner(PRUNED, 40, schedule=schedule)


def test_a_schedule_without_a_signature_is_called():
    with pytest.raises(TypeError, match="attribute name must be string"):
        Pruner(PRUNED, 40, schedule=getattr)


@pytest.mark.parametrize("named", [0.1, None, OrderDP])
@pytest.mark.parametrize(
    "ask",
    [lambda pruner: pruner.num_selected(epoch=1), lambda pruner: pruner.total_steps(2, 10)],
    ids=["num_selected", "total_steps"],
)
def test_a_schedule_that_returns_no_strategy_is_refused(ask, named):
    pruner = Pruner(PRUNED, 40, schedule=lambda strategy, epoch: named if epoch else strategy)
    message = f"schedule must return a strategy, got {named!r} for epoch 1; write OrderDP(prune_ratio=0.5)"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        ask(pruner)


# Methods that keep their subset for some epochs know which epochs were their own.

KEEPING = pytest.mark.parametrize("strategy", [EpsilonGreedy(prune_ratio=0.5), UCB(prune_ratio=0.5)], ids=repr)


def random_first(strategy: Strategy) -> tuple[Pruner, PrunedLoader]:
    """A pruner that draws for five epochs as many samples as its strategy will keep, and its loader."""
    first = DynamicRandom(prune_ratio=0.5)
    pruner = Pruner(strategy, 40, schedule=lambda strategy, epoch: first if epoch < 5 else strategy)
    return pruner, pruner.loader(range(40), batch_size=6)


@NEVER_UPDATED
@KEEPING
def test_after_another_strategy_the_samples_are_ranked_at_once(strategy):
    pruner, loader = random_first(strategy)
    train(pruner, loader, 5)
    columns = {name: column.numpy() for name, column in pruner.scores().items()}
    ranked = strategy.select(Memory(40, 5, columns), generator(0, 5, "select")).indices
    assert pruner.begin_epoch(6).indices.tolist() == ranked.tolist()
    kept = set(ranked.tolist())
    again = [set(pruner.begin_epoch(6).indices.tolist()) == kept for _ in range(6, 11)]
    assert again == [True, True, True, True, isinstance(strategy, UCB)]  # which ranks in epochs 1, 11, ...


@KEEPING
@pytest.mark.parametrize("stop_batch", [0, 2])
@pytest.mark.parametrize("stop_epoch", [4, 5, 6])
def test_a_state_knows_which_strategy_chose_its_epoch(strategy, stop_epoch, stop_batch):
    whole = train(*random_first(strategy), epochs=9)
    pruner, loader = random_first(strategy)
    train(pruner, loader, stop_epoch)
    first = train_epoch(pruner, loader, stop_batch) if stop_batch else []
    twin, twin_loader = random_first(strategy)
    twin_loader.load_state_dict(loader.state_dict())
    rest = train(twin, twin_loader, 9 - stop_epoch)
    assert [first + rest[0], *rest[1:]] == whole[stop_epoch:]


def test_settings_of_another_value_rank_anew():
    def widening(strategy, epoch):
        return EpsilonGreedy(prune_ratio=0.5, epsilon=0.0, every=10 if epoch < 3 else 20)

    pruner = Pruner(widening(None, 0), 40, schedule=widening)
    visited = []
    for _ in range(6):
        index = torch.from_numpy(pruner.begin_epoch().indices.copy())
        pruner.update(index, index.float().requires_grad_())
        visited.append(set(index.tolist()))
    assert [before != now for before, now in pairwise(visited)] == [False, False, True, False, False]


def test_a_resumed_epoch_chooses_within_batches_as_the_strategy_that_its_schedule_names():
    def fresh():
        return Pruner(OrderDP(), 8, schedule=lambda strategy, epoch: OrderedSGD(keep=0.5))

    pruner, twin = fresh(), fresh()
    pruner.begin_epoch()
    twin.load_state_dict(pruner.state_dict(), resume=True)
    index = torch.from_numpy(twin.begin_epoch().indices.copy())
    assert twin.update(index, torch.arange(8.0, requires_grad=True)).item() == (4 + 5 + 6 + 7) / 4
    assert int(twin.trained().sum()) == 4
