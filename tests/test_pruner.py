import copy
import math
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import orderdp
from orderdp import DynamicRandom, FullData, Memory, OrderDP, OrderedSGD, Pruner, Selection, Strategy
from orderdp.loader import PrunedLoader
from orderdp.rng import generator, uniforms
from reference.loop import loss_of, train, train_epoch

TOP_HALF = OrderDP(explore=1.0, exploit=0.5)


def begun(strategy: Strategy = TOP_HALF, n: int = 8, **arguments) -> tuple[Pruner, torch.Tensor]:
    """A pruner with its first epoch begun, and the ids of that epoch."""
    pruner = Pruner(strategy, n, **arguments)
    return pruner, torch.from_numpy(pruner.begin_epoch().indices.copy())


def with_gradient(*values: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


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
    "too few losses": (bad_call(same, ones(3)), ValueError, "losses has shape (3,), but the batch has 4 samples"),
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
        "take ids and batches from pruner.loader or pruner.sampler, let no framework put another sampler",
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
    with pytest.warns(RuntimeWarning, match="these samples keep their last score"):
        assert pruner.report().non_finite == 1
    pruner.begin_epoch()  # counted and warned of once


# What a strategy declares is what the engine does.


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


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_and_left_out_of_the_step_leaves_the_mean_finite(bad):
    pruner, ids = begun(orderdp.OrderedSGD(keep=0.5), 4)
    losses = with_gradient(bad, 1.0, 2.0, 4.0)
    loss = pruner.update(ids, losses, scores=torch.tensor([0.0, 1.0, 2.0, 3.0]))
    loss.backward()
    assert loss.item() == 3.0
    assert losses.grad.tolist() == [0.0, 0.0, 0.5, 0.5]


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


def test_a_strategy_is_told_the_epoch_the_size_and_the_step():
    told = []

    class Listening(FullData):
        def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
            told.append((memory.num_samples, memory.epoch, memory.step_bounds))
            return super().select(memory, rng)

    pruner = Pruner(Listening(), 6)
    pruner.begin_epoch()
    pruner.set_epoch(5)
    pruner.begin_epoch(4)
    list(pruner.loader(range(6), batch_size=2))
    pruner.begin_epoch(4, drop_last=True)
    assert told == [
        (6, 0, None),
        (6, 5, ((0, 4), (4, 6))),
        (6, 6, ((0, 2), (2, 4), (4, 6))),
        (6, 7, ((0, 4),)),
    ]


def test_a_strategy_of_unknown_size_is_not_told_the_bounds_of_its_steps():
    told = []

    class Listening(orderdp.InfoBatch):
        def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
            told.append(memory.step_bounds)
            return super().select(memory, rng)

    loader = Pruner(Listening(), 6).loader(range(6), batch_size=4)
    for _ in range(2):
        list(loader)
    assert told == [((0, 4), (4, 6)), None]


def test_a_strategy_is_told_how_often_each_sample_was_trained():
    told = []

    class Listening(DynamicRandom):
        def select(self, memory: Memory, rng: np.random.Generator) -> Selection:
            told.append(memory.visits.tolist())
            with pytest.raises(ValueError, match="read-only"):
                memory.visits[0] = 7
            return super().select(memory, rng)

    pruner, counts = Pruner(Listening(prune_ratio=0.5), 6), np.zeros(6, dtype=int)
    for _ in range(3):
        ids = pruner.begin_epoch().indices
        assert told[-1] == counts.tolist()
        pruner.update(torch.from_numpy(ids), torch.ones(3, requires_grad=True))
        counts[ids] += 1
    pruner.preview()
    assert told[-1] == counts.tolist()


@dataclass(frozen=True)
class Declaring(Strategy):
    """Declares four samples and selects what it is given."""

    indices: tuple[int, ...]
    weights: tuple[float, ...] | None = None
    dtype: str = "int64"
    declared: int | None = 4

    def num_selected(self, num_samples, epoch):
        return self.declared

    def select(self, memory, rng):
        weights = None if self.weights is None else np.array(self.weights, dtype=np.float32)
        return Selection(np.array(self.indices, dtype=self.dtype), weights)


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        (
            Declaring((0, 1, 2)),
            "must select as many samples as num_selected says, 4, got 3 in epoch 0; run orderdp.tes",
        ),
        (Declaring((), declared=None), "must select at least one sample, got none in epoch 0"),
        (Declaring((0, 1, 2, 1)), "must select distinct samples, got 4 of which 3 differ in epoch 0"),
        (Declaring((0, 1, 2, 8)), "must select positions in 0 .. 7, got 0 .. 8 in epoch 0"),
        (Declaring((0, 1, -1, 2)), "must select positions in 0 .. 7, got -1 .. 2 in epoch 0"),
        (Declaring((0, 1, 2, 3), dtype="int32"), "must select a (q,) int64 array, got int32 of shape (4,) in epoch 0"),
        (
            Declaring((0, 1, 2, 3), weights=(1.0,)),
            "must select one float32 weight a sample, got float32 of shape (1,) f",
        ),
    ],
)
def test_a_selection_that_is_not_what_its_strategy_declares_is_refused_and_changes_nothing(strategy, text):
    pruner = Pruner(strategy, 8, schedule=lambda strategy, epoch: FullData() if epoch == 1 else strategy)
    for choose in (pruner.preview, pruner.begin_epoch):
        with pytest.raises(RuntimeError) as caught:
            choose()
        assert str(caught.value).startswith("Declaring(indices=(")
        assert text in str(caught.value)
        assert str(caught.value).endswith("; run orderdp.testing.check_strategy on it")
    assert pruner.epoch == 0
    assert pruner.report().epoch == -1
    pruner.set_epoch(1)
    assert len(pruner.begin_epoch().indices) == 8


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("orderdp", 8), TypeError, "strategy must be a Strategy, got 'orderdp'; write OrderDP(prune_ratio=0.5)"),
        ((OrderDP, 8), TypeError, "strategy must be a Strategy, got <class"),
        ((TOP_HALF, 0), ValueError, "num_samples must be an integer of at least 1 and less than"),
        (
            (TOP_HALF, [1, 2]),
            TypeError,
            "num_samples must be an integer of at least 1, got list [1, 2]; write len(data",
        ),
        ((TOP_HALF, True), TypeError, "num_samples must be an integer of at least 1, got bool True"),
        ((TOP_HALF, 1), ValueError, "the sizes must keep at least one of the 1 samples"),
        ((DynamicRandom(prune_ratio=0.9), 3), ValueError, "prune_ratio must leave at least one of the 3 samples"),
    ],
)
def test_a_pruner_refuses_arguments_that_mean_nothing(arguments, error, text):
    with pytest.raises(error) as caught:
        Pruner(*arguments)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**64, ValueError), (0.5, TypeError), (None, TypeError), (True, TypeError)]
)
def test_a_seed_is_an_integer_of_64_bits(seed, error):
    with pytest.raises(error, match=r"seed must be an integer of at least 0.*write a number such as 0"):
        Pruner(TOP_HALF, 8, seed=seed)
    Pruner(TOP_HALF, 8, seed=2**64 - 1).begin_epoch()


