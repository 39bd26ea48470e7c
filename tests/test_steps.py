"""Where steps and batches begin and end, and how many there are."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderdp import FullData, InfoBatch, OrderDP, Pruner
from orderdp.ranks import batch_bounds, num_steps, step_bounds, steps_by_epoch
from orderdp.training.recipe import Recipe
from orderdp.training.steps import most_steps, total_steps


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


@pytest.mark.parametrize("drop_last", [False, True])
@given(num_selected=st.integers(1, 500), batch_size=st.integers(1, 40), num_ranks=st.integers(1, 9))
def test_a_step_of_all_ranks_is_the_union_of_their_batches(drop_last, num_selected, batch_size, num_ranks):
    arguments = {"drop_last": drop_last, "num_ranks": num_ranks}
    try:
        batches = bounds_of_all_ranks(num_selected, batch_size, num_ranks, drop_last)
    except ValueError as error:
        refusal = f"^{re.escape(str(error))}$"
        for asked in (step_bounds, num_steps):
            with pytest.raises(ValueError, match=refusal):
                asked(num_selected, batch_size, **arguments)
        return
    steps = [(parts[0][0], parts[-1][1]) for parts in zip(*batches, strict=True)]
    assert step_bounds(num_selected, batch_size, **arguments) == steps
    assert num_steps(num_selected, batch_size, **arguments) == len(steps)


# How many steps there are, without a pruner and its table.

HALF_AFTER_TWO = {"schedule": lambda strategy, epoch: strategy if epoch > 1 else FullData()}


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("arguments", [{}, HALF_AFTER_TWO], ids=["constant", "scheduled"])
def test_counted_steps_are_those_the_loader_makes(arguments, drop_last):
    strategy = OrderDP(prune_ratio=0.5)
    loader = Pruner(strategy, 45, **arguments).loader(range(45), batch_size=4, drop_last=drop_last)
    steps = [len(list(loader)) for _ in range(4)]
    assert steps_by_epoch(strategy, 45, 4, epochs=4, drop_last=drop_last, **arguments) == steps
    assert Pruner(strategy, 45, **arguments).total_steps(4, 4, drop_last=drop_last) == sum(steps)


def test_steps_that_depend_on_the_losses_are_unknown():
    assert steps_by_epoch(InfoBatch(epochs=8, delta=0.75), 100, 8, epochs=8) == [13, *[None] * 5, 13, 13]


def test_steps_are_counted_over_all_ranks():
    assert steps_by_epoch(OrderDP(explore=1.0, exploit=0.5), 94, 6, epochs=1, num_ranks=2) == [4]


def test_counting_steps_needs_no_score_table():
    """A table, or a list of steps, for as many samples would not fit into memory."""
    n = 10**15
    recipe = Recipe(strategy={"name": "orderdp", "prune_ratio": 0.5}, batch_size=128, epochs=3)
    assert steps_by_epoch(OrderDP(prune_ratio=0.5), n, 128, epochs=3) == [n // 256] * 3
    assert total_steps(recipe, n) == 3 * n // 256
    assert most_steps(recipe, n) == 3 * n // 128
