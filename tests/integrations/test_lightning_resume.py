"""A Trainer that resumes from any checkpoint trains on as if it had never stopped."""

import pytest
import torch

from orderdp import UCB, FullData, InfoBatch, OrderDP
from reference.lightning_runs import QUIETLY, Model, Trace, Validated, bare, fit, lightning
from reference.loop import LEFT_EARLY

pytestmark = QUIETLY
HALF = OrderDP(explore=1.0, exploit=0.5)
SHRINKING = UCB(prune_ratio=0.5)  # 10, 5, 5, ... batches
INFOBATCH = InfoBatch(prune_probability=0.9, delta=0.75, epochs=4)
EPOCHS = 4


def growing(strategy, epoch):
    """A schedule: 2, 5, 5, 10 batches."""
    return (OrderDP(explore=1.0, exploit=0.2), strategy, strategy, FullData())[epoch]


STRATEGIES = pytest.mark.parametrize(
    ("strategy", "schedule"),
    [(HALF, None), (SHRINKING, None), (HALF, growing), (INFOBATCH, None)],
    ids=["constant", "shrinking", "growing", "InfoBatch"],
)


def rest(trace, trained):
    """What a run does after so many batches."""
    return Trace(trace.ids[trained:], trace.losses[trained:], trace.rates[trained:], trace.steps)


def checkpoints(folder, **when):
    """A callback that keeps a checkpoint of each such moment."""
    return lightning.callbacks.ModelCheckpoint(folder, "{epoch}-{step}", save_top_k=-1, **when)


def saved(folder):
    """Path of each checkpoint and how many batches were trained at it, in order."""
    at = {path: torch.load(path, weights_only=True)["trained"] for path in folder.glob("*.ckpt")}
    return sorted(at.items(), key=lambda item: item[1])


@STRATEGIES
@pytest.mark.parametrize(
    ("when", "model", "arguments", "loop"),
    [
        ({"every_n_train_steps": 1}, Model, {}, {}),
        ({"every_n_train_steps": 1}, Model, {"limit_train_batches": 0.6, "accumulate_grad_batches": 2}, {"limit": 0.6}),
        ({}, Model, {"accumulate_grad_batches": 2}, {}),
        ({}, Model, {"limit_train_batches": 3}, {"limit": 3}),
        ({}, Validated, {}, {}),
        ({"save_on_train_epoch_end": False}, Validated, {"val_check_interval": 0.5}, {}),
        ({"save_on_train_epoch_end": True}, Validated, {"val_check_interval": 0.5}, {}),
    ],
    ids=["steps", "steps, limited", "epochs", "epochs, limited", "validated", "validated inside", "after validation"],
)
@LEFT_EARLY
def test_any_checkpoint_resumes(strategy, schedule, when, model, arguments, loop, tmp_path):
    accumulate = arguments.get("accumulate_grad_batches", 1)
    expected = bare(strategy, EPOCHS, schedule=schedule, accumulate=accumulate, **loop)
    same = {"schedule": schedule, "model": model, **arguments}
    whole = fit(strategy, EPOCHS, callbacks=[checkpoints(tmp_path, **when)], enable_checkpointing=True, **same)
    whole.trace.equals(expected)
    found = saved(tmp_path)
    assert len(found) >= EPOCHS
    for path, trained in found:
        resumed = fit(strategy, EPOCHS, checkpoint=path, **same)
        if trained < len(expected.ids):
            resumed.trace.equals(rest(expected, trained))
        else:
            assert resumed.trace.ids == []
        assert resumed.trainer.current_epoch == EPOCHS


@STRATEGIES
@pytest.mark.parametrize("model", [Model, Validated])
@pytest.mark.parametrize("when", [{"every_n_train_steps": 1}, {"save_on_train_epoch_end": True}], ids=repr)
@LEFT_EARLY
def test_any_checkpoint_of_a_run_of_so_many_steps_resumes(strategy, schedule, model, when, tmp_path):
    expected = bare(strategy, EPOCHS, schedule=schedule)
    same = {"schedule": schedule, "model": model}
    callbacks = [checkpoints(tmp_path, **when)]
    fit(strategy, -1, max_steps=18, callbacks=callbacks, enable_checkpointing=True, **same)
    for path, trained in saved(tmp_path):
        resumed = fit(strategy, -1, max_steps=len(expected.ids), checkpoint=path, **same)
        resumed.trace.equals(rest(expected, trained))


@STRATEGIES
@pytest.mark.parametrize("steps", [2, 3, 5, 7, 10, 12])
@LEFT_EARLY
def test_what_is_saved_after_a_run_of_so_many_steps_resumes(strategy, schedule, steps, tmp_path):
    expected = bare(strategy, EPOCHS, schedule=schedule)
    first = fit(strategy, -1, max_steps=steps, schedule=schedule)
    first.trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed = fit(strategy, -1, max_steps=len(expected.ids), schedule=schedule, checkpoint=tmp_path / "last.ckpt")
    resumed.trace.equals(rest(expected, steps))


@STRATEGIES
def test_what_is_saved_after_a_run_resumes_with_more_epochs(strategy, schedule, tmp_path):
    expected = bare(strategy, EPOCHS, schedule=schedule)
    first = fit(strategy, 2, schedule=schedule)
    first.trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed = fit(strategy, EPOCHS, schedule=schedule, checkpoint=tmp_path / "last.ckpt")
    resumed.trace.equals(rest(expected, len(first.trace.ids)))