@pytest.mark.parametrize(("epoch", "error"), [(-1, ValueError), (1.0, TypeError), ("1", TypeError)])
def test_an_epoch_is_a_number_from_zero(epoch, error):
    with pytest.raises(error, match="epoch must be an integer of at least 0"):
        Pruner(TOP_HALF, 8).set_epoch(epoch)


@pytest.mark.parametrize(("epochs", "error"), [(0, ValueError), (2.5, TypeError)])
def test_total_steps_needs_a_number_of_epochs(epochs, error):
    with pytest.raises(error, match="epochs must be an integer of at least 1"):
        Pruner(TOP_HALF, 8).total_steps(epochs, 4)


@pytest.mark.parametrize("batch_size", [0, -3, 2.0, True, None, "8"])
def test_a_batch_size_is_a_positive_integer(batch_size):
    with pytest.raises(ValueError, match=r"batch_size must be a positive integer, got .*; write a number such as 128"):
        Pruner(TOP_HALF, 8).steps_per_epoch(batch_size)


def test_numpy_integers_are_integers():
    pruner, twin = Pruner(TOP_HALF, np.int64(8), seed=np.int64(3)), Pruner(TOP_HALF, 8, seed=3)
    pruner.set_epoch(np.int64(2))
    twin.set_epoch(2)
    assert pruner.begin_epoch().indices.tolist() == twin.begin_epoch().indices.tolist()
    assert {type(pruner.state_dict()[name]) for name in ("num_samples", "seed", "next_epoch", "running")} == {int}


