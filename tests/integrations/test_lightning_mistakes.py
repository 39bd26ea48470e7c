"""What would train wrongly under Lightning is refused at the first step, with what to write instead."""

import multiprocessing
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from orderdp import UCB, OrderDP
from reference.lightning_runs import (
    DATA,
    QUIET,
    QUIETLY,
    Model,
    Validated,
    bare,
    built,
    fit,
    lightning,
)
from reference.loop import LEFT_EARLY

from orderdp.integrations.lightning import Pruning  # isort: skip, since it needs Lightning

pytestmark = QUIETLY
SHRINKING = UCB(prune_ratio=0.5)
RESUME = (
    r"make the pruner and its loader as for the run that wrote .*trainer.fit\(model, pruning.batches, ckpt_path=path\)"
)


def trainer(*callbacks, **arguments):
    return lightning.Trainer(max_epochs=3, callbacks=list(callbacks), **{**QUIET, **arguments})


def refused(message):
    return pytest.raises((RuntimeError, TypeError), match=re.escape(message))


def test_the_loader_itself_is_refused():
    pruner, loader = built(SHRINKING)
    with refused("a Trainer needs the batches of the callback, got the pruned loader itself; write pruning = "):
        trainer().fit(Model(pruner), loader)
    with refused("the Trainer must train pruning.batches alone, got PrunedLoader; write trainer.fit(model, pruning."):
        trainer(Pruning(loader)).fit(Model(pruner), loader)
    with refused("a Trainer needs the batches of the callback, got the pruned loader itself"):
        trainer().fit(Model(pruner), {"one": loader, "two": DataLoader(DATA)})
    for evaluate in ("validate", "test", "predict"):
        with refused(
            "a plain DataLoader" if evaluate != "predict" else "got SequentialSampler; a pruned loader shares"
        ):
            getattr(trainer(), evaluate)(Evaluated(pruner), loader)
    assert pruner.epoch is None


class Evaluated(Validated):
    """A model that can be tested too."""

    def test_step(self, batch, batch_idx):
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch, batch_idx):
        return self.network(batch[0])


def test_batches_without_their_callback_are_refused():
    pruner, loader = built(SHRINKING)
    with refused("pruning.batches are the training batches of Trainer.fit with the callback, got a loop without it"):
        trainer().fit(Model(pruner), Pruning(loader).batches)
    with refused("write Trainer(callbacks=[pruning]), and use pruning.loader in a loop of your own"):
        next(iter(Pruning(loader).batches))
    other = Pruning(built(SHRINKING)[1])
    with refused("got a loop without it"):
        trainer(other).fit(Model(pruner), Pruning(loader).batches)
    assert pruner.epoch is None


def test_batches_in_an_evaluation_are_refused():
    pruner, loader = built(SHRINKING)
    pruning = Pruning(loader)
    with refused("pruning.batches are for training, got an evaluation, which would begin an epoch; write a plain"):
        trainer(pruning).fit(Evaluated(pruner), pruning.batches, pruning.batches)
    for evaluate in ("validate", "test", "predict"):
        pruning = Pruning(loader)
        with refused("got a loop without it"):
            getattr(trainer(pruning), evaluate)(Evaluated(pruner), pruning.batches)
    assert pruner.epoch is None


def test_a_callback_whose_batches_the_trainer_does_not_train_is_refused():
    pruner, loader = built(SHRINKING)
    with refused("the Trainer must train pruning.batches alone, got DataLoader; write trainer.fit(model, pruning.batc"):
        trainer(Pruning(loader)).fit(Model(pruner), DataLoader(DATA))
    pruning = Pruning(loader)
    with refused("the Trainer must train pruning.batches alone, got dict"):
        trainer(pruning).fit(Model(pruner), {"one": pruning.batches, "two": DataLoader(DATA)})
    assert pruner.epoch is None


