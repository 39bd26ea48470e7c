"""Samplers in a DataLoader that the caller builds, and what samplers and loaders ask of the object that they serve."""

import numpy as np
import pytest
from torch.utils.data import BatchSampler, DataLoader

from orderdp import IndexedDataset, OrderDP, PrunedBatchSampler, PrunedSampler, Pruner, Selection
from orderdp.loader import PrunedLoader
from orderdp.ranks import Batching
from reference.loaders import HALF, SHRINKING, N, Squares, loader_of, pruner_of
from reference.loop import joined, train, train_epoch

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
IDLE = pytest.mark.filterwarnings("ignore:update was never called in epoch:RuntimeWarning")
HOW = pytest.mark.parametrize("how", [{}, {"drop_last": True}, {"stable_shapes": True}], ids=str)


@HOW
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_sampler_serves_a_dataloader_of_the_callers(workers, how):
    alone = loader_of(**how)
    pruner = Pruner(HALF, N)
    own = DataLoader(IndexedDataset(Squares()), batch_sampler=pruner.sampler(batch_size=6, **how), num_workers=workers)
    assert train(pruner, own, 3) == train(pruner_of(alone), alone, 3)
    assert len(own) == len(alone)


# Whoever forms the batches drops the last one; the sampler cannot tell that from a loop that was left.
@pytest.mark.filterwarnings("ignore:epoch . was left after 18 of its 20 samples:RuntimeWarning")
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_sampler_of_ids_serves_a_dataloader_of_the_callers(drop_last):
    """There PyTorch forms the batches: full ones and a rest."""
    alone = loader_of(drop_last=drop_last, stable_shapes=not drop_last)
    pruner = Pruner(HALF, N)
    own = DataLoader(IndexedDataset(Squares()), sampler=pruner.sampler(), batch_size=6, drop_last=drop_last)
    assert train(pruner, own, 3) == train(pruner_of(alone), alone, 3)
    assert len(own) == len(alone)
    assert len(pruner.sampler()) == 20


@pytest.mark.parametrize("q", [1, 4095, 4096, 4097, 8192, 8193, 20_000])
def test_a_sampler_yields_every_id_of_the_selection_in_order(q):
    strategy = OrderDP(explore=1.0, exploit=q / 40_000)
    expected = Pruner(strategy, 40_000).begin_epoch().indices.tolist()
    assert len(expected) == q
    ids = list(Pruner(strategy, 40_000).sampler())
    assert ids == expected
    assert {type(one) for one in ids} == {int}
    batches = list(Pruner(strategy, 40_000).sampler(64))
    assert joined(batches) == expected
    assert len(batches) == -(-q // 64)


@IDLE
@pytest.mark.parametrize("batched", [True, False])
def test_the_length_of_a_sampler_inside_an_epoch_is_its_own(batched):
    pruner = Pruner(SHRINKING, N)
    arguments = {"batch_sampler": pruner.sampler(6)} if batched else {"sampler": pruner.sampler(), "batch_size": 6}
    own = DataLoader(IndexedDataset(Squares()), **arguments)
    # Where PyTorch forms the batches, the last one is not full and takes all ids that there are.
    first, second = ([7] * 7, [4] * 4) if batched else ([7] * 6 + [4], [4] * 4)
    assert [[len(own) for _ in own] for _ in range(2)] == [first, second]
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
    assert resumed.batch_sampler.remaining == 4 - stop_batch
    assert len(resumed) == 4
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
        self.seen = set()
        self.ended = 0

    def ranks(self):
        return 0, 1

    def num_selected(self):
        return self.num_samples

    def begin_epoch(self, batch_size=None, *, drop_last=False, stable_shapes=False):
        self.asked.append((batch_size, drop_last, stable_shapes))
        self.seen = self.seen if self.resuming else set()
        self.next, self.resuming = self.next + 1, False
        return Selection(np.array(self.ids(self.next - 1)))

    def end_epoch(self, last):
        assert last == 2
        self.ended += 1

    def train(self, index):
        """What `update` would be told of."""
        ids = self.ids(self.next - 1)
        self.seen |= {ids.index(one) for one in index}

    def steps_of(self, batching, num_selected):
        return batching.steps(num_selected)

    def check_steps(self, batching):
        batching.steps(self.num_samples)

    def steps_done(self, steps):
        return np.array([any(position in self.seen for position in range(*step)) for step in steps])

    def total_steps(self, epochs, batch_size, *, drop_last=False, stable_shapes=False, accumulate=1):
        batches = len(Batching(batch_size, drop_last, stable_shapes).steps(self.num_samples))
        return epochs * -(-batches // accumulate)

    def worker_seed(self):
        return 7 + self.next

    def state_dict(self):
        indices = np.arange(self.num_samples) if self.next else None
        return {"next": self.next, "indices": indices, "seen": sorted(self.seen)}

    def load_state_dict(self, state, *, resume=False, change=()):
        self.next, self.resuming, self.seen = state["next"] - resume, resume, set(state["seen"])

    def ids(self, epoch):
        return [*range(epoch, self.num_samples), *range(epoch)]


def test_a_sampler_serves_any_source_of_epochs():
    source = Rotating()
    sampler = PrunedSampler(source)
    assert [list(sampler) for _ in range(2)] == [source.ids(0), source.ids(1)]
    assert [len(sampler) for _ in sampler] == [10] * 10
    assert source.asked == [(None, False, False)] * 3


@pytest.mark.parametrize(
    ("how", "sizes"),
    [({}, [3, 3, 4]), ({"stable_shapes": True}, [4, 4, 2]), ({"drop_last": True}, [4, 4])],
)
def test_a_batch_sampler_serves_any_source_of_epochs(how, sizes):
    source = Rotating()
    sampler = PrunedBatchSampler(source, 4, **how)
    for epoch in range(2):
        batches = list(sampler)
        assert [len(batch) for batch in batches] == sizes
        assert joined(batches) == source.ids(epoch)[: sum(sizes)]
        assert len(sampler) == len(sizes)
    assert source.asked == [(4, how.get("drop_last", False), how.get("stable_shapes", False))] * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_serves_any_source_of_epochs_and_resumes_inside_one(workers):
    source = Rotating()
    loader = PrunedLoader(source, range(10), batch_size=4, num_workers=workers)
    assert loader.total_steps(5) == 15
    assert loader.total_steps(5, accumulate=2) == 10
    first = [index.tolist() for index, _ in loader]
    assert joined(first) == source.ids(0)
    assert source.ended == 1
    assert loader.remaining == 3
    source.train(joined(first))
    assert loader.remaining == 0
    assert loader.generator.initial_seed() == 7
    batches = iter(loader)
    begun = [next(batches)[0].tolist()]
    source.train(begun[0])
    assert loader.remaining == 2
    state = loader.state_dict()
    assert (state["inside"], state["steps"]) == (True, 3)
    twin = PrunedLoader(Rotating(), range(10), batch_size=4, num_workers=workers)
    twin.load_state_dict(state)
    assert (len(twin), twin.remaining) == (3, 2)
    rest = [index.tolist() for index, _ in twin]
    assert joined(begun + rest) == source.ids(1)
    assert joined(index.tolist() for index, _ in twin) == source.ids(2)