# Which epoch, and which draw.


def test_the_epoch_is_the_one_begun_last():
    pruner = Pruner(TOP_HALF, 8)
    assert pruner.epoch == 0
    pruner.begin_epoch()
    assert pruner.epoch == 0
    pruner.begin_epoch()
    assert pruner.epoch == 1
    pruner.set_epoch(7)
    assert pruner.epoch == 1
    pruner.begin_epoch()
    assert pruner.epoch == 7


def test_a_draw_is_a_function_of_seed_and_epoch():
    def chosen(seed: int, epoch: int) -> tuple[int, ...]:
        pruner = Pruner(DynamicRandom(prune_ratio=0.5), 40, seed=seed)
        pruner.set_epoch(epoch)
        return tuple(pruner.begin_epoch().indices.tolist())

    assert chosen(3, 4) == chosen(3, 4)
    assert len({chosen(seed, epoch) for seed in range(6) for epoch in range(6)}) == 36  # seed + epoch would collide


@pytest.mark.parametrize("other", [(1, 0, "select"), (0, 1, "select"), (0, 0, "workers"), (2**63, 0, "select")])
def test_a_generator_is_its_own_for_each_seed_epoch_and_purpose(other):
    first, again = (generator(0, 0, "select").integers(2**63, size=4).tolist() for _ in range(2))
    assert first == again
    assert generator(*other).integers(2**63, size=4).tolist() != first


def test_golden_generator():
    assert generator(0, 0, "select").integers(1000, size=4).tolist() == [428, 481, 209, 79]


def test_two_pruners_do_not_disturb_each_other():
    alone = train(pruner := Pruner(TOP_HALF, 20), pruner.loader(range(20), batch_size=4), 3)
    first, second = Pruner(TOP_HALF, 20), Pruner(OrderDP(), 20, seed=1)
    loaders = [first.loader(range(20), batch_size=4), second.loader(range(20), batch_size=2)]
    together = []
    for _ in range(3):
        together += train(first, loaders[0], 1)
        train(second, loaders[1], 1)
    assert together == alone


# Steps, report, copies.


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "steps"), [(4, False, 3), (4, True, 2), (10, True, 1), (99, False, 1)]
)
def test_steps_per_epoch_are_those_the_loader_makes(batch_size, drop_last, steps):
    pruner = Pruner(TOP_HALF, 20)
    assert pruner.steps_per_epoch(batch_size, drop_last=drop_last) == steps
    loader = pruner.loader(range(20), batch_size=batch_size, drop_last=drop_last)
    assert len(loader) == len(list(loader)) == steps


def test_a_report_says_what_was_seen_and_how_long_ago():
    pruner = Pruner(TOP_HALF, 8)
    empty = pruner.report()
    assert (empty.epoch, empty.num_selected, empty.visits, empty.never_seen, empty.max_age) == (-1, 0, 0, 8, 0)
    assert math.isnan(empty.mean_age)
    first = torch.from_numpy(pruner.begin_epoch().indices.copy())
    pruner.update(first, loss_of(first, 0))
    pruner.begin_epoch()  # the other half, unseen
    report = pruner.report()
    assert (report.epoch, report.num_samples, report.num_selected) == (1, 8, 4)
    assert (report.visits, report.never_seen, report.mean_age, report.max_age) == (4, 4, 1.0, 1)
    assert report.non_finite == 0
    assert report.selection_s > 0


def test_visits_are_counted_epoch_by_epoch_and_include_the_running_one():
    pruner = Pruner(FullData(), 6)
    for epoch in range(3):
        ids = torch.from_numpy(pruner.begin_epoch().indices.copy())
        pruner.update(ids, loss_of(ids, epoch))
        assert pruner.visits().tolist() == [epoch + 1] * 6


def test_a_copied_pruner_goes_its_own_way():
    pruner, ids = begun()
    twin = copy.deepcopy(pruner)
    pruner.update(ids, loss_of(ids, 0))
    assert twin.visits().sum() == 0
    twin.update(ids, loss_of(ids, 0))
    assert twin.begin_epoch().indices.tolist() == pruner.begin_epoch().indices.tolist()


# States of a pruner alone; tests/test_loader.py has those inside an epoch.


