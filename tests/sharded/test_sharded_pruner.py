"""OrderDP whose scores are shared out over the ranks."""

import re

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from scipy import stats

from orderdp import DynamicRandom, OrderDP, Pruner
from orderdp.sharded import ShardedPruner
from orderdp.theory import inclusion_probabilities
from reference.loop import LEFT_EARLY, NEVER_UPDATED, joined, loss_of, train, train_epoch
from reference.processes import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
N, EPOCHS = 600, 3
HALF = OrderDP(prune_ratio=0.5)


def scores_of(pruner: ShardedPruner) -> list[float]:
    """The scores of this rank, as its state holds them."""
    blocks = pruner.state_dict()["blocks"]
    return [score for number in sorted(map(int, blocks)) for score in blocks[str(number)]["score"].tolist()]


def train_rank(rank: int, batch_size: int, arguments: dict) -> dict:
    pruner = ShardedPruner(HALF, N, seed=3)
    loader = pruner.loader(range(N), batch_size=batch_size, **arguments)
    epochs = train(pruner, loader, EPOCHS)
    pruner.begin_epoch(batch_size, **arguments)
    report = pruner.report()
    return {
        "epochs": epochs,
        "scores": scores_of(pruner),
        "report": [report.visits, report.never_seen, report.mean_age, report.max_age, report.trained, report.mastered],
    }


