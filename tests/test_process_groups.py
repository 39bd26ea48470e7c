"""Ranks that see the same batch: `process_group` names those that share the data."""

import os

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from orderdp import UCB, InfoBatch, OrderDP, Pruner
from orderdp.sharded import ShardedPruner
from orderdp.stream import StreamPruner
from reference.loop import LEFT_EARLY, joined, train, train_epoch
from reference.processes import run_ranks

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
N, EPOCHS = 47, 3
STRATEGIES = [OrderDP(explore=1.0, exploit=0.5), UCB(prune_ratio=0.5), InfoBatch()]


def by_group(rank):
    """Ranks 0 and 2 share the data of one copy of the model, 1 and 3 that of the other."""
    groups = [dist.new_group([first, first + 2]) for first in range(2)]
    return groups[rank % 2]


def by_mesh(rank):
    return init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))["dp"]


def by_mesh_group(rank):
    return init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp")).get_group("dp")


GROUPS = pytest.mark.parametrize("group_of_rank", [by_group, by_mesh, by_mesh_group])


def train_rank(rank, strategy, group=None, **arguments):
    pruner = Pruner(strategy, N, process_group=group)
    epochs = train(pruner, pruner.loader(range(N), batch_size=4, **arguments), EPOCHS)
    pruner.synchronize()
    return {"epochs": epochs, "table": pruner.table(), "ranks": list(pruner.ranks())}


