"""Epochs too small for their ranks or for a full step: refused when a loader is built, or filled up and said so."""

import warnings

import pytest
import torch

from orderdp import UCB, DynamicRandom, FullData, InfoBatch, Kakurenbo, OrderDP, Pruner, SeTa
from reference.loop import joined
from reference.processes import run_ranks

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
EPOCHS = 8
SMALL = [
    InfoBatch(prune_probability=0.99, delta=1.0, epochs=EPOCHS),
    InfoBatch(prune_probability=0.5, epochs=EPOCHS),
    SeTa(prune_ratio=0.0, epochs=EPOCHS),
    SeTa(prune_ratio=0.5, epochs=EPOCHS),
    Kakurenbo(hide=0.9, epochs=EPOCHS),
]
FILLED = "ignore:epoch . selected .* samples, fewer than there are ranks:RuntimeWarning"
KEPT = "ignore:.*drop_last:RuntimeWarning"
LEFT = "ignore:.* were left without a loss:RuntimeWarning"


def confident_loss(index, epoch):
    """Losses that leave little to train: one sample is far above the mean, or all are equal."""
    spread = torch.where(index == epoch % 7, 1000.0, index * 1e-3)
    return (spread if epoch % 2 else torch.ones(len(index)) + index * 1e-4).requires_grad_()


def train_rank(rank, strategy, n, batch_size, **how):
    pruner = Pruner(strategy, n)
    loader = pruner.loader(range(n), batch_size=batch_size, **how)
    epochs = []
    for epoch in range(EPOCHS):
        batches = []
        for index, _ in loader:
            pruner.update(index, confident_loss(index, epoch))
            batches.append(index.tolist())
        epochs.append(batches)
        assert len(batches) == pruner.steps_per_epoch(batch_size, **how, epoch=epoch)
    pruner.synchronize()
    return {"epochs": epochs, "table": pruner.table()}


