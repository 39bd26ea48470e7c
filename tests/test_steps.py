"""Where steps and batches begin and end, and how many there are."""

import time
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderdp import UCB, FullData, InfoBatch, Kakurenbo, Memory, OrderDP, Pruner, Selection, SeTa, Strategy
from orderdp.ranks import Batching, step_runs, total
from orderdp.training.recipe import Recipe
from orderdp.training.steps import most_steps, total_steps
from reference.steps import bounds_of_ranks

HOW = {"equal": {}, "stable shapes": {"stable_shapes": True}, "drop last": {"drop_last": True}}
EACH_WAY = pytest.mark.parametrize("how", HOW.values(), ids=HOW.keys())


def steps_of_all_ranks(num_selected, batch_size, num_ranks, **how):
    batching = Batching(batch_size, **how)
    return [batching.steps(num_selected, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]


def batches_of(steps):
    return [steps.batch(number) for number in range(len(steps))]


def sizes_of(bounds):
    return [end - begin for begin, end in bounds]


# What the steps of an epoch are.


@EACH_WAY
def test_steps_equal_their_definition_for_all_small_sizes(how):
    for q, batch_size, num_ranks in product(range(1, 41), range(1, 8), range(1, 6)):
        if q < (batch_size * num_ranks if "drop_last" in how else num_ranks):
            continue
        expected = bounds_of_ranks(q, batch_size, num_ranks, **how)
        for steps in steps_of_all_ranks(q, batch_size, num_ranks, **how):
            assert tuple(steps) == tuple(steps[:]) == expected, (q, batch_size, num_ranks)
            assert len(steps) == len(expected)


@EACH_WAY
@given(num_selected=st.integers(1, 500), batch_size=st.integers(1, 40), num_ranks=st.integers(1, 9))
def test_the_batches_of_all_ranks_partition_the_steps(how, num_selected, batch_size, num_ranks):
    drops = "drop_last" in how
    if num_selected < (batch_size * num_ranks if drops else num_ranks):
        with pytest.raises(
            ValueError, match="drop_last leaves no batch" if drops else "every rank needs a sample in every step"
        ):
            steps_of_all_ranks(num_selected, batch_size, num_ranks, **how)
        return
    of_ranks = steps_of_all_ranks(num_selected, batch_size, num_ranks, **how)
    together = list(zip(*map(batches_of, of_ranks), strict=True))  # equal numbers of steps, or zip raises
    covered = [position for step in together for begin, end in step for position in range(begin, end)]
    assert covered == list(range(num_selected))[: len(covered)]
    assert len(covered) == (
        num_selected // (batch_size * num_ranks) * batch_size * num_ranks if drops else num_selected
    )
    assert [(parts[0][0], parts[-1][1]) for parts in together] == list(of_ranks[0])
    for parts in together:
        sizes = sizes_of(parts)
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= max(batch_size, 2)  # 2 only where a batch size of 1 would leave a rank without a sample


@given(num_selected=st.integers(1, 500), batch_size=st.integers(1, 40), num_ranks=st.integers(1, 9))
def test_equal_steps_are_as_equal_and_as_few_as_the_batch_size_allows(num_selected, batch_size, num_ranks):
    if num_selected < num_ranks:
        return
    steps = Batching(batch_size).steps(num_selected, num_ranks=num_ranks)
    sizes = sizes_of(steps)
    assert max(sizes) - min(sizes) <= 1
    fewest = -(-num_selected // (batch_size * num_ranks))
    assert len(steps) == fewest or (batch_size == 1 and len(steps) == num_selected // num_ranks == fewest - 1)


@given(num_selected=st.integers(1, 500), batch_size=st.integers(1, 40), num_ranks=st.integers(1, 9))
def test_stable_shapes_are_full_but_for_the_last_two_steps(num_selected, batch_size, num_ranks):
    if num_selected < num_ranks:
        return
    chunk = batch_size * num_ranks
    sizes = sizes_of(Batching(batch_size, stable_shapes=True).steps(num_selected, num_ranks=num_ranks))
    assert sizes[:-2] == [chunk] * len(sizes[:-2])
    rest = num_selected % chunk
    if rest == 0 or rest >= num_ranks:
        assert sizes == [chunk] * (num_selected // chunk) + [rest] * (rest > 0)


@pytest.mark.parametrize(
    ("num_selected", "batch_size", "num_ranks", "how", "batches"),
    [
        (10, 4, 1, {}, [[(0, 3), (3, 6), (6, 10)]]),
        (10, 4, 1, {"stable_shapes": True}, [[(0, 4), (4, 8), (8, 10)]]),
        (10, 2, 2, {}, [[(0, 1), (3, 4), (6, 8)], [(1, 3), (4, 6), (8, 10)]]),
        (10, 2, 2, {"stable_shapes": True}, [[(0, 2), (4, 6), (8, 9)], [(2, 4), (6, 8), (9, 10)]]),
        # The step before the last one gives up one, so that no rank is empty.
        (9, 4, 2, {"stable_shapes": True}, [[(0, 3), (7, 8)], [(3, 7), (8, 9)]]),
        (7, 1, 3, {}, [[(0, 1), (3, 4)], [(1, 2), (4, 5)], [(2, 3), (5, 7)]]),  # a third step would lack two ranks
        (11, 2, 2, {"drop_last": True}, [[(0, 2), (4, 6)], [(2, 4), (6, 8)]]),
    ],
)
def test_golden_batches(num_selected, batch_size, num_ranks, how, batches):
    assert [batches_of(steps) for steps in steps_of_all_ranks(num_selected, batch_size, num_ranks, **how)] == batches


def test_no_batch_is_tiny_where_a_rest_would_be():
    """A last batch of 8 would move the statistics of BatchNorm just before an evaluation."""
    assert sizes_of(Batching(128).steps(5_000)) == [125] * 40
    assert sizes_of(Batching(128, stable_shapes=True).steps(5_000)) == [128] * 39 + [8]
    assert sizes_of(Batching(128, drop_last=True).steps(5_000)) == [128] * 39


@EACH_WAY
@given(num_selected=st.integers(9, 300), batch_size=st.integers(1, 20), num_ranks=st.integers(1, 9))
def test_the_step_and_the_rank_of_each_position_are_those_that_hold_it(how, num_selected, batch_size, num_ranks):
    if "drop_last" in how and num_selected < batch_size * num_ranks:
        return
    positions = np.arange(num_selected)
    of_ranks = steps_of_all_ranks(num_selected, batch_size, num_ranks, **how)
    expected = np.full(num_selected, len(of_ranks[0]))
    for number, (begin, end) in enumerate(of_ranks[0]):
        expected[begin:end] = number
    for steps in of_ranks:
        assert steps.numbers(positions).tolist() == expected.tolist()
        held = [position for begin, end in batches_of(steps) for position in range(begin, end)]
        assert positions[steps.owned(positions)].tolist() == held


@EACH_WAY
def test_steps_are_a_sequence_that_takes_no_memory(how):
    q = 10**12 + 7
    steps = Batching(128, **how).steps(q, rank=3, num_ranks=8)
    count = len(steps)
    assert steps[0][0] == 0
    assert steps[-1] == steps[count - 1]
    assert steps[-1][1] == (q // 1024 * 1024 if "drop_last" in how else q)
    assert steps[10:12] == [steps[10], steps[11]]
    assert steps[12][0] == steps[11][1]
    for outside in (count, -count - 1):
        with pytest.raises(IndexError, match=r"step must lie in 0 \.\. "):
            steps[outside]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0,), "batch_size must be a positive integer, got 0; write a number such as 128"),
        ((-3,), "batch_size must be a positive integer, got -3"),
        ((2.5,), "batch_size must be a positive integer, got 2.5"),
        ((True,), "batch_size must be a positive integer, got True"),
        (("8",), "batch_size must be a positive integer, got '8'"),
        ((8, True, True), "stable_shapes keeps the last step and drop_last leaves it out, got both as True; drop_last"),
    ],
)
def test_batchings_that_mean_nothing_are_refused(arguments, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        Batching(*arguments)
    assert text in str(caught.value)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_a_batch_size_may_be_a_numpy_integer(kind):
    batching = Batching(kind(8))
    assert type(batching.batch_size) is int
    assert list(batching.steps(20)) == list(Batching(8).steps(20))


@pytest.mark.parametrize(("q", "batch_size", "num_ranks"), [(2, 4, 3), (1, 1, 2), (7, 128, 8)])
def test_too_few_samples_for_the_ranks_are_refused(q, batch_size, num_ranks):
    text = f"got {q} selected samples for {num_ranks} ranks; prune less or use fewer ranks"
    for how in ({}, {"stable_shapes": True}):
        with pytest.raises(ValueError, match=text):
            Batching(batch_size, **how).steps(q, num_ranks=num_ranks)


@pytest.mark.parametrize(("q", "num_ranks"), [(5, 1), (9, 3), (11, 3)])
def test_dropping_the_last_step_keeps_the_only_one_if_the_size_depends_on_the_losses(q, num_ranks):
    steps = Batching(6, drop_last=True).steps(q, num_ranks=num_ranks, exact=False)
    assert list(steps) == [(0, q)]
    with pytest.raises(ValueError, match=f"drop_last leaves no batch, got {q} selected samples for {num_ranks} x 6"):
        Batching(6, drop_last=True).steps(q, num_ranks=num_ranks)
    assert len(Batching(6, drop_last=True).steps(6 * num_ranks + q, num_ranks=num_ranks, exact=False)) == 1 + (
        q >= 6 * num_ranks
    )


# How many steps there are, without a pruner and its table.

HALF_AFTER_TWO = {"schedule": lambda strategy, epoch: strategy if epoch > 1 else FullData()}


@EACH_WAY
@pytest.mark.parametrize("arguments", [{}, HALF_AFTER_TWO], ids=["constant", "scheduled"])
@pytest.mark.filterwarnings("ignore:update was never called:RuntimeWarning")
def test_counted_steps_are_those_the_loader_makes(arguments, how):
    strategy = OrderDP(prune_ratio=0.5)
    loader = Pruner(strategy, 45, **arguments).loader(range(45), batch_size=4, **how)
    steps = [len(list(loader)) for _ in range(4)]
    runs = step_runs(strategy, 45, Batching(4, **how), epochs=4, **arguments)
    assert [size for epochs, size in runs for _ in range(epochs)] == steps
    pruner = Pruner(strategy, 45, **arguments)
    assert pruner.total_steps(4, 4, **how) == pruner.loader(range(45), batch_size=4, **how).total_steps(4) == sum(steps)
    assert [pruner.steps_per_epoch(4, **how, epoch=epoch) for epoch in range(4)] == steps


@EACH_WAY
@pytest.mark.parametrize(("batch_size", "num_ranks"), [(1, 1), (1, 2), (1, 4), (3, 2), (4, 1)])
def test_steps_of_several_batches_are_counted_epoch_by_epoch(batch_size, num_ranks, how):
    """A loop that accumulates makes its last step of an epoch with the batches that are left."""
    strategy = OrderDP(prune_ratio=0.5)
    pruner = Pruner(strategy, 45, **HALF_AFTER_TWO)
    for accumulate in range(1, 9):
        expected = 0
        for epoch in range(4):
            size = 45 if epoch < 2 else strategy.sizes(45)[1]
            batches = Batching(batch_size, **how).steps(size, num_ranks=num_ranks)
            expected += sum(1 for number, _ in enumerate(batches) if number % accumulate == 0)
        counted = pruner.total_steps(4, batch_size, num_ranks=num_ranks, accumulate=accumulate, **how)
        assert counted == expected
        if num_ranks == 1:
            loader = Pruner(strategy, 45, **HALF_AFTER_TWO).loader(range(45), batch_size=batch_size, **how)
            assert loader.total_steps(4, accumulate=accumulate) == expected


def test_a_larger_batch_does_not_count_the_steps_of_several_batches():
    """With drop_last, five batches of 4 are left of 23 samples, and two of 8."""
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), 46)
    assert pruner.total_steps(1, 4, drop_last=True, accumulate=2) == 3
    assert pruner.total_steps(1, 8, drop_last=True) == 2


