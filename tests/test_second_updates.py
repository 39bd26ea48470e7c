"""A batch that is updated twice, as SAM and LBFGS do: the newest losses count, once, on any number of ranks."""

import pytest
import torch

from orderdp import UCB, InfoBatch, OrderDP, Pruner
from reference.loop import loss_of
from reference.processes import run_ranks

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # Many equal losses, on purpose.
    pytest.mark.filterwarnings("ignore:.* of the losses of epoch . are equal:RuntimeWarning"),
]
N = 48
HALF = OrderDP(explore=1.0, exploit=0.5)
STRATEGIES = [HALF, UCB(prune_ratio=0.5), InfoBatch()]


def first(pruner, index):
    """What a second update is to replace: larger in the even samples, smaller in the odd ones."""
    factor = torch.where(index % 2 == 0, 10.0, 0.1)
    pruner.update(index, (loss_of(index, pruner.epoch).detach() * factor).requires_grad_())


def second(pruner, index):
    pruner.update(index, loss_of(index, pruner.epoch))


def at_once(pruner, batches):
    for index in batches:
        first(pruner, index)
        second(pruner, index)


def apart(pruner, batches):
    """All batches, and then all again."""
    for index in batches:
        first(pruner, index)
    for index in batches:
        second(pruner, index)


def backward(pruner, batches):
    for index in batches:
        first(pruner, index)
    for index in reversed(batches):
        second(pruner, index)


def flipped(pruner, batches):
    for index in batches:
        first(pruner, index)
        second(pruner, index.flip(0))


def halves(pruner, batches):
    for index in batches:
        first(pruner, index)
        for part in index.chunk(2):
            second(pruner, part)


def synchronized(pruner, batches):
    for index in batches:
        first(pruner, index)
        pruner.synchronize()
        second(pruner, index)
        pruner.synchronize()


def synchronized_once(pruner, batches):
    for index in batches:
        first(pruner, index)
    pruner.synchronize()
    for index in batches:
        second(pruner, index)


def three_times(pruner, batches):
    for index in batches:
        first(pruner, index)
        first(pruner, index)
        second(pruner, index)


def last_one_only(pruner, batches):
    for index in batches[:-1]:
        second(pruner, index)
    first(pruner, batches[-1])
    second(pruner, batches[-1])


WAYS = [at_once, apart, backward, flipped, halves, synchronized, synchronized_once, three_times, last_one_only]


def run(strategy, way, **arguments):
    """The table after three epochs of which each batch is updated in some way; without a way, once."""
    pruner = Pruner(strategy, N)
    loader = pruner.loader(range(N), **arguments)
    for _ in range(3):
        iterator = iter(loader)
        batches = [next(iterator)[0]]  # begins the epoch
        batches += [next(iterator)[0] for _ in range(len(loader) - 1)]
        if way is None:
            for index in batches:
                second(pruner, index)
        else:
            way(pruner, batches)
        with pytest.raises(StopIteration):
            next(iterator)
    pruner.synchronize()
    return pruner.table()


def assert_tables_equal(table, expected):
    for name, column in expected.items():
        assert torch.equal(table[name], column), name


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch_size", [4, 24, 48])
def test_the_newest_losses_of_a_batch_count_once(way, strategy, batch_size):
    assert_tables_equal(run(strategy, way, batch_size=batch_size), run(strategy, None, batch_size=batch_size))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_the_newest_losses_count_on_any_number_of_ranks(strategy, num_ranks, tmp_path):
    for way in WAYS:
        folder = tmp_path / way.__name__
        folder.mkdir()
        expected = run(strategy, None, batch_size=4 * num_ranks)
        for table in run_ranks(num_ranks, lambda rank, way=way: run(strategy, way, batch_size=4), folder):
            assert_tables_equal(table, expected)


def test_a_lower_loss_that_is_newer_wins_between_two_meetings_of_the_ranks(tmp_path):
    def work(rank):
        pruner = Pruner(OrderDP(explore=1.0, exploit=1.0), 8)
        seen = []
        for index, _ in pruner.loader(range(8), batch_size=4):
            for value in (5.0, 1.0, 3.0):
                pruner.update(index, torch.full((4,), value, requires_grad=True))
                pruner.synchronize()
                seen.append(pruner.scores()["score"].tolist())
        return seen

    assert run_ranks(2, work, tmp_path) == [[[5.0] * 8, [1.0] * 8, [3.0] * 8]] * 2


def test_a_newer_loss_wins_also_after_a_load_inside_the_epoch(tmp_path):
    def work(rank):
        first = Pruner(OrderDP(explore=1.0, exploit=1.0), 8)
        loader = first.loader(range(8), batch_size=2)
        for index, _ in loader:
            for value in (7.0, 5.0):
                first.update(index, torch.full((2,), value, requires_grad=True))
            break
        pruner = Pruner(OrderDP(explore=1.0, exploit=1.0), 8)
        resumed = pruner.loader(range(8), batch_size=2)
        resumed.load_state_dict(loader.state_dict())
        batches = iter(resumed)
        next(batches)  # of what was left; the loop updates the batch before it once more
        pruner.update(index, torch.full((2,), 1.0, requires_grad=True))
        pruner.synchronize()
        return pruner.scores()["score"][index].tolist()

    assert run_ranks(2, work, tmp_path) == [[1.0, 1.0]] * 2


def test_the_whole_row_comes_from_the_rank_that_saw_the_sample(tmp_path):
    """UCB's mean and its count belong together."""

    def work(rank):
        pruner = Pruner(UCB(prune_ratio=0.0), 8)
        for epoch in range(4):
            for index, _ in pruner.loader(range(8), batch_size=4):
                for value in (100.0 - epoch, index * 1.0 + epoch):
                    pruner.update(index, (torch.zeros(4) + value).requires_grad_())
                    pruner.synchronize()
        return pruner.table()

    alone = work(0)
    for table in run_ranks(2, work, tmp_path):
        assert_tables_equal(table, alone)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.filterwarnings("ignore:.* losses of epoch . were NaN or infinite:RuntimeWarning")
def test_a_second_loss_that_is_not_finite_replaces_a_first_one_that_is(bad):
    """And the other way round: what counts is the newest."""
    for values, failed in (((1.0, bad), tuple(range(8))), ((bad, 1.0), ())):
        pruner = Pruner(OrderDP(explore=1.0, exploit=1.0), 8)
        for index, _ in pruner.loader(range(8), batch_size=4):
            for value in values:
                pruner.update(index, torch.full((4,), value, requires_grad=True))
        assert pruner.report().failed == failed
        assert pruner.report().visits == 8
