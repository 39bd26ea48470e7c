"""States of a sharded pruner that are unusual: after a step without update, after `record`, before an epoch."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp

from orderdp import OrderDP, Pruner
from orderdp.sharded import ShardedPruner, order, shard, top
from orderdp.stream import StreamPruner
from reference.loop import LEFT_EARLY, joined, loss_of, train_epoch
from reference.processes import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
HALF = OrderDP(prune_ratio=0.5)


def loaders(batch_size: int, **arguments) -> tuple:
    pruner = ShardedPruner(HALF, 40, **arguments)
    return pruner, pruner.loader(range(40), batch_size=batch_size)


def after_a_missed_update(rank: int, missed: int, steps: int) -> dict:
    """The second rank leaves out one update, as a loop does that skips a batch with a NaN; then the run goes on."""
    pruner, loader = loaders(2)
    for number, (index, _) in enumerate(loader):
        if (rank, number) != (1, missed):
            pruner.update(index, loss_of(index, 0))
        if number == steps - 1:
            break
    state = loader.state_dict()
    other, resumed = loaders(2)
    resumed.load_state_dict(state)
    left = resumed.remaining
    batches = len(train_epoch(other, resumed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the second rank alone tells what it missed
        other.begin_epoch(2)
    return {"inside": state["inside"], "left": left, "batches": batches, "missing": other.report().missing}


@LEFT_EARLY
@pytest.mark.parametrize(("missed", "steps"), [(1, 3), (2, 3), (4, 5)])
def test_ranks_resume_the_same_steps_where_one_of_them_left_out_an_update(tmp_path, missed, steps):
    for found in run_ranks(2, after_a_missed_update, tmp_path, missed, steps):
        expected = 5 - steps if steps < 5 else 5  # the next epoch, where none was left
        assert (found["left"], found["batches"]) == (5 - steps, expected)
        assert found["inside"] == (steps < 5)
        assert found["missing"] == (2 if steps < 5 else 0)  # the state is of a loop that left before the last step


@LEFT_EARLY
def test_record_ends_an_epoch_that_was_to_be_resumed():
    pruner, loader = loaders(5)
    trained = joined(train_epoch(pruner, loader, 2))
    state = loader.state_dict()
    other, resumed = loaders(5)
    resumed.load_state_dict(state)
    other.record(torch.tensor([1]), torch.tensor([2.0]))
    assert (other.next_epoch, other.resuming, resumed.remaining) == (1, False, 0)
    assert other.report().visits == len(trained)
    pruner.record(torch.tensor([1]), torch.tensor([2.0]))
    assert (other.begin_epoch(5).indices == pruner.begin_epoch(5).indices).all()


def test_a_state_without_an_epoch_or_with_odd_steps_is_not_resumed_and_changes_nothing():
    pruner, loader = loaders(5)
    empty = pruner.state_dict()
    train_epoch(pruner, loader)
    with pytest.raises(ValueError, match="a state is resumed inside an epoch, got one without"):
        pruner.load_state_dict(empty, resume=True)
    assert pruner.report().visits == 20


def odd_by_rank(rank: int) -> str:
    pruner, _ = loaders(2)
    state = {**pruner.state_dict(), "step": [5, False, False], "epoch": 0}
    with pytest.raises(ValueError, match=r"steps of 5 samples must be shared out evenly to be resumed, got 2 ranks"):
        pruner.load_state_dict(state, resume=True)
    return "refused"


def test_steps_that_the_ranks_cannot_share_out_are_not_resumed(tmp_path):
    assert run_ranks(2, odd_by_rank, tmp_path) == ["refused"] * 2


@LEFT_EARLY
def test_an_epoch_is_resumed_by_the_steps_of_its_state_only():
    pruner, loader = loaders(5)
    train_epoch(pruner, loader, 2)
    pruner.load_state_dict(pruner.state_dict(), resume=True)
    with pytest.raises(ValueError, match=re.escape("with the steps of its state, Batching(batch_size=5")):
        pruner.begin_epoch(3)
    pruner.begin_epoch(5)


@LEFT_EARLY
def test_a_resumed_state_may_be_replaced_by_one_between_epochs():
    pruner, loader = loaders(5)
    train_epoch(pruner, loader, 2)
    pruner.load_state_dict(pruner.state_dict(), resume=True)
    pruner.load_state_dict(pruner.state_dict())
    pruner.set_epoch(0)  # again
    assert not pruner.resuming
    assert len(pruner.begin_epoch(5).indices) == 20


@pytest.mark.parametrize("first", [np.inf, 0.0, -np.inf])
def test_what_failed_is_known_after_a_load_whatever_score_unseen_samples_have(first):
    pruner = ShardedPruner(OrderDP(explore=1.0, exploit=0.5, initial_score=first), 40)
    loader = pruner.loader(range(40), batch_size=20)
    for index, _ in loader:
        pruner.update(index, torch.where(index == index[3], torch.nan, loss_of(index, 0)))
        bad = int(index[3])
    with pytest.warns(RuntimeWarning, match="NaN"):
        pruner.record(torch.tensor([bad - 1]), torch.tensor([1.0]))
    pruner.load_state_dict(pruner.state_dict())
    assert pruner.report().failed == (bad,)


def few_by_rank(rank: int, folder, save: bool) -> list[list[int]]:
    batch_size = 6 // (2 if save else 3)
    pruner, loader = loaders(batch_size, seed=5)
    if save:
        train_epoch(pruner, loader, 1)
        dcp.save({"loader": loader.state_dict()}, checkpoint_id=folder)
        return train_epoch(*loaders(batch_size, seed=5))
    state = {"loader": loader.state_dict()}
    dcp.load(state, checkpoint_id=folder)
    loader.load_state_dict(state["loader"])
    return train_epoch(pruner, loader)


@pytest.mark.filterwarnings("ignore")  # of torch.distributed.checkpoint
def test_fewer_samples_than_blocks_are_saved_and_resumed_too(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    whole = run_ranks(2, few_by_rank, folders[0], tmp_path / "saved", True)
    rest = run_ranks(3, few_by_rank, folders[1], tmp_path / "saved", False)
    expected = [sorted(joined(step)) for step in zip(*whole, strict=True)][1:]
    assert [sorted(joined(step)) for step in zip(*rest, strict=True)] == expected


def reports_by_rank(rank: int, batch_size: int) -> dict:
    """Reports before and after a load, of a run with losses that are NaN, and with an update left out."""
    pruner, loader = loaders(batch_size, seed=11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what goes wrong
        for epoch in range(4):
            for number, (index, _) in enumerate(loader):
                losses = torch.where(index % 7 == 0, torch.nan, loss_of(index, epoch))
                if (rank, epoch, number) != (1, 1, 3):
                    pruner.update(index, losses)
        train_epoch(pruner, loader, 2)
    other, resumed = loaders(batch_size, seed=11)
    resumed.load_state_dict(loader.state_dict())
    table = other._shard.table
    oldest = int((other._begun - 1 - table.last_epoch[table.last_epoch >= 0]).max())
    reports = [dataclasses.asdict(this.report()) for this in (pruner, other)]
    for report in reports:
        report["failed"] = list(report["failed"])
        del report["selection_s"]
    return {"reports": reports, "oldest": oldest}


def test_a_report_is_of_all_ranks_and_the_same_after_a_load(tmp_path):
    ranks = run_ranks(2, reports_by_rank, tmp_path, 2)
    before, after = ranks[0]["reports"]
    assert before == after
    assert ranks[1]["reports"] == [before, after]
    assert before["visits"] == 4 * 20 - 2 + 8
    assert before["missing"] == 2
    assert before["non_finite"] == 6
    assert len(before["failed"]) == 8
    assert before["max_age"] == max(rank["oldest"] for rank in ranks)
    assert ranks[0]["oldest"] < ranks[1]["oldest"]


def chosen_by_rank(rank: int, apart: bool) -> list[list[int]]:
    if apart and rank == 1:  # another processor may round a chance otherwise
        for module in (shard, order, top):
            plain = module.split
            module.split = lambda sizes, count, rng, plain=plain: plain(sizes, count, np.random.default_rng(99))
    pruner, loader = loaders(2)
    return joined([train_epoch(pruner, loader) for _ in range(3)])


def test_ranks_whose_random_numbers_differ_follow_the_first(tmp_path):
    folders = [tmp_path / "equal", tmp_path / "apart"]
    for folder in folders:
        folder.mkdir()
    found = [run_ranks(2, chosen_by_rank, folder, folder.name == "apart") for folder in folders]
    assert found[0] == found[1]


@LEFT_EARLY
@pytest.mark.parametrize("batches", [0, 1, 4], ids=["before an epoch", "inside one", "after it"])
@pytest.mark.parametrize("of_loader", [True, False])
def test_a_state_of_the_other_kind_of_pruner_is_refused(batches, of_loader):
    kinds = {"orderdp.Pruner": Pruner, "orderdp.sharded.ShardedPruner": ShardedPruner}
    for saved, other in (list(kinds), list(kinds)[::-1]):
        pruner, following = (kinds[name](HALF, 40) for name in (saved, other))
        loader, loading = (each.loader(range(40), batch_size=5) for each in (pruner, following))
        if batches:
            train_epoch(pruner, loader, batches)
        message = f"^the state must be one of {other}, got one of {saved}; load it into a pruner of that class with the"
        source, target = (loader, loading) if of_loader else (pruner, following)
        state = source.state_dict()
        with pytest.raises(ValueError, match=message):
            target.load_state_dict(state)
        assert following.epoch is None
        train_epoch(following, loading)  # nothing was changed


def test_a_state_of_a_stream_is_refused():
    state = StreamPruner([torch.arange(4)], HALF, batch_size=2, key=torch.Tensor.tolist).state_dict()
    for pruner, name in ((Pruner(HALF, 40), "orderdp.Pruner"), (ShardedPruner(HALF, 40), "orderdp.sharded.ShardedPru")):
        with pytest.raises(
            ValueError, match=f"^the state must be one of {name}.*, got one of orderdp.stream.StreamPru"
        ):
            pruner.load_state_dict(state)


def test_the_first_version_of_a_state_is_one_of_a_pruner():
    """Its number is that of a sharded pruner's."""
    state = {**Pruner(HALF, 40).state_dict(), "version": 1}
    with pytest.raises(ValueError, match=r"got one of orderdp.Pruner; load it into a pruner of that class"):
        ShardedPruner(HALF, 40).load_state_dict(state)
