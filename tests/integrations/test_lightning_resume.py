"""A Trainer that resumes from any checkpoint trains on as if it had never stopped."""

import pytest
import torch

from orderdp import UCB, FullData, InfoBatch, OrderDP
from orderdp.integrations.lightning import Pruning
from reference.lightning_runs import BATCH, QUIET, QUIETLY, Model, Trace, Validated, bare, built, fit, lightning
from reference.loop import LEFT_EARLY

pytestmark = QUIETLY
HALF = OrderDP(explore=1.0, exploit=0.5)
SHRINKING = UCB(prune_ratio=0.5)  # 10, 5, 5, ... batches
INFOBATCH = InfoBatch(prune_probability=0.9, delta=0.75, epochs=4)
EPOCHS = 4
KEEP = {"enable_checkpointing": True}


def growing(strategy, epoch):
    """A schedule: 2, 5, 5, 10 batches."""
    return (OrderDP(explore=1.0, exploit=0.2), strategy, strategy, FullData())[epoch]


STRATEGIES = pytest.mark.parametrize(
    ("strategy", "schedule"),
    [(SHRINKING, None), (HALF, growing), (INFOBATCH, None)],
    ids=["shrinking", "growing", "InfoBatch"],
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
    whole = fit(strategy, EPOCHS, callbacks=[checkpoints(tmp_path, **when)], **same, **KEEP)
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


class Saves(lightning.Callback):
    """Writes a checkpoint at a hook, and notes how many batches were trained."""

    def __init__(self, hook, folder):
        self.saved = {}

        def save(trainer, model, *_):
            if not trainer.sanity_checking:
                path = folder / f"{len(self.saved)}.ckpt"
                trainer.save_checkpoint(path)
                self.saved[path] = len(model.trace.ids)

        setattr(self, hook, save)


HOOKS = [
    *("on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_train_batch_end", "on_validation_start"),
    *("on_validation_epoch_end", "on_validation_end", "on_train_epoch_end", "on_train_end", "on_fit_end"),
]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    ("strategy", "schedule", "first", "second"),
    [
        (HALF, growing, {}, {}),
        (SHRINKING, None, {"max_steps": 12}, {"max_steps": 25}),
    ],
    ids=["epochs", "steps"],
)
@LEFT_EARLY
def test_a_checkpoint_of_any_hook_resumes(hook, strategy, schedule, first, second, tmp_path):
    expected = bare(strategy, EPOCHS, schedule=schedule)
    same = {"schedule": schedule, "model": Validated}
    saves = Saves(hook, tmp_path)
    fit(strategy, -1 if first else 3, callbacks=[saves], **same, **first)
    assert saves.saved
    for path, trained in saves.saved.items():
        resumed = fit(strategy, -1 if second else EPOCHS, checkpoint=path, **same, **second)
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


@pytest.mark.parametrize(
    "arguments",
    [
        {"reload_dataloaders_every_n_epochs": 1},
        {"reload_dataloaders_every_n_epochs": 1, "limit_train_batches": 0.6},
        {"check_val_every_n_epoch": 2, "model": Validated},
        {"accumulate_grad_batches": 4},
    ],
    ids=repr,
)
@LEFT_EARLY
def test_a_run_resumes_with_other_settings_of_the_trainer(arguments, tmp_path):
    accumulate, limit = arguments.get("accumulate_grad_batches", 1), arguments.get("limit_train_batches", 1.0)
    expected = bare(SHRINKING, EPOCHS, accumulate=accumulate, limit=limit)
    fit(SHRINKING, EPOCHS, callbacks=[checkpoints(tmp_path, every_n_train_steps=1)], **arguments, **KEEP)
    for path, trained in saved(tmp_path)[:-1]:
        resumed = fit(SHRINKING, EPOCHS, checkpoint=path, **arguments)
        resumed.trace.equals(rest(expected, trained))


@pytest.mark.parametrize(("before", "after"), [(2, 2), (0, 2), (2, 0)])
def test_a_run_resumes_with_workers_that_read_ahead(before, after, tmp_path):
    callbacks = [checkpoints(tmp_path, every_n_train_steps=6)]
    fit(SHRINKING, 3, loader={"num_workers": before}, callbacks=callbacks, **KEEP)
    expected = bare(SHRINKING, 3)
    for path, trained in saved(tmp_path):
        resumed = fit(SHRINKING, 3, loader={"num_workers": after}, checkpoint=path)
        resumed.trace.equals(rest(expected, trained))


