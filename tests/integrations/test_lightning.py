"""A Lightning Trainer trains what a bare loop trains: the same ids, losses, learning rates and number of steps."""

import itertools
import multiprocessing

import pytest
import torch
from torch.utils.data import default_collate

from orderdp import UCB, FullData, InfoBatch, Kakurenbo, OrderDP, Scheduled
from orderdp.integrations.lightning import Pruning
from reference.lightning_runs import (
    QUIET,
    QUIETLY,
    Model,
    N,
    Validated,
    bare,
    built,
    fit,
    lightning,
    losses_of,
    network,
    optimizer_of,
)
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
        ({"accumulate_grad_batches": 4}, {"accumulate": 4}),
        ({"reload_dataloaders_every_n_epochs": 1}, {}),
        ({"model": Validated}, {}),
    ],
    ids=["plain", "accumulate", "reload", "validated"],
)
def test_a_trainer_trains_what_a_bare_loop_trains(strategy, schedule, trainer, loop):
    model = fit(strategy, EPOCHS, schedule=schedule, **trainer)
    model.trace.equals(bare(strategy, EPOCHS, schedule=schedule, **loop))


@pytest.mark.parametrize("strategy", [SHRINKING, INFOBATCH], ids=["shrinking", "InfoBatch"])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_change_nothing(strategy, persistent):
    model = fit(strategy, EPOCHS, loader={"num_workers": 2, "persistent_workers": persistent})
    model.trace.equals(bare(strategy, EPOCHS))
    assert multiprocessing.active_children() == []


def test_the_sizes_of_the_epochs_vary_in_these_tests():
    for strategy, schedule in [
        (SHRINKING, None),
        (RISING, None),
        (HALF, growing),
        (INFOBATCH, None),
        (KAKURENBO, None),
    ]:
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


@pytest.mark.parametrize("interval", [1.0, 0.5, 0.1, 3], ids=repr)
def test_validation_comes_when_its_interval_says(interval):
    model = fit(HALF, EPOCHS, model=Validated, schedule=growing_from_five, val_check_interval=interval)
    lengths = [5, 5, 10, 10]
    every = [max(1, int(length * interval)) if isinstance(interval, float) else interval for length in lengths]
    begins = [0, 5, 10, 20]
    expected = [
        begin + batch
        for begin, length, each in zip(begins, lengths, every, strict=True)
        for batch in range(1, length + 1)
        if batch % each == 0
    ]
    assert model.validated == [0, *expected]  # once as a check before the training
    model.trace.equals(bare(HALF, EPOCHS, schedule=growing_from_five))


def growing_from_five(strategy, epoch):
    """A schedule: 5, 5, 10, 10 batches."""
    return strategy if epoch < 2 else FullData()


class Totals(lightning.callbacks.ProgressBar):
    """A progress bar that notes how long it would be, and the batches that it saw."""

    def __init__(self):
        super().__init__()
        self.totals, self.seen = [], []

    def disable(self):
        """Shows nothing."""

    def on_train_epoch_start(self, trainer, pl_module):
        self.totals.append(self.total_train_batches)
        self.seen.append(0)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen[-1] += 1


@STRATEGIES
def test_a_progress_bar_is_as_long_as_its_epoch(strategy, schedule):
    bar = Totals()
    fit(strategy, EPOCHS, schedule=schedule, callbacks=[bar], enable_progress_bar=True)
    assert bar.totals == bar.seen


class Last(lightning.Callback):
    """Notes for each batch whether the Trainer takes it for the last of its epoch."""

    def __init__(self):
        self.last = []

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.last.append(trainer.is_last_batch)


def test_the_trainer_knows_which_batch_is_the_last():
    callback = Last()
    fit(HALF, EPOCHS, schedule=growing, callbacks=[callback])
    assert [number for number, last in enumerate(callback.last, 1) if last] == [2, 7, 12, 22]


class Estimating(Model):
    """Sizes its schedule by Lightning's estimate."""

    def steps(self):
        return self.trainer.estimated_stepping_batches


class Exact(Model):
    """Sizes its schedule by the callback."""

    def steps(self):
        return self.pruning.total_steps(self.trainer)


SETTINGS = pytest.mark.parametrize(
    "arguments",
    [{}, {"accumulate_grad_batches": 4}, {"limit_train_batches": 0.6}, {"limit_train_batches": 3}],
    ids=repr,
)


