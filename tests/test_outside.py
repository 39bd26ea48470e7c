"""Scores from outside, a data set that grows, and the table of all that is remembered."""

import math
from dataclasses import dataclass

import pytest
import torch

import orderdp
from orderdp import UCB, FullData, OrderDP, OrderedSGD, Pruner
from reference.loop import NEVER_UPDATED, TOP_HALF, begun, loss_of, train, train_epoch, with_gradient

NOT_FINITE = pytest.mark.filterwarnings("ignore:.* losses of epoch .* were NaN or infinite:RuntimeWarning")


@dataclass(frozen=True)
class Averaging(FullData):
    """Remembers an average over time and a count, which nothing but a new beginning brings back from -inf."""

    @property
    def columns(self):
        return {"average": 50.0, "count": 0.0}

    def observe(self, old, losses):
        average = torch.where(old["count"] > 0, (old["average"] + losses) / 2, losses)
        return {"average": average, "count": old["count"] + 1}


# Scores from outside.


def test_scores_from_a_proxy_decide_the_first_epoch():
    pruner = Pruner(TOP_HALF, 8)
    pruner.record(torch.arange(8), torch.tensor([1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0]))
    assert sorted(pruner.begin_epoch().indices.tolist()) == [1, 3, 5, 7]
    assert pruner.visits().sum() == 0
    assert pruner.report().never_seen == 8


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16])
def test_scores_of_some_samples_are_remembered_in_float32(dtype, precision):
    pruner = Pruner(TOP_HALF, 8)
    pruner.record(torch.tensor([6, 2], dtype=dtype), torch.tensor([0.5, 1.5], dtype=precision))
    score = pruner.scores()["score"]
    assert (score.dtype, score[[6, 2]].tolist(), int(score.isinf().sum())) == (torch.float32, [0.5, 1.5], 6)


def test_scores_may_carry_a_gradient_and_are_not_kept_by_reference():
    pruner, ids = begun(FullData(), 4)
    for each in (pruner, Pruner(TOP_HALF, 4)):
        scores = with_gradient(1.0, 2.0, 3.0, 4.0)
        each.record(ids, scores)
        with torch.no_grad():
            scores.fill_(9.0)
        for column in each.scores().values():
            assert column[ids].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_each_column_is_updated_as_by_a_loss():
    pruner = Pruner(UCB(prune_ratio=0.5), 2)
    for values in ([1.0, 2.0], [3.0, 2.0]):
        pruner.record(torch.arange(2), torch.tensor(values))
    assert pruner.scores()["mean"].tolist() == pytest.approx([0.2 * 1 + 0.8 * 3, 2.0])
    assert pruner.scores()["var"].tolist() == pytest.approx([0.8 * 4, 0.0])


def test_scores_recorded_after_an_epoch_are_newer_than_its_losses():
    """A refresh without gradient at the end of an epoch, before the next one begins."""
    pruner, ids = begun(TOP_HALF, 8)
    pruner.update(ids, with_gradient(1.0, 2.0, 3.0, 4.0))
    pruner.record(torch.arange(8), torch.arange(8.0) + 10)
    assert pruner.scores()["score"].tolist() == [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0]
    assert sorted(pruner.begin_epoch().indices.tolist()) == [4, 5, 6, 7]
    assert pruner.scores()["score"].tolist() == [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0]
    assert pruner.visits().sum() == 4


@pytest.mark.parametrize("strategy", [TOP_HALF, UCB(prune_ratio=0.5), Averaging()], ids=repr)
@pytest.mark.parametrize("times", [1, 3])
def test_scores_recorded_between_epochs_and_through_a_state_count_alike(strategy, times):
    results = []
    for way in ("plain", "state", "resumed"):
        pruner = Pruner(strategy, 8, seed=1)
        ids = torch.from_numpy(pruner.begin_epoch().indices.copy()).long()
        pruner.update(ids, loss_of(ids, 0))
        for time in range(times):
            pruner.record(torch.tensor([1, 6, 3]), torch.tensor([5.0, 6.0, 7.0]) + time)
        if way != "plain":
            state = pruner.state_dict()
            pruner = Pruner(strategy, 8, seed=1)
            pruner.load_state_dict(state, resume=way == "resumed")
        if way == "resumed":
            pruner.begin_epoch()
        before = {name: column.tolist() for name, column in pruner.scores().items()}
        chosen = pruner.begin_epoch().indices.tolist()
        assert {name: column.tolist() for name, column in pruner.scores().items()} == before
        results.append((before, chosen))
    assert results[0] == results[1] == results[2]


