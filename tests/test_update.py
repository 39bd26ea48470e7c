"""What update records, returns and refuses."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import orderdp
from orderdp import FullData, OrderDP, OrderedSGD, Pruner, Selection, Strategy
from reference.loop import TOP_HALF, begun, with_gradient


def test_update_returns_the_mean_with_its_gradient_and_leaves_the_losses_alone():
    pruner, ids = begun()
    losses = with_gradient(1.0, 2.0, 3.0, 6.0)
    loss = pruner.update(ids, losses)
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == 3.0
    assert losses.grad.tolist() == [0.25] * 4
    assert losses.tolist() == [1.0, 2.0, 3.0, 6.0]


def test_update_records_the_losses_of_the_batch_and_of_no_other():
    pruner, ids = begun()
    pruner.update(ids[:2], with_gradient(1.0, 2.0))
    scores = pruner.scores()["score"]
    assert scores[ids[:2]].tolist() == [1.0, 2.0]
    assert scores.isinf().sum() == 6


def test_scores_are_remembered_in_place_of_the_losses():
    pruner, ids = begun()
    loss = pruner.update(ids, with_gradient(1.0, 2.0, 3.0, 6.0), scores=torch.tensor([9.0, 8.0, 7.0, 6.0]))
    assert loss.item() == 3.0
    assert pruner.scores()["score"][ids].tolist() == [9.0, 8.0, 7.0, 6.0]


def test_scores_may_carry_a_gradient():
    pruner, ids = begun()
    pruner.update(ids, with_gradient(1.0, 2.0, 3.0, 6.0), scores=with_gradient(1.0, 2.0, 3.0, 4.0)).backward()
    assert not pruner.scores()["score"].requires_grad


def test_scores_that_stand_for_the_losses_choose_within_a_batch_too():
    pruner = Pruner(OrderDP(explore=1, exploit=0.5, per="iteration", fresh=True), 4)
    ids = torch.from_numpy(pruner.begin_epoch(4).indices.copy())
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    assert pruner.update(ids, losses, scores=torch.tensor([4.0, 3.0, 2.0, 1.0])).item() == 1.5


def test_what_is_handed_out_is_a_copy():
    pruner, _ = begun()
    pruner.scores()["score"].fill_(0)
    pruner.visits().fill_(7)
    assert pruner.scores()["score"].isinf().all()
    assert pruner.visits().sum() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_losses_of_any_precision_keep_their_type_and_are_remembered_in_float32(dtype):
    pruner, ids = begun()
    loss = pruner.update(ids, with_gradient(0.5, 1.5, 2.5, 3.5, dtype=dtype))
    assert loss.dtype == dtype
    assert loss.item() == 2.0
    assert pruner.scores()["score"].dtype == torch.float32
    assert pruner.scores()["score"][ids].tolist() == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_ids_may_be_of_either_integer_type(dtype):
    pruner, ids = begun()
    pruner.update(ids.to(dtype), with_gradient(1.0, 2.0, 3.0, 4.0))
    assert pruner.scores()["score"][ids].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_the_next_epoch_keeps_the_highest_of_the_recorded_losses():
    pruner = Pruner(TOP_HALF, 8, schedule=lambda strategy, epoch: FullData() if epoch == 0 else strategy)
    ids = torch.from_numpy(pruner.begin_epoch().indices.copy())
    pruner.update(ids, ids.float().requires_grad_())
    assert sorted(pruner.begin_epoch().indices.tolist()) == [4, 5, 6, 7]


# What update refuses.


def bad_call(index, losses, scores=None):
    return lambda pruner, ids: pruner.update(index(ids), losses(ids), scores=scores)


def ones(shape, **more):
    return lambda ids: torch.ones(shape, **{"requires_grad": True, **more})


def same(ids):
    return ids


BAD_CALLS = {
    "a reduced loss": (
        bad_call(same, lambda ids: torch.ones(4, requires_grad=True).mean()),
        ValueError,
        'losses has shape (), but the batch has 4 samples; pass one loss per sample (reduction="none")',
    ),
    "too few losses": (
        bad_call(same, ones(3)),
        ValueError,
        "losses has shape (3,), but the batch has 4 samples; take index and losses from the same batch",
    ),
    "a loss matrix": (bad_call(same, ones((4, 1))), ValueError, "losses has shape (4, 1), but the batch has 4 samples"),
    "no gradient": (
        bad_call(same, ones(4, requires_grad=False)),
        ValueError,
        "losses must carry a gradient, got requires_grad=False; pass them before .detach() or .item()",
    ),
    "integer losses": (
        bad_call(same, ones(4, dtype=torch.int64, requires_grad=False)),
        ValueError,
        "losses must be a floating tensor, got torch.int64; pass one loss per sample",
    ),
    "a list of losses": (
        bad_call(same, lambda ids: [1.0] * 4),
        ValueError,
        "losses must be a floating tensor, got list; pass one loss per sample",
    ),
    "scores of another length": (
        bad_call(same, ones(4), scores=torch.ones(5)),
        ValueError,
        "scores has shape (5,), but the batch has 4 samples",
    ),
    "integer scores": (
        bad_call(same, ones(4), scores=torch.ones(4, dtype=torch.int64)),
        ValueError,
        "scores must be a floating tensor, got torch.int64",
    ),
    "another device": (
        bad_call(same, ones(4, device="meta")),
        ValueError,
        "losses must be on the table's device cpu, got meta; write Pruner(..., device='meta')",
    ),
    "an id beyond the data": (
        bad_call(lambda ids: torch.tensor([8]), ones(1)),
        IndexError,
        "index must lie in 0 .. 7, got 8; pass the ids that the loader yields",
    ),
    "a negative id": (
        bad_call(lambda ids: torch.tensor([-1]), ones(1)),
        IndexError,
        "index must lie in 0 .. 7, got -1; pass the ids that the loader yields",
    ),
    "an id twice": (
        bad_call(lambda ids: torch.stack([ids[0], ids[1], ids[0]]), ones(3)),
        ValueError,
        "twice or more; pass the ids that the loader yields",
    ),
    "an id of no sample of the epoch": (
        bad_call(lambda ids: torch.tensor([({*range(8)} - {*ids.tolist()}).pop()]), ones(1)),
        ValueError,
        "take ids and batches from pruner.loader or pruner.sampler, do not let a framework replace the sampler",
    ),
    "floating ids": (
        bad_call(lambda ids: ids.float(), ones(4)),
        ValueError,
        "index must be a (b,) int64 tensor, got torch.float32 of shape (4,)",
    ),
    "a matrix of ids": (
        bad_call(lambda ids: ids[None], ones((1, 4))),
        ValueError,
        "index must be a (b,) int64 tensor, got torch.int64 of shape (1, 4)",
    ),
    "a list of ids": (
        bad_call(lambda ids: ids.tolist(), ones(4)),
        ValueError,
        "index must be a (b,) int64 tensor, got list; pass the ids that the loader yields",
    ),
    "an empty batch": (
        bad_call(lambda ids: ids[:0], ones(0)),
        ValueError,
        "index must hold at least one sample, got none",
    ),
}


@pytest.mark.parametrize(("call", "error", "text"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_update_refuses(call, error, text):
    pruner, ids = begun(device="cpu")
    with pytest.raises(error) as caught:
        call(pruner, ids)
    assert text in str(caught.value)
    assert pruner.scores()["score"].isinf().all()
    assert pruner.visits().sum() == 0


def test_update_before_any_epoch_is_refused():
    with pytest.raises(RuntimeError, match="update needs an epoch, got none begun; take index and batch from pruner"):
        Pruner(TOP_HALF, 8).update(torch.tensor([0]), with_gradient(1.0))


def test_update_after_loading_a_state_needs_the_next_epoch():
    pruner, ids = begun()
    pruner.load_state_dict(pruner.state_dict())
    with pytest.raises(RuntimeError, match="update needs an epoch"):
        pruner.update(ids, with_gradient(1.0, 1.0, 1.0, 1.0))


def test_the_first_losses_decide_where_the_table_lives():
    pruner, ids = begun()
    pruner.update(ids[:2], with_gradient(1.0, 2.0))
    with pytest.raises(ValueError, match="losses must be on the table's device cpu, got meta; write Pruner"):
        pruner.update(ids[2:], torch.ones(2, device="meta", requires_grad=True))


# Losses that are not finite.


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_finite_are_visited_but_not_recorded_and_warned_of_when_the_epoch_is_over(bad):
    pruner, ids = begun()
    loss = pruner.update(ids, with_gradient(1.0, bad, 2.0, 3.0))
    assert not loss.isfinite()  # what is back-propagated is what the caller computed
    assert pruner.scores()["score"][ids].tolist() == [1.0, math.inf, 2.0, 3.0]
    assert pruner.visits()[ids].tolist() == [1, 1, 1, 1]
    with pytest.warns(RuntimeWarning, match="1 losses of epoch 0 were NaN or infinite and were not recorded"):
        pruner.begin_epoch()
    assert pruner.report().non_finite == 1


def test_a_sample_whose_loss_is_not_finite_keeps_its_last_score():
    pruner, ids = begun(OrderDP(explore=1.0, exploit=1.0), 4)
    pruner.update(ids, with_gradient(1.0, 2.0, 3.0, 4.0))
    pruner.begin_epoch()
    pruner.update(ids, with_gradient(5.0, math.nan, 7.0, 8.0))
    assert pruner.scores()["score"][ids].tolist() == [5.0, 2.0, 7.0, 8.0]
    with pytest.warns(RuntimeWarning, match="these samples keep their last score") as warned:
        assert pruner.report().non_finite == 1
    assert warned[0].filename == __file__  # it points to the caller
    pruner.begin_epoch()  # counted and warned of once


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_and_left_out_of_the_step_leaves_the_mean_finite(bad):
    pruner, ids = begun(orderdp.OrderedSGD(keep=0.5), 4)
    losses = with_gradient(bad, 1.0, 2.0, 4.0)
    loss = pruner.update(ids, losses, scores=torch.tensor([0.0, 1.0, 2.0, 3.0]))
    loss.backward()
    assert loss.item() == 3.0
    assert losses.grad.tolist() == [0.0, 0.0, 0.5, 0.5]


def test_a_loss_that_is_not_finite_and_left_out_of_the_step_is_not_counted():
    pruner = Pruner(OrderedSGD(keep=0.75), 4)
    index = torch.from_numpy(pruner.begin_epoch().indices.copy())
    assert pruner.update(index, torch.tensor([-math.inf, 1.0, 2.0, 3.0], requires_grad=True)).item() == 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pruner.report().non_finite == 0


# Columns and weights.


@dataclass(frozen=True)
class Weighted(Strategy):
    """Takes the first four samples, with weights 1, 2, 3, 4."""

    def num_selected(self, num_samples, epoch):
        return 4

    def select(self, memory, rng):
        indices = np.arange(4, dtype=np.int64)
        rng.shuffle(indices)
        return Selection(indices, (indices + 1).astype(np.float32))


@dataclass(frozen=True)
class Averaging(Strategy):
    """Remembers two columns, a count and an average over time, and takes the two of highest average."""

    decay: float = 0.5

    @property
    def columns(self):
        return {"seen": 0.0, "average": 100.0}

    def num_selected(self, num_samples, epoch):
        return 2

    def select(self, memory, rng):
        return Selection(np.argsort(-memory.columns["average"], kind="stable")[:2])

    def observe(self, old, losses):
        average = torch.where(old["seen"] > 0, self.decay * old["average"] + (1 - self.decay) * losses, losses)
        return {"seen": old["seen"] + 1, "average": average}


def test_weights_multiply_the_losses_sample_by_sample():
    pruner, ids = begun(Weighted())
    losses = with_gradient(1.0, 10.0, 100.0, 1000.0)
    loss = pruner.update(ids, losses)
    loss.backward()
    weights = (ids + 1).float()
    assert loss.item() == pytest.approx(float((weights * losses.detach()).mean()))
    torch.testing.assert_close(losses.grad, weights / 4)
    assert losses.tolist() == [1.0, 10.0, 100.0, 1000.0]


def test_weights_are_those_of_the_samples_in_any_batch():
    pruner, _ = begun(Weighted())
    assert pruner.update(torch.tensor([3, 1]), with_gradient(1.0, 1.0)).item() == 3.0


def test_weights_survive_a_state_inside_an_epoch():
    pruner, _ = begun(Weighted())
    twin = Pruner(Weighted(), 8)
    twin.load_state_dict(pruner.state_dict(), resume=True)
    twin.begin_epoch()
    assert twin.update(torch.tensor([3, 1]), with_gradient(1.0, 1.0)).item() == 3.0


def test_every_declared_column_is_updated_from_its_own_old_values():
    pruner, ids = begun(Averaging())
    assert ids.tolist() == [0, 1]
    pruner.update(ids, with_gradient(4.0, 200.0))
    assert pruner.begin_epoch().indices.tolist() == [1, 2]
    pruner.update(torch.tensor([1, 2]), with_gradient(100.0, 1.0))
    assert pruner.scores()["average"].tolist() == [4.0, 150.0, 1.0, 100.0, 100.0, 100.0, 100.0, 100.0]
    assert pruner.scores()["seen"].tolist() == [1, 2, 1, 0, 0, 0, 0, 0]


@dataclass(frozen=True)
class WeightedWithin(FullData):
    """Weighs samples by the epoch, and chooses the higher half of each batch too."""

    def select(self, memory, rng):
        indices = np.arange(memory.num_samples)
        return Selection(indices, (indices + 1).astype(np.float32))

    def batch_weights(self, losses, uniforms):
        return OrderedSGD(keep=0.5).batch_weights(losses, uniforms)


def test_weights_of_the_epoch_multiply_those_within_the_batch():
    pruner = Pruner(WeightedWithin(), 4)
    pruner.begin_epoch()
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    loss = pruner.update(torch.arange(4), losses)
    loss.backward()
    assert loss.item() == (3 * 3.0 + 4 * 4.0) / 2
    assert losses.grad.tolist() == [0.0, 0.0, 1.5, 2.0]


@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_that_was_read_ahead_to_its_end_is_recorded_as_any_other(drop_last):
    pruner = Pruner(OrderDP(prune_ratio=0.5), 100, seed=0)
    batches = [index for index, _ in pruner.loader(range(100), batch_size=8, drop_last=drop_last)]
    expected = torch.full((100,), math.inf)
    for number, index in enumerate(batches):
        losses = (number + torch.rand(len(index))).requires_grad_()
        expected[index] = losses.detach()
        pruner.update(index, losses)
    pruner.begin_epoch()
    assert torch.equal(pruner.scores()["score"], expected)
    assert pruner.report().failed == ()