@SETTINGS
@LEFT_EARLY
def test_the_estimate_of_steps_is_exact_where_all_epochs_have_one_size(arguments):
    model = fit(HALF, EPOCHS, model=Estimating, **arguments)
    assert model.total_steps == model.trace.steps
    model.trace.equals(bare(HALF, EPOCHS, total_steps=model.total_steps, **as_loop(arguments)))


def as_loop(arguments):
    """The arguments of a bare loop for those of a Trainer."""
    names = {"accumulate_grad_batches": "accumulate", "limit_train_batches": "limit"}
    return {names[name]: value for name, value in arguments.items()}


@SETTINGS
@pytest.mark.parametrize(("strategy", "schedule"), [(HALF, None), (SHRINKING, None), (RISING, None), (HALF, growing)])
@LEFT_EARLY
def test_the_callback_counts_the_steps_of_the_run(strategy, schedule, arguments):
    model = fit(strategy, EPOCHS, model=Exact, schedule=schedule, **arguments)
    assert model.total_steps == model.trace.steps
    arguments = as_loop(arguments)
    model.trace.equals(bare(strategy, EPOCHS, schedule=schedule, total_steps=model.total_steps, **arguments))
    assert fit(strategy, EPOCHS, model=Exact, schedule=schedule, max_steps=4).total_steps == 4


def test_an_estimate_that_epochs_of_other_sizes_make_wrong_is_refused():
    with pytest.raises(RuntimeError, match=r"the 25 steps of the run, got 40 from trainer.estimated_stepping_batches"):
        fit(SHRINKING, EPOCHS, model=Estimating)
    with pytest.raises(RuntimeError, match=r"the 9 steps of the run, got 12 from .* write pruning.total_steps"):
        fit(SHRINKING, EPOCHS, model=Estimating, accumulate_grad_batches=4)


def test_an_estimate_of_what_the_losses_decide_is_warned_of():
    with pytest.warns(RuntimeWarning, match="estimated_stepping_batches, which is 40, the most that the run may make"):
        model = fit(INFOBATCH, EPOCHS, model=Estimating)
    model.trace.equals(bare(INFOBATCH, EPOCHS, total_steps=40))
    with pytest.raises(ValueError, match=r"the steps of InfoBatch.* depend on the losses"):
        fit(INFOBATCH, EPOCHS, model=Exact)


@pytest.mark.parametrize("limit", [2, 0.2])
@pytest.mark.parametrize("workers", [0, 2])
def test_overfit_batches_trains_the_same_first_batches_in_every_epoch(limit, workers):
    model = fit(SHRINKING, EPOCHS, overfit_batches=limit, loader={"num_workers": workers})
    assert model.trace.ids == bare(SHRINKING, 1).ids[:2] * EPOCHS
    assert model.pruner.epoch == 0
    assert model.pruner.report().visits == 8


class Data(lightning.LightningDataModule):
    """Makes the pruned loader and its callback."""

    def __init__(self):
        super().__init__()
        self.pruner, loader = built(SHRINKING)
        self.pruning = Pruning(loader)

    def train_dataloader(self):
        return self.pruning.batches


class Hooked(Model):
    """A model that brings its own batches."""

    def train_dataloader(self):
        return self.pruning.batches


def test_batches_may_come_from_a_data_module():
    data = Data()
    model = Model(data.pruner)
    lightning.Trainer(max_epochs=3, callbacks=[data.pruning], **QUIET).fit(model, datamodule=data)
    model.trace.equals(bare(SHRINKING, 3))


@pytest.mark.parametrize("reload", [0, 1])
def test_batches_may_come_from_a_hook_of_the_model(reload):
    pruner, loader = built(SHRINKING)
    model = Hooked(pruner)
    model.pruning = Pruning(loader)
    trainer = lightning.Trainer(
        max_epochs=3, callbacks=[model.pruning], reload_dataloaders_every_n_epochs=reload, **QUIET
    )
    trainer.fit(model)
    model.trace.equals(bare(SHRINKING, 3))