@pytest.mark.parametrize("accumulate", [0, -1, 1.5, True, "2"])
def test_an_accumulation_of_no_batches_is_refused(accumulate):
    with pytest.raises(
        (TypeError, ValueError), match=r"^accumulate must .*; write how many batches make one optimiser"
    ):
        Pruner(OrderDP(), 45).total_steps(1, 4, accumulate=accumulate)


@dataclass(frozen=True, repr=False)
class Staircase(Strategy):
    """Visits ever fewer samples, from the epochs in `at` on."""

    at: tuple[int, ...] = (2, 3, 7)

    def num_selected(self, num_samples: int, epoch: int) -> int:
        return num_samples // (1 + sum(start <= epoch for start in self.at))

    def size_changes(self) -> tuple[int, ...]:
        return self.at

    def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
        return Selection(rng.permutation(memory.num_samples)[: self.num_selected(memory.num_samples, memory.epoch)])


COUNTED = [
    OrderDP(prune_ratio=0.3),
    FullData(),
    UCB(prune_ratio=0.5),
    Staircase(),
    InfoBatch(epochs=12, delta=0.75),
    InfoBatch(epochs=1, delta=0.75),
    InfoBatch(),
    SeTa(prune_ratio=0.3, epochs=9, delta=0.5),
    SeTa(prune_ratio=0.3, epochs=9),
    Kakurenbo(hide=0.3, epochs=10),
]


