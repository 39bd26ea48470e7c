"""The Trainer of transformers with pruned epochs makes the steps of a plain loop."""

import re
from pathlib import Path

import pytest
import torch

from orderdp import UCB, FullData, InfoBatch, Kakurenbo
from reference.loop import joined

transformers = pytest.importorskip("transformers", minversion="5.24")

from reference.transformers_runs import BATCH, Language, Rates, Recorded, Text, bare, padded, trainer_of  # noqa: E402

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
SEVERAL = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
CASES = {
    "classification": (Text(), True),
    "regression": (Text(lambda tokens: tokens.float().mean() / 20, num_labels=1), False),
    "several labels": (Text(lambda tokens: SEVERAL[tokens.sum() % 2], num_labels=3), False),
    "language": (Language(), True),
    "language without items": (Language(items=False), False),
}


def assert_equal_runs(trainer, rates, pruner, expected, model, expected_rates):
    """Equal ids in their order, losses to rounding, learning rates, numbers of steps and weights."""
    assert [told[:2] for told in pruner.told] == [told[:2] for told in expected.told]
    for (*_, losses), (*_, others) in zip(pruner.told, expected.told, strict=True):
        assert losses == pytest.approx(others, rel=1e-4, abs=1e-6)
    assert rates == pytest.approx(expected_rates)
    assert trainer.state.global_step == trainer.state.max_steps == len(expected_rates)
    for ours, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("name", CASES)
def test_a_run_makes_the_steps_of_a_plain_loop(name, k, tmp_path):
    """The first epoch has 7 batches and the others 4, so the last step of the first has 3 of 4."""
    (case, items), rates = CASES[name], Rates()
    pruner, expected = (Recorded(UCB(prune_ratio=0.5), 26, seed=3) for _ in range(2))
    trainer = trainer_of(case, pruner, tmp_path, k=k, callbacks=[rates])
    metrics = trainer.train().metrics
    model, expected_rates, steps = bare(case, expected, k=k, items=items)
    assert steps == {1: [1] * 15, 4: [4, 3, 4, 4]}[k]
    assert_equal_runs(trainer, rates.rates, pruner, expected, model, expected_rates)
    assert rates.epochs[-1] == metrics["epoch"] == 3
    assert metrics["train_samples_per_second"] * metrics["train_runtime"] == pytest.approx(26 + 13 + 13, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "how"),
    [
        ({"eval_strategy": "steps", "eval_steps": 2, "dataloader_num_workers": 2}, {}),
        ({"dataloader_num_workers": 1, "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 9}, {}),
        ({"dataloader_drop_last": True}, {"drop_last": True}),
    ],
    ids=["evaluated, 2 workers", "persistent worker", "drop_last"],
)
def test_evaluation_workers_and_drop_last_change_nothing_else(arguments, how, tmp_path):
    case, rates = Language(), Rates()
    pruner, expected = (Recorded(UCB(prune_ratio=0.5), 26, seed=3) for _ in range(2))
    trainer = trainer_of(case, pruner, tmp_path, k=2, callbacks=[rates], **arguments)
    trainer.train()
    model, expected_rates, _ = bare(case, expected, k=2, items=True, **how)
    assert_equal_runs(trainer, rates.rates, pruner, expected, model, expected_rates)
    evaluated = [log["step"] for log in trainer.state.log_history if "eval_loss" in log]
    assert evaluated == ([2, 4, 6, 8] if "eval_steps" in arguments else [])


class InOrder(transformers.Trainer):
    """The plain Trainer, with the samples of each epoch in a given order."""

    def __init__(self, *arguments, order, **keywords):
        super().__init__(*arguments, **keywords)
        self.order = iter(order)

    def _get_train_sampler(self, train_dataset=None):
        trainer = self

        class Order(torch.utils.data.Sampler):
            def __len__(self):
                return len(trainer.train_dataset)

            def __iter__(self):
                return iter(next(trainer.order))

        return Order()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("items", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_without_pruning_the_run_is_that_of_the_plain_trainer(k, items, smoothing, tmp_path):
    """20 samples make full batches only, so that both cut an epoch alike; with k = 3 the last step has 2 of 3."""
    case, rates, others = Language(items, size=20), Rates(), Rates()
    pruner = Recorded(FullData(), 20)
    arguments = {"k": k, "label_smoothing_factor": smoothing, "logging_steps": 1}
    trainer = trainer_of(case, pruner, tmp_path, callbacks=[rates], **arguments)
    trainer.train()
    order = [joined(ids for epoch, ids, _ in pruner.told if epoch == number) for number in range(3)]
    plain = trainer_of(case, {"order": order}, tmp_path, kind=InOrder, callbacks=[others], **arguments)
    plain.train()
    assert rates.rates == others.rates
    assert rates.epochs == others.epochs
    for ours, theirs in zip(trainer.state.log_history[:-1], plain.state.log_history[:-1], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    for ours, theirs in zip(trainer.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "case"),
    [
        (InfoBatch(prune_probability=0.9, delta=0.75, epochs=5), Language()),  # with weights
        (Kakurenbo(hide=0.6, epochs=5, confidence=0.51), Text()),
    ],
    ids=["InfoBatch", "Kakurenbo"],
)
def test_sizes_that_depend_on_the_losses_are_exact_and_the_learning_rate_ends_with_the_run(strategy, case, tmp_path):
    rates = Rates()
    pruner, expected = (Recorded(strategy, 26, seed=3) for _ in range(2))
    trainer = trainer_of(case, pruner, tmp_path, k=2, epochs=5, callbacks=[rates], save_strategy="steps", save_steps=99)
    trainer.train()
    loader = expected.loader(case.data, batch_size=BATCH, collate_fn=padded)
    model, optimizer_steps = case.model(), 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for epoch in range(5):
        batches = list(loader)
        windows = [batches[begin : begin + 2] for begin in range(0, len(batches), 2)]
        for number, window in enumerate(windows):
            share = (epoch + number / len(windows)) / 5
            optimizer.param_groups[0]["lr"] = 0.5 * (1 - share)
            assert rates.rates[optimizer_steps] == pytest.approx(0.5 * (1 - share))
            total = sum(case.items_of(batch) for _, batch in window)
            for index, batch in window:
                losses, counts = case.losses(model, batch)
                (expected.update(index, losses, weights=counts, reduction="none").sum() / total).backward()
            optimizer.step()
            optimizer.zero_grad()
            optimizer_steps += 1
    assert_equal_runs(trainer, rates.rates, pruner, expected, model, rates.rates[:optimizer_steps])
    lengths = [sum(epoch == number for epoch, *_ in pruner.told) for number in range(5)]
    assert len(set(lengths)) > 1
    assert max(trainer.lr_scheduler.get_last_lr()) < 1e-12
    assert (tmp_path / f"checkpoint-{optimizer_steps}").is_dir()  # the Trainer knew its last step


def test_the_code_of_the_documents_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## HF Trainer\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    script, logging = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    names = {"model": Text().model(), "train_set": Text().data, "collate": padded, "__name__": "page"}
    exec(script, names)
    assert names["trainer"].pruner.report().visits == 3 * 13
    exec(logging, names)
    names["trainer"].train()
    logged = [log["pruner/visits"] for log in names["trainer"].state.log_history if "pruner/visits" in log]
    assert logged == [13, 26, 39]