@pytest.mark.parametrize("arguments", [{}, {"drop_last": True}, {"stable_shapes": True}], ids=str)
@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_ranks_choose_train_and_remember_what_one_process_does(tmp_path, num_ranks, arguments):
    alone = train_rank(0, 24, arguments)
    ranks = run_ranks(num_ranks, train_rank, tmp_path, 24 // num_ranks, arguments)
    for epoch, steps in enumerate(alone["epochs"]):
        by_step = list(zip(*(rank["epochs"][epoch] for rank in ranks), strict=True))  # as many steps on every rank
        assert [joined(step) for step in by_step] == steps
    assert joined(rank["scores"] for rank in ranks) == alone["scores"]
    assert all(rank["report"] == pytest.approx(alone["report"]) for rank in ranks)


def with_scores(scores: np.ndarray, strategy: OrderDP, seed: int = 0) -> ShardedPruner:
    """A pruner that remembers these scores."""
    pruner = ShardedPruner(strategy, len(scores), seed=seed)
    state = pruner.state_dict()
    columns = torch.from_numpy(scores.astype(np.float32)).split([len(b["score"]) for b in state["blocks"].values()])
    for block, column in zip(state["blocks"].values(), columns, strict=True):
        block["score"] = column
    pruner.load_state_dict(state)
    return pruner


@NEVER_UPDATED
def test_each_rank_of_loss_is_kept_as_often_as_the_theory_says():
    n, epochs = 30, 1000
    strategy = OrderDP(explore=0.5, exploit=0.4)
    gammas = inclusion_probabilities(n, *strategy.sizes(n))
    scores = np.random.default_rng(0).permutation(n)
    pruner = with_scores(scores, strategy)
    times = np.zeros(n)
    for _ in range(epochs):
        times[pruner.begin_epoch(8).indices] += 1
    expected = epochs * gammas[n - 1 - scores]
    often = expected > 5
    assert stats.chisquare(times[often], expected[often] * times[often].sum() / expected[often].sum()).pvalue > 1e-3
    assert times[~often].sum() < 20
    assert times.sum() == epochs * strategy.sizes(n)[1]


@NEVER_UPDATED
def test_equal_scores_are_kept_equally_often_in_every_order():
    pruner, times, firsts = with_scores(np.ones(20), HALF), np.zeros(20), np.zeros(20)
    for _ in range(1000):
        ids = pruner.begin_epoch(5).indices
        times[ids] += 1
        firsts[ids[0]] += 1
    assert stats.chisquare(times).pvalue > 1e-3
    assert stats.chisquare(firsts).pvalue > 1e-3


@NEVER_UPDATED
def test_unseen_samples_come_first_and_failed_ones_last():
    scores = np.r_[np.full(10, np.inf), np.arange(20.0), np.full(10, -np.inf)]
    pruner = with_scores(scores, OrderDP(explore=1.0, exploit=0.5))
    assert sorted(pruner.begin_epoch(4).indices) == [*range(10), *range(20, 30)]


def test_a_loss_that_is_not_finite_fails_its_sample_and_is_counted():
    pruner = ShardedPruner(OrderDP(explore=1.0, exploit=1.0), 20)
    for index, _ in pruner.loader(range(20), batch_size=7):
        losses = loss_of(index, 0) + 1
        pruner.update(index, torch.where(index == 11, torch.nan, torch.where(index == 12, -torch.inf, losses)))
    report = pruner.report()
    assert (report.non_finite, report.missing, report.visits, report.failed) == (2, 0, 20, (11, 12))
    assert pruner.report() == report  # it changed nothing
    with pytest.warns(RuntimeWarning, match="2 losses of epoch 0 were NaN or infinite"):
        pruner.begin_epoch(7)
    assert [i for i, score in enumerate(scores_of(pruner)) if score == -np.inf] == [11, 12]


def test_samples_that_no_update_saw_fail_and_are_told():
    pruner = ShardedPruner(OrderDP(explore=1.0, exploit=1.0), 20)
    for number, (index, _) in enumerate(pruner.loader(range(20), batch_size=5)):
        if number != 1:
            pruner.update(index, loss_of(index, 0))
    assert pruner.report().missing == 5
    with pytest.warns(RuntimeWarning, match="5 of the 20 samples of epoch 0 were left without a loss"):
        pruner.begin_epoch(5)
    assert scores_of(pruner).count(-np.inf) == 5
    assert pruner.report().missing == 5


def recorded_by_rank(rank: int) -> dict:
    pruner = ShardedPruner(OrderDP(explore=1.0, exploit=0.5), 20)
    for index, _ in pruner.loader(range(20), batch_size=2):
        pruner.update(index, loss_of(index, 0) + torch.nan)
    failed = pruner.report().failed
    with pytest.warns(RuntimeWarning, match="losses of epoch 0 were NaN"):
        pruner.record(torch.tensor([3, 19, 0, 10]), torch.tensor([5.0, 6.0, 7.0, 8.0]))
    after = pruner.report()
    return {"failed": list(failed), "after": list(after.failed), "visits": after.visits, "scores": scores_of(pruner)}


def test_scores_from_outside_reach_their_ranks_and_end_a_failure(tmp_path):
    ranks = run_ranks(2, recorded_by_rank, tmp_path)
    scores = joined(rank["scores"] for rank in ranks)
    assert [scores[i] for i in (3, 19, 0, 10)] == [5.0, 6.0, 7.0, 8.0]
    for rank in ranks:
        assert len(rank["failed"]) == rank["visits"] == 10
        assert rank["after"] == sorted(set(rank["failed"]) - {3, 19, 0, 10})
        assert rank["after"] == [i for i, score in enumerate(scores) if score == -np.inf]


def gradient_of_rank(rank: int, batch_size: int) -> list[float]:
    pruner = ShardedPruner(HALF, 46)
    found = []
    for index, _ in pruner.loader(range(46), batch_size=batch_size):
        found.append(pruner.update(index, loss_of(index, 0)).item())
        with pytest.raises(ValueError, match="reduction must be 'mean' or 'none', got 'sum'"):
            pruner.update(index, loss_of(index, 0), reduction="sum")
    return found


def test_the_mean_over_the_ranks_is_the_mean_of_the_step(tmp_path):
    alone = gradient_of_rank(0, 8)
    ranks = run_ranks(3, gradient_of_rank, tmp_path, 3)  # steps of 7 or 8 samples, so that ranks get 2 or 3
    assert len(alone) == len(ranks[0]) == 3
    assert np.mean(ranks, axis=0) == pytest.approx(alone, rel=1e-6)


def test_weights_scores_and_single_losses_are_as_a_pruners():
    answers = []
    for make in (Pruner, ShardedPruner):
        pruner = make(OrderDP(explore=1.0, exploit=1.0), 12)
        ids = torch.from_numpy(np.array(pruner.begin_epoch(12).indices)).long().sort().values
        losses, weights = loss_of(ids, 0), torch.arange(12.0) + 1
        answers.append([pruner.update(ids, losses, weights=weights).item()])
        answers[-1] += pruner.update(ids, losses, reduction="none").tolist()
        pruner.update(ids, losses, scores=weights)
        pruner.begin_epoch(12)
        answers[-1] += scores_of(pruner) if make is ShardedPruner else pruner.scores()["score"].tolist()
    assert answers[0] == answers[1]


def test_batches_may_come_in_another_order_where_few_are_selected():
    pruner = ShardedPruner(OrderDP(prune_ratio=0.97), 1000)
    batches = [index for index, _ in pruner.loader(range(1000), batch_size=8)][::-1]
    for index in batches:
        pruner.update(index, loss_of(index, 0))
    assert pruner.report().trained == 30
    foreign = next(i for i in range(1000) if not any(i in batch for batch in batches))
    with pytest.raises(ValueError, match=rf"selected for the running epoch, got {foreign};"):
        pruner.update(torch.tensor([foreign]), loss_of(torch.tensor([foreign]), 0))


def tiny_by_rank(rank: int) -> list[int]:
    pruner = ShardedPruner(OrderDP(explore=1.0, exploit=1.0), 3)
    loader = pruner.loader(range(3), batch_size=1)
    train(pruner, loader, 2)
    pruner.load_state_dict(pruner.state_dict())
    return joined(train_epoch(pruner, loader))


def test_a_rank_may_hold_no_sample_of_a_tiny_data_set(tmp_path):
    assert sorted(joined(run_ranks(3, tiny_by_rank, tmp_path))) == [0, 1, 2]


# Saved and resumed, also on another number of ranks.


def saved_by_rank(rank: int, folder, batch_size: int, epochs: int, steps: int) -> None:
    pruner = ShardedPruner(HALF, N, seed=3)
    loader = pruner.loader(range(N), batch_size=batch_size)
    train(pruner, loader, epochs)
    if steps:
        train_epoch(pruner, loader, steps)
    dcp.save({"loader": loader.state_dict()}, checkpoint_id=folder)


def loaded(folder, batch_size: int) -> tuple:
    pruner = ShardedPruner(HALF, N, seed=3)
    loader = pruner.loader(range(N), batch_size=batch_size)
    state = {"loader": loader.state_dict()}
    dcp.load(state, checkpoint_id=folder)
    loader.load_state_dict(state["loader"])
    return pruner, loader


def resumed_by_rank(rank: int, folder, batch_size: int, again) -> dict:
    pruner, loader = loaded(folder, batch_size)
    left = loader.remaining
    if again:  # saved once more before a step was made
        dcp.save({"loader": loader.state_dict()}, checkpoint_id=again)
        pruner, loader = loaded(again, batch_size)
    begun = pruner.next_epoch
    epochs = train(pruner, loader, EPOCHS - begun)
    pruner.begin_epoch(batch_size)
    return {"begun": begun, "left": left, "epochs": epochs, "scores": scores_of(pruner)}


@pytest.mark.filterwarnings("ignore")  # of torch.distributed.checkpoint
@pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize(("epochs", "steps"), [(1, 5), (2, 0), (0, 1)])
def test_a_run_goes_on_with_another_number_of_ranks(tmp_path, first, second, epochs, steps):
    expected = train_rank(0, 24, {})
    folders = [tmp_path / name for name in ("first", "second", "again")]
    for folder in folders:
        folder.mkdir()
    run_ranks(first, saved_by_rank, folders[0], folders[0] / "saved", 24 // first, epochs, steps)
    again = folders[2] / "saved" if steps == 5 else None
    ranks = run_ranks(second, resumed_by_rank, folders[1], folders[0] / "saved", 24 // second, again)
    assert [rank["begun"] for rank in ranks] == [epochs] * second
    assert [rank["left"] for rank in ranks] == [len(expected["epochs"][0]) - steps if steps else 0] * second
    for number, epoch in enumerate(range(epochs, EPOCHS)):
        by_step = list(zip(*(rank["epochs"][number] for rank in ranks), strict=True))
        begin = steps if number == 0 else 0
        assert [joined(step) for step in by_step] == expected["epochs"][epoch][begin:]
    assert joined(rank["scores"] for rank in ranks) == expected["scores"]


@LEFT_EARLY
def test_a_state_inside_an_epoch_may_be_left_for_the_next(tmp_path):
    pruner = ShardedPruner(HALF, N, seed=3)
    loader = pruner.loader(range(N), batch_size=24)
    train_epoch(pruner, loader, 5)
    state = loader.state_dict()
    other = ShardedPruner(HALF, N, seed=3)
    other.load_state_dict(state["pruner"])
    assert other.next_epoch == 1
    assert other.report().visits == pruner.report().visits > 100
    assert (pruner.begin_epoch(24).indices == other.begin_epoch(24).indices).all()
    assert scores_of(pruner) == scores_of(other)


# Mistakes.


def saved_whole_by_rank(rank: int) -> str:
    loader = ShardedPruner(HALF, 40).loader(range(40), batch_size=4)
    loader.state_dict()
    loader.whole_state()
    return "saved"


def test_a_framework_that_saves_one_rank_for_all_is_refused(tmp_path):
    assert saved_whole_by_rank(0) == "saved"
    for said in run_ranks(2, saved_whole_by_rank, tmp_path):
        assert said.startswith("RuntimeError: a checkpoint of one file needs a pruner that is whole on each rank")


def mistakes_of_rank(rank: int) -> list[str]:
    """What each mistake says on this rank."""
    said = []
    pruner = ShardedPruner(HALF, 40)
    own = pruner.begin_epoch(4).indices
    others = [None, None]
    dist.all_gather_object(others, own.tolist())
    foreign = torch.tensor(others[1 - rank][:2])
    for call in (
        lambda: pruner.update(foreign, loss_of(foreign, 0)),
        lambda: ShardedPruner(HALF, 40, seed=rank).begin_epoch(4),
        lambda: ShardedPruner(HALF, 40).begin_epoch(4 + rank),
    ):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            call()
        said.append(str(caught.value))
    return said


def test_mistakes_of_ranks_get_one_clear_line(tmp_path):
    for foreign, other_seed, other_cut in run_ranks(2, mistakes_of_rank, tmp_path):
        assert foreign.startswith("index must hold samples selected for the running epoch")
        assert other_seed.startswith("every rank must hold the same pruner")
        assert other_cut.startswith("every rank must cut an epoch into the same steps")


def used_before_the_group(rank: int) -> str:
    pruner = ShardedPruner(HALF, 40)
    pruner.begin_epoch(4)
    pruner._shard.wire.rank, pruner._shard.wire.num_ranks = 0, 1  # as if made before init_process_group
    with pytest.raises(RuntimeError) as caught:
        pruner.begin_epoch(4)
    return str(caught.value)


def test_a_table_made_before_the_process_group_is_refused(tmp_path):
    for rank, said in enumerate(run_ranks(2, used_before_the_group, tmp_path)):
        assert f"got rank {rank} of 2 after rank 0 of 1; call init_process_group first" in said


@pytest.mark.parametrize(
    ("strategy", "error", "message"),
    [
        (DynamicRandom(prune_ratio=0.5), TypeError, "a sharded table is for OrderDP, got DynamicRandom"),
        (OrderDP(prune_ratio=0.5, skip=0.1), ValueError, "keeps the highest scores of one draw an epoch, got OrderDP"),
        (OrderDP(prune_ratio=0.5, uniform_share=0.1), ValueError, "keeps the highest scores of one draw an epoch"),
        (OrderDP(prune_ratio=0.5, per="iteration"), ValueError, "keeps the highest scores of one draw an epoch"),
        (OrderDP(prune_ratio=0.9999), ValueError, "must keep at least one of the 40 samples"),
    ],
)
def test_other_methods_are_refused(strategy, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ShardedPruner(strategy, 40)


def test_a_loop_that_forms_its_own_batches_is_refused():
    with pytest.raises(ValueError, match=r"needs the batch size, got none; take the batches from pruner\.loader"):
        ShardedPruner(HALF, 40).begin_epoch()
    with pytest.raises(RuntimeError, match="update needs an epoch, got none begun"):
        ShardedPruner(HALF, 40).update(torch.tensor([1]), loss_of(torch.tensor([1]), 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "the state must be of seed 0, got 1;"),
        ({"num_samples": 41}, "the state must be of num_samples 40, got 41;"),
        ({"version": 0}, "the state must be of version 1, got 0;"),
        ({"fingerprint": "other"}, "the state must be of fingerprint None, got 'other';"),
        ({"blocks": {}}, "the state must hold blocks 0 .. 255 of this rank, got none, or another size, for block 6;"),
        ({"chunks": {}}, "the state must hold the chunks of this rank"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, message):
    pruner = ShardedPruner(HALF, 40)
    train_epoch(pruner, pruner.loader(range(40), batch_size=5))
    state = pruner.state_dict()
    with pytest.raises(ValueError, match=re.escape(message)):
        pruner.load_state_dict({**state, **change})
    with pytest.raises(ValueError, match=re.escape("a sharded pruner changes no setting, got change=['strategy']")):
        pruner.load_state_dict(state, change=("strategy",))
    assert pruner.report().visits == 20
