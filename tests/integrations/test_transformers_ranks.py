"""Two processes under the Trainer of transformers train as a plain loop on two processes does."""

import itertools
import os

import pytest
import torch

from orderdp import UCB, InfoBatch
from reference.loop import joined
from reference.processes import run_ranks

pytest.importorskip("transformers", minversion="5.24")

from transformers import get_linear_schedule_with_warmup

from reference.transformers_runs import (
    BATCH,
    LR,
    Language,
    Rates,
    Recorded,
    Text,
    bare,
    padded,
    sum_over_ranks,
    trainer_of,
)

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:find_unused_parameters=True was specified"),
]
CASES = {
    "language": (Language(), True),
    "classification": (Text(), True),
    "regression": (Text(lambda tokens: tokens.float().mean() / 20, num_labels=1), False),
}


def told(run):
    return [(epoch, ids, [round(loss, 4) for loss in losses]) for epoch, ids, losses in run.told]


def weights(model):
    return [value for parameter in model.parameters() for value in parameter.flatten().tolist()]


def as_torchrun(rank):
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"})
    os.environ.update({"MASTER_PORT": "1", "ACCELERATE_USE_CPU": "true"})  # the group exists, so no port is opened


def train_both(rank, name, folder):
    """What the Trainer and the plain loop did, and what the Trainer did from a checkpoint inside an epoch."""
    as_torchrun(rank)
    (case, items), rates = CASES[name], Rates()
    first, second, third = (Recorded(UCB(prune_ratio=0.5), 26, seed=3) for _ in range(3))
    trainer = trainer_of(case, first, folder, k=2, epochs=2, callbacks=[rates], save_strategy="steps", save_steps=1)
    metrics = trainer.train().metrics
    model, expected, _ = bare(case, second, k=2, epochs=2, items=items)
    resumed = trainer_of(case, third, folder / "resumed", k=2, epochs=2)
    resumed.train(resume_from_checkpoint=str(folder / "checkpoint-1"))
    return {
        "trainer": (told(first), rates.rates, weights(trainer.model)),
        "plain": (told(second), expected, weights(model)),
        "resumed": (told(third), weights(resumed.model)),
        "samples": metrics["train_samples_per_second"] * metrics["train_runtime"],
    }


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_a_plain_loop_on_two(name, tmp_path):
    results = run_ranks(2, train_both, tmp_path, name, tmp_path / "run")
    for result in results:
        ours, rates, trained = result["trainer"]
        theirs, expected, plain = result["plain"]
        assert [batch[:2] for batch in ours] == [batch[:2] for batch in theirs]
        assert joined(batch[2] for batch in ours) == pytest.approx(joined(batch[2] for batch in theirs), abs=2e-4)
        assert rates == pytest.approx(expected)
        assert len(rates) == 3  # 4 and 2 batches
        assert trained == pytest.approx(plain, rel=1e-4, abs=1e-5)
        assert result["resumed"] == (ours[2:], trained)
        assert result["samples"] == pytest.approx(26 + 13, rel=0.05)
    seen = [
        sorted(joined(ids for result in results for epoch, ids, _ in result["trainer"][0] if epoch == number))
        for number in range(2)
    ]
    assert seen[0] == list(range(26))
    assert len(set(seen[1])) == len(seen[1]) == 13


def train_by_own_items(rank, folder):
    """Each process divides by the items of its own batches, and the mean of the processes is taken."""
    as_torchrun(rank)
    case = Language()
    first, second = (Recorded(UCB(prune_ratio=0.5), 26, seed=3) for _ in range(2))
    trainer = trainer_of(case, first, folder, k=2, epochs=1, average_tokens_across_devices=False)
    trainer.train()
    model, batches = case.model(), iter(second.loader(case.data, batch_size=BATCH, collate_fn=padded))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, 2)
    while window := list(itertools.islice(batches, 2)):
        total = sum(case.items_of(batch) for _, batch in window)
        for index, batch in window:
            losses, counts = case.losses(model, batch)
            (second.update(index, losses, weights=counts, reduction="none").sum() / total).backward()
        for parameter in model.parameters():
            parameter.grad = sum_over_ranks(parameter.grad) / 2
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return weights(trainer.model), weights(model)


def test_each_process_may_divide_by_its_own_items(tmp_path):
    for ours, theirs in run_ranks(2, train_by_own_items, tmp_path, tmp_path / "run"):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def train_open_ended(rank, folder):
    as_torchrun(rank)
    pruner = Recorded(InfoBatch(prune_probability=0.9, delta=0.75, epochs=4), 90, seed=3)
    trainer = trainer_of(Language(size=90), pruner, folder, k=2, epochs=4)
    trainer.train()
    return [told[:2] for told in pruner.told], trainer.state.global_step, trainer.state.max_steps


def test_sizes_that_depend_on_the_losses_are_the_same_on_two_processes(tmp_path):
    results = run_ranks(2, train_open_ended, tmp_path, tmp_path / "run")
    batches, steps, planned = zip(*results, strict=True)
    lengths = []
    for number in range(4):
        of_ranks = [[ids for epoch, ids in told if epoch == number] for told in batches]
        ids = joined(joined(of_ranks))
        assert len(set(ids)) == len(ids)
        lengths.append(-(-len(ids) // 8))
        assert [len(each) for each in of_ranks] == [lengths[-1]] * 2  # the whole epoch, on both
    assert len(set(lengths)) > 1
    assert {*steps, *planned} == {sum(-(-length // 2) for length in lengths)}