class Sized(Model):
    """A model whose batch size Lightning may search for."""

    batch_size = 4

    def train_dataloader(self):
        return self.pruning.batches


@pytest.mark.filterwarnings("ignore:.*weights_only:UserWarning")
@pytest.mark.parametrize("how", ["power", "binsearch", "callback"])
def test_a_search_for_the_batch_size_is_refused(how, tmp_path):
    pruner, loader = built(SHRINKING)
    model = Sized(pruner)
    model.pruning = Pruning(loader)
    finder = [lightning.callbacks.BatchSizeFinder()] if how == "callback" else []
    searching = trainer(model.pruning, *finder, default_root_dir=tmp_path)
    with refused("a search for the batch size needs a loader that it can make anew, got pruning.batches in Tuner.scal"):
        if finder:
            searching.fit(model)
        else:
            lightning.tuner.Tuner(searching).scale_batch_size(model, mode=how)
    assert pruner.epoch is None
    assert model.trace.ids == []
    assert list(tmp_path.iterdir()) == []


class Limits(lightning.Callback):
    """Sets a limit behind the Trainer's back."""

    def on_train_epoch_start(self, trainer, model):
        trainer.fit_loop.max_batches = 2


def test_an_epoch_that_ends_early_for_no_reason_is_an_error():
    with refused("the Trainer must train all 10 batches of an epoch, got an end after 2; let no other callback change"):
        fit(SHRINKING, 2, callbacks=[Limits()])


class Replacing(Model):
    """Makes another callback's batches at the second epoch."""

    def train_dataloader(self):
        if self.pruner.epoch is None:
            return self.pruning.batches
        return DataLoader(DATA)


def test_batches_that_a_hook_replaces_later_are_refused():
    pruner, loader = built(SHRINKING)
    model = Replacing(pruner)
    model.pruning = Pruning(loader)
    with refused("the Trainer must train pruning.batches alone, got DataLoader"):
        trainer(model.pruning, reload_dataloaders_every_n_epochs=1).fit(model)
    assert pruner.epoch == 0


def test_a_checkpoint_without_the_pruner_is_refused(tmp_path):
    class Plain(Model):
        def training_step(self, batch, batch_idx):
            return super().training_step((torch.arange(4), batch), batch_idx)

        def on_save_checkpoint(self, checkpoint):
            """Saves what Lightning saves."""

    class Unrecorded:
        def update(self, index, losses):
            return losses.mean()

    path = tmp_path / "plain.ckpt"
    plain = lightning.Trainer(max_epochs=1, **QUIET)
    plain.fit(Plain(Unrecorded()), DataLoader(DATA, batch_size=4))
    plain.save_checkpoint(path)
    with refused(
        "a run at step 10 must hold the pruner's state, got a pruner at its beginning; resume a checkpoint tha"
    ):
        fit(SHRINKING, 3, checkpoint=path)
    pruner, loader = built(SHRINKING)
    pruner.set_epoch(1)
    model, pruning = Model(pruner), Pruning(loader)
    trainer(pruning).fit(model, pruning.batches, ckpt_path=path)
    assert pruner.epoch == 2
    assert len(model.trace.ids) == 10


def test_the_evaluation_of_a_checkpoint_does_not_set_the_pruner_back(tmp_path):
    model = fit(SHRINKING, 1, model=Evaluated)
    model.trainer.save_checkpoint(tmp_path / "one.ckpt")
    model.trainer.fit_loop.max_epochs = 2
    model.trainer.fit(model, model.pruning.batches)
    model.trainer.test(model, DataLoader(DATA), ckpt_path=tmp_path / "one.ckpt", verbose=False)
    assert model.pruner.next_epoch == 2


class Breaks(Evaluated):
    """Fails once, at its fourteenth batch."""

    error = OSError

    def training_step(self, batch, batch_idx):
        if len(self.trace.ids) == 13 and self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().training_step(batch, batch_idx)