@pytest.mark.parametrize("strategy", COUNTED, ids=repr)
@pytest.mark.parametrize("epochs", [1, 2, 3, 8, 20])
@pytest.mark.parametrize(("n", "batch_size", "num_ranks"), [(100, 8, 1), (100, 1, 3), (94, 6, 2)])
def test_runs_of_equal_epochs_are_the_epochs_one_by_one(strategy, epochs, n, batch_size, num_ranks):
    def by_hand(epoch):
        size = strategy.num_selected(n, epoch)
        return None if size is None else len(bounds_of_ranks(size, batch_size, num_ranks))

    runs = step_runs(strategy, n, Batching(batch_size), epochs=epochs, num_ranks=num_ranks)
    assert all(count > 0 for count, _ in runs)
    assert [size for count, size in runs for _ in range(count)] == [by_hand(epoch) for epoch in range(epochs)]


@pytest.mark.parametrize("strategy", COUNTED[:4], ids=repr)
def test_the_steps_of_a_hundred_million_epochs_are_counted_at_once(strategy):
    few, many = 50, 10**8
    begin_s = time.perf_counter()
    steps = Pruner(strategy, 100).total_steps(many, 8)
    assert time.perf_counter() - begin_s < 0.1
    each = len(bounds_of_ranks(strategy.num_selected(100, few), 8, 1))
    assert steps == Pruner(strategy, 100).total_steps(few, 8) + (many - few) * each


