"""A run of the Trainer of transformers goes on from any checkpoint as if it had not been broken."""

import shutil

import pytest
import torch

from orderdp import UCB, InfoBatch, OrderDP, Pruner

transformers = pytest.importorskip("transformers", minversion="5.24")

from orderdp.integrations.transformers import STATE_FILE  # noqa: E402
from reference.transformers_runs import Language, Rates, Recorded, trainer_of  # noqa: E402

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
EACH_STEP = {"k": 2, "dropout": 0.3, "save_strategy": "steps", "save_steps": 1}  # the network draws random numbers
STRATEGIES = {
    "UCB": UCB(prune_ratio=0.5),  # 7, 4 and 4 batches: 4, 2 and 2 steps
    "InfoBatch": InfoBatch(prune_probability=0.9, delta=0.75, epochs=3),
}


class KilledError(Exception):
    """Stands for a process that ends."""


class Kill(transformers.TrainerCallback):
    """Ends the run when a step has been made, before it is saved."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KilledError


def trained(folder, strategy, resume=None, **arguments):
    """Trains, and returns what was told, rates, epochs after each step, weights and trainer."""
    pruner, rates = Recorded(strategy, 26, seed=3), Rates()
    callbacks = [rates, *arguments.pop("callbacks", [])]
    trainer = trainer_of(Language(), pruner, folder, callbacks=callbacks, **{**EACH_STEP, **arguments})
    trainer.train(resume_from_checkpoint=resume)
    return pruner.told, rates.rates, rates.epochs, [p.tolist() for p in trainer.model.parameters()], trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that were not broken, and their folders."""
    runs = {}
    for name, strategy in STRATEGIES.items():
        folder = tmp_path_factory.mktemp(name)
        runs[name] = (folder, *trained(folder, strategy)[:4])
    return runs


def assert_goes_on(run, expected, step):
    """What follows a step is the same, bit for bit."""
    told, rates, epochs, weights = run[:4]
    assert told == expected[0][-len(told) :]
    assert rates == expected[1][step:]
    assert epochs == pytest.approx(expected[2][step:])
    assert weights == expected[3]
    assert len(told) + 2 * step >= len(expected[0])  # nothing is lost


@pytest.mark.parametrize(
    ("step", "skip"),
    [
        *((step, {}) for step in range(1, 8)),
        *((step, {"ignore_data_skip": True}) for step in (3, 4)),
        *((step, {"dataloader_num_workers": 2}) for step in (3, 4)),
    ],
    ids=str,
)
def test_a_run_goes_on_from_inside_an_epoch_and_from_its_end(step, skip, whole, tmp_path):
    folder, *expected = whole["UCB"]
    assert len(expected[1]) == 8
    run = trained(tmp_path, STRATEGIES["UCB"], str(folder / f"checkpoint-{step}"), **skip)
    assert_goes_on(run, expected, step)
    assert len(run[0]) == [15, 13, 11, 9, 8, 6, 4, 2, 0][step]
    samples = run[4].state.log_history[-1]
    assert samples["train_samples_per_second"] * samples["train_runtime"] == pytest.approx(
        sum(len(ids) for _, ids, _ in run[0]), rel=0.05
    )


def test_a_run_whose_sizes_depend_on_the_losses_goes_on(whole, tmp_path):
    folder, *expected = whole["InfoBatch"]
    for step in range(1, len(expected[1]), 3):
        run = trained(tmp_path, STRATEGIES["InfoBatch"], str(folder / f"checkpoint-{step}"), save_strategy="no")
        assert_goes_on(run, expected, step)
        assert run[4].state.max_steps == len(expected[1])


def test_a_killed_run_goes_on_by_resume_from_checkpoint_alone(whole, tmp_path):
    _, *expected = whole["UCB"]
    arguments = {**EACH_STEP, "save_steps": 3, "save_total_limit": 1, "data_seed": 3}
    given = {"strategy": UCB(prune_ratio=0.5)}
    first = trainer_of(Language(), given, tmp_path, callbacks=[Kill(5)], **arguments)
    with pytest.raises(KilledError):
        first.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    rates = Rates()
    second = trainer_of(Language(), given, tmp_path, callbacks=[rates], **arguments)
    second.train(resume_from_checkpoint=True)
    assert rates.rates == expected[1][3:]
    assert [p.tolist() for p in second.model.parameters()] == expected[3]
    assert second.pruner.report().visits == 26 + 13 + 13


def test_checkpoints_of_epochs_go_on_beside_the_best_model(tmp_path):
    saved = {"save_strategy": "epoch", "eval_strategy": "epoch", "load_best_model_at_end": True}
    arguments = {**EACH_STEP, **saved, "save_total_limit": 2, "metric_for_best_model": "loss"}
    expected = trained(tmp_path / "whole", STRATEGIES["UCB"], **arguments)
    folder = tmp_path / "broken"
    with pytest.raises(KilledError):
        trainer_of(
            Language(), Recorded(STRATEGIES["UCB"], 26, seed=3), folder, callbacks=[Kill(7)], **arguments
        ).train()
    run = trained(folder, STRATEGIES["UCB"], True, **arguments)
    assert_goes_on(run, expected, 6)
    assert run[4].state.best_metric == expected[4].state.best_metric