@LEFT_EARLY
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("same", [True, False], ids=["the same Trainer", "another Trainer"])
def test_an_evaluation_after_a_run_that_failed_does_not_set_the_pruner_back(error, same, tmp_path):
    pruner, loader = built(SHRINKING)
    model, pruning = Breaks(pruner), Pruning(loader)
    model.error = error
    first = trainer(pruning)
    path = tmp_path / "one.ckpt"

    class Save(lightning.Callback):
        def on_train_epoch_end(self, trainer, model):
            trainer.save_checkpoint(path)

    first.callbacks.append(Save())
    with pytest.raises((OSError, SystemExit)):
        first.fit(model, pruning.batches)
    scores = next(iter(pruner.scores().values()))
    evaluating = first if same else trainer(pruning)
    evaluating.test(model, DataLoader(DATA), ckpt_path=path, verbose=False)
    assert pruner.next_epoch == 2
    assert torch.equal(next(iter(pruner.scores().values())), scores)
    first.fit(model, pruning.batches)
    assert pruner.epoch == 3  # the epoch that failed is over for the pruner, and not for Lightning


@LEFT_EARLY
@pytest.mark.parametrize("persistent", [False, True])
def test_the_workers_of_a_run_that_failed_end(persistent):
    pruner, loader = built(SHRINKING, num_workers=2, persistent_workers=persistent)
    model, pruning = Breaks(pruner), Pruning(loader)
    with pytest.raises(OSError):  # noqa: PT011 it has no message
        trainer(pruning).fit(model, pruning.batches)
    assert multiprocessing.active_children() == []


@LEFT_EARLY
def test_a_checkpoint_of_an_overfit_run_does_not_hold_the_pruner(tmp_path):
    model = fit(SHRINKING, 2, overfit_batches=2)
    model.trainer.save_checkpoint(tmp_path / "overfit.ckpt")
    again = fit(SHRINKING, 3, overfit_batches=2, checkpoint=tmp_path / "overfit.ckpt")
    assert again.trace.ids == bare(SHRINKING, 1).ids[:2]
    with refused("a run at step 4 must hold the pruner's state"):
        fit(SHRINKING, 3, checkpoint=tmp_path / "overfit.ckpt")


def test_a_state_of_another_pruner_is_refused(tmp_path):
    model = fit(SHRINKING, 1)
    model.trainer.save_checkpoint(tmp_path / "ucb.ckpt")
    with pytest.raises(ValueError, match=rf"^the state must be of strategy OrderDP.*, got UCB[^;]*; {RESUME}"):
        fit(OrderDP(prune_ratio=0.5), 3, checkpoint=tmp_path / "ucb.ckpt")


def test_the_pruner_of_a_checkpoint_goes_on_under_another_strategy(tmp_path):
    """As docs/frameworks.md says."""
    fit(SHRINKING, 1).trainer.save_checkpoint(tmp_path / "ucb.ckpt")
    pruner, loader = built(UCB(prune_ratio=0.2))
    model, pruning = Model(pruner), Pruning(loader)
    checkpoint = torch.load(tmp_path / "ucb.ckpt", weights_only=True)
    model.load_state_dict(checkpoint["state_dict"])
    pruner.load_state_dict(checkpoint["callbacks"][pruning.state_key]["loader"]["pruner"], change=("strategy",))
    trainer(pruning).fit(model, pruning.batches)
    assert pruner.epoch == 3
    assert len(model.trace.ids) == 3 * 8


def test_other_steps_inside_an_epoch_are_refused(tmp_path):
    callback = lightning.callbacks.ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    fit(SHRINKING, 1, callbacks=[callback], enable_checkpointing=True)
    with pytest.raises(ValueError, match=rf"^a state inside an epoch needs the steps over all ranks that .*; {RESUME}"):
        fit(SHRINKING, 3, checkpoint=tmp_path / "step=3.ckpt", loader={"batch_size": 5})