@NOT_FINITE
@pytest.mark.parametrize("strategy", [TOP_HALF, UCB(prune_ratio=0.5), Averaging()], ids=repr)
@pytest.mark.parametrize("when", ["inside the epoch", "after it"])
def test_scores_from_outside_heal_failed_samples(strategy, when):
    pruner, ids = begun(strategy, 8)
    losses = torch.ones(len(ids))
    losses[0] = math.nan
    pruner.update(ids, losses.requires_grad_())
    if when == "after it":
        pruner.begin_epoch()
        assert pruner.report().failed == (int(ids[0]),)
    pruner.record(ids[:1], torch.tensor([4.0]))
    assert pruner.report().failed == ()
    first = next(iter(pruner.scores().values()))
    assert first[ids[0]] == 4.0


@pytest.mark.parametrize(
    ("index", "scores", "error", "text"),
    [
        ([8], [1.0], IndexError, "index must lie in 0 .. 7, got 8 .. 8; write positions in the data set"),
        ([3, -1], [1.0, 2.0], IndexError, "index must lie in 0 .. 7, got -1 .. 3"),
        ([3, 3], [1.0, 2.0], ValueError, "index must hold each sample once, got 2 of which 1 differ; leave repeats"),
        ([3, 2], [1.0, math.nan], ValueError, "scores must be finite, got 1 that are not; leave them out"),
        ([3, 2], [math.inf, -math.inf], ValueError, "scores must be finite, got 2 that are not"),
        ([3, 2], [1.0], ValueError, "scores has shape (1,), but the batch has 2 samples"),
        ([3, 2], [[1.0, 2.0], [3.0, 4.0]], ValueError, "scores.flatten(1).mean(1)"),
        ([3], [1], ValueError, "scores must be a floating tensor, got torch.int64"),
        ([], [], ValueError, "index must hold at least one sample, got none"),
        ([0.5], [1.0], ValueError, "index must be a (b,) int64 tensor, got torch.float32 of shape (1,)"),
    ],
)
def test_scores_that_mean_nothing_are_refused_and_change_nothing(index, scores, error, text):
    pruner = Pruner(TOP_HALF, 8)
    index = torch.tensor(index) if index else torch.empty(0, dtype=torch.int64)
    with pytest.raises(error) as caught:
        pruner.record(index, torch.tensor(scores))
    assert text in str(caught.value)
    assert pruner.scores()["score"].isinf().all()


def test_scores_that_overflow_float32_are_refused():
    with pytest.raises(ValueError, match="scores must be finite, got 1 that are not"):
        Pruner(TOP_HALF, 8).record(torch.tensor([1]), torch.tensor([1e300], dtype=torch.float64))


# A data set that grows.


@pytest.mark.parametrize("strategy", [TOP_HALF, UCB(prune_ratio=0.5, every=1), orderdp.InfoBatch()], ids=repr)
def test_samples_that_were_added_are_unseen_and_come_first(strategy):
    pruner = Pruner(strategy, 20)
    train(pruner, pruner.loader(range(20), batch_size=4), 3)
    before = {name: column.clone() for name, column in pruner.scores().items()}
    visits = pruner.visits()
    pruner.resize(24)
    assert pruner.num_samples == 24
    for name, column in pruner.scores().items():
        assert torch.equal(column[:20], before[name])
        assert (column[20:] == strategy.columns[name]).all()
    assert torch.equal(pruner.visits()[:20], visits)
    assert pruner.ages()[20:].tolist() == [-1] * 4
    loader = pruner.loader(range(24), batch_size=4)
    assert {20, 21, 22, 23} <= {i for batch in train_epoch(pruner, loader) for i in batch}
    assert pruner.epoch == 3
    assert pruner.num_selected(0) == Pruner(strategy, 24).num_selected(0)


