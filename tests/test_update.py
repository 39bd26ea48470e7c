"""What update records, returns and refuses."""

import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch

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


def bad_call(index, losses, **more):
    return lambda pruner, ids: pruner.update(index(ids), losses(ids), **more)


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
    "losses of a longer batch": (
        bad_call(same, ones(6)),
        ValueError,
        "losses has shape (6,), but the batch has 4 samples; take index and losses from the same batch",
    ),
    "a column": (
        bad_call(same, ones((4, 1))),
        ValueError,
        "losses has shape (4, 1), but the batch has 4 samples; write losses.squeeze(1)",
    ),
    "a column of more dimensions": (bad_call(same, ones((4, 1, 1))), ValueError, "samples; write losses.flatten()"),
    "a loss for each token": (
        bad_call(same, ones((4, 28))),
        ValueError,
        "losses has shape (4, 28), but the batch has 4 samples; average the other dimensions: losses.flatten(1)"
        ".mean(1); for tokens, take the mean over the unmasked tokens of each sample",
    ),
    "a loss for each pixel": (bad_call(same, ones((4, 8, 8))), ValueError, "losses.flatten(1).mean(1)"),
    "a loss for each token, flattened": (
        bad_call(same, ones(4 * 28)),
        ValueError,
        "losses has shape (112,), but the batch has 4 samples; got 28 values a sample: losses.view(4, -1).mean(1); "
        "for tokens, take the mean over the unmasked tokens of each sample",
    ),
    "a column of tokens": (bad_call(same, ones((4 * 7, 1))), ValueError, "losses.view(4, -1).mean(1)"),
    "tokens first": (
        bad_call(same, ones((28, 4))),
        ValueError,
        "losses has shape (28, 4), but the batch has 4 samples; put the batch first and average the rest: "
        "losses.movedim(1, 0).flatten(1).mean(1)",
    ),
    "scores for each class": (
        bad_call(same, ones(4), scores=torch.ones(4, 5)),
        ValueError,
        "scores has shape (4, 5), but the batch has 4 samples; average the other dimensions: scores.flatten(1)",
    ),
    "a weight for each class": (
        bad_call(same, ones(4), weights=torch.ones(10)),
        ValueError,
        "weights has shape (10,), but the batch has 4 samples; pass one weight per sample, such as class_weights[y]",
    ),
    "whole weights": (
        bad_call(same, ones(4), weights=torch.ones(4, dtype=torch.int64)),
        ValueError,
        "weights must be a floating tensor, got torch.int64; write weights.float()",
    ),
    "a list of weights": (
        bad_call(same, ones(4), weights=[1.0, 5.0]),
        ValueError,
        "weights must be a floating tensor, got list; write torch.tensor(class_weights)[y]",
    ),
    "a sum": (
        bad_call(same, ones(4), reduction="sum"),
        ValueError,
        "reduction must be 'mean' or 'none', got 'sum'; write 'mean'",
    ),
    "no gradient": (
        bad_call(same, ones(4, requires_grad=False)),
        ValueError,
        "losses must carry a gradient, got requires_grad=False; pass them before .detach() or .item()",
    ),
    "integer losses": (
        bad_call(same, ones(4, dtype=torch.int64, requires_grad=False)),
        ValueError,
        'losses must be a floating tensor, got torch.int64; pass the tensor of one loss per sample (reduction="none")',
    ),
    "a list of losses": (
        bad_call(same, lambda ids: [1.0] * 4),
        ValueError,
        'losses must be a floating tensor, got list; pass the tensor of one loss per sample (reduction="none")',
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
        "take ids and batches from pruner.loader or pruner.sampler, and pass the ids rather than the labels",
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
    "an array of ids": (
        bad_call(lambda ids: ids.numpy(), ones(4)),
        ValueError,
        "index must be a (b,) int64 tensor, got ndarray; pass the ids that the loader yields, or torch.from_numpy(",
    ),
    "an array of losses": (
        bad_call(same, lambda ids: np.ones(4, np.float32)),
        ValueError,
        "losses must be a floating tensor, got ndarray; write torch.from_numpy(losses)",
    ),
    "an empty batch": (
        bad_call(lambda ids: ids[:0], ones(0)),
        ValueError,
        "index must hold at least one sample, got none",
    ),
}


