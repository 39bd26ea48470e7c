"""What a loader yields: the ids match the samples, a pass is the selection, its length is right."""

import itertools

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from orderdp import FullData, IndexedDataset, InfoBatch, OrderDP, Pruner
from reference.loaders import HALF, SHRINKING, N, Squares, loader_of, pruner_of
from reference.loop import joined, loss_of, train, train_epoch

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # Many of these loops only look at what comes.
    pytest.mark.filterwarnings("ignore:update was never called in epoch:RuntimeWarning"),
]
LEFT = pytest.mark.filterwarnings("ignore:epoch . was left after:RuntimeWarning")


class Bulk(Squares):
    """Fetches whole batches, and only those."""

    def __getitem__(self, index):
        raise AssertionError("a batch was fetched sample by sample")

    def __getitems__(self, indices):
        return [(index, index**2) for index in indices]


class Endless(IterableDataset):
    def __iter__(self):
        return itertools.count()


class Nested(Squares):
    """Samples of dicts, tuples and text."""

    def __getitem__(self, index):
        return {"x": torch.full((2,), float(index)), "pair": (index, {"name": f"sample {index}"})}


class Ragged(Squares):
    """Sample i is a tensor of i + 1 entries."""

    def __getitem__(self, index):
        return torch.full((index + 1,), index)


class Drawing(Squares):
    """Sample i is a number of the worker's global generator."""

    def __getitem__(self, index):
        return int(torch.randint(2**40, ()))


def keep_list(samples):
    return samples


# The ids match the samples, whatever the data set and wherever it is fetched.


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dataset", [Squares(), Bulk(), [(i, i**2) for i in range(N)]], ids=["map", "bulk", "list"])
def test_ids_match_samples(dataset, workers):
    for index, (x, y) in loader_of(dataset, num_workers=workers):
        assert index.dtype == torch.int64
        assert index.tolist() == x.tolist()
        assert y.tolist() == [i**2 for i in index.tolist()]


def test_ids_match_the_rows_of_a_tensor_dataset():
    rows = torch.arange(N * 3.0).reshape(N, 3)
    for index, (x, y) in loader_of(TensorDataset(rows, torch.arange(N))):
        assert torch.equal(x, rows[index])
        assert torch.equal(y, index)


def test_ids_of_a_subset_are_positions_in_the_subset():
    positions = list(range(N - 1, -1, -2))
    loader = loader_of(Subset(Squares(), positions))
    for index, (x, _) in loader:
        assert x.tolist() == [positions[i] for i in index.tolist()]
    assert pruner_of(loader).num_samples == len(loader.dataset) == len(positions)


def test_nested_samples_are_collated_as_ever():
    for index, batch in loader_of(Nested()):
        number, more = batch["pair"]
        assert batch["x"].tolist() == [[float(i)] * 2 for i in index.tolist()]
        assert number.tolist() == index.tolist()
        assert more["name"] == [f"sample {i}" for i in index.tolist()]


@pytest.mark.parametrize("workers", [0, 2])
def test_ragged_samples_reach_the_callers_own_collate(workers):
    for index, samples in loader_of(Ragged(), collate_fn=keep_list, num_workers=workers):
        assert [len(sample) for sample in samples] == [i + 1 for i in index.tolist()]


def test_the_batch_is_the_one_a_dataloader_would_have_made():
    ids = [3, 1, 4]
    (as_ever,) = DataLoader(Nested(), batch_sampler=[ids])
    (with_ids,) = DataLoader(
        loader_of(Nested()).dataset, batch_sampler=[ids], collate_fn=loader_of(Nested()).collate_fn
    )
    assert with_ids[0].tolist() == ids
    assert torch.equal(with_ids[1]["x"], as_ever["x"])
    assert with_ids[1]["pair"][1] == as_ever["pair"][1]


def test_an_indexed_dataset_gives_id_and_sample():
    indexed = IndexedDataset(Squares())
    assert len(indexed) == N
    assert indexed[5] == (5, (5, 25))


def test_an_indexed_subset_gives_positions_in_the_subset():
    assert list(IndexedDataset(Subset(Squares(), [7, 3]))) == [(0, (7, 49)), (1, (3, 9))]


def test_ids_are_python_integers_for_the_data_set():
    """A data set may look its samples up in a dict, or call bit_length: what NumPy integers cannot do everywhere."""

    class Strict(Squares):
        def __getitem__(self, index):
            assert type(index) is int
            return np.float32(index)

    assert len(list(loader_of(Strict()))) == 4