@GROUPS
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_four_ranks_as_two_by_two_train_what_two_ranks_do(strategy, group_of_rank, tmp_path):
    for name in ("two", "four"):
        (tmp_path / name).mkdir()
    two = run_ranks(2, train_rank, tmp_path / "two", strategy)
    four = run_ranks(4, lambda rank: train_rank(rank, strategy, group_of_rank(rank)), tmp_path / "four")
    assert [rank["ranks"] for rank in four] == [[0, 2], [0, 2], [1, 2], [1, 2]]
    for rank, result in enumerate(four):
        assert result["epochs"] == two[rank // 2]["epochs"]  # ranks of one data part see the same batches
        for column, values in two[0]["table"].items():
            assert torch.equal(result["table"][column], values), column


def test_the_world_is_the_default(tmp_path):
    def work(rank):
        pruner = Pruner(STRATEGIES[0], N)
        return [list(pruner.ranks()), joined(train_epoch(pruner, pruner.loader(range(N), batch_size=2)))]

    four = run_ranks(4, work, tmp_path)
    assert [ranks for ranks, _ in four] == [[rank, 4] for rank in range(4)]
    ids = joined(part for _, part in four)
    assert len(ids) == len(set(ids)) == 24


@GROUPS
def test_ranks_of_a_group_resume_inside_an_epoch(group_of_rank, tmp_path):
    def work(rank):
        group = group_of_rank(rank)

        def loader_of():
            pruner = Pruner(STRATEGIES[0], N, process_group=group)
            return pruner, pruner.loader(range(N), batch_size=4)

        expected = train(*loader_of(), 2)
        pruner, loader = loader_of()
        last = train_epoch(pruner, loader, num_batches=1)
        twin, resumed = loader_of()
        resumed.load_state_dict(loader.state_dict())
        return [last + train_epoch(twin, resumed), train_epoch(twin, resumed)] == expected

    assert run_ranks(4, work, tmp_path) == [True] * 4


@GROUPS
def test_steps_are_counted_over_the_group(group_of_rank, tmp_path):
    def work(rank):
        pruner = Pruner(STRATEGIES[0], N, process_group=group_of_rank(rank))
        loader = pruner.loader(range(N), batch_size=4)
        return [pruner.total_steps(5, 4), loader.total_steps(5), len(loader), pruner.steps_per_epoch(4)]

    assert run_ranks(4, work, tmp_path) == [[15, 15, 3, 3]] * 4


def test_total_steps_before_there_is_a_process_group_takes_the_number_of_ranks(tmp_path):
    alone = Pruner(STRATEGIES[0], N)
    assert alone.total_steps(3, 4) == 18
    expected = [alone.total_steps(3, 4, num_ranks=2), 9]
    assert expected == [9, 9]

    def work(rank):
        pruner = Pruner(STRATEGIES[0], N)
        loader = pruner.loader(range(N), batch_size=4)
        return [loader.total_steps(3), sum(map(len, train(pruner, loader, 3)))]

    assert run_ranks(2, work, tmp_path) == [expected] * 2


def test_a_loader_built_before_the_process_group_counts_steps_after_it(tmp_path):
    pruner = Pruner(STRATEGIES[0], N)  # in the process that forks: no group exists yet
    loader = pruner.loader(range(N), batch_size=4)
    assert (loader.total_steps(3), len(loader)) == (18, 6)

    def work(rank):
        return [loader.total_steps(3), len(loader), sum(map(len, train(pruner, loader, 3)))]

    assert run_ranks(2, work, tmp_path) == [[9, 3, 9]] * 2


@pytest.mark.parametrize(
    ("group_of_rank", "text"),
    [
        (
            lambda rank: init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp")),
            "ValueError: process_group must be one dimension of the mesh, got 2 (('dp', 'tp')); write mesh['dp'] with",
        ),
        (
            lambda rank: [dist.new_group([0, 1]), dist.new_group([2, 3])][rank < 2],
            "ValueError: process_group must hold this process, got a group without rank ",
        ),
    ],
    ids=["mesh of two dimensions", "the group of the others"],
)
def test_groups_that_name_no_data_part_are_refused(group_of_rank, text, tmp_path):
    for raised in run_ranks(4, lambda rank: train_rank(rank, STRATEGIES[0], group_of_rank(rank)), tmp_path):
        assert raised.startswith(text)


def test_what_is_no_group_is_refused(tmp_path):
    def work(rank):
        for given in (1, "dp", [0, 1], -1):
            with pytest.raises(
                TypeError, match=r"process_group must be a process group or a device mesh, got .*; write"
            ):
                Pruner(STRATEGIES[0], N, process_group=given)

    assert run_ranks(2, work, tmp_path) == [None, None]


def test_a_group_before_torch_distributed_is_initialised_is_refused():
    with pytest.raises(
        RuntimeError, match=r"process_group needs torch\.distributed, got a group before it is initiali"
    ):
        Pruner(STRATEGIES[0], N, process_group="dp")


# Processes that were launched together, and know nothing of each other.


def epoch_of(kind):
    """Makes a pruner, and returns a function that begins its epoch."""
    if kind is StreamPruner:
        stream = StreamPruner([torch.arange(8)] * 2, STRATEGIES[0], batch_size=4, window=2, key=torch.Tensor.tolist)
        return lambda: next(iter(stream))
    pruner = kind(STRATEGIES[0], N)
    loader = pruner.loader(range(N), batch_size=4)
    assert (len(loader), loader.total_steps(3)) == (6, 18)  # before an epoch, nothing is lost
    pruner.load_state_dict(pruner.state_dict())
    return lambda: next(iter(loader))


@LEFT_EARLY
@pytest.mark.parametrize("kind", [Pruner, ShardedPruner, StreamPruner])
def test_an_epoch_of_a_process_that_does_not_know_the_others_is_refused(kind, monkeypatch):
    begin = epoch_of(kind)
    monkeypatch.setenv("WORLD_SIZE", "4")
    begin_launched = epoch_of(kind)
    for each in (begin, begin_launched):
        with pytest.raises(
            RuntimeError,
            match=r"^the 4 processes of WORLD_SIZE must form a process group before an epoch begins, got none, .*; "
            r"call torch.distributed.init_process_group, or write os.environ.pop\('WORLD_SIZE'\) if they are separate",
        ):
            each()
    os.environ.pop("WORLD_SIZE")
    begin()
    begin_launched()


def test_a_later_epoch_of_a_process_that_left_the_others_is_refused(monkeypatch):
    pruner = Pruner(STRATEGIES[0], N)
    loader = pruner.loader(range(N), batch_size=4)
    train_epoch(pruner, loader)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="the 2 processes of WORLD_SIZE"):
        next(iter(loader))
    assert pruner.epoch == 0
    assert pruner.report().trained == 24


@LEFT_EARLY
@pytest.mark.parametrize("kind", [Pruner, ShardedPruner, StreamPruner])
@pytest.mark.parametrize("size", ["1", "", "two"])
def test_one_process_that_was_launched_alone_trains(kind, size, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", size)
    epoch_of(kind)()


@pytest.mark.parametrize("kind", [Pruner, ShardedPruner, StreamPruner])
def test_a_process_group_may_come_after_the_pruner(kind, tmp_path):
    if kind is StreamPruner:
        batches = StreamPruner([torch.arange(8)] * 2, STRATEGIES[0], batch_size=4, window=2, key=torch.Tensor.tolist)
    else:
        batches = kind(STRATEGIES[0], N).loader(range(N), batch_size=4)

    def work(rank):
        os.environ["WORLD_SIZE"] = "2"
        count = 0
        for index, _ in batches:
            if kind is StreamPruner:  # whose next window asks for the losses of the last
                batches.update(index, torch.ones(len(index), requires_grad=True))
            count += 1
        return count

    steps = 2 if kind is StreamPruner else 3
    assert run_ranks(2, work, tmp_path) == [steps] * 2