def test_a_data_set_that_grew_between_two_runs_goes_on():
    pruner = Pruner(TOP_HALF, 20)
    train(pruner, pruner.loader(range(20), batch_size=4), 2)
    state = pruner.state_dict()
    with pytest.raises(ValueError, match=r"num_samples 24, got 20.*load, and call pruner.resize\(n\) if the data set"):
        Pruner(TOP_HALF, 24).load_state_dict(state)
    later = Pruner(TOP_HALF, 20)
    later.load_state_dict(state)
    with pytest.raises(
        ValueError, match=r"dataset must have the pruner's 20 samples.*pruner\.resize\(len\(dataset\)\)"
    ):
        later.loader(range(24), batch_size=4)
    later.resize(24)
    pruner.resize(24)
    for each in (pruner, later):
        each.record(torch.tensor([23]), torch.tensor([0.1]))
    loaders = [each.loader(range(24), batch_size=4) for each in (pruner, later)]
    assert train(pruner, loaders[0], 2) == train(later, loaders[1], 2)
    twin = Pruner(TOP_HALF, 24)
    twin.load_state_dict(pruner.state_dict())  # a state of the new size
    assert twin.next_epoch == 4


@pytest.mark.parametrize("strategy", [UCB(prune_ratio=0.5), orderdp.EpsilonGreedy(prune_ratio=0.5)], ids=repr)
def test_growing_ends_the_repeats_of_a_ranking(strategy):
    pruner = Pruner(strategy, 20)
    train(pruner, pruner.loader(range(20), batch_size=4), 3)
    pruner.resize(30)
    later = Pruner(strategy, 30)
    later.load_state_dict(pruner.state_dict())
    batches = train_epoch(pruner, pruner.loader(range(30), batch_size=4))
    assert sum(map(len, batches)) == 15
    assert max(map(max, batches)) >= 20
    assert train_epoch(later, later.loader(range(30), batch_size=4)) == batches


@NOT_FINITE
def test_growing_keeps_what_failed_and_ends_the_running_epoch():
    pruner, ids = begun(TOP_HALF, 8)
    pruner.update(ids, with_gradient(1.0, math.nan, 2.0, 3.0))
    pruner.resize(10)
    assert pruner.report().failed == (int(ids[1]),)
    assert pruner.report().visits == 4
    with pytest.raises(RuntimeError, match="update needs an epoch, got none begun"):
        pruner.update(ids, with_gradient(1.0, 1.0, 1.0, 1.0))
    assert sorted(pruner.begin_epoch().indices.tolist())[-2:] == [8, 9]
    assert pruner.epoch == 1


def test_growing_ends_an_epoch_that_was_to_be_resumed():
    pruner = Pruner(FullData(), 20)
    loader = pruner.loader(range(20), batch_size=4)
    train_epoch(pruner, loader, 2)
    later = Pruner(FullData(), 20)
    later.loader(range(20), batch_size=4).load_state_dict(loader.state_dict())
    with pytest.warns(RuntimeWarning, match="epoch 0 was left after 8 of its 20 samples"):
        later.resize(22)
    assert (later.next_epoch, later.resuming, later.report().visits) == (1, False, 8)
    batches = train_epoch(later, later.loader(range(22), batch_size=4))
    assert sorted(i for batch in batches for i in batch) == list(range(22))
    assert later.report().visits == 8 + 22


@pytest.mark.parametrize(("size", "error"), [(7, ValueError), (0, ValueError), (9.0, TypeError), (True, TypeError)])
def test_samples_can_only_be_added(size, error):
    pruner = Pruner(TOP_HALF, 8)
    with pytest.raises(error, match=r"num_samples must be an integer of at least 8.*; samples can only be added"):
        pruner.resize(size)
    assert pruner.num_samples == 8


def test_the_same_size_only_ends_the_epoch():
    pruner, ids = begun(TOP_HALF, 8)
    pruner.update(ids, with_gradient(1.0, 2.0, 3.0, 4.0))
    scores = pruner.scores()["score"]
    pruner.resize(8)
    assert torch.equal(pruner.scores()["score"], scores)


# The table.


def test_a_table_of_a_pruner_that_has_seen_nothing():
    table = Pruner(UCB(prune_ratio=0.5), 3).table()
    assert {name: column.tolist() for name, column in table.items()} == {
        "id": [0, 1, 2],
        "visits": [0, 0, 0],
        "age": [-1, -1, -1],
        "selected": [False, False, False],
        "failed": [False, False, False],
        "mean": [math.inf] * 3,
        "var": [0.0] * 3,
    }


