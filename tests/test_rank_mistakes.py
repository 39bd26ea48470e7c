"""What ranks do differently, or to the ids of another rank, is refused when they meet, with the cure."""

import os

import pytest
import torch
import torch.distributed as dist

from orderdp import FullData, IndexedDataset, OrderDP, Pruner
from reference.loop import loss_of, train_epoch
from reference.processes import run_ranks

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
N = 100
HALF = OrderDP(explore=1.0, exploit=0.5)
SAME_STEPS = (
    "RuntimeError: every rank must cut an epoch into the same steps, got different batch_size, drop_last or sta"
)
SAME_PRUNER = (
    "RuntimeError: every rank must hold the same pruner, got different strategies, schedules, sizes, seeds, ep"
)
SAME_CALL = "RuntimeError: every rank must make the same call, got "


def update(pruner, index):
    return pruner.update(index, loss_of(index, pruner.epoch))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"batch_size": 4}, {"batch_size": 5}),
        ({"batch_size": 5}, {"batch_size": 5, "drop_last": True}),
        ({"batch_size": 7}, {"batch_size": 7, "stable_shapes": True}),
        ({"batch_size": 7, "drop_last": True}, {"batch_size": 7, "stable_shapes": True}),
        ({"batch_size": 10}, {"batch_size": 10, "stable_shapes": True}),  # equal steps this time, not in every epoch
        ({"batch_size": 128}, {"batch_size": 64}),  # one step each
    ],
    ids=str,
)
@pytest.mark.parametrize("by_sampler", [False, True])
def test_ranks_that_cut_an_epoch_into_different_steps_are_told_so(first, second, by_sampler, tmp_path):
    def work(rank):
        pruner, how = Pruner(HALF, N), second if rank else first
        if by_sampler:
            list(pruner.sampler(**how))
        else:
            train_epoch(pruner, pruner.loader(range(N), **how))

    for raised in run_ranks(2, work, tmp_path):
        assert raised.startswith(SAME_STEPS)


def test_one_of_three_ranks_that_cuts_otherwise_is_found(tmp_path):
    def work(rank):
        pruner = Pruner(HALF, N)
        train_epoch(pruner, pruner.loader(range(N), batch_size=4 + (rank == 2)))

    for raised in run_ranks(3, work, tmp_path):
        assert raised.startswith(SAME_STEPS)


def record(pruner, rank, scores):
    pruner.record(torch.arange(3), torch.tensor(scores))


@pytest.mark.parametrize(
    "differ",
    [
        lambda pruner, rank: record(pruner, rank, [1.0, 2.0, 3.0 + rank]),
        lambda pruner, rank: record(pruner, rank, [1.0, 2.0, 3.0]) if rank else None,
        lambda pruner, rank: pruner.record(torch.arange(3) + rank, torch.ones(3)),
        lambda pruner, rank: [record(pruner, rank, [1.0] * 3) for _ in range(1 + rank)],
    ],
    ids=["other scores", "on one rank only", "other samples", "twice"],
)
@pytest.mark.parametrize("inside", [False, True])
def test_ranks_that_recorded_different_scores_are_told_so(differ, inside, tmp_path):
    def work(rank):
        pruner = Pruner(HALF, N)
        if inside:
            train_epoch(pruner, pruner.loader(range(N), batch_size=5))
        differ(pruner, rank)
        pruner.begin_epoch(5)

    for raised in run_ranks(2, work, tmp_path):
        assert raised.startswith(SAME_PRUNER)


def test_ranks_that_recorded_the_same_scores_go_on(tmp_path):
    def work(rank):
        pruner = Pruner(HALF, N)
        record(pruner, rank, [7.0, 8.0, 9.0])
        pruner.begin_epoch(5)
        return pruner.scores()["score"][:3].tolist()

    assert run_ranks(2, work, tmp_path) == [[7.0, 8.0, 9.0]] * 2


@pytest.mark.parametrize("of_loader", [False, True])
def test_a_state_taken_on_one_rank_only_is_named(of_loader, tmp_path):
    def work(rank):
        pruner = Pruner(HALF, N)
        loader = pruner.loader(range(N), batch_size=5)
        train_epoch(pruner, loader)
        if rank == 0:
            (loader if of_loader else pruner).state_dict()
        train_epoch(pruner, loader)

    for raised in run_ranks(2, work, tmp_path):
        assert raised.startswith(
            SAME_CALL + "rank 0 in state_dict, rank 1 in begin_epoch; call state_dict on every rank"
        )


def test_a_rank_that_synchronizes_alone_is_named(tmp_path):
    def work(rank):
        pruner = Pruner(HALF, N)
        loader = pruner.loader(range(N), batch_size=5)
        train_epoch(pruner, loader)
        (pruner.synchronize if rank == 2 else pruner.state_dict)()

    for raised in run_ranks(3, work, tmp_path):
        assert raised.startswith(SAME_CALL + "rank 0 in state_dict, rank 1 in state_dict, rank 2 in synchronize")


