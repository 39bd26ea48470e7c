"""A Lightning Trainer trains what a bare loop trains: the same ids, losses, learning rates and number of steps."""

import pytest
import torch

from orderdp import UCB, FullData, InfoBatch, Kakurenbo, OrderDP, Scheduled
from orderdp.integrations.lightning import Pruning
from reference.lightning_runs import DATA, QUIET, QUIETLY, Model, N, Validated, bare, built, fit, lightning, losses_of
from reference.loop import LEFT_EARLY

pytestmark = QUIETLY
HALF = OrderDP(explore=1.0, exploit=0.5)
SHRINKING = UCB(prune_ratio=0.5)  # 10, 5, 5, ... batches
INFOBATCH = InfoBatch(prune_probability=0.9, delta=0.75, epochs=4)  # as many as the losses decide, and all at the end
KAKURENBO = Kakurenbo(hide=0.4, epochs=4, confidence=0.51)
RISING = Scheduled(strategy=HALF, epochs=4, start=0.25, end=0.75)  # 10, 5, 5, 10 batches
EPOCHS = 4


def growing(strategy, epoch):
    """A schedule: 2, 5, 5, 10 batches."""
    return (OrderDP(explore=1.0, exploit=0.2), strategy, strategy, FullData())[epoch]


STRATEGIES = pytest.mark.parametrize(
    ("strategy", "schedule"),
    [(HALF, None), (SHRINKING, None), (RISING, None), (HALF, growing), (INFOBATCH, None), (KAKURENBO, None)],
    ids=["constant", "shrinking", "Scheduled", "schedule", "InfoBatch", "Kakurenbo"],
)


@STRATEGIES
@pytest.mark.parametrize(
    ("trainer", "loop"),
    [
        ({}, {}),
        ({"loader": {"num_workers": 2}}, {"num_workers": 2}),
        ({"accumulate_grad_batches": 4}, {"accumulate": 4}),
        ({"reload_dataloaders_every_n_epochs": 1}, {}),
        ({"model": Validated}, {}),
    ],
    ids=["plain", "workers", "accumulate", "reload", "validated"],
)
def test_a_trainer_trains_what_a_bare_loop_trains(strategy, schedule, trainer, loop):
    model = fit(strategy, EPOCHS, schedule=schedule, **trainer)
    model.trace.equals(bare(strategy, EPOCHS, schedule=schedule, **loop))


def test_the_sizes_of_the_epochs_vary_in_these_tests():
    for strategy, schedule in [(SHRINKING, None), (RISING, None), (HALF, growing), (INFOBATCH, None), (KAKURENBO, None)]:
        pruner, loader = built(strategy, schedule=schedule)
        lengths = []
        for _ in range(EPOCHS):
            for index, (x, y) in loader:
                pruner.update(index, (x.sum(1) - y).requires_grad_() ** 2)
            lengths.append(len(pruner.selection.indices))
        assert len(set(lengths)) > 1, strategy


@STRATEGIES
@pytest.mark.parametrize("limit", [3, 0.6, 1])
@LEFT_EARLY
def test_a_limit_holds_for_every_epoch(strategy, schedule, limit):
    model = fit(strategy, EPOCHS, schedule=schedule, limit_train_batches=limit, accumulate_grad_batches=2)
    model.trace.equals(bare(strategy, EPOCHS, schedule=schedule, limit=limit, accumulate=2))


@STRATEGIES
@LEFT_EARLY
def test_a_run_ends_inside_an_epoch_at_max_steps(strategy, schedule):
    model = fit(strategy, -1, schedule=schedule, max_steps=14)
    model.trace.equals(bare(strategy, EPOCHS, schedule=schedule, max_steps=14))