def trained(epochs: int, seed: int = 0) -> Pruner:
    pruner = Pruner(OrderDP(), 20, seed=seed)
    train(pruner, pruner.loader(range(20), batch_size=4), epochs)
    return pruner


def test_a_state_between_epochs_goes_on_with_the_next():
    unbroken, twin = trained(3), Pruner(OrderDP(), 20)
    twin.load_state_dict(unbroken.state_dict())
    assert twin.epoch == 3
    assert not twin.resuming
    assert twin.begin_epoch().indices.tolist() == unbroken.begin_epoch().indices.tolist()
    assert twin.visits().tolist() == unbroken.visits().tolist()
    assert twin.report().visits == unbroken.report().visits


def test_a_state_before_any_epoch_begins_with_the_first():
    for resume in (False, True):
        twin = trained(2)
        twin.load_state_dict(Pruner(OrderDP(), 20).state_dict(), resume=resume)
        assert twin.epoch == 0
        assert twin.begin_epoch().indices.tolist() == Pruner(OrderDP(), 20).begin_epoch().indices.tolist()


def test_a_state_may_be_repeated_from_or_left():
    """resume begins the saved epoch again with its own selection; without it comes the one after."""
    pruner = trained(2)
    running = pruner.begin_epoch().indices.tolist()
    state = pruner.state_dict()
    following = pruner.begin_epoch().indices.tolist()
    for resume, expected in ((True, running), (False, following)):
        twin = Pruner(OrderDP(), 20)
        twin.load_state_dict(state, resume=resume)
        assert twin.begin_epoch().indices.tolist() == expected


def test_the_state_of_a_loaded_pruner_is_the_state_that_was_loaded():
    pruner = trained(2)
    pruner.begin_epoch()
    state = pruner.state_dict()
    for resume in (True, False):
        twin = Pruner(OrderDP(), 20)
        twin.load_state_dict(state, resume=resume)
        assert twin.state_dict()["next_epoch"] == state["next_epoch"]
        assert twin.state_dict()["running"] == state["running"]


def test_an_epoch_set_back_by_hand_is_chosen_anew_after_a_load_as_before():
    pruner = trained(2)
    pruner.set_epoch(1)
    twin = Pruner(OrderDP(), 20)
    twin.load_state_dict(pruner.state_dict())
    assert twin.begin_epoch().indices.tolist() == pruner.begin_epoch().indices.tolist()


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (Pruner(OrderDP(explore=0.4), 20), "must be of strategy OrderDP("),
        (Pruner(OrderDP(), 21), "must be of num_samples 21, got 20; build the pruner as it was saved"),
        (Pruner(OrderDP(), 20, seed=1), "must be of seed 1, got 0; build the pruner as it was saved"),
    ],
)
def test_a_state_of_another_pruner_is_refused_and_changes_nothing(other, text):
    state = trained(2).state_dict()
    expected = copy.deepcopy(other).begin_epoch().indices.tolist()
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        other.load_state_dict(state)
    assert text in str(caught.value)
    assert other.visits().sum() == 0
    assert other.begin_epoch().indices.tolist() == expected


@pytest.mark.parametrize("version", [None, 0, 2])
def test_a_state_of_another_version_is_refused(version):
    pruner = trained(1)
    state = {**pruner.state_dict(), "version": version}
    with pytest.raises(ValueError, match=f"the state must be of version 1, got {version}; load it with the release"):
        pruner.load_state_dict(state)


def test_a_state_with_a_damaged_table_is_refused_and_changes_nothing():
    pruner = trained(2)
    state = pruner.state_dict()
    state["table"]["visits"] = torch.zeros(3)
    twin = Pruner(OrderDP(), 20)
    with pytest.raises(ValueError, match=r"must hold 20 samples, got visits of shape \(3,\)"):
        twin.load_state_dict(state)
    assert twin.epoch == 0
    assert twin.begin_epoch().indices.tolist() == Pruner(OrderDP(), 20).begin_epoch().indices.tolist()


def test_a_state_is_not_changed_by_what_follows():
    pruner = trained(1)
    state = pruner.state_dict()
    before = copy.deepcopy(state)
    train(pruner, pruner.loader(range(20), batch_size=4), 2)
    torch.testing.assert_close(state["table"], before["table"], rtol=0, atol=0)
    assert state["indices"].tolist() == before["indices"].tolist()