def test_a_checkpoint_that_a_callback_saves_inside_a_step_is_saved_after_it(whole, tmp_path):
    """As the Trainer's own callback does at SIGTERM: the losses are recorded, and the weights have not moved yet."""

    class Save(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            if state.global_step == 4:
                self.trainer._save_checkpoint(self.trainer.model, None)

    callback = Save()
    arguments = {**EACH_STEP, "save_strategy": "no"}
    pruner = Recorded(STRATEGIES["UCB"], 26, seed=3)
    callback.trainer = trainer_of(Language(), pruner, tmp_path, callbacks=[callback], **arguments)
    callback.trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-5"]
    run = trained(tmp_path, STRATEGIES["UCB"], str(tmp_path / "checkpoint-5"), save_strategy="no")
    assert_goes_on(run, whole["UCB"][1:], 5)


def test_a_run_that_stops_inside_a_step_says_that_it_saved_nothing_there(tmp_path):
    class Stop(transformers.TrainerCallback):
        def on_substep_end(self, args, state, control, **kwargs):
            control.should_training_stop = True

    with pytest.warns(RuntimeWarning, match="^the run stopped inside an optimiser step and saved nothing"):
        trained(tmp_path, STRATEGIES["UCB"], callbacks=[Stop()], save_strategy="epoch")
    assert list(tmp_path.glob("checkpoint-*")) == []


@pytest.fixture
def copied(whole, tmp_path):
    """A checkpoint to spoil."""

    def copy(step):
        target = tmp_path / f"checkpoint-{step}"
        shutil.copytree(whole["UCB"][0] / f"checkpoint-{step}", target)
        return target

    return copy


def test_a_checkpoint_without_the_pruner_is_refused(copied, tmp_path):
    for step in (4, 5):
        (copied(step) / STATE_FILE).unlink()
    inside, between = (str(tmp_path / f"checkpoint-{step}") for step in (5, 4))
    message = "a checkpoint must hold the state of the pruner, got none at .*pruner.pt; resume from one that Pruned"
    with pytest.raises(ValueError, match=rf"^{message}Trainer saved$"):
        trained(tmp_path, STRATEGIES["UCB"], inside)
    with pytest.raises(ValueError, match=rf"^{message}Trainer saved, or write pruner.set_epoch\(1\) to begin without"):
        trained(tmp_path, STRATEGIES["UCB"], between)
    pruner = Recorded(OrderDP(prune_ratio=0.5), 26, seed=3)
    pruner.set_epoch(2)
    rates = Rates()
    trainer = trainer_of(Language(), pruner, tmp_path, callbacks=[rates], **EACH_STEP)
    trainer.train(resume_from_checkpoint=between)  # 4 steps are 2 epochs of 13 samples under OrderDP
    assert [epoch for epoch, *_ in pruner.told] == [2] * 4
    assert trainer.state.global_step == 6


def test_a_state_of_another_step_is_refused(copied, whole, tmp_path):
    shutil.copy(whole["UCB"][0] / "checkpoint-4" / STATE_FILE, copied(5) / STATE_FILE)
    with pytest.raises(ValueError, match=r"^a run resumes with the steps that it was saved with, .*: 4}, got .*: 5}"):
        trained(tmp_path, STRATEGIES["UCB"], str(tmp_path / "checkpoint-5"))


@pytest.mark.parametrize("size", [0, 1, 100, -10])
def test_a_truncated_state_is_refused(size, copied, tmp_path):
    file = copied(5) / STATE_FILE
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"^the state of the pruner must be whole, got .*pruner.pt, which cannot"):
        trained(tmp_path, STRATEGIES["UCB"], str(file.parent))


@pytest.mark.parametrize(
    ("strategy", "arguments", "message"),
    [
        (
            UCB(prune_ratio=0.4),
            {},
            r"the state must be of strategy UCB.*, got UCB[^;]*; give PrunedTrainer .*resume_from_checkpoint=...\); or",
        ),
        (
            UCB(prune_ratio=0.5),
            {"k": 1},
            "a run resumes with the steps .*'gradient_accumulation",
        ),
        (UCB(prune_ratio=0.5), {"per_device_train_batch_size": 2}, "a run resumes with the steps .* batch on all"),
    ],
)
def test_a_state_of_another_run_is_refused(strategy, arguments, message, whole, tmp_path):
    with pytest.raises(ValueError, match=message):
        trained(tmp_path, strategy, str(whole["UCB"][0] / "checkpoint-5"), **arguments)


def test_a_pruner_that_is_further_along_than_the_run_is_refused(tmp_path):
    pruner = Pruner(OrderDP(prune_ratio=0.5), 26)
    trainer = trainer_of(Language(), pruner, tmp_path, epochs=1)
    trainer.train()
    with pytest.raises(ValueError, match=r"^the pruner must be at epoch 0, where the Trainer is, got 1; make a new"):
        trainer.train()
    pruner.set_epoch(0)
    trainer.train()
    assert pruner.report().visits == 26


def test_a_strategy_makes_a_new_pruner_for_each_run(tmp_path):
    trainer = trainer_of(Language(), {"strategy": OrderDP(prune_ratio=0.5)}, tmp_path, epochs=1)
    trainer.train()
    first = trainer.pruner
    metrics = trainer.train().metrics
    assert metrics["train_samples_per_second"] * metrics["train_runtime"] == pytest.approx(13, rel=0.05)
    assert (first.report().visits, trainer.pruner.report().visits) == (13, 13)
    assert torch.equal(first.trained(), trainer.pruner.trained())