# An epoch is its selection in batches, exactly.


@pytest.mark.parametrize(
    ("how", "sizes"),
    [
        ({}, [5, 5, 5, 5]),
        ({"stable_shapes": True}, [6, 6, 6, 2]),
        ({"drop_last": True}, [6, 6, 6]),
        ({"batch_size": np.int64(8)}, [6, 7, 7]),
        ({"batch_size": 20}, [20]),
        ({"batch_size": 21}, [20]),
        ({"batch_size": 1}, [1] * 20),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_are_the_selection_in_order(workers, how, sizes):
    loader = loader_of(num_workers=workers, **how)
    twin = Pruner(HALF, N)
    for _ in range(3):
        expected = twin.begin_epoch(6).indices.tolist()
        batches = [index.tolist() for index, _ in loader]
        assert [len(batch) for batch in batches] == sizes
        assert joined(batches) == expected[: sum(sizes)]
        assert len(loader) == len(batches)


WORKERS = {
    "none": {},
    "two forked": {"num_workers": 2, "multiprocessing_context": "fork"},
    "one, reading far ahead": {"num_workers": 1, "prefetch_factor": 5, "multiprocessing_context": "fork"},
    "two persistent": {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "fork"},
}


@pytest.mark.parametrize("arguments", WORKERS.values(), ids=WORKERS.keys())
def test_the_choice_does_not_depend_on_the_workers(arguments):
    loader, alone = loader_of(**arguments), loader_of()
    assert train(pruner_of(loader), loader, 4) == train(pruner_of(alone), alone, 4)
    assert torch.equal(pruner_of(loader).scores()["score"], pruner_of(alone).scores()["score"])


def test_the_choice_does_not_depend_on_how_workers_start():
    loader, alone = loader_of(num_workers=1, multiprocessing_context="spawn", persistent_workers=True), loader_of()
    assert train(pruner_of(loader), loader, 2) == train(pruner_of(alone), alone, 2)


@LEFT
@pytest.mark.parametrize("arguments", WORKERS.values(), ids=WORKERS.keys())
def test_a_loop_left_early_goes_on_with_the_next_epoch(arguments):
    loader, alone = loader_of(**arguments), loader_of()
    for left in (loader, alone):
        train_epoch(pruner_of(left), left, num_batches=2)
    assert train(pruner_of(loader), loader, 2) == train(pruner_of(alone), alone, 2)
    assert pruner_of(loader).epoch == 2


def test_making_an_iterator_begins_no_epoch_before_its_first_batch_is_asked_for():
    loader = loader_of()
    iter(loader)
    iter(loader)
    assert pruner_of(loader).report().epoch == -1


@pytest.mark.parametrize("workers", [0, 2])
def test_looping_leaves_the_global_generator_alone(workers):
    before = torch.get_rng_state()
    list(loader_of(num_workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_draw_by_seed_and_epoch():
    def drawn(seed: int, epochs: int = 1) -> list[list[int]]:
        loader = loader_of(Drawing(), seed=seed, num_workers=2)
        return [torch.cat([batch for _, batch in loader]).tolist() for _ in range(epochs)]

    first, second = drawn(0, epochs=2)
    assert drawn(0) == [first]
    assert len({*map(tuple, (first, second, *drawn(1)))}) == 3


def test_workers_draw_by_the_epoch_in_whatever_way_it_was_reached():
    def drawn(loader) -> list[int]:
        return torch.cat([batch for _, batch in loader]).tolist()

    whole, skipped, resumed = (loader_of(Drawing(), num_workers=2) for _ in range(3))
    drawn(whole)
    begun = iter(whole)
    resumed.load_state_dict(whole.state_dict())  # inside its second epoch, at the start
    assert pruner_of(resumed).resuming
    del begun
    pruner_of(whole).set_epoch(1)
    pruner_of(skipped).set_epoch(1)
    expected = drawn(whole)
    assert drawn(skipped) == expected
    assert drawn(resumed) == expected


def test_a_callers_own_generator_is_kept():
    own = torch.Generator().manual_seed(5)
    loader = loader_of(generator=own)
    list(loader)
    assert loader.generator is own
    assert own.initial_seed() == 5


def test_an_epoch_can_be_set():
    loader, twin = loader_of(strategy=FullData()), loader_of(strategy=FullData())
    epochs = [[index.tolist() for index, _ in loader] for _ in range(3)]
    for epoch in (2, 0, 1):
        pruner_of(twin).set_epoch(epoch)
        assert [index.tolist() for index, _ in twin] == epochs[epoch]


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"shuffle": True}, "shuffle must be left out, got True; the pruner chooses the samples and their order"),
        ({"sampler": range(N)}, "sampler must be left out, got range; the pruner chooses"),
        ({"batch_sampler": [[0]]}, "batch_sampler must be left out, got list"),
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0; write a number such as 128"),
        ({"batch_size": None}, "batch_size must be a positive integer, got None"),
        ({"drop_last": True, "stable_shapes": True}, "stable_shapes keeps the last step and drop_last leaves it out"),
        ({"batch_size": 21, "drop_last": True}, "drop_last leaves no batch, got 20 selected samples for 1 x 21 a step"),
    ],
)
def test_a_loader_refuses_arguments_that_would_choose(arguments, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        loader_of(**arguments)
    assert text in str(caught.value)


def test_arguments_that_choose_nothing_may_be_given():
    assert len(loader_of(shuffle=False, sampler=None, pin_memory=False, timeout=0)) == 4


def test_a_data_set_of_another_length_is_refused():
    with pytest.raises(
        ValueError, match=r"dataset must have the pruner's 8 samples, got 40; write Pruner\(strategy, le"
    ):
        Pruner(HALF, 8).loader(Squares())


def test_an_iterable_data_set_is_refused():
    message = r"dataset must be map-style, .*, got {}, which .*; write orderdp.stream.StreamPruner\(DataLoader\(dataset"
    with pytest.raises(TypeError, match=message.format("Endless")):
        Pruner(HALF, 8).loader(Endless())
    with pytest.raises(TypeError, match=message.format("generator")):
        Pruner(HALF, 8).loader(number for number in range(8))


@pytest.mark.parametrize("wrap", [IndexedDataset, lambda dataset: DataLoader(dataset, batch_size=1)])
def test_a_data_set_that_is_wrapped_already_is_refused(wrap):
    with pytest.raises(TypeError, match="dataset must be the plain data set, got "):
        Pruner(OrderDP(), 40).loader(wrap(Squares()))


def test_batches_out_of_order_are_refused():
    with pytest.raises(ValueError, match="in_order must be True, got False"):
        Pruner(OrderDP(), 40).loader(range(40), in_order=False)


def test_accelerate_leaves_the_loader_as_it_is():
    accelerate = pytest.importorskip("accelerate")
    loader = Pruner(OrderDP(), 40).loader(range(40), batch_size=6)
    assert accelerate.Accelerator(cpu=True).prepare(loader) is loader


def test_update_bn_is_refused_since_it_would_take_the_ids_for_the_input():
    loader = loader_of(TensorDataset(torch.randn(N, 3)))
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    with pytest.raises(TypeError, match=r"got a loader that puts ids there .*; write update_bn\(torch.utils"):
        update_bn(loader, model)
    assert pruner_of(loader).epoch is None
    update_bn(DataLoader(loader.dataset.dataset, batch_size=6), model)
    assert model[1].num_batches_tracked == 7


# Its length is always that of a whole epoch. Here the first epoch has seven batches and every later one four.


BOTH = pytest.mark.parametrize("workers", [0, 2])


@BOTH
def test_the_length_inside_an_epoch_is_its_own_and_after_it_the_next_one_s(workers):
    loader = loader_of(strategy=SHRINKING, num_workers=workers)
    lengths = [[len(loader), *(len(loader) for _ in loader)] for _ in range(2)]
    assert lengths == [[7] * 8, [4] * 5]
    assert len(loader) == 4


@BOTH
def test_the_length_after_an_epoch_was_left_is_the_next_one_s(workers):
    loader = loader_of(strategy=SHRINKING, num_workers=workers)
    for _ in loader:
        assert len(loader) == 7
        break
    assert len(loader) == len(list(loader)) == 4


@BOTH
def test_an_iterator_goes_on_for_the_length_of_its_own_epoch_though_another_is_dropped(workers):
    loader = loader_of(strategy=SHRINKING, num_workers=workers)
    batches = iter(loader)
    for _ in range(2):
        following = [next(batches) for _ in range(len(loader))]
        assert len(following) == len(loader) == -(-len(pruner_of(loader).selection.indices) // 6)
        batches = iter(loader)
    next(batches)
    assert len(loader) == 4


@LEFT
@BOTH
def test_the_length_of_a_resumed_epoch_is_that_of_the_whole(workers):
    loader, resumed = (loader_of(strategy=SHRINKING, num_workers=workers) for _ in range(2))
    train_epoch(pruner_of(loader), loader, num_batches=2)
    resumed.load_state_dict(loader.state_dict())
    assert resumed.remaining == 5
    lengths = [len(resumed)]
    for index, _ in resumed:
        pruner_of(resumed).update(index, loss_of(index, 0))
        lengths.append(len(resumed))
    assert lengths == [7] * 6
    assert len(resumed) == 4
    batches = iter(loader)
    next(batches)
    loader.load_state_dict(resumed.state_dict())  # what is under way has ended, though its iterator lives on
    assert len(loader) == 4
    del batches
    assert len(loader) == 4


@pytest.mark.parametrize("batches", [1, 3])
def test_the_length_of_an_epoch_that_the_pruner_resumes_is_that_of_the_whole(batches):
    loader, used = loader_of(strategy=SHRINKING), loader_of(strategy=SHRINKING)
    train_epoch(pruner_of(loader), loader)
    train_epoch(pruner_of(loader), loader, num_batches=batches)
    state = pruner_of(loader).state_dict()
    train_epoch(pruner_of(used), used, num_batches=2)  # of its first epoch, which has seven
    for twin in (loader_of(strategy=SHRINKING), used):
        pruner_of(twin).load_state_dict(state, resume=True)
        assert len(twin) == 4
        assert len(train_epoch(pruner_of(twin), twin)) == 4 - batches


def test_the_length_for_a_loop_that_reads_one_batch_ahead_is_the_epoch_s_own_until_its_last_batch():
    loader = loader_of(strategy=SHRINKING)
    batches = iter(loader)
    lengths = [len(loader) for _ in itertools.pairwise(batches)]
    assert lengths == [7] * 6


def test_an_iterator_that_another_replaced_ends_nothing():
    """A loop that keeps the batches of an older pass must not close the epoch under way."""
    loader = loader_of()
    pruner = pruner_of(loader)
    older = iter(loader)
    next(older)
    newer = iter(loader)
    index, _ = next(newer)
    pruner.update(index, loss_of(index, 1))
    assert len(list(older)) == 3
    assert loader.remaining == 3
    assert len(loader) == 4
    rest = [next(newer)[0] for _ in range(3)]
    pruner.update(rest[-1], loss_of(rest[-1], 1))
    assert loader.remaining == 2  # the pass has not ended, though its last batch is trained
    twin = loader_of()
    twin.load_state_dict(loader.state_dict())
    assert train_epoch(pruner_of(twin), twin) == [index.tolist() for index in rest[:2]]


@pytest.mark.parametrize("how", [{}, {"stable_shapes": True}, {"drop_last": True}])
def test_total_steps_of_a_loader_are_counted_with_its_own_batches(how):
    loader = loader_of(strategy=SHRINKING, **how)
    steps = loader.total_steps(3)
    assert steps == pruner_of(loader).total_steps(3, 6, **how)
    assert steps == sum(len(list(loader)) for _ in range(3))


@pytest.mark.parametrize("strategy", [InfoBatch(epochs=8, delta=0.5), SHRINKING, HALF], ids=repr)
@pytest.mark.parametrize("workers", [0, 2])
def test_the_share_of_the_run_that_is_done_grows_by_equal_steps_to_one(strategy, workers):
    """The formula of the documents for learning rates where the number of steps depends on the losses."""
    loader = loader_of(strategy=strategy, num_workers=workers)
    pruner, sizes = pruner_of(loader), set()
    for epoch in range(8):
        done = [epoch / 8]
        for step, (index, _) in enumerate(loader, 1):
            pruner.update(index, (index + epoch * 1.0).requires_grad_())
            steps = pruner.steps_per_epoch(6, epoch=epoch)
            done.append((epoch + step / steps) / 8)
        assert np.diff(done) == pytest.approx(1 / 8 / step)
        assert done[-1] == (epoch + 1) / 8
        sizes.add(steps)
    assert len(sizes) == (1 if strategy is HALF else 2)
