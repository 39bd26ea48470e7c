"""Two passes: one without gradient over the batch, from which `choose` picks, and one over the samples kept."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from orderdp import FullData, OrderDP, OrderedSGD, Pruner, Selection, SelectiveBackprop
from reference.loop import LEFT_EARLY, begun, with_gradient

N, BATCH = 60, 8
WITHIN = {
    "ordered SGD": OrderedSGD(keep=0.25),
    "selective backprop": SelectiveBackprop(keep=0.5),
    "OrderDP, fresh": OrderDP(explore=0.8, exploit=0.5, per="iteration", fresh=True),
}
each_within = pytest.mark.parametrize("strategy", WITHIN.values(), ids=WITHIN.keys())
NOT_FINITE = pytest.mark.filterwarnings("ignore:.* losses of epoch .* were NaN or infinite:RuntimeWarning")


@dataclass(frozen=True)
class WeightedWithin(OrderedSGD):
    """Weighs samples by the epoch, and chooses the higher part of each batch; remembers the losses."""

    @property
    def columns(self):
        return {"score": math.inf}

    def select(self, memory, rng):
        indices = rng.permutation(memory.num_samples)
        return Selection(indices, (indices % 5 + 1).astype(np.float32))


@dataclass(frozen=True)
class AveragesWithin(OrderedSGD):
    """Remembers the mean of the last loss and what was remembered before."""

    @property
    def columns(self):
        return {"mean": 1.0}

    def observe(self, old, losses):
        return {"mean": (old["mean"] + losses) / 2}


def losses_of(index, epoch):
    return ((index * 7919 + (epoch + 1) * 104_729) % 1009).float() / 100


def masked(pruner, index, losses, **more):
    """One pass over the whole batch. Returns the samples that it trained, and the loss."""
    losses = losses.clone().requires_grad_()
    loss = pruner.update(index, losses, **more)
    loss.backward()
    return set(index[losses.grad != 0].tolist()), loss.item()


def two_passes(pruner, index, losses, scores=None, weights=None):
    kept = pruner.choose(index, losses, scores=scores)
    assert kept.tolist() == sorted(set(kept.tolist()))
    if not len(kept):
        return set(), 0.0
    chosen = losses[kept].clone().requires_grad_()
    more = {"scores": scores, "weights": weights}
    loss = pruner.update(index[kept], chosen, **{name: v[kept] for name, v in more.items() if v is not None})
    loss.backward()
    return set(index[kept].tolist()), loss.item()


def remembered(pruner):
    table = {name: column.tolist() for name, column in pruner.table().items()}
    report = pruner.report()
    return table, report.trained, report.visits, report.non_finite, report.missing, report.failed


@NOT_FINITE
@each_within
@pytest.mark.parametrize("given", ["losses", "scores", "weights"])
@pytest.mark.parametrize("broken", [None, math.nan, math.inf])
def test_two_passes_train_and_remember_what_one_pass_does(strategy, given, broken):
    pruners = [Pruner(strategy, N, seed=2), Pruner(strategy, N, seed=2)]
    for epoch in range(3):
        loaders = [iter(pruner.loader(range(N), batch_size=BATCH)) for pruner in pruners]
        for (index, _), (same, _) in zip(*loaders, strict=True):
            assert index.tolist() == same.tolist()
            losses = losses_of(index, epoch)
            if broken is not None:
                losses[index % 7 == 3] = broken
            more = {} if given == "losses" else {given: losses_of(index, 9) + 1}
            (ids, loss), (ids_of_two, loss_of_two) = (
                way(pruner, index, losses, **more) for way, pruner in zip((masked, two_passes), pruners, strict=True)
            )
            assert ids == ids_of_two
            assert loss == pytest.approx(loss_of_two)
        assert remembered(pruners[0]) == remembered(pruners[1])


def test_the_losses_of_samples_left_out_are_remembered_and_are_no_visit():
    for way in (masked, two_passes):
        pruner, ids = begun(WeightedWithin(keep=0.5), 8)
        trained, loss = way(pruner, ids, losses_of(ids, 0))
        highest = losses_of(ids, 0).argsort()[4:]
        assert trained == set(ids[highest].tolist())
        scores = pruner.scores()["score"]
        assert torch.equal(scores[ids], losses_of(ids, 0))
        assert {i for i in range(8) if pruner.visits()[i]} == trained
        weights = (ids[highest] % 5 + 1).float()
        assert loss == pytest.approx((weights * losses_of(ids, 0)[highest]).mean().item())


def test_a_rule_for_what_is_remembered_holds_for_samples_left_out_and_none_for_those_not_seen():
    pruner = Pruner(AveragesWithin(keep=0.5), 8)
    pruner.begin_epoch(4)
    first, second = torch.from_numpy(pruner.selection.indices.astype(np.int64)).split(4)
    pruner.update(first, with_gradient(3.0, 5.0, 7.0, 9.0))
    mean = pruner.scores()["mean"]
    assert mean[first].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert mean[second].tolist() == [1.0] * 4


@NOT_FINITE
@pytest.mark.parametrize("strategy", [OrderedSGD(keep=0.5), WeightedWithin(keep=0.5)], ids=["no column", "a column"])
def test_a_sample_that_failed_and_is_left_out_with_a_finite_loss_has_failed_no_longer(strategy):
    pruner, ids = begun(strategy, 4)
    masked(pruner, ids, torch.where(ids == 0, torch.nan, 1.0))
    assert pruner.report().failed == (0,)
    ids = torch.from_numpy(pruner.begin_epoch().indices.astype(np.int64))
    assert 0 not in masked(pruner, ids, ids.float())[0]
    assert pruner.report().failed == ()


def test_what_counts_is_the_loss_of_the_second_pass():
    pruner, ids = begun(WeightedWithin(keep=0.5), 4)
    kept = pruner.choose(ids, torch.tensor([4.0, 1.0, 3.0, 2.0]))
    assert kept.tolist() == [0, 2]
    assert kept.dtype == torch.int64
    pruner.update(ids[kept], with_gradient(40.0, 30.0))
    assert pruner.scores()["score"][ids[kept]].tolist() == [40.0, 30.0]


def test_a_loss_that_is_not_finite_in_the_second_pass_is_left_out_too():
    pruner, ids = begun(OrderedSGD(keep=0.5), 8)
    kept = pruner.choose(ids, torch.arange(8.0))
    losses = with_gradient(4.0, math.nan, 6.0, 8.0)
    loss = pruner.update(ids[kept], losses)
    loss.backward()
    assert loss.item() == 6.0
    assert losses.grad[1] == 0
    assert pruner.report().failed == (int(ids[kept[1]]),)


@NOT_FINITE
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_if_no_loss_of_the_second_pass_is_finite_the_step_is_zero(bad):
    pruner, ids = begun(OrderedSGD(keep=0.5), 8)
    kept = pruner.choose(ids, torch.arange(8.0))
    losses = with_gradient(*[bad] * 4)
    loss = pruner.update(ids[kept], losses)
    loss.backward()
    assert loss.item() == 0
    assert losses.grad.tolist() == [0.0] * 4
    assert pruner.report().failed == tuple(sorted(ids[kept].tolist()))


@each_within
def test_if_no_loss_is_finite_nothing_is_chosen_and_all_have_failed(strategy):
    pruner, ids = begun(strategy, 10)
    kept = pruner.choose(ids, torch.full((len(ids),), math.nan))
    assert kept.tolist() == []
    assert pruner.report().failed == tuple(sorted(ids.tolist()))
    assert pruner.report().non_finite == len(ids)


def test_inputs_that_are_not_finite_never_reach_the_backward_pass():
    """In one pass, zero times NaN inside the model would still spoil every parameter."""
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    x[::10] = math.nan
    weight = torch.ones(4, requires_grad=True)
    optimiser = torch.optim.SGD([weight], lr=0.01)
    pruner = Pruner(OrderedSGD(keep=0.5), 40)
    for index, batch in pruner.loader(x, batch_size=10):
        with torch.no_grad():
            kept = pruner.choose(index, (batch @ weight - 1) ** 2)
        optimiser.zero_grad()
        pruner.update(index[kept], (batch[kept] @ weight - 1) ** 2).backward()
        optimiser.step()
    assert weight.isfinite().all()
    assert pruner.report().failed == (0, 10, 20, 30)


@pytest.mark.parametrize("strategy", [FullData(), OrderDP(prune_ratio=0.5)], ids=repr)
def test_a_strategy_that_does_not_choose_within_batches_keeps_all(strategy):
    """So one loop serves every strategy and every schedule."""
    pruner, ids = begun(strategy, 8)
    losses = torch.arange(len(ids)).float()
    assert pruner.choose(ids, losses).tolist() == list(range(len(ids)))
    assert pruner.report().trained == 0
    assert pruner.update(ids, losses.requires_grad_()).item() == losses.mean().item()
    assert pruner.report().trained == len(ids)


# What is refused.


@pytest.mark.parametrize("wrong", [[0, 1], [0, 1, 2], [1, 3, 5, 7], [7, 6, 5, 4], list(range(8))], ids=str)
def test_an_update_of_other_samples_than_those_chosen_is_refused_each_time(wrong):
    pruner, ids = begun(OrderedSGD(keep=0.5), 8)
    kept = pruner.choose(ids, torch.arange(8.0))
    assert kept.tolist() == [4, 5, 6, 7]
    for _ in range(2):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
            pruner.update(ids[wrong], torch.ones(len(wrong), requires_grad=True))
        assert str(caught.value) == (
            f"index must hold the 4 samples that choose returned, got {len(wrong)} or others; "
            "write update(index[kept], losses of the same samples)"
        )
    assert pruner.report().trained == 0
    pruner.update(ids[kept], torch.ones(4, requires_grad=True))
    assert pruner.report().trained == 4


@pytest.mark.parametrize(
    ("index", "losses", "scores", "text"),
    [
        ([0, 1], torch.ones(()), None, "losses has shape (), but the batch has 2 samples"),
        ([0, 1], torch.ones(2, 3), None, "losses.flatten(1).mean(1)"),
        ([0, 1], torch.ones(2, dtype=torch.int64), None, "losses must be a floating tensor, got torch.int64"),
        ([0, 1], torch.ones(2), torch.ones(3), "scores has shape (3,), but the batch has 2 samples"),
        ([], torch.ones(0), None, "index must hold at least one sample, got none"),
        ([0.0], torch.ones(1), None, "index must be a (b,) int64 tensor, got torch.float32 of shape (1,)"),
    ],
)
@pytest.mark.parametrize("strategy", [OrderedSGD(keep=0.5), FullData()], ids=repr)
def test_choose_refuses_what_update_refuses(strategy, index, losses, scores, text):
    pruner, _ = begun(strategy, 4)
    index = torch.tensor(index) if index else torch.empty(0, dtype=torch.int64)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        pruner.choose(index, losses, scores=scores)
    assert text in str(caught.value)


def test_choose_needs_an_epoch():
    with pytest.raises(RuntimeError, match="choose needs an epoch, got none begun; take index and batch from"):
        Pruner(OrderedSGD(keep=0.5), 8).choose(torch.tensor([0]), torch.ones(1))


def test_a_choice_that_an_epoch_left_open_is_forgotten():
    pruner, ids = begun(OrderedSGD(keep=0.5), 8)
    pruner.choose(ids, torch.arange(8.0))
    pruner.set_epoch(5)
    with pytest.warns(RuntimeWarning, match="update was never called in epoch 0"):
        ids = torch.from_numpy(pruner.begin_epoch().indices.copy())
    assert pruner.update(ids, torch.arange(8.0, requires_grad=True)).item() == 5.5


def test_a_choice_that_was_given_up_does_not_bind_the_batches_after_it():
    pruner, ids = begun(OrderedSGD(keep=0.5), 12)
    first, second, third = ids.split(4)
    pruner.choose(first, torch.arange(4.0))
    assert pruner.choose(second, torch.full((4,), math.nan)).tolist() == []
    assert pruner.update(third, torch.arange(4.0, requires_grad=True)).item() == 2.5
    assert pruner.report().failed == tuple(sorted([*second.tolist(), *first.tolist()]))


# Loops of other kinds.


def test_a_second_update_of_a_choice_trains_the_same_samples():
    """As sharpness-aware minimisation does."""
    pruner, ids = begun(WeightedWithin(keep=0.5), 8)
    kept = pruner.choose(ids, torch.arange(8.0))
    for value in (1.0, 2.0):
        losses = torch.full((4,), value, requires_grad=True)
        pruner.update(ids[kept], losses).backward()
        assert (losses.grad != 0).all()
    assert pruner.report().trained == pruner.report().visits == 4
    assert pruner.scores()["score"][ids[kept]].tolist() == [2.0] * 4


def test_batches_of_one_pass_and_of_two_may_alternate():
    pruner, ids = begun(OrderedSGD(keep=0.5), 16)
    for number, batch in enumerate(ids.split(4)):
        trained, _ = (two_passes, masked)[number % 2](pruner, batch, torch.tensor([4.0, 1.0, 3.0, 2.0]))
        assert trained == {int(batch[0]), int(batch[2])}
    assert pruner.report().trained == 8


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_two_passes_may_read_ahead(ahead):
    pruner = Pruner(OrderedSGD(keep=0.5), 32)
    for _ in range(2):
        batches = list(pruner.loader(range(32), batch_size=4)) if ahead == 3 else pruner.loader(range(32), batch_size=4)
        held = []
        for index, _ in batches:
            held.append(index)
            if len(held) > ahead:
                two_passes(pruner, held[0], losses_of(held.pop(0), 0))
        for index in held:
            two_passes(pruner, index, losses_of(index, 0))
    assert pruner.report().visits == 32
    assert pruner.report().missing == 0


@LEFT_EARLY
@each_within
def test_a_batch_whose_choice_was_not_trained_is_met_again(strategy):
    pruner = Pruner(strategy, N)
    loader = pruner.loader(range(N), batch_size=BATCH)
    batches = []
    for index, _ in loader:
        batches.append(index.tolist())
        losses = losses_of(index, 0)
        if len(batches) == 3:
            losses[0] = math.nan
            pruner.choose(index, losses)
            break  # interrupted before its update
        two_passes(pruner, index, losses)
    twin = Pruner(strategy, N)
    rest = twin.loader(range(N), batch_size=BATCH)
    rest.load_state_dict(loader.state_dict())
    met = [index.tolist() for index, _ in rest]
    assert met[0] == batches[2]
    assert len(met) == len(loader) - 2


@each_within
def test_two_passes_resume_inside_an_epoch(strategy):
    def trained(pruner, loader, stop=None):
        ids = []
        for number, (index, _) in enumerate(loader):
            if number == stop:
                break
            ids.append(two_passes(pruner, index, losses_of(index, pruner.epoch)))
        return ids

    pruner = Pruner(strategy, N)
    whole = trained(pruner, pruner.loader(range(N), batch_size=BATCH))
    first = Pruner(strategy, N)
    loader = first.loader(range(N), batch_size=BATCH)
    begun_ids = trained(first, loader, 3)
    twin = Pruner(strategy, N)
    rest = twin.loader(range(N), batch_size=BATCH)
    rest.load_state_dict(loader.state_dict())
    assert begun_ids + trained(twin, rest) == whole
    assert remembered(twin) == remembered(pruner)


# What it saves.


class Counting(torch.autograd.Function):
    """Counts the samples that go backward."""

    count = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        Counting.count += len(gradient)
        return gradient


@pytest.mark.parametrize(("way", "backward"), [("two passes", 16), ("one pass", 64)])
def test_only_two_passes_save_backward_work(way, backward):
    weight = torch.ones(4, requires_grad=True)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    pruner = Pruner(OrderedSGD(keep=0.25), 64)
    Counting.count = 0

    def losses_of_batch(batch):
        return Counting.apply(batch @ weight) ** 2

    for index, batch in pruner.loader(x, batch_size=16):
        if way == "two passes":
            with torch.no_grad():
                kept = pruner.choose(index, losses_of_batch(batch))
            index, batch = index[kept], batch[kept]
        pruner.update(index, losses_of_batch(batch)).backward()
    assert Counting.count == backward
    assert pruner.report().trained == 16