@pytest.mark.parametrize("strategy", SMALL, ids=repr)
@pytest.mark.parametrize(
    ("num_ranks", "n", "batch_size", "how"),
    [
        (2, 7, 1, {}),
        (3, 7, 1, {}),
        (4, 9, 1, {}),
        (4, 9, 1, {"stable_shapes": True}),
        (2, 20, 1, {"drop_last": True}),
        (3, 40, 6, {"drop_last": True}),
        (4, 70, 8, {"drop_last": True}),
        (4, 33, 8, {}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings(FILLED)
@pytest.mark.filterwarnings(KEPT)
@pytest.mark.filterwarnings(LEFT)
def test_no_epoch_stops_a_run_and_every_rank_makes_the_same_steps(strategy, num_ranks, n, batch_size, how, tmp_path):
    ranks = run_ranks(num_ranks, lambda rank: train_rank(rank, strategy, n, batch_size, **how), tmp_path)
    for epoch in range(EPOCHS):
        steps = list(zip(*(rank["epochs"][epoch] for rank in ranks), strict=True))
        assert len(steps) >= 1
        assert min(len(part) for parts in steps for part in parts) >= 1
        ids = joined(joined(parts) for parts in steps)
        assert len(ids) == len(set(ids)) >= num_ranks
    for rank in ranks[1:]:
        for name, column in ranks[0]["table"].items():
            assert torch.equal(rank["table"][name], column), name


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_fewer_samples_than_ranks_are_filled_up_and_said_so(num_ranks, drop_last, tmp_path):
    strategy = InfoBatch(prune_probability=0.999, delta=1.0, epochs=EPOCHS)

    def work(rank):
        pruner = Pruner(strategy, 12)
        loader = pruner.loader(range(12), batch_size=3, drop_last=drop_last)
        said = []
        for _ in range(4):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for index, _ in loader:  # one loss is far above the mean: InfoBatch keeps about that sample alone
                    pruner.update(index, torch.where(index == 3, 1000.0, index * 1e-3).requires_grad_())
            said += [str(warning.message) for warning in caught]
        return [said, pruner.selection.indices.tolist()]

    for said, ids in run_ranks(num_ranks, work, tmp_path):
        assert len(ids) == len(set(ids)) == num_ranks
        assert 3 in ids
        filled, *kept = said
        assert filled.startswith(
            f"epoch 1 selected 1 samples, fewer than there are ranks, so {num_ranks - 1} others were"
        )
        assert len(kept) == drop_last
        for text in kept:
            assert text.startswith(f"epoch 1 selected {num_ranks} samples, too few for a full step, so drop_last keeps")


def test_drop_last_keeps_the_only_step_of_an_epoch_that_the_losses_made_small():
    pruner = Pruner(InfoBatch(prune_probability=0.999, delta=1.0, epochs=EPOCHS), 64)
    loader = pruner.loader(range(64), batch_size=16, drop_last=True)

    def sizes():
        for index, _ in loader:
            pruner.update(index, torch.where(index == 3, 1000.0, index * 1e-3).requires_grad_())
            yield len(index)

    assert len(loader) == 4
    assert list(sizes()) == [16] * 4
    with pytest.warns(
        RuntimeWarning, match="epoch 1 selected 1 samples, too few for a full step, so drop_last keeps o"
    ):
        assert list(sizes()) == [1]
    assert len(loader) == 1
    assert list(sizes()) == [1]


def test_a_small_epoch_that_drop_last_kept_resumes():
    def loader_of():
        return Pruner(InfoBatch(prune_probability=0.9, delta=1.0, epochs=EPOCHS), 64).loader(
            range(64), batch_size=16, drop_last=True
        )

    def train_epoch(loader, stop=None):
        batches, pruner = [], loader.batch_sampler.pruner
        for number, (index, _) in enumerate(loader):
            if number == stop:
                break
            pruner.update(index, torch.where(index < 6, 1000.0 + index, index * 1e-3).requires_grad_())
            batches.append(index.tolist())
        return batches

    alone, loader, resumed = loader_of(), loader_of(), loader_of()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "epoch . selected", RuntimeWarning)
        expected = [train_epoch(alone) for _ in range(3)]
        assert [len(batches) for batches in expected] == [4, 1, 1]
        assert train_epoch(loader) == expected[0]
        assert train_epoch(loader, stop=0) == []
        resumed.load_state_dict(loader.state_dict())
        assert [train_epoch(resumed) for _ in range(2)] == expected[1:]


# Sizes that are declared are checked where the loader is built, for every epoch to come.

DECLARED = {
    "the first epoch": (OrderDP(prune_ratio=0.9), {}),
    "every epoch after the first": (UCB(prune_ratio=0.9), {}),
    "draws": (DynamicRandom(prune_ratio=0.9), {}),
}


@pytest.mark.parametrize(("strategy", "arguments"), DECLARED.values(), ids=DECLARED.keys())
@pytest.mark.parametrize("by_sampler", [False, True])
def test_a_declared_size_too_small_for_a_full_step_is_refused_when_the_loader_is_built(strategy, arguments, by_sampler):
    pruner = Pruner(strategy, 100, **arguments)
    with pytest.raises(ValueError, match="drop_last leaves no batch, got 10 selected samples for 1 x 16 a step"):
        pruner.sampler(16, drop_last=True) if by_sampler else pruner.loader(range(100), batch_size=16, drop_last=True)
    assert len(pruner.loader(range(100), batch_size=10, drop_last=True)) >= 1


def test_a_first_epoch_too_small_for_a_full_step_is_refused_where_the_loop_begins_it():
    pruner = Pruner(OrderDP(prune_ratio=0.9), 100)
    for begin in (pruner.preview, pruner.begin_epoch):
        with pytest.raises(ValueError, match="drop_last leaves no batch, got 10 selected samples for 1 x 16 a step"):
            begin(16, drop_last=True)
    assert pruner.epoch is None
    assert len(pruner.begin_epoch(10, drop_last=True).indices) == 10


@pytest.mark.parametrize("strategy", [OrderDP(prune_ratio=0.97), UCB(prune_ratio=0.97)], ids=repr)
def test_a_declared_size_too_small_for_the_ranks_is_refused_when_the_loader_is_built(strategy, tmp_path):
    def work(rank):
        Pruner(strategy, 100).loader(range(100), batch_size=16)

    for raised in run_ranks(4, work, tmp_path):
        assert raised.startswith(
            "ValueError: every rank needs a sample in every step, got 3 selected samples for 4 ranks"
        )


def test_a_schedule_that_names_a_small_epoch_is_refused_by_the_count_of_its_steps():
    """How many epochs a schedule will see is not known, so `total_steps` is what looks at all of them."""
    pruner = Pruner(OrderDP(prune_ratio=0.9), 100, schedule=lambda own, epoch: own if epoch > 4 else FullData())
    loader = pruner.loader(range(100), batch_size=16, drop_last=True)
    assert loader.total_steps(5) == 30
    with pytest.raises(ValueError, match="drop_last leaves no batch, got 10 selected samples for 1 x 16 a step"):
        loader.total_steps(6)


def test_a_small_epoch_of_a_schedule_keeps_one_step_and_says_so():
    pruner = Pruner(OrderDP(prune_ratio=0.9), 100, schedule=lambda own, epoch: own if epoch else FullData())
    loader = pruner.loader(range(100), batch_size=16, drop_last=True)
    assert len(train_one(pruner, loader)) == 6
    with pytest.warns(RuntimeWarning, match="epoch 1 selected 10 samples, too few for a full step, so drop_last keeps"):
        assert train_one(pruner, loader) == [10]
    assert len(loader) == 1


def train_one(pruner, loader):
    sizes = []
    for index, _ in loader:
        pruner.update(index, (index * 1.0).requires_grad_())
        sizes.append(len(index))
    return sizes