# Ids of the part of another rank.

OTHERS_PART = "ValueError: index must hold this rank's part of each step, got "
CURE = "do not let a framework split the batches again, and give ranks that share their data the same Pruner(..., proc"


@pytest.mark.parametrize("how", [{}, {"stable_shapes": True}, {"drop_last": True}], ids=str)
@pytest.mark.parametrize("take", ["other", "both", "next of the other", "one of the other", "the other, later"])
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ids_of_another_rank_s_part_are_refused(take, how, num_ranks, tmp_path):
    def work(rank):
        pruner = Pruner(FullData(), N)
        selection = torch.from_numpy(pruner.begin_epoch(4, **how).indices).long()
        steps = pruner._record.steps
        other = type(steps)(steps.num_selected, steps.batching, (rank + 1) % num_ranks, num_ranks)
        begin, end = steps.batch(0)
        own, others = selection[begin:end], selection[slice(*other.batch(0))]
        if take == "the other, later":
            update(pruner, own)
        update(
            pruner,
            {
                "other": others,
                "both": selection[slice(*steps[0])],
                "next of the other": selection[slice(*other.batch(1))],
                "one of the other": torch.cat([own[:-1], others[:1]]),
                "the other, later": others,
            }[take],
        )

    for raised in run_ranks(num_ranks, work, tmp_path):
        assert raised.startswith(OTHERS_PART)
        assert CURE in raised


def test_a_batch_that_runs_on_into_the_next_rank_s_part_is_refused(tmp_path):
    """It begins where this rank's own batch begins, so only its length tells."""

    def work(rank):
        pruner = Pruner(FullData(), N)
        selection = torch.from_numpy(pruner.begin_epoch(4).indices).long()
        begin, end = pruner._record.steps.batch(0)
        update(pruner, selection[begin : end + 1])

    first, second = run_ranks(2, work, tmp_path)
    assert first.startswith(OTHERS_PART)
    assert second.startswith(OTHERS_PART)


def test_own_ids_in_any_order_and_in_any_parts_are_taken(tmp_path):
    def work(rank):
        pruner = Pruner(FullData(), N)
        loader = pruner.loader(range(N), batch_size=4)
        ids = torch.cat([index for index, _ in loader])
        for part in ids.flip(0).split([7, 1, len(ids) - 8]):
            update(pruner, part)
        pruner.synchronize()
        return int(pruner.visits().sum())

    assert run_ranks(2, work, tmp_path) == [N, N]


# Batches that accelerate would split a second time.


def accelerated(**arguments):
    """An Accelerator that knows the ranks of this process."""
    accelerate = pytest.importorskip("accelerate")
    if dist.is_initialized():
        rank, size = str(dist.get_rank()), str(dist.get_world_size())
        os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, LOCAL_WORLD_SIZE=size, ACCELERATE_USE_CPU="true")
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)  # of a test before the fork
    config = accelerate.utils.DataLoaderConfiguration(**arguments)
    return accelerate.Accelerator(cpu=True, dataloader_config=config)


@pytest.mark.parametrize("arguments", [{}, {"split_batches": True}, {"even_batches": False}], ids=str)
def test_a_second_split_by_accelerate_is_refused(arguments, tmp_path):
    def work(rank):
        pruner = Pruner(HALF, 160)
        own = torch.utils.data.DataLoader(IndexedDataset(range(160)), batch_sampler=pruner.sampler(4))
        accelerator = accelerated(**arguments)
        assert accelerator.num_processes == 2
        train_epoch(pruner, accelerator.prepare(own))

    for raised in run_ranks(2, work, tmp_path):
        assert raised.startswith(
            "RuntimeError: the batches are already this rank's part, got an accelerate.prepare that"
        )
        assert raised.endswith("do not prepare this DataLoader, or use pruner.loader, which accelerate leaves as it is")


def test_a_loader_that_accelerate_prepares_gives_each_rank_its_part(tmp_path):
    def work(rank):
        pruner = Pruner(HALF, 160)
        accelerator = accelerated()
        assert accelerator.num_processes == 2
        batches = train_epoch(pruner, accelerator.prepare(pruner.loader(range(160), batch_size=4)))
        pruner.synchronize()
        return [len(batches), int(pruner.visits().sum())]

    assert run_ranks(2, work, tmp_path) == [[10, 80]] * 2


def test_one_process_may_let_accelerate_prepare_its_batches():
    """There is nothing to split."""
    assert not dist.is_initialized()
    pruner = Pruner(HALF, 160)
    own = torch.utils.data.DataLoader(IndexedDataset(range(160)), batch_sampler=pruner.sampler(4))
    assert len(train_epoch(pruner, accelerated().prepare(own))) == 20
    assert pruner.report().trained == 80