def test_an_epoch_number_that_comes_again_is_an_epoch_of_its_own():
    pruner = Pruner(FullData(), 10)
    train(pruner, pruner.loader(range(10), batch_size=5), 1)
    pruner.set_epoch(0)
    ids = torch.from_numpy(pruner.begin_epoch().indices[:5].copy())
    pruner.update(ids, torch.ones(5, requires_grad=True))
    assert pruner.visits().sum() == pruner.report().visits == 15
    assert pruner.visits()[ids].tolist() == [2] * 5


def test_a_choice_that_fails_counts_no_visit_twice():
    strategy = OrderDP(per="iteration")
    pruner = Pruner(strategy, 40)
    train(pruner, pruner.loader(range(40), batch_size=4), 1)
    for _ in range(3):
        with pytest.raises(ValueError, match="per='iteration' must know the batches"):
            pruner.begin_epoch()
    pruner.begin_epoch(4)
    assert pruner.report().visits == 12


def test_scores_that_stand_for_the_losses_choose_within_a_batch_too():
    pruner = Pruner(OrderDP(explore=1, exploit=0.5, per="iteration", fresh=True), 4)
    ids = torch.from_numpy(pruner.begin_epoch(4).indices.copy())
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    assert pruner.update(ids, losses, scores=torch.tensor([4.0, 3.0, 2.0, 1.0])).item() == 1.5


def test_a_whole_number_is_the_same_setting_as_a_float():
    assert repr(OrderDP(explore=1, initial_score=3)) == repr(OrderDP(explore=1.0, initial_score=3.0))


def test_a_state_goes_on_with_the_counts_and_seconds_of_the_report():
    pruner, ids = begun()
    pruner.update(ids, with_gradient(1.0, math.nan, 2.0, 3.0))
    with pytest.warns(RuntimeWarning, match="1 losses"):
        state = pruner.state_dict()
    twin = Pruner(TOP_HALF, 8)
    twin.load_state_dict(state)
    assert twin.report() == pruner.report()
    assert twin.report().selection_s > 0


def test_losses_from_before_a_load_are_forgotten():
    pruner, ids = begun()
    state = pruner.state_dict()
    pruner.update(ids, with_gradient(1.0, math.nan, 2.0, 3.0))
    pruner.load_state_dict(state)
    assert pruner.report().non_finite == 0


def test_uniforms_do_not_depend_on_the_default_dtype():
    expected = uniforms(torch.arange(1_000), 0, 0)
    before = torch.get_default_dtype()
    try:
        for dtype in (torch.float64, torch.bfloat16):
            torch.set_default_dtype(dtype)
            assert torch.equal(uniforms(torch.arange(1_000), 0, 0), expected)
    finally:
        torch.set_default_dtype(before)


def split_mix(sample: int, start: int) -> float:
    """SplitMix64's finaliser in Python's integers, to 23 bits."""
    z = ((sample + 1) * 0x9E3779B97F4A7C15 + start) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return (((z ^ (z >> 31)) >> 41) + 0.5) / 2**23


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=20), st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_uniforms_are_splitmix_of_seed_epoch_and_id(ids, seed, epoch):
    key = (epoch, zlib.crc32(b"uniforms"))
    start = int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0])
    found = uniforms(torch.tensor(ids), seed, epoch)
    assert found.dtype == torch.float32
    assert found.tolist() == [split_mix(sample, start) for sample in ids]
    assert 0 < float(found.min()) <= float(found.max()) < 1


def test_uniforms_look_drawn():
    draws = torch.stack([uniforms(torch.arange(100_000), seed, epoch) for seed in (0, 1) for epoch in (0, 1)]).numpy()
    counts = np.stack([np.histogram(row, bins=20, range=(0, 1))[0] for row in draws])
    assert (np.abs(counts - 5_000) <= 5 * math.sqrt(100_000 * 0.05 * 0.95)).all()
    correlations = np.corrcoef(np.concatenate([draws[:, 1:], draws[:, :-1]]))
    assert np.abs(correlations - np.eye(8)).max() < 5 / math.sqrt(100_000)