@NOT_FINITE
@NEVER_UPDATED
def test_a_table_tells_never_trained_left_out_and_failed_samples_apart():
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.75), 8)
    ids = torch.from_numpy(pruner.begin_epoch().indices.copy()).long()
    never = sorted({*range(8)} - {*ids.tolist()})
    values = torch.tensor([3.0, math.nan, 5.0, 6.0, 7.0, 8.0])
    pruner.update(ids, values.requires_grad_())
    for when in ("inside the epoch", "in the next one"):
        table = pruner.table()
        assert table["id"].tolist() == list(range(8))
        assert table["visits"][never].tolist() == [0, 0]
        assert table["visits"][ids].tolist() == [1] * 6
        assert table["age"][never].tolist() == [-1, -1]
        assert table["age"][ids].tolist() == [0 if when == "inside the epoch" else 1] * 6
        assert table["failed"].nonzero().flatten().tolist() == [int(ids[1])]
        assert table["score"][ids].tolist() == [3.0, -math.inf, 5.0, 6.0, 7.0, 8.0]
        assert table["score"][never].tolist() == [math.inf, math.inf]
        selected = set(table["selected"].nonzero().flatten().tolist())
        if when == "inside the epoch":
            assert selected == set(ids.tolist())
            pruner.begin_epoch()
        else:
            assert selected == {*never, *ids[2:].tolist()}


def test_a_table_is_a_copy():
    pruner, ids = begun()
    pruner.update(ids, with_gradient(1.0, 2.0, 3.0, 4.0))
    for column in pruner.table().values():
        column.fill_(1)
    assert pruner.scores()["score"][ids].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert pruner.visits().sum() == 4
    assert pruner.report().failed == ()


# Two updates of a batch on one process: the newest counts, whatever is asked in between.


def asked(what, pruner):
    {"nothing": lambda: None, "scores": pruner.scores, "state": pruner.state_dict, "report": pruner.report}[what]()


@pytest.mark.parametrize("what", ["nothing", "scores", "state", "report"])
@pytest.mark.parametrize("strategy", [TOP_HALF, UCB(prune_ratio=0.5), Averaging(), OrderedSGD(keep=1.0)], ids=repr)
@pytest.mark.parametrize("parts", [1, 2])
def test_the_second_update_of_a_batch_replaces_the_first(what, strategy, parts):
    """As sharpness-aware minimisation makes. A run that saw the second losses alone remembers the same."""
    pruner, twin = Pruner(strategy, 12, seed=4), Pruner(strategy, 12, seed=4)
    for epoch in range(4):
        ids = torch.from_numpy(pruner.begin_epoch(4).indices.copy()).long()
        assert ids.tolist() == twin.begin_epoch(4).indices.tolist()
        for batch in ids.split(4):
            for number in range(2):
                for part in batch.chunk(parts):
                    pruner.update(part, loss_of(part, 10 * number + epoch))
                    asked(what, pruner)
            twin.update(batch, loss_of(batch, 10 + epoch))
        for name, column in twin.scores().items():
            assert torch.equal(pruner.scores()[name], column)
    assert torch.equal(pruner.visits(), twin.visits())
    assert pruner.report().visits == twin.report().visits
    if strategy.columns:
        assert pruner.table().keys() == twin.table().keys()


def test_the_columns_of_ucb_come_from_one_observation():
    pruner = Pruner(UCB(prune_ratio=0.5, smoothing=0.5), 2)
    for losses in ([(1.0, 1.0)], [(9.0, 3.0), (5.0, 7.0)]):
        ids = torch.from_numpy(pruner.begin_epoch().indices.copy()).long().sort().values
        for values in losses:
            pruner.update(ids, with_gradient(*values[: len(ids)]))
            pruner.scores()
    seen = pruner.trained()
    second = torch.tensor([5.0, 7.0])[: int(seen.sum())] if int(seen.sum()) == 2 else torch.tensor([5.0])
    assert torch.allclose(pruner.scores()["mean"][seen], 0.5 + 0.5 * second)
    assert torch.allclose(pruner.scores()["var"][seen], 0.5 * (second - 1) ** 2)


def test_a_second_update_that_is_not_finite_fails_the_sample_and_a_third_heals_it():
    pruner, ids = begun(TOP_HALF, 8)
    for value, expected in ((1.0, 1.0), (math.nan, -math.inf), (2.0, 2.0)):
        pruner.update(ids, torch.full((4,), value, requires_grad=True))
        assert pruner.scores()["score"][ids].tolist() == [expected] * 4
        assert pruner.report().failed == (tuple(sorted(ids.tolist())) if expected == -math.inf else ())
    assert pruner.report().non_finite == 0