class Manual(Model):
    """Steps its optimiser itself."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()
        scheduler.step()


@STRATEGIES
def test_manual_optimisation(strategy, schedule):
    model = fit(strategy, EPOCHS, model=Manual, schedule=schedule)
    model.trace.equals(bare(strategy, EPOCHS, schedule=schedule))


class Leaves(Model):
    """Leaves each epoch before its fourth batch."""

    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == 3 else None


@STRATEGIES
@LEFT_EARLY
def test_an_epoch_that_the_model_leaves_is_over(strategy, schedule):
    model = fit(strategy, EPOCHS, model=Leaves, schedule=schedule)
    assert model.trace.ids == bare(strategy, EPOCHS, schedule=schedule, limit=3).ids


@LEFT_EARLY
def test_a_second_fit_goes_on_with_the_next_epoch():
    model = fit(SHRINKING, 2)
    model.trainer.fit_loop.max_epochs = EPOCHS
    model.trainer.fit(model, model.pruning.batches)
    assert model.trace.ids == bare(SHRINKING, EPOCHS).ids


def test_a_run_may_begin_where_a_loop_has_left_the_pruner():
    pruner, loader = built(SHRINKING)
    for index, (x, y) in loader:
        pruner.update(index, (x.sum(1) - y).requires_grad_() ** 2)
    model = Exact(pruner)
    model.pruning = Pruning(loader)
    lightning.Trainer(max_epochs=3, callbacks=[model.pruning], **QUIET).fit(model, model.pruning.batches)
    assert (model.total_steps, model.trace.steps, pruner.epoch) == (15, 15, 3)


@pytest.mark.parametrize("limit", [1.0, 4])
@LEFT_EARLY
def test_a_run_may_begin_inside_an_epoch_that_a_loop_has_left(limit):
    expected = bare(HALF, 3, limit=limit).ids
    pruner, loader = built(HALF)
    model = Model(pruner)
    for number, (index, (x, y)) in enumerate(loader, 1):
        pruner.update(index, losses_of(network(), x, y))
        if number == 2:
            break
    loader.load_state_dict(loader.state_dict())
    pruning = Pruning(loader)
    trainer = lightning.Trainer(max_epochs=3, callbacks=[pruning], limit_train_batches=limit, **QUIET)
    trainer.fit(model, pruning.batches)
    assert model.trace.ids[:2] == expected[2:4]
    assert len(model.trace.ids) == {1.0: 3 + 5 + 5, 4: 3 + 4 + 4}[limit]


class Stepped(Model):
    """Lowers its learning rate after each epoch."""

    def configure_optimizers(self):
        optimizer, _ = optimizer_of(self.network)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


@STRATEGIES
def test_a_schedule_by_epochs_steps_once_an_epoch(strategy, schedule):
    model = fit(strategy, EPOCHS, model=Stepped, schedule=schedule)
    changes = [one != other for one, other in itertools.pairwise(model.trace.rates)]
    assert sum(changes) == EPOCHS - 1
    assert model.lr_schedulers().last_epoch == EPOCHS


def drop_multiples_of_seven(samples):
    return default_collate([sample for sample in samples if round(sample[0][0].item() * N) % 7])


class Dropping(Model):
    """Finds out which samples of a batch were left."""

    def training_step(self, batch, batch_idx):
        index, samples = batch
        return super().training_step((index[index % 7 != 0], samples), batch_idx)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.* of the .* samples of epoch .* were left without a loss:RuntimeWarning")
def test_samples_that_were_dropped_have_failed_as_in_a_bare_loop(workers):
    model = fit(SHRINKING, 2, model=Dropping, loader={"collate_fn": drop_multiples_of_seven, "num_workers": workers})
    pruner, loader = built(SHRINKING, collate_fn=drop_multiples_of_seven)
    for _ in range(2):
        for index, (x, y) in loader:
            pruner.update(index[index % 7 != 0], (x.sum(1) - y).requires_grad_() ** 2)
    assert model.pruner.report().failed == pruner.report().failed == tuple(range(0, N, 7))
    assert model.pruner.report().missing == pruner.report().missing


@LEFT_EARLY
def test_the_search_as_a_callback_leaves_the_pruner_as_it_was(tmp_path):
    finder = lightning.callbacks.LearningRateFinder(num_training_steps=12, update_attr=False)
    model = fit(SHRINKING, 3, callbacks=[finder], default_root_dir=tmp_path)
    model.trace.ids = model.trace.ids[12:]
    assert model.trace.ids == bare(SHRINKING, 3).ids


@LEFT_EARLY
def test_the_search_for_a_learning_rate_leaves_the_pruner_as_it_was(tmp_path):
    pruner, loader = built(SHRINKING)
    model, pruning = Model(pruner), Pruning(loader)
    trainer = lightning.Trainer(max_epochs=3, callbacks=[pruning], default_root_dir=tmp_path, **QUIET)
    lightning.tuner.Tuner(trainer).lr_find(model, pruning.batches, num_training=12, update_attr=False)
    fresh = lightning.Trainer(max_epochs=3, callbacks=[pruning], **QUIET)
    model.trace.ids.clear()
    fresh.fit(model, pruning.batches)
    assert model.trace.ids == bare(SHRINKING, 3).ids
