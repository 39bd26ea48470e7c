import io
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from orderdp import UCB, FullData, IndexedDataset, InfoBatch, OrderDP, Pruner
from orderdp.ranks import batch_bounds
from reference.loop import joined, train, train_epoch

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

N = 40
HALF = OrderDP(explore=1.0, exploit=0.5)


class Squares(Dataset):
    """Sample i is (i, i²)."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return index, index**2


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


def loader_of(dataset=None, strategy=HALF, seed=0, schedule=None, **arguments):
    dataset = Squares() if dataset is None else dataset
    return Pruner(strategy, len(dataset), seed=seed, schedule=schedule).loader(
        dataset, **{"batch_size": 6, **arguments}
    )


def pruner_of(loader) -> Pruner:
    return loader.batch_sampler.pruner


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


# An epoch is its selection in batches, exactly.


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_are_the_selection_in_order(workers, drop_last):
    loader = loader_of(num_workers=workers, drop_last=drop_last)
    twin = Pruner(HALF, N)
    for _ in range(3):
        expected = twin.begin_epoch(6).indices.tolist()
        batches = [index.tolist() for index, _ in loader]
        assert [len(batch) for batch in batches] == ([6, 6, 6] if drop_last else [6, 6, 6, 2])
        assert joined(batches) == expected[: 18 if drop_last else 20]
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
    pruner_of(whole).begin_epoch(6)
    resumed.batch_sampler.load_state_dict(
        {**whole.state_dict(), "batches": 0, "samples": 0}
    )  # inside its second epoch, at the start
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


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"shuffle": True}, "shuffle must be left out, got one; the pruner chooses the samples and their order"),
        ({"sampler": range(N)}, "sampler must be left out, got one"),
        ({"batch_sampler": [[0]]}, "batch_sampler must be left out, got one"),
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0; write a number such as 128"),
        ({"batch_size": None}, "batch_size must be a positive integer, got None"),
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
    with pytest.raises(TypeError, match="dataset must be map-style, with __getitem__ and __len__, got Endless; an"):
        Pruner(HALF, 8).loader(Endless())


# Its length, where the first epoch has seven batches and every later one four.

SHRINKING = UCB(prune_ratio=0.5)
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
        assert len(following) == len(loader) == len(pruner_of(loader).selection.indices) // 6 + 1
        batches = iter(loader)
    next(batches)
    assert len(loader) == 4


@BOTH
def test_the_length_of_a_resumed_epoch_is_what_was_left_of_it(workers):
    loader, resumed = (loader_of(strategy=SHRINKING, num_workers=workers) for _ in range(2))
    train_epoch(pruner_of(loader), loader, num_batches=2)
    resumed.load_state_dict(loader.state_dict())
    assert [len(resumed), *(len(resumed) for _ in resumed)] == [5] * 6
    assert len(resumed) == 4
    batches = iter(loader)
    next(batches)
    loader.load_state_dict(resumed.state_dict())  # what is under way has ended, though its iterator lives on
    assert len(loader) == 4
    del batches
    assert len(loader) == 4


def test_the_length_for_a_loop_that_reads_one_batch_ahead_is_the_epoch_s_own_until_its_last_batch():
    loader = loader_of(strategy=SHRINKING)
    batches = iter(loader)
    lengths = [len(loader) for _ in itertools.pairwise(batches)]
    assert lengths == [7] * 6


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


# A loop with a DataLoader of its own.


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


# Resuming: a broken run goes on as if it had not been broken.


def round_trip(state):
    """Through torch.save and a load that allows tensors and plain values only."""
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


def run_and_break(stop_epoch: int, stop_batch: int, **arguments):
    """Trains up to a batch of an epoch (0: as the epoch before ended); returns the batches and the state there."""
    loader = loader_of(**arguments)
    seen = train(pruner_of(loader), loader, stop_epoch)
    last = train_epoch(pruner_of(loader), loader, num_batches=stop_batch) if stop_batch else []
    return seen, last, round_trip(loader.state_dict())


@pytest.mark.parametrize("strategy", [HALF, OrderDP(), OrderDP(explore=1.0, exploit=0.5, per="iteration"), FullData()])
@pytest.mark.parametrize("stop_batch", [0, 1, 2])
@pytest.mark.parametrize("stop_epoch", [0, 2])
def test_a_broken_run_goes_on_as_if_unbroken(strategy, stop_epoch, stop_batch):
    unbroken = loader_of(strategy=strategy, batch_size=5)
    expected = train(pruner_of(unbroken), unbroken, 5)
    seen, last, state = run_and_break(stop_epoch, stop_batch, strategy=strategy, batch_size=5)
    resumed = loader_of(strategy=strategy, batch_size=5)
    resumed.load_state_dict(state)
    rest = train(pruner_of(resumed), resumed, 5 - stop_epoch)
    assert [*seen, last + rest[0], *rest[1:]] == expected
    for name, scores in pruner_of(unbroken).scores().items():
        assert torch.equal(pruner_of(resumed).scores()[name], scores)
    assert torch.equal(pruner_of(resumed).visits(), pruner_of(unbroken).visits())


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 0), (0, 2)])
@pytest.mark.parametrize("stop_batch", [1, 3])
def test_a_run_may_be_broken_while_workers_read_ahead(before, after, stop_batch):
    unbroken = loader_of()
    expected = train(pruner_of(unbroken), unbroken, 3)
    seen, last, state = run_and_break(1, stop_batch, num_workers=before)
    assert state["batches"] == stop_batch
    resumed = loader_of(num_workers=after)
    resumed.load_state_dict(state)
    rest = train(pruner_of(resumed), resumed, 2)
    assert [*seen, last + rest[0], *rest[1:]] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_before_the_first_batch_begins_with_it(workers):
    loader, resumed, alone = loader_of(num_workers=workers), loader_of(), loader_of()
    iterator = iter(loader)  # workers have begun the epoch; the loop has received nothing
    resumed.load_state_dict(round_trip(loader.state_dict()))
    assert train(pruner_of(resumed), resumed, 2) == train(pruner_of(alone), alone, 2)
    del iterator


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_in_the_body_of_the_last_batch_goes_on_with_the_next_epoch(workers):
    loader, resumed, alone = loader_of(num_workers=workers), loader_of(), loader_of()
    train_epoch(pruner_of(loader), loader, num_batches=4)
    state = round_trip(loader.state_dict())
    assert state["batches"] is None
    resumed.load_state_dict(state)
    expected = train(pruner_of(alone), alone, 3)
    assert train(pruner_of(resumed), resumed, 2) == expected[1:]


def test_a_run_may_be_broken_twice_in_an_epoch():
    alone = loader_of()
    expected = train(pruner_of(alone), alone, 2)
    _, first, state = run_and_break(0, 1)
    again = loader_of()
    again.load_state_dict(state)
    second = train_epoch(pruner_of(again), again, num_batches=2)
    last = loader_of(num_workers=2)
    last.load_state_dict(round_trip(again.state_dict()))
    rest = train(pruner_of(last), last, 2)
    assert [first + second + rest[0], rest[1]] == expected


def test_a_state_saved_right_after_it_was_loaded_is_the_same_state():
    _, _, state = run_and_break(1, 2)
    loader = loader_of()
    loader.load_state_dict(state)
    again = loader.state_dict()
    assert again["batches"] == state["batches"] == 2
    assert loader.batch_sampler.remaining == 2
    assert again["pruner"]["next_epoch"] == state["pruner"]["next_epoch"]
    _, _, between = run_and_break(1, 0)
    loader.load_state_dict(between)
    assert loader.state_dict()["batches"] is None
    assert loader.batch_sampler.remaining == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_that_remain_are_counted_as_the_loop_receives_them(workers):
    loader = loader_of(num_workers=workers)
    assert loader.batch_sampler.remaining == 0
    for _ in range(2):
        assert [loader.batch_sampler.remaining for _ in loader] == [3, 2, 1, 0]


def test_a_used_loader_may_be_set_back():
    alone = loader_of()
    expected = train(pruner_of(alone), alone, 3)
    loader = loader_of()
    seen = train(pruner_of(loader), loader, 1)
    state = loader.state_dict()
    train_epoch(pruner_of(loader), loader, num_batches=3)
    loader.load_state_dict(state)
    assert seen + train(pruner_of(loader), loader, 2) == expected


def test_the_pruners_part_of_a_state_goes_on_with_the_next_epoch():
    _, _, state = run_and_break(1, 2)
    loader = loader_of(batch_size=10)
    pruner_of(loader).load_state_dict(state["pruner"])
    assert pruner_of(loader).epoch == 2
    assert len(list(loader)) == 2


def test_an_epoch_may_be_skipped_after_a_load():
    _, _, state = run_and_break(1, 2)
    loader = loader_of()
    loader.load_state_dict(state)
    pruner_of(loader).set_epoch(2)
    assert len(list(loader)) == 4
    assert pruner_of(loader).epoch == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"strategy": OrderDP()}, "the state must be of strategy OrderDP("),
        ({"seed": 1}, "the state must be of seed 1, got 0; build the pruner as it was saved"),
        ({"dataset": range(50)}, "the state must be of num_samples 50, got 40; build the pruner as it was saved"),
        (
            {"batch_size": 7},
            "a state inside an epoch needs the steps over all ranks that it was saved with, "
            "{'batch_size': 6, 'drop_last': False, 'samples': 12}, "
            "got {'batch_size': 7, 'drop_last': False, 'samples': 14}",
        ),
        ({"drop_last": True}, "use those, or load only state['pruner'] to begin with the next epoch"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(arguments, text):
    _, _, state = run_and_break(1, 2)
    loader, untouched = loader_of(**arguments), loader_of(**arguments)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        loader.load_state_dict(state)
    assert text in str(caught.value)
    assert train(pruner_of(loader), loader, 2) == train(pruner_of(untouched), untouched, 2)


def test_a_state_between_epochs_fits_any_batch_size():
    _, _, state = run_and_break(1, 0)
    loader = loader_of(batch_size=7)
    loader.load_state_dict(state)
    assert len(list(loader)) == 3


# batch_bounds: the arithmetic of steps and ranks.


def bounds_of_all_ranks(num_selected, batch_size, num_ranks, drop_last=False):
    return [
        batch_bounds(num_selected, batch_size, drop_last=drop_last, rank=rank, num_ranks=num_ranks)
        for rank in range(num_ranks)
    ]


@given(num_selected=st.integers(1, 500), batch_size=st.integers(1, 40), num_ranks=st.integers(1, 9))
def test_the_steps_of_all_ranks_partition_the_selection(num_selected, batch_size, num_ranks):
    if num_selected < num_ranks or (batch_size == 1 and num_selected % num_ranks):
        with pytest.raises(ValueError, match="every rank needs a sample in every step"):
            bounds_of_all_ranks(num_selected, batch_size, num_ranks)
        return
    bounds = bounds_of_all_ranks(num_selected, batch_size, num_ranks)
    steps = list(zip(*bounds, strict=True))  # equal numbers of steps, or zip raises
    covered = [position for step in steps for begin, end in step for position in range(begin, end)]
    assert covered == list(range(num_selected))
    for step in steps:
        sizes = [end - begin for begin, end in step]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch_size
    for step in steps[:-2]:
        assert [end - begin for begin, end in step] == [batch_size] * num_ranks


@given(num_selected=st.integers(1, 500), batch_size=st.integers(1, 40), num_ranks=st.integers(1, 9))
def test_dropping_the_last_step_leaves_full_steps_only(num_selected, batch_size, num_ranks):
    steps = num_selected // (batch_size * num_ranks)
    if not steps:
        with pytest.raises(ValueError, match="drop_last leaves no batch"):
            bounds_of_all_ranks(num_selected, batch_size, num_ranks, drop_last=True)
        return
    for bounds in bounds_of_all_ranks(num_selected, batch_size, num_ranks, drop_last=True):
        assert [end - begin for begin, end in bounds] == [batch_size] * steps


@pytest.mark.parametrize(
    ("num_selected", "batch_size", "num_ranks", "bounds"),
    [
        (10, 4, 1, [[(0, 4), (4, 8), (8, 10)]]),
        (10, 2, 2, [[(0, 2), (4, 6), (8, 9)], [(2, 4), (6, 8), (9, 10)]]),
        (9, 4, 2, [[(0, 3), (7, 8)], [(3, 7), (8, 9)]]),  # the step before gives up one, so that no rank is empty
        (11, 2, 2, [[(0, 2), (4, 6), (8, 9)], [(2, 4), (6, 8), (9, 11)]]),
    ],
)
def test_golden_bounds(num_selected, batch_size, num_ranks, bounds):
    assert bounds_of_all_ranks(num_selected, batch_size, num_ranks) == bounds


def test_too_few_samples_for_the_ranks_are_refused():
    with pytest.raises(ValueError, match=r"got 2 selected samples for 3 ranks at batch_size 4; prune less, use fewer"):
        batch_bounds(2, 4, num_ranks=3)


def test_ids_are_python_integers_for_the_data_set():
    """A data set may look its samples up in a dict, or call bit_length: what NumPy integers cannot do everywhere."""

    class Strict(Squares):
        def __getitem__(self, index):
            assert type(index) is int
            return np.float32(index)

    assert len(list(loader_of(Strict()))) == 4


def test_after_a_state_from_inside_an_epoch_the_length_is_what_is_left():
    _, _, state = run_and_break(0, 2)
    loader = Pruner(OrderDP(explore=1, exploit=0.5), 40).loader(range(40), batch_size=6)
    loader.load_state_dict(state)
    assert len(loader) == len(list(loader)) == 2
    assert len(loader) == len(list(loader)) == 4


def test_states_of_loader_and_pruner_are_told_apart():
    pruner = Pruner(OrderDP(), 40)
    loader = pruner.loader(range(40), batch_size=6)
    with pytest.raises(ValueError, match="the state must be one of a loader or sampler, got the keys"):
        loader.load_state_dict(pruner.state_dict())
    with pytest.raises(ValueError, match="the state must be one of a pruner, got a loader's with the keys"):
        pruner.load_state_dict(loader.state_dict())


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
