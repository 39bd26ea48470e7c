"""The mastered share of a run, and the warning where it is far below the prune ratio."""

import math

import numpy as np
import pytest
import torch

from orderdp import DynamicRandom, OrderDP, Pruner
from orderdp.strategies.order import share_up_to
from orderdp.theory import loss_at
from orderdp.training.objective import objective
from orderdp.training.progress import Progress


def test_the_report_counts_samples_at_or_below_a_loss():
    pruner = Pruner(OrderDP(prune_ratio=0.5), 10, seed=0)
    assert pruner.report().mastered == 0
    pruner.record(torch.arange(6), torch.tensor([0.1, math.log(2) - 1e-3, math.log(2) + 1e-3, 0.8, 1.0, 2.0]))
    assert pruner.report().mastered == 0.2  # of all ten: four have no loss
    assert pruner.report(mastered_at=1.0).mastered == 0.5
    assert math.isnan(pruner.report(mastered_at=math.nan).mastered)
    with pytest.raises(TypeError, match=r"^mastered_at must be a number, got '1'; write a number such as 0\.69$"):
        pruner.report(mastered_at="1")
    assert math.isnan(Pruner(DynamicRandom(prune_ratio=0.5), 10).report().mastered)


def test_the_report_counts_the_losses_of_the_running_epoch_too():
    pruner = Pruner(OrderDP(prune_ratio=0.5), 10, seed=0)
    index = torch.from_numpy(pruner.begin_epoch().indices).long()
    pruner.update(index, torch.full((5,), 0.1, requires_grad=True))
    assert pruner.report().mastered == 0.5


def test_losses_that_are_not_known_are_not_mastered():
    assert share_up_to(np.float32([-np.inf, 0.0, np.inf, 1.0]), math.inf) == 0.5


def test_the_loss_takes_smoothing_into_account():
    assert objective(10, 0.1).mastered_at == loss_at(0.5, 10, 0.1)
    assert objective(10, 0.0).mastered_at == pytest.approx(math.log(2))
    assert math.isnan(objective(0, 0.0).mastered_at)
    assert math.isnan(objective(1, 0.0).mastered_at)


def test_a_run_measures_it_after_each_epoch(train):
    # With this smoothing no loss is below 0.86, so log 2 would count none.
    folder = train(strategy="orderdp", prune_ratio=0.3, epochs=6, max_lr=1.0, label_smoothing=0.2)
    shares = [line["mastered"] for line in folder.metrics()]
    assert shares[0] < 0.2 < 0.5 < shares[-1] <= 1
    assert train("random", strategy="dynamic_random", prune_ratio=0.5, epochs=1).metrics()[0]["mastered"] is None


@pytest.fixture
def told(caplog):
    """What a run says after an epoch."""

    def lines(num_epochs, epoch, mastered, ratio):
        caplog.clear()
        Progress(history=[{"mastered": mastered}] * epoch).warn_of_ratio(ratio, num_epochs)
        return caplog.messages

    return lines


def test_a_ratio_far_above_the_share_is_warned_of_once_after_a_third_of_the_run(told):
    assert [epoch for epoch in range(1, 31) if told(30, epoch, 0.01, 0.5)] == [10]
    assert [epoch for epoch in range(1, 11) if told(10, epoch, 0.01, 0.5)] == [4]
    (line,) = told(30, 10, 0.012, 0.7)
    assert line == (
        "after a third of the run, 1.2 % of the samples are mastered (the right class has a probability above one "
        "half), and 70 % are pruned; where so little is learnt, a shorter schedule is often better: prune less, choose "
        "in proportion to the loss, or train a larger network"
    )
    assert not told(30, 10, 0.035, 0.7)  # a twentieth
    assert not told(30, 10, None, 0.7)
    assert not told(9, 3, 0.0, 0.7)  # in so short a run little is learnt after a third
    assert not told(30, 10, 0.0, 0.0)  # full data


@pytest.mark.parametrize("length", [{"epochs": 12}, {"epochs": 40, "max_steps": 24}], ids=str)
def test_a_run_that_learns_nothing_is_warned_of(train, caplog, length):
    train(strategy="orderdp", prune_ratio=0.7, max_lr=1e-6, **length)  # two steps an epoch
    (line,) = caplog.messages
    assert line.startswith("after a third of the run, 0.0 % of the samples are mastered")
    assert "and 70 % are pruned" in line
