import pytest
import torch

from orderdp import Constant, FullData, OrderDP, Pruner

PRUNED = OrderDP(explore=0.5, exploit=0.5)


def warm_up(strategy, epoch):
    return FullData() if epoch < 2 else strategy


def test_constant_returns_the_strategy_itself():
    assert Constant()(PRUNED, 7) is PRUNED
    assert Constant() == Constant()


def test_a_warm_up_visits_all_the_data_and_then_a_part():
    pruner = Pruner(PRUNED, 40, schedule=warm_up)
    assert [len(pruner.begin_epoch().indices) for _ in range(4)] == [40, 40, 10, 10]


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