class Estimating(Model):
    def steps(self):
        return self.trainer.estimated_stepping_batches


class Exact(Model):
    def steps(self):
        return self.pruning.total_steps(self.trainer)


@pytest.mark.parametrize(("strategy", "model"), [(HALF, Estimating), (SHRINKING, Exact)], ids=["estimated", "exact"])
def test_a_schedule_goes_on_as_long_as_the_run(strategy, model, tmp_path):
    whole = fit(strategy, EPOCHS, model=model, callbacks=[checkpoints(tmp_path, every_n_train_steps=1)], **KEEP)
    expected = bare(strategy, EPOCHS, total_steps=whole.total_steps)
    whole.trace.equals(expected)
    for path, trained in saved(tmp_path)[:-1]:
        resumed = fit(strategy, EPOCHS, model=model, checkpoint=path)
        resumed.trace.equals(rest(expected, trained))
        assert resumed.total_steps == whole.total_steps


class Fails(Model):
    """Fails at its eighth batch."""

    def training_step(self, batch, batch_idx):
        if len(self.trace.ids) == 7:
            raise OSError("the disk is full")
        return super().training_step(batch, batch_idx)


@STRATEGIES
def test_what_is_saved_at_an_error_resumes(strategy, schedule, tmp_path):
    with pytest.raises(OSError, match="the disk is full"):
        fit(strategy, EPOCHS, model=Fails, schedule=schedule, callbacks=[Saves("on_exception", tmp_path)])
    resumed = fit(strategy, EPOCHS, schedule=schedule, checkpoint=tmp_path / "0.ckpt")
    resumed.trace.equals(rest(bare(strategy, EPOCHS, schedule=schedule), 7))


class Stops(lightning.Callback):
    """Ends the run after three batches of the second epoch, as a time limit would."""

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        trainer.should_stop = trainer.current_epoch == 1 and batch_idx == 2


@LEFT_EARLY
def test_a_run_that_was_told_to_stop_goes_on_with_the_next_epoch(tmp_path):
    """So does Lightning, whose own counters begin the next epoch."""
    first = fit(SHRINKING, EPOCHS, callbacks=[Stops(), checkpoints(tmp_path)], **KEEP)
    first.trainer.save_checkpoint(tmp_path / "after.ckpt")
    assert len(first.trace.ids) == 13
    (_, _), *found = saved(tmp_path)
    assert len(found) == 2
    for path, _ in found:
        resumed = fit(SHRINKING, EPOCHS, checkpoint=path)
        assert [len(resumed.trace.ids), resumed.pruner.epoch] == [10, 3]
        assert resumed.trainer.current_epoch == EPOCHS


class Leaves(Model):
    """Leaves each epoch before its fourth batch."""

    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == 3 else None


@LEFT_EARLY
def test_epochs_that_the_model_leaves_resume(tmp_path):
    expected = bare(SHRINKING, EPOCHS, limit=3).ids
    fit(SHRINKING, EPOCHS, model=Leaves, callbacks=[checkpoints(tmp_path, every_n_train_steps=1)], **KEEP)
    for path, trained in saved(tmp_path)[:-1]:
        assert fit(SHRINKING, EPOCHS, model=Leaves, checkpoint=path).trace.ids == expected[trained:]


@LEFT_EARLY
def test_a_run_after_an_overfit_run_trains_whole_epochs():
    model = fit(SHRINKING, 2, overfit_batches=2)
    model.trace.ids.clear()
    lightning.Trainer(max_epochs=2, callbacks=[model.pruning], **QUIET).fit(model, model.pruning.batches)
    assert [len(ids) for ids in model.trace.ids] == [BATCH] * (5 + 5)
    assert model.pruner.report().visits == 8 + 20 + 20


def test_a_schedule_goes_on_where_a_loop_had_left_the_pruner(tmp_path):
    pruner, loader = built(SHRINKING)
    for index, (x, y) in loader:
        pruner.update(index, (x.sum(1) - y).requires_grad_() ** 2)
    model = Exact(pruner)
    model.pruning = Pruning(loader)
    trainer = lightning.Trainer(max_epochs=3, callbacks=[model.pruning, Saves("on_train_epoch_end", tmp_path)], **QUIET)
    trainer.fit(model, model.pruning.batches)
    for number in range(2):
        resumed = fit(SHRINKING, 3, model=Exact, checkpoint=tmp_path / f"{number}.ckpt")
        assert resumed.total_steps == model.total_steps == 15
        assert resumed.trace.ids == model.trace.ids[5 * (number + 1) :]