class TestSizesThatDependOnLosses:
    def test_the_steps_are_not_promised(self):
        pruner = Pruner(orderdp.InfoBatch(), 100)
        with pytest.raises(
            ValueError, match=r"^the steps of InfoBatch\(\) depend on the losses, got epoch 1 of unknown"
        ):
            pruner.total_steps(5, batch_size=10)
        assert pruner.total_steps(1, batch_size=10) == 10

    def test_a_running_epoch_has_its_own_length(self):
        pruner = Pruner(orderdp.InfoBatch(), 100)
        loader = pruner.loader(range(100), batch_size=10)
        assert len(loader) == 10
        for epoch in range(3):
            batches = 0
            for index, _ in loader:
                batches += 1
                assert len(loader) == math.ceil(len(pruner.selection.indices) / 10)
                pruner.update(index, loss_of(index, epoch)).backward()
            assert batches == len(loader)
            assert (batches < 10) == (epoch > 0)

    def test_weights_reach_the_gradient(self):
        pruner = Pruner(orderdp.InfoBatch(prune_probability=0.75), 100, seed=0)
        for epoch in range(2):
            index = torch.from_numpy(pruner.begin_epoch().indices)
            losses = loss_of(index, epoch)
            pruner.update(index, losses).backward()
        weights = torch.from_numpy(pruner.selection.weights)
        torch.testing.assert_close(losses.grad, weights / len(index))
        assert set(weights.tolist()) == {1.0, 4.0}

    @pytest.mark.parametrize(
        "strategy",
        [
            orderdp.InfoBatch(),
            orderdp.SeTa(prune_ratio=0.3, epochs=20),
            orderdp.Kakurenbo(epochs=20, hide=0.5),
            orderdp.EpsilonGreedy(prune_ratio=0.5, every=3),
            orderdp.UCB(prune_ratio=0.5, every=2),
            orderdp.RepeatedRandom(prune_ratio=0.7),
            orderdp.SelectiveBackprop(keep=0.5),
        ],
        ids=lambda strategy: type(strategy).__name__,
    )
    @pytest.mark.parametrize("stop_at", [0, 3])
    def test_a_state_goes_on_alike(self, strategy, stop_at):
        def fresh() -> tuple[Pruner, PrunedLoader]:
            pruner = Pruner(strategy, 97, seed=5)
            return pruner, pruner.loader(range(97), batch_size=8)

        pruner, loader = fresh()
        whole = train(pruner, loader, 6)
        pruner, loader = fresh()
        train(pruner, loader, 3)
        if stop_at:
            first = train_epoch(pruner, loader, stop_at)
        state = loader.state_dict()
        twin, twin_loader = fresh()
        twin_loader.load_state_dict(state)
        rest = train(twin, twin_loader, 3)
        assert (first if stop_at else []) + rest[0] == whole[3]
        assert rest[1:] == whole[4:]


def told(pruner):
    return pruner.visits().tolist(), pruner.ages().tolist(), pruner.trained().tolist()


def jumped(epochs):
    """A pruner whose epochs were numbered by hand, each trained in part, and what its ages should be."""
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), 8)
    last = {}
    for begun, epoch in enumerate(epochs):
        pruner.set_epoch(epoch)
        index = torch.from_numpy(pruner.begin_epoch().indices[: 3 if begun else 4].copy())
        pruner.update(index, (index + 1.0).requires_grad_())
        last.update(dict.fromkeys(index.tolist(), begun))
    return pruner, [len(epochs) - 1 - last[i] if i in last else -1 for i in range(8)]


@pytest.mark.parametrize("epochs", [(0, 7), (5, 0), (3, 3, 1)])
@pytest.mark.parametrize("resume", [False, True])
def test_ages_count_epochs_begun_whatever_their_numbers_and_survive_a_state(epochs, resume):
    pruner, ages = jumped(epochs)
    assert pruner.ages().tolist() == ages
    twin = Pruner(OrderDP(explore=1.0, exploit=0.5), 8)
    twin.load_state_dict(pruner.state_dict(), resume=resume)
    assert told(twin) == told(pruner)


def test_a_loss_that_is_not_finite_and_left_out_of_the_step_is_not_counted():
    pruner = Pruner(OrderedSGD(keep=0.75), 4)
    index = torch.from_numpy(pruner.begin_epoch().indices.copy())
    assert pruner.update(index, torch.tensor([-math.inf, 1.0, 2.0, 3.0], requires_grad=True)).item() == 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pruner.report().non_finite == 0


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