@pytest.mark.parametrize("given", [DataLoader(DATA), None, "loader"])
def test_what_is_no_loader_of_a_pruner_is_refused(given):
    with pytest.raises(TypeError, match=r"loader must be a pruner's, got .*; write Pruning\(pruner.loader\(train_set"):
        Pruning(given)


def test_a_run_without_an_end_has_no_number_of_steps():
    class Endless(Model):
        def steps(self):
            return self.pruning.total_steps(self.trainer)

    with pytest.raises(ValueError, match=r"total_steps needs the end of the run, got none; write Trainer\(max_epochs"):
        fit(SHRINKING, -1, model=Endless)


def test_an_accumulation_that_changes_has_no_number_of_steps():
    class Exact(Model):
        def steps(self):
            return self.pruning.total_steps(self.trainer)

    scheduler = lightning.callbacks.GradientAccumulationScheduler({2: 4})
    with pytest.raises(ValueError, match="one accumulation for all epochs, got a GradientAccumulationScheduler; let"):
        fit(SHRINKING, 3, model=Exact, callbacks=[scheduler])
    constant = lightning.callbacks.GradientAccumulationScheduler({0: 1})
    assert fit(SHRINKING, 2, model=Exact, callbacks=[constant]).total_steps == 15


def test_steps_are_not_counted_before_the_processes_are_known():
    pruning = Pruning(built(SHRINKING)[1])
    with refused("total_steps needs a Trainer inside fit with this callback, got one outside; call it in configure"):
        pruning.total_steps(trainer(pruning))


def test_without_lightning_the_callback_says_what_to_install(scripts, tmp_path):
    code = (
        "import sys\n"
        "sys.modules['lightning'] = sys.modules['pytorch_lightning'] = None\n"
        "from orderdp.integrations.lightning import Pruning\n"
        "Pruning(None)\n"
    )
    assert scripts.run_code(code, tmp_path).stderr.splitlines()[-1] == (
        "ImportError: the Lightning callback needs lightning: pip install 'lightning>=2.6'"
    )


def test_the_callback_works_in_a_trainer_of_either_package(scripts, tmp_path):
    """Its base class comes from the package that was imported."""
    code = (
        f"import sys; sys.path.append({str(Path(__file__).parents[1])!r})\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "import pytorch_lightning\n"
        "assert 'lightning' not in sys.modules\n"
        "from orderdp.integrations.lightning import Pruning\n"
        "assert issubclass(Pruning, pytorch_lightning.Callback) and 'lightning' not in sys.modules\n"
        "import orderdp\n"
        "from reference import lightning_runs as runs\n"
        "for package in (pytorch_lightning, runs.lightning):\n"
        "    class Model(package.LightningModule):\n"
        "        configure_optimizers = lambda self: runs.optimizer_of(self.network)[0]\n"
        "        def training_step(self, batch, batch_idx):\n"
        "            index, (x, y) = batch\n"
        "            self.ids.append(index.tolist())\n"
        "            return self.pruner.update(index, runs.losses_of(self.network, x, y))\n"
        "    model = Model()\n"
        "    model.network, model.ids = runs.network(), []\n"
        "    model.pruner, loader = runs.built(orderdp.UCB(prune_ratio=0.5))\n"
        "    pruning = Pruning(loader)\n"
        "    package.Trainer(max_epochs=2, callbacks=[pruning], **runs.QUIET).fit(model, pruning.batches)\n"
        "    print(len(model.ids), model.pruner.report().visits)\n"
        "    try:\n"
        "        package.Trainer(max_epochs=1, **runs.QUIET).fit(model, loader)\n"
        "    except TypeError as error:\n"
        "        print(str(error)[:28])\n"
    )
    done = scripts.run_code(code, tmp_path)
    expected = ["15 60", "a Trainer needs the batches "]
    assert done.stdout.splitlines() == [*expected, *expected], done.stderr[-2000:]