@pytest.mark.parametrize(("call", "error", "text"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_update_refuses(call, error, text):
    pruner, ids = begun()
    with pytest.raises(error) as caught:
        call(pruner, ids)
    assert text in str(caught.value)
    assert pruner.scores()["score"].isinf().all()
    assert pruner.visits().sum() == 0


SHAPES = [(32, 5), (32, 1), (32, 28), (896,), (28, 32), (896, 1), (32, 1, 1), (32, 3, 4, 4), (1, 32)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_cure_that_a_message_names_for_a_shape_is_taken(shape):
    pruner, ids = begun(FullData(), 32)
    losses = torch.rand(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with pytest.raises(ValueError, match=r"losses has shape .*, but the batch has 32 samples; ") as caught:
        pruner.update(ids, losses)
    cure = re.search(r"losses\.\w+\(.*?\)(\.\w+\(.*?\))*", str(caught.value).partition("; ")[2]).group()
    cured = eval(cure, {"losses": losses})
    assert pruner.update(ids, cured).item() == pytest.approx(losses.mean().item())


def test_update_before_any_epoch_is_refused():
    with pytest.raises(RuntimeError, match="update needs an epoch, got none begun; take index and batch from pruner"):
        Pruner(TOP_HALF, 8).update(torch.tensor([0]), with_gradient(1.0))


def test_a_batch_whose_call_was_refused_may_be_trained_then():
    pruner, ids = begun()
    for more in ({"weights": torch.ones(3)}, {"reduction": "sum"}, {"scores": torch.ones(3)}):
        with pytest.raises(ValueError, match=r"but the batch has 4 samples|must be 'mean' or 'none'"):
            pruner.update(ids, with_gradient(1.0, 1.0, 1.0, 1.0), **more)
    assert pruner.report().trained == 0
    assert pruner.update(ids, with_gradient(1.0, 2.0, 3.0, 6.0)).item() == 3.0


def test_update_after_loading_a_state_needs_the_next_epoch():
    pruner, ids = begun()
    pruner.load_state_dict(pruner.state_dict())
    with pytest.raises(RuntimeError, match="update needs an epoch"):
        pruner.update(ids, with_gradient(1.0, 1.0, 1.0, 1.0))


# Losses that are not finite.


BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])


@BAD
def test_a_loss_that_is_not_finite_is_visited_and_fails_its_sample_and_is_warned_of_when_the_epoch_is_over(bad):
    pruner, ids = begun()
    loss = pruner.update(ids, with_gradient(1.0, bad, 2.0, 3.0))
    assert not loss.isfinite()  # what is back-propagated is what the caller computed
    assert pruner.scores()["score"][ids].tolist() == [1.0, -math.inf, 2.0, 3.0]
    assert pruner.visits()[ids].tolist() == [1, 1, 1, 1]
    assert (pruner.report().non_finite, pruner.report().failed) == (1, (int(ids[1]),))
    with pytest.warns(RuntimeWarning, match="1 losses of epoch 0 were NaN or infinite and were not recorded") as warned:
        pruner.begin_epoch()
    assert warned[0].filename == __file__  # it points to the caller
    assert (pruner.report().non_finite, pruner.report().failed) == (1, (int(ids[1]),))


@BAD
def test_scores_that_are_not_finite_fail_their_samples_too(bad):
    pruner, ids = begun()
    loss = pruner.update(ids, with_gradient(1.0, 2.0, 3.0, 6.0), scores=torch.tensor([1.0, bad, 2.0, 3.0]))
    assert loss.item() == 3.0
    assert pruner.scores()["score"][ids].tolist() == [1.0, -math.inf, 2.0, 3.0]
    assert pruner.report().failed == (int(ids[1]),)


def test_a_loss_that_overflows_float32_is_not_finite():
    pruner, ids = begun()
    pruner.update(ids, with_gradient(1.0, 1e300, 2.0, 3.0, dtype=torch.float64))
    assert pruner.report().failed == (int(ids[1]),)


def test_a_failed_sample_loses_its_score_until_a_finite_loss_heals_it():
    pruner, _ = begun(OrderDP(explore=1.0, exploit=1.0), 4)
    ids = torch.arange(4)
    pruner.update(ids, with_gradient(1.0, 2.0, 3.0, 4.0))
    pruner.begin_epoch()
    pruner.update(ids, with_gradient(5.0, math.nan, 7.0, 8.0))
    assert pruner.scores()["score"].tolist() == [5.0, -math.inf, 7.0, 8.0]
    with pytest.warns(RuntimeWarning, match="these samples rank below all others until a finite loss is recorded"):
        pruner.begin_epoch()
    pruner.update(ids, with_gradient(1.0, 2.0, math.inf, 4.0))
    assert pruner.scores()["score"].tolist() == [1.0, 2.0, -math.inf, 4.0]
    pruner.begin_epoch()  # warned of once
    assert (pruner.report().non_finite, pruner.report().failed) == (2, (2,))


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


# Weights of the caller, and the reduction.


def test_weights_of_the_caller_give_what_torchs_class_weighted_mean_gives():
    rng = torch.Generator().manual_seed(0)
    logits, y = torch.randn(8, 3, generator=rng, requires_grad=True), torch.arange(8) % 3
    class_weights = torch.tensor([0.2, 1.0, 5.0])
    expected = torch.nn.functional.cross_entropy(logits, y, weight=class_weights)
    (gradient,) = torch.autograd.grad(expected, logits)
    pruner, ids = begun(FullData())
    losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    loss = pruner.update(ids, losses, weights=class_weights[y])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    torch.testing.assert_close(logits.grad, gradient)


def test_weights_of_the_caller_change_nothing_that_is_remembered():
    pruner, ids = begun()
    losses = with_gradient(1.0, 2.0, 3.0, 6.0)
    assert pruner.update(ids, losses, weights=torch.tensor([0.0, 1.0, 1.0, 2.0])).item() == (2 + 3 + 12) / 4
    assert pruner.scores()["score"][ids].tolist() == [1.0, 2.0, 3.0, 6.0]


def test_weights_by_the_number_of_tokens_give_the_mean_over_all_tokens():
    rng = torch.Generator().manual_seed(0)
    tokens = torch.rand(4, 7, generator=rng).requires_grad_()
    counts = torch.tensor([7, 1, 3, 5])
    mask = torch.arange(7) < counts[:, None]
    pruner, ids = begun()
    loss = pruner.update(ids, (tokens * mask).sum(1) / counts, weights=counts.float())
    torch.testing.assert_close(loss, tokens[mask].mean())


def test_without_reduction_update_returns_the_weighted_losses():
    for strategy, expected in ((TOP_HALF, [1.0, 2.0, 3.0, 6.0]), (OrderedSGD(keep=0.5), [0.0, 0.0, 6.0, 12.0])):
        pruner, ids = begun(strategy, 8 if strategy is TOP_HALF else 4)
        losses = with_gradient(1.0, 2.0, 3.0, 6.0)
        assert pruner.update(ids, losses, reduction="none").tolist() == expected
        loss = pruner.update(ids, losses, weights=torch.tensor([1.0, 2.0, 3.0, 4.0]), reduction="none")
        assert loss.tolist() == [value * weight for value, weight in zip(expected, [1, 2, 3, 4], strict=True)]


def test_without_reduction_the_weights_of_the_epoch_count():
    pruner, ids = begun(Weighted())
    losses = with_gradient(1.0, 10.0, 100.0, 1000.0)
    assert torch.equal(pruner.update(ids, losses, reduction="none"), losses * (ids + 1))
    weighted = pruner.update(ids, losses, weights=torch.ones(4))
    torch.testing.assert_close(weighted, (losses * (ids + 1)).mean())


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
