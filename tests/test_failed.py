"""Samples that never get a finite loss rank below all others, are counted, listed and warned of, and may heal."""

import math
import warnings

import pytest
import torch
from torch.utils.data import Dataset

import orderdp
from orderdp import FullData, OrderDP, OrderedSGD, Pruner, SelectiveBackprop
from reference.loop import begun, loss_of, with_gradient

N, EPOCHS, BATCH = 1000, 30, 50
FAILING = frozenset(range(3, N, 10))  # a tenth of the data
BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
WAYS = pytest.mark.parametrize("way", [math.nan, math.inf, -math.inf, "dropped"])
NOT_FINITE = "losses of epoch 0 were NaN or infinite and were not recorded; these samples rank below all others"
LEFT_OUT = "samples of epoch 0 were left without a loss; they rank below all others until one is recorded"


class Partly(Dataset):
    """Some samples cannot be read."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return None if index in FAILING else index


def readable(samples):
    """A collate function that leaves out what cannot be read; returns the places of the rest."""
    return torch.tensor([place for place, sample in enumerate(samples) if sample is not None], dtype=torch.int64)


def train_with_failures(pruner, loader, way):
    """Trains one epoch; returns how many failing samples it visited, and how many samples."""
    failing = visited = 0
    for index, readable_places in loader:
        broken = torch.tensor([i in FAILING for i in index.tolist()])
        failing, visited = failing + int(broken.sum()), visited + len(index)
        if way == "dropped":
            index = index[readable_places]
            if not len(index):
                continue
            losses = loss_of(index, pruner.epoch)
        else:
            losses = torch.where(broken, way, loss_of(index, pruner.epoch).detach()).requires_grad_()
        pruner.update(index, losses)
    return failing, visited


def trained_with_failures(strategy, way, epochs=EPOCHS):
    """A pruner after a run, the counts of each epoch, and the warnings."""
    pruner = Pruner(strategy, N, seed=1)
    loader = pruner.loader(Partly(), batch_size=BATCH, collate_fn=readable)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        counts = [train_with_failures(pruner, loader, way) for _ in range(epochs)]
    return pruner, counts, [str(warning.message) for warning in warned]


STRATEGIES = {
    "OrderDP": OrderDP(explore=1.0, exploit=0.1),
    "OrderDP in each step": OrderDP(explore=1.0, exploit=0.1, per="iteration"),
    "OrderDP of half": OrderDP(explore=0.5, exploit=0.5),
    "UCB": orderdp.UCB(prune_ratio=0.9, every=1),
    "UCB that avoids variance": orderdp.UCB(prune_ratio=0.9, every=1, c=-1.0),
    "epsilon-greedy": orderdp.EpsilonGreedy(prune_ratio=0.9, every=1),
    "proportional": orderdp.Proportional(prune_ratio=0.9),
    "InfoBatch": orderdp.InfoBatch(),
    "SeTa": orderdp.SeTa(prune_ratio=0.3, epochs=EPOCHS),
    "Kakurenbo": orderdp.Kakurenbo(epochs=EPOCHS, hide=0.3),
    "repeated random": orderdp.RepeatedRandom(prune_ratio=0.5),
}


@WAYS
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_samples_that_never_get_a_loss_never_take_more_than_their_share(strategy, way):
    pruner, counts, warned = trained_with_failures(strategy, way)
    shares = [failing / visited for failing, visited in counts]
    assert max(shares[:10]) < 0.2  # while unseen samples come first
    assert max(shares[10:]) < 0.15  # easy samples of SeTa, uniform draws
    report = pruner.report()
    assert set(report.failed) <= FAILING
    assert len(report.failed) > 0.9 * len(FAILING)
    assert report.failed == tuple(sorted(report.failed))
    total = sum(failing for failing, _ in counts)
    assert (report.missing, report.non_finite) == ((total, 0) if way == "dropped" else (0, total))
    about = LEFT_OUT if way == "dropped" else NOT_FINITE
    assert len([text for text in warned if about in text]) == len(warned) == 1


@WAYS
@pytest.mark.parametrize("name", ["OrderDP", "OrderDP in each step", "UCB", "UCB that avoids variance"])
def test_while_enough_others_are_there_none_is_visited_twice(name, way):
    """They are visited once, unseen, and never again. In each step the others of its own draw must be enough."""
    pruner, counts, _ = trained_with_failures(STRATEGIES[name], way)
    assert sum(failing for failing, _ in counts) == len(FAILING)
    assert sum(failing for failing, _ in counts[10:]) == 0
    assert set(pruner.report().failed) == FAILING


@WAYS
def test_epsilon_greedy_meets_them_in_its_uniform_share_only(way):
    _, counts, _ = trained_with_failures(STRATEGIES["epsilon-greedy"], way)
    assert max(failing for failing, _ in counts[12:]) <= 10


@WAYS
def test_kakurenbo_hides_them_first(way):
    _, counts, _ = trained_with_failures(STRATEGIES["Kakurenbo"], way)
    assert [failing for failing, _ in counts] == [len(FAILING)] + [0] * (EPOCHS - 1)


@WAYS
def test_seta_counts_them_to_the_easiest_group(way):
    _, counts, _ = trained_with_failures(STRATEGIES["SeTa"], way)
    assert [failing for failing, _ in counts[5:26:2]] == [0] * 11  # the window begins above the easiest group
    assert min(failing for failing, _ in counts[6:26:2]) > 50  # and else it covers that group


@WAYS
def test_infobatch_keeps_half_of_them(way):
    _, counts, _ = trained_with_failures(STRATEGIES["InfoBatch"], way)
    assert counts[0] == (len(FAILING), N)
    later = [failing for failing, _ in counts[1:]]
    assert sum(later) / len(later) == pytest.approx(50, abs=5)  # five standard deviations of the mean of 29


@pytest.mark.parametrize("name", ["OrderDP", "UCB", "epsilon-greedy", "InfoBatch", "Kakurenbo"])
def test_both_ways_of_failing_select_the_same_samples(name):
    _, missing, _ = trained_with_failures(STRATEGIES[name], "dropped", 6)
    _, not_finite, _ = trained_with_failures(STRATEGIES[name], math.nan, 6)
    assert missing == not_finite


@WAYS
def test_a_finite_loss_heals(way):
    """In one epoch on all the data, every loss is finite. Then the samples rank by it."""
    strategy = OrderDP(explore=1.0, exploit=0.1)
    pruner = Pruner(strategy, N, schedule=lambda strategy, epoch: FullData() if epoch in (0, 3) else strategy)
    loader = pruner.loader(Partly(), batch_size=BATCH, collate_fn=readable)
    train_with_failures(pruner, loader, way)
    with pytest.warns(RuntimeWarning, match=LEFT_OUT if way == "dropped" else NOT_FINITE):
        train_with_failures(pruner, loader, way)
    train_with_failures(pruner, loader, way)
    assert set(pruner.report().failed) == FAILING
    for index, _ in loader:
        high = torch.tensor([i in FAILING for i in index.tolist()])
        pruner.update(index, torch.where(high, 1000.0 + index, index / N).requires_grad_())
    assert pruner.report().failed == ()
    assert set(pruner.begin_epoch().indices.tolist()) == FAILING


def test_a_run_that_was_saved_knows_which_samples_failed():
    whole, counts, _ = trained_with_failures(STRATEGIES["OrderDP"], math.nan, 14)
    first, begun_counts, _ = trained_with_failures(STRATEGIES["OrderDP"], math.nan, 7)
    twin = Pruner(STRATEGIES["OrderDP"], N, seed=1)
    loader = twin.loader(Partly(), batch_size=BATCH, collate_fn=readable)
    loader.load_state_dict({"pruner": first.state_dict(), "inside": False})
    assert twin.report().failed == first.report().failed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rest = [train_with_failures(twin, loader, math.nan) for _ in range(7)]
    assert begun_counts + rest == counts
    assert twin.report().failed == whole.report().failed
    assert twin.report().non_finite == whole.report().non_finite


# What a loop leaves or reads ahead does not count.


@pytest.mark.filterwarnings("ignore:epoch .* was left after:RuntimeWarning")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 3])
def test_batches_after_a_break_have_not_failed(workers, stop):
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), 64)
    loader = pruner.loader(range(64), batch_size=8, num_workers=workers)
    for _ in range(3):
        for number, (index, _) in enumerate(loader, 1):
            pruner.update(index, loss_of(index, pruner.epoch))
            if number == stop:
                break
    assert (pruner.report().missing, pruner.report().failed) == (0, ())


@pytest.mark.filterwarnings("ignore:epoch .* was left after:RuntimeWarning")
@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_batches_read_ahead_of_a_break_have_not_failed(ahead):
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), 64)
    loader = pruner.loader(range(64), batch_size=8)
    for _ in range(3):
        batches = iter(loader)
        held = [next(batches) for _ in range(ahead)]
        for index, _ in held[:1]:
            pruner.update(index, loss_of(index, pruner.epoch))
    assert (pruner.report().missing, pruner.report().failed) == (0, ())


def test_a_loop_that_reads_ahead_to_the_end_fails_only_what_it_leaves_out():
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), 64)
    batches = [index for index, _ in pruner.loader(range(64), batch_size=8)]
    for index in (batches[0], batches[1], batches[3]):
        pruner.update(index, loss_of(index, 0))
    assert pruner.report().failed == tuple(sorted(batches[2].tolist()))
    with pytest.warns(RuntimeWarning, match="8 of the 32 samples of epoch 0 were left without a loss"):
        pruner.begin_epoch()
    assert pruner.report().missing == 8


def test_samples_that_drop_last_leaves_out_have_not_failed():
    for resumed in (False, True):
        pruner = Pruner(FullData(), 30)
        loader = pruner.loader(range(30), batch_size=8, drop_last=True)
        for _ in range(3):
            for index, _ in loader:
                pruner.update(index, loss_of(index, pruner.epoch))
            if resumed:
                state = loader.state_dict()
                pruner = Pruner(FullData(), 30)
                loader = pruner.loader(range(30), batch_size=8, drop_last=True)
                loader.load_state_dict(state)
        assert (pruner.report().missing, pruner.report().failed, pruner.report().visits) == (0, (), 72)


# Methods that choose within a batch leave them out of the step.

WITHIN = {
    "ordered SGD": OrderedSGD(keep=0.5),
    "selective backprop": SelectiveBackprop(keep=0.5),
    "OrderDP, fresh": OrderDP(explore=1.0, exploit=0.5, per="iteration", fresh=True),
}
each_within = pytest.mark.parametrize("strategy", WITHIN.values(), ids=WITHIN.keys())


@BAD
@each_within
def test_a_loss_that_is_not_finite_is_left_out_of_the_step_and_counted(strategy, bad):
    pruner, ids = begun(strategy, 10)
    losses = with_gradient(1.0, 2.0, 3.0, bad, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
    loss = pruner.update(ids, losses)
    loss.backward()
    kept = losses.grad > 0
    assert loss.item() == pytest.approx(losses.detach()[kept].mean().item())
    assert (int(kept.sum()), bool(kept[3])) == (5, False)
    assert losses.grad.isfinite().all()
    assert pruner.report().failed == (int(ids[3]),)
    assert pruner.report().non_finite == 1
    with pytest.warns(RuntimeWarning, match="1 losses of epoch 0 were NaN or infinite"):
        pruner.begin_epoch()


@BAD
@each_within
@pytest.mark.parametrize("num_bad", [6, 9])
def test_if_few_losses_are_finite_the_step_is_their_mean(strategy, bad, num_bad):
    pruner, ids = begun(strategy, 10)
    values = torch.arange(1.0, 11.0)
    values[:num_bad] = bad
    losses = values.clone().requires_grad_()
    loss = pruner.update(ids, losses)
    loss.backward()
    assert loss.item() == pytest.approx(values[num_bad:].mean().item())
    assert losses.grad.isfinite().all()
    assert (pruner.report().non_finite, pruner.report().trained) == (num_bad, 10)


@BAD
@each_within
@pytest.mark.parametrize("weighted", [False, True])
def test_if_no_loss_is_finite_the_step_is_zero(strategy, bad, weighted):
    pruner, ids = begun(strategy, 4)
    losses = torch.full((4,), bad, requires_grad=True)
    loss = pruner.update(ids, losses, weights=torch.ones(4) if weighted else None)
    loss.backward()
    assert loss.item() == 0.0
    assert losses.grad.tolist() == [0.0] * 4
    assert pruner.report().failed == (0, 1, 2, 3)


@BAD
@each_within
def test_with_scores_in_place_of_the_losses_a_bad_loss_is_left_out_as_well(strategy, bad):
    """Its score is the highest, so it would be chosen first."""
    pruner, ids = begun(strategy, 4)
    losses = with_gradient(bad, 1.0, 2.0, 4.0)
    loss = pruner.update(ids, losses, scores=torch.tensor([9.0, 3.0, 2.0, 1.0]))
    loss.backward()
    assert loss.isfinite()
    assert losses.grad[0] == 0
    assert pruner.report().failed == (int(ids[0]),)


@BAD
@each_within
def test_a_bad_score_is_left_out_as_well(strategy, bad):
    pruner, ids = begun(strategy, 4)
    losses = with_gradient(8.0, 1.0, 2.0, 4.0)
    pruner.update(ids, losses, scores=torch.tensor([bad, 3.0, 2.0, 1.0])).backward()
    assert losses.grad[0] == 0
    assert pruner.report().failed == (int(ids[0]),)


@pytest.mark.filterwarnings("ignore:.*left without a loss")
@pytest.mark.parametrize("stop", ["ends", "breaks", "is killed"])
def test_a_sample_that_the_last_batch_left_out_has_failed_however_the_loop_stops(stop):
    pruner = Pruner(FullData(), 10)
    loader = pruner.loader(range(10), batch_size=5)
    for index, _ in loader:
        last = index
        pruner.update(index[1:], loss_of(index[1:], 0))
        if stop != "ends" and loader.remaining == 0:
            break
    if stop == "is killed":
        state = loader.state_dict()
        pruner = Pruner(FullData(), 10)
        pruner.loader(range(10), batch_size=5).load_state_dict(state)
    pruner.begin_epoch()
    assert int(last[0]) in pruner.report().failed
    assert pruner.report().missing == 2


@pytest.mark.filterwarnings("ignore:epoch . was left")
def test_a_loader_that_ends_late_does_not_end_the_epoch_of_another_loader():
    pruner = Pruner(FullData(), 40)
    early, late = (iter(pruner.loader(range(40), batch_size=size)) for size in (20, 4))
    for _ in range(2):
        index, _ = next(early)
        pruner.update(index, loss_of(index, 0))
    for number in range(3):
        index, _ = next(late)  # of epoch 1
        pruner.update(index, loss_of(index, 1))
        if number == 0:
            assert next(early, None) is None
    pruner.begin_epoch()
    assert pruner.report().failed == ()
