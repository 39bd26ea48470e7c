"""Samplers in a DataLoader that the caller builds, and what samplers and loaders ask of the object that they serve."""

import numpy as np
import pytest
from torch.utils.data import BatchSampler, DataLoader

from orderdp import IndexedDataset, OrderDP, PrunedBatchSampler, PrunedSampler, Pruner, Selection
from orderdp.loader import PrunedLoader
from reference.loaders import HALF, SHRINKING, N, Squares, loader_of, pruner_of
from reference.loop import joined, train, train_epoch

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_sampler_serves_a_dataloader_of_the_callers(workers):
    alone = loader_of()
    pruner = Pruner(HALF, N)
    own = DataLoader(IndexedDataset(Squares()), batch_sampler=pruner.sampler(batch_size=6), num_workers=workers)
    assert train(pruner, own, 3) == train(pruner_of(alone), alone, 3)
    assert len(own) == 4


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_sampler_of_ids_serves_a_dataloader_of_the_callers(drop_last):
    alone = loader_of(drop_last=drop_last)
    pruner = Pruner(HALF, N)
    own = DataLoader(IndexedDataset(Squares()), sampler=pruner.sampler(), batch_size=6, drop_last=drop_last)
    assert train(pruner, own, 3) == train(pruner_of(alone), alone, 3)
    assert len(own) == len(alone)
    assert len(pruner.sampler()) == 20


@pytest.mark.parametrize("batched", [True, False])
def test_the_length_of_a_sampler_inside_an_epoch_is_its_own(batched):
    pruner = Pruner(SHRINKING, N)
    arguments = {"batch_sampler": pruner.sampler(6)} if batched else {"sampler": pruner.sampler(), "batch_size": 6}
    own = DataLoader(IndexedDataset(Squares()), **arguments)
    last = 7 if batched else 4  # where PyTorch forms the batches, one that is not full takes all ids there are
    assert [[len(own) for _ in own] for _ in range(2)] == [[7] * 6 + [last], [4] * 4]
    for _ in own:
        break
    assert len(own) == 4


def test_the_iteration_form_needs_batches_to_choose_for():
    pruner = Pruner(OrderDP(per="iteration"), N)
    with pytest.raises(ValueError, match=r"must know the batches, got none; write pruner.sampler\(batch_size=...\)"):
        list(BatchSampler(pruner.sampler(), 4, drop_last=False))


@pytest.mark.parametrize("stop_batch", [1, 3, 4])
def test_a_batch_sampler_resumes_where_nothing_is_fetched_ahead(stop_batch):
    def own() -> tuple[Pruner, DataLoader]:
        pruner = Pruner(HALF, N)
        return pruner, DataLoader(IndexedDataset(Squares()), batch_sampler=pruner.sampler(batch_size=6))

    expected = train(*own(), epochs=3)
    pruner, broken = own()
    seen = train(pruner, broken, 1)
    last = train_epoch(pruner, broken, num_batches=stop_batch)
    twin, resumed = own()
    resumed.batch_sampler.load_state_dict(broken.batch_sampler.state_dict())
    if stop_batch < 4:
        last += train_epoch(twin, resumed)
    assert [*seen, last, *train(twin, resumed, 1)] == expected


# Any object that keeps the protocol of `orderdp.epochs.EpochSource` will do.


class Rotating:
    """Visits the ten samples of a data set in every epoch, each time from one position later, and has no losses."""

    num_samples = 10

    def __init__(self):
        self.next = 0
        self.resuming = False
        self.asked = []

    def num_selected(self):
        return self.num_samples

    def begin_epoch(self, batch_size=None, *, drop_last=False):
        self.asked.append((batch_size, drop_last))
        self.next, self.resuming = self.next + 1, False
        return Selection(np.array(self.ids(self.next - 1)))

    def worker_seed(self):
        return 7 + self.next

    def state_dict(self):
        return {"next": self.next, "indices": np.arange(self.num_samples) if self.next else None}

    def load_state_dict(self, state, *, resume=False):
        self.next, self.resuming = state["next"] - resume, resume

    def ids(self, epoch):
        return [*range(epoch, self.num_samples), *range(epoch)]


def test_a_sampler_serves_any_source_of_epochs():
    source = Rotating()
    sampler = PrunedSampler(source)
    assert [list(sampler) for _ in range(2)] == [source.ids(0), source.ids(1)]
    assert [len(sampler) for _ in sampler] == [10] * 10
    assert source.asked == [(None, False)] * 3


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_a_batch_sampler_serves_any_source_of_epochs(drop_last, sizes):
    source = Rotating()
    sampler = PrunedBatchSampler(source, 4, drop_last=drop_last)
    for epoch in range(2):
        batches = list(sampler)
        assert [len(batch) for batch in batches] == sizes
        assert joined(batches) == source.ids(epoch)[: sum(sizes)]
        assert len(sampler) == len(sizes)
    assert source.asked == [(4, drop_last)] * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_serves_any_source_of_epochs_and_resumes_inside_one(workers):
    source = Rotating()
    loader = PrunedLoader(source, range(10), batch_size=4, num_workers=workers)
    first = [index.tolist() for index, _ in loader]
    assert joined(first) == source.ids(0)
    assert loader.generator.initial_seed() == 7
    batches = iter(loader)
    begun = [next(batches)[0].tolist()]
    state = loader.state_dict()
    assert (state["batches"], state["samples"]) == (1, 4)
    twin = PrunedLoader(Rotating(), range(10), batch_size=4, num_workers=workers)
    twin.load_state_dict(state)
    assert len(twin) == 2
    rest = [index.tolist() for index, _ in twin]
    assert joined(begun + rest) == source.ids(1)
    assert joined(index.tolist() for index, _ in twin) == source.ids(2)