def test_the_sum_of_runs_is_the_total_and_unknown_sizes_are_named():
    assert total([(3, 7), (10**9, 2)], of="it") == 21 + 2 * 10**9
    with pytest.raises(ValueError, match="the steps of it depend on the losses, got epoch 3 of unknown size; let the"):
        total([(3, 7), (2, None), (1, 7)], of="it")


def test_steps_that_depend_on_the_losses_are_unknown():
    runs = step_runs(InfoBatch(epochs=8, delta=0.75), 100, Batching(8), epochs=8)
    assert runs == [(1, 13), (5, None), (2, 13)]


@pytest.mark.parametrize(("num_ranks", "steps"), [(1, 8), (2, 4), (3, 3), (4, 2), (47, 1)])
def test_steps_are_counted_over_all_ranks_before_there_is_a_process_group(num_ranks, steps):
    strategy = OrderDP(explore=1.0, exploit=0.5)
    assert step_runs(strategy, 94, Batching(6), epochs=1, num_ranks=num_ranks) == [(1, steps)]
    pruner = Pruner(strategy, 94)
    assert pruner.total_steps(5, 6, num_ranks=num_ranks) == 5 * steps
    assert pruner.steps_per_epoch(6, num_ranks=num_ranks) == steps


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((0, 6), ValueError, "epochs must be an integer of at least 1 and less than 2147483648, got 0; write a number"),
        ((2.5, 6), TypeError, "epochs must be an integer of at least 1, got float 2.5"),
        ((5, 0), ValueError, "batch_size must be a positive integer, got 0"),
    ],
)
def test_steps_of_no_epochs_or_batches_are_refused(arguments, error, text):
    with pytest.raises(error) as caught:
        Pruner(OrderDP(), 94).total_steps(*arguments)
    assert text in str(caught.value)


@pytest.mark.parametrize("num_ranks", [0, -1, 1.5])
def test_a_number_of_ranks_that_means_nothing_is_refused(num_ranks):
    with pytest.raises((ValueError, TypeError), match="num_ranks must be an integer of at least 1"):
        Pruner(OrderDP(), 94).total_steps(3, 6, num_ranks=num_ranks)
    with pytest.raises((ValueError, TypeError), match="num_ranks must be an integer of at least 1"):
        Pruner(OrderDP(), 94).steps_per_epoch(6, num_ranks=num_ranks)


def test_counting_steps_needs_no_score_table():
    """A table, or a list of steps, for as many samples would not fit into memory."""
    n = 10**15
    recipe = Recipe(strategy={"name": "orderdp", "prune_ratio": 0.5}, batch_size=128, epochs=3)
    assert step_runs(OrderDP(prune_ratio=0.5), n, Batching(128), epochs=3) == [(3, n // 256)]
    assert total_steps(recipe, n) == 3 * n // 256
    assert most_steps(recipe, n) == 3 * n // 128
