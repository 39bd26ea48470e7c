"""What breaks in other libraries of this kind, one test each."""

import copy
import io
import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Subset

from orderdp import DynamicRandom, FullData, IndexedDataset, OrderDP, Pruner, Selection
from reference.loop import NEVER_UPDATED, joined, loss_of, train, train_epoch
from test_ranks import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

HALF = OrderDP(explore=1.0, exploit=0.5)
ALL = OrderDP(explore=1.0, exploit=1.0)


def test_trap_1_using_a_loader_patches_no_dataloader():
    from torch.utils.data import dataloader

    classes = (DataLoader, dataloader._BaseDataLoaderIter, dataloader._SingleProcessDataLoaderIter)
    before = [dict(vars(cls)) for cls in classes]
    pruner = Pruner(HALF, 20)
    train(pruner, pruner.loader(range(20), batch_size=4), 2)
    assert [dict(vars(cls)) for cls in classes] == before


@NEVER_UPDATED
@pytest.mark.parametrize("drop_last", [False, True])
def test_trap_2_a_sampler_of_ids_ends_and_counts_one_epoch_a_pass(drop_last):
    pruner = Pruner(HALF, 20)
    batches = BatchSampler(pruner.sampler(), 4, drop_last=drop_last)
    for epoch in range(3):
        assert [len(batch) for batch in batches] == ([4, 4] if drop_last else [4, 4, 2])
        assert pruner.epoch == epoch


def test_trap_3_the_draw_follows_the_pruners_seed_and_no_global_generator():
    def chosen(seed: int, global_seed: int) -> list[int]:
        np.random.seed(global_seed)  # noqa: NPY002
        random.seed(global_seed)
        torch.manual_seed(global_seed)
        return Pruner(DynamicRandom(prune_ratio=0.5), 50, seed=seed).begin_epoch().indices.tolist()

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        assert chosen(0, 1) == chosen(0, 2)
        assert chosen(0, 1) != chosen(1, 1)
        before = pickle.dumps(np.random.get_state())  # noqa: NPY002
        Pruner(HALF, 50).begin_epoch()
        assert pickle.dumps(np.random.get_state()) == before  # noqa: NPY002
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


FIRST_BEYOND = 2**24 - 1  # float32 knows no odd number above 2**24


class LastEleven(OrderDP):
    """Takes the last samples of a data set, so that millions cost little to choose from."""

    def num_selected(self, num_samples, epoch):
        return num_samples - FIRST_BEYOND

    def select(self, memory, rng):
        return Selection(np.arange(FIRST_BEYOND, memory.num_samples))


def test_trap_4_ids_above_2_to_the_24_stay_exact():
    """Ids that travel beside losses as floats would land on their neighbours."""
    n = FIRST_BEYOND + 11
    pruner = Pruner(LastEleven(), n)
    loader = pruner.loader(range(n), batch_size=4)
    for index, batch in loader:
        assert index.tolist() == batch.tolist()
        pruner.update(index, (index - FIRST_BEYOND).float().requires_grad_())
    assert pruner.scores()["score"][FIRST_BEYOND - 1 :].tolist() == [float("inf"), *range(11)]
    assert pruner.visits().nonzero().flatten().tolist() == list(range(FIRST_BEYOND, n))


@pytest.mark.parametrize("workers", [0, 2])
def test_trap_5_a_loop_that_reads_one_batch_ahead_credits_the_right_samples(workers):
    def one_ahead(loader):
        batches = iter(loader)
        held = next(batches)
        for following in batches:
            yield held
            held = following
        yield held

    pruner, alone = Pruner(ALL, 40), Pruner(ALL, 40)
    ahead = one_ahead(pruner.loader(range(40), batch_size=6, num_workers=workers))
    batches = train_epoch(pruner, ahead)
    assert batches == train_epoch(alone, alone.loader(range(40), batch_size=6))
    assert torch.equal(pruner.scores()["score"], loss_of(torch.arange(40), 0).detach())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_trap_6_everything_can_be_copied_and_pickled(copied):
    pruner = Pruner(HALF, 20)
    loader = pruner.loader(range(20), batch_size=4)
    train(pruner, loader, 1)
    expected = None
    for value in (copied(loader), loader):
        batches = train(value.batch_sampler.pruner, value, 2)
        assert expected in (None, batches)
        expected = batches
    assert copied(pruner).begin_epoch().indices.tolist() == pruner.begin_epoch().indices.tolist()
    assert copied(IndexedDataset(range(20)))[3] == (3, 3)


def test_trap_6_a_subset_gives_its_inputs_and_not_its_ids():
    subset = Subset(range(100, 200), [5, 50, 95])
    for index, batch in Pruner(FullData(), 3).loader(subset, batch_size=3):
        assert batch.tolist() == [[105, 150, 195][i] for i in index.tolist()]


def test_trap_7_the_second_epoch_is_chosen_from_the_losses_of_the_first_on_every_rank(tmp_path):
    def work(rank):
        pruner = Pruner(HALF, 16, schedule=lambda strategy, epoch: strategy if epoch else FullData())
        loader = pruner.loader(range(16), batch_size=2, num_workers=1)
        for index, _ in loader:
            pruner.update(index, index.float().requires_grad_())
        return [index.tolist() for index, _ in loader]

    first, second = run_ranks(2, work, tmp_path)
    assert sorted(joined(first + second)) == list(range(8, 16))


def test_trap_8_losses_are_never_changed_in_place():
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.5, per="iteration", fresh=True), 8)
    ids = torch.from_numpy(pruner.begin_epoch(8).indices.copy())
    losses = torch.arange(8.0, requires_grad=True)
    version = losses._version
    pruner.update(ids, losses)
    assert losses._version == version
    assert losses.tolist() == list(range(8))


@NEVER_UPDATED
@pytest.mark.parametrize("score", [float(np.float32(np.log(2))), 0.1, float("inf"), 0.0])
def test_trap_9_equal_scores_never_break_the_size(score):
    """A threshold such as the mean, taken in float32, can lie above 50,000 scores that all equal ln 2."""
    pruner = Pruner(OrderDP(explore=0.5, exploit=0.6, initial_score=score), 50_000)
    for _ in range(2):
        indices = pruner.begin_epoch().indices
        assert len(np.unique(indices)) == 15_000


def test_trap_10_a_restart_forgets_no_score():
    pruner = Pruner(HALF, 30)
    train(pruner, pruner.loader(range(30), batch_size=4), 3)
    stream = io.BytesIO()
    torch.save(pruner.state_dict(), stream)
    stream.seek(0)
    restarted = Pruner(HALF, 30)
    restarted.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(restarted.scores()["score"], pruner.scores()["score"])
    assert restarted.begin_epoch().indices.tolist() == pruner.begin_epoch().indices.tolist()


@NEVER_UPDATED
def test_trap_10_a_learning_rate_schedule_can_be_sized_before_the_first_epoch():
    pruner = Pruner(HALF, 30, schedule=lambda strategy, epoch: FullData() if epoch in (0, 3) else strategy)
    loader = pruner.loader(range(30), batch_size=4)
    total = pruner.total_steps(5, 4)
    assert total == 8 + 4 + 4 + 8 + 4
    assert sum(len(list(loader)) for _ in range(5)) == total
    assert pruner.total_steps(5, 4) == total  # also afterwards, whatever epoch comes next
