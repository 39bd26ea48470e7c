"""Every method of the field against its slow twin, and the facts that are known of it."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orderdp import (
    UCB,
    EpsilonGreedy,
    FixedSubset,
    InfoBatch,
    Kakurenbo,
    Memory,
    OrderDP,
    OrderedSGD,
    Pruner,
    RepeatedRandom,
    Selection,
    SelectiveBackprop,
    SeTa,
    Strategy,
)
from orderdp.coresets import Subset
from orderdp.strategies import draws
from orderdp.strategies.infobatch import below_mean
from orderdp.strategies.seta import cluster_borders
from reference import baselines
from reference.baselines import Allowed


def distinct_losses(n: int, seed: int) -> np.ndarray:
    """(n,) float32, all different, so that no tie is left to chance."""
    return (np.random.default_rng(seed).permutation(n) / 8 + 0.125).astype(np.float32)


def choose(strategy: Strategy, losses: np.ndarray, epoch: int, seed: int = 0, previous=None) -> Selection:
    columns = {
        name: losses if first == math.inf else np.full(len(losses), first, dtype=np.float32)
        for name, first in strategy.columns.items()
    }
    memory = Memory(len(losses), epoch, columns, None, previous, None if previous is None else epoch - 1)
    return strategy.select(memory, np.random.default_rng(seed))


def assert_allowed(selection: Selection, allowed: Allowed) -> None:
    """Raises unless the selection is one that the twin may make."""
    chosen = set(selection.indices.tolist())
    drawn = chosen - allowed.must
    assert allowed.must <= chosen
    assert drawn <= allowed.some
    assert len(drawn) == allowed.count
    weights = np.ones(len(selection.indices)) if selection.weights is None else selection.weights
    expected = [allowed.weights.get(sample, 1.0) for sample in selection.indices.tolist()]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


sizes_and_seeds = given(n=st.integers(10, 60), seed=st.integers(0, 2**32))


# InfoBatch


@sizes_and_seeds
@pytest.mark.parametrize("r", [0.0, 0.3, 0.5, 0.8])
def test_infobatch_is_its_twin(r, n, seed):
    losses = distinct_losses(n, seed)
    known = dict(enumerate(losses.astype(float)))
    for epoch in (0, 1, 4, 5, 9):
        strategy = InfoBatch(prune_probability=r, epochs=10, delta=0.45)
        assert_allowed(
            choose(strategy, losses, epoch, seed), baselines.infobatch(known, n, r, epoch, annealed_from=4.5)
        )
        assert_allowed(
            choose(InfoBatch(prune_probability=r), losses, epoch, seed), baselines.infobatch(known, n, r, epoch)
        )


@sizes_and_seeds
@pytest.mark.parametrize(("r", "least_kept"), [(0.99, 0.1), (0.9, 0.1), (0.5, 0.1), (0.99, 0.35), (0.2, 0.85)])
def test_infobatch_with_a_floor_is_its_twin(r, least_kept, n, seed):
    losses = distinct_losses(n, seed)
    allowed = baselines.infobatch(dict(enumerate(losses.astype(float))), n, r, 1, least_kept=least_kept)
    assert_allowed(choose(InfoBatch(prune_probability=r, least_kept=least_kept), losses, 1, seed), allowed)


@pytest.mark.parametrize(
    ("settings", "kept", "weight"),
    [
        ({"prune_probability": 0.99}, 1, 100),
        ({"prune_probability": 0.99, "least_kept": 0.1}, 10, 10),
        ({"prune_probability": 0.9, "least_kept": 0.1}, 10, 10),  # 1 - 0.9 in floats is less than 0.1
        ({"prune_probability": 0.5, "least_kept": 0.1}, 50, 2),
    ],
)
def test_a_floor_keeps_a_tenth_of_the_samples_below_the_mean_with_weight_ten(settings, kept, weight):
    losses = np.repeat(np.float32([0.5, 4.0]), (100, 30))
    selection = choose(InfoBatch(**settings), losses, 1)
    low = losses[selection.indices] < 1
    assert (low.sum(), (~low).sum()) == (kept, 30)
    assert (selection.weights[low] == weight).all()
    assert (selection.weights[~low] == 1).all()


@pytest.mark.parametrize("has_floor", [False, True])
def test_infobatch_s_sum_is_unbiased(has_floor):
    losses = distinct_losses(40, 3)
    below = losses.astype(float) < losses.astype(float).mean()
    share = 5 / below.sum()  # so that a whole number stays
    r, least_kept = (0.99, share) if has_floor else (1 - share, 0.0)
    sums = []
    for seed in range(4_000):
        selection = choose(InfoBatch(prune_probability=r, least_kept=least_kept), losses, 1, seed)
        sums.append(float((selection.weights * losses[selection.indices]).sum()))
    assert abs(np.mean(sums) - losses.sum()) <= 5 * np.std(sums, ddof=1) / math.sqrt(len(sums))


@pytest.mark.parametrize("loss", [0.0, math.log(2), 2.3025851])
def test_infobatch_prunes_nothing_of_equal_losses(loss):
    losses = np.full(50_000, loss, dtype=np.float32)
    selection = choose(InfoBatch(), losses, 1)
    assert len(selection.indices) == 50_000
    assert (selection.weights == 1).all()


def test_infobatch_keeps_what_it_has_not_seen():
    losses = np.array([0.1, 0.2, np.inf, 3.0, np.inf, 0.3] * 10, dtype=np.float32)
    kept = set(choose(InfoBatch(prune_probability=0.9), losses, 1).indices.tolist())
    assert set(np.flatnonzero(losses > 1).tolist()) <= kept
    assert len(kept) == 30 + 3


def test_infobatch_saves_what_its_rule_says_and_anneals_exactly():
    """The weights of an annealed epoch are one also where delta·epochs is no whole number."""
    losses = distinct_losses(1_000, 0)
    below = float((losses < losses.mean()).mean())
    visited = [len(choose(InfoBatch(epochs=9, delta=0.875), losses, epoch).indices) for epoch in range(9)]
    assert visited[0] == visited[8] == 1_000
    assert visited[1:8] == [1_000 - math.ceil(0.5 * below * 1_000)] * 7
    assert choose(InfoBatch(epochs=9, delta=0.875), losses, 8).weights is None


@pytest.mark.parametrize(
    ("epochs", "delta"), [(30, 0.875), (20, 0.875), (200, 0.875), (9, 0.875), (10, 0.45), (7, 0.5)]
)
def test_where_delta_times_epochs_is_no_whole_number_the_public_code_anneals_from_the_epoch_before(epochs, delta):
    """Its sampler counts one reset before the first epoch, and prunes until its count exceeds delta·epochs."""

    def first_whole(strategy):
        return next(epoch for epoch in range(1, epochs + 1) if strategy.num_selected(50, epoch) == 50)

    public = next(epoch for epoch in range(epochs) if epoch + 1 > epochs * delta)
    whole = (epochs * delta).is_integer()
    assert first_whole(InfoBatch(epochs=epochs, delta=delta)) == public + (not whole)
    assert first_whole(InfoBatch(epochs=epochs, delta=public / epochs)) == public


@pytest.mark.parametrize(
    "make", [lambda: InfoBatch(epochs=100, delta=0.55), lambda: SeTa(prune_ratio=0.0, epochs=100, delta=0.55)]
)
def test_delta_is_meant_in_decimals(make):
    """0.55 of 100 epochs are 55, though the product of the floats is more."""
    assert 0.55 * 100 > 55
    assert [make().num_selected(50, epoch) for epoch in (54, 55, 56)] == [None, 50, 50]


# ε-greedy


@sizes_and_seeds
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0])
def test_epsilon_greedy_is_its_twin(epsilon, n, seed):
    losses = distinct_losses(n, seed)
    strategy = EpsilonGreedy(prune_ratio=0.4, epsilon=epsilon)
    allowed = baselines.epsilon_greedy(dict(enumerate(losses.astype(float))), n, round(0.6 * n), epsilon)
    assert_allowed(choose(strategy, losses, 20, seed), allowed)


@pytest.mark.parametrize(("epsilon", "uniform"), [(0.04, 1), (0.06, 2), (0.02, 0), (0.1, 2), (0.98, 24)])
def test_epsilon_greedy_s_share_is_rounded(epsilon, uniform):
    """What every selection holds is the top (1 - ε)·q of 25, and no more: half a sample or more is a whole one."""
    losses = distinct_losses(50, 0)
    strategy = EpsilonGreedy(prune_ratio=0.5, epsilon=epsilon)
    always = set(range(50))
    for seed in range(400):
        always &= set(choose(strategy, losses, 0, seed).indices.tolist())
    assert always == set(np.argsort(-losses)[: 25 - uniform].tolist())


@pytest.mark.parametrize(
    ("strategy", "ranked"),
    [
        (EpsilonGreedy(prune_ratio=0.5), {0, 10, 20}),
        (EpsilonGreedy(prune_ratio=0.5, every=3), {0, 3, 6, 9, 12, 15, 18, 21}),
        (UCB(prune_ratio=0.5), {0, 1, 11, 21}),
        (UCB(prune_ratio=0.5, every=7), {0, 1, 8, 15, 22}),
    ],
)
def test_between_rankings_the_same_samples_come_in_another_order(strategy, ranked):
    previous = None
    for epoch in range(23):
        losses = distinct_losses(100, epoch)  # all losses move in every epoch
        selection = choose(strategy, losses, epoch, epoch, previous)
        if previous is not None:
            same = set(selection.indices.tolist()) == set(previous.tolist())
            assert same == (epoch not in ranked), epoch
            assert selection.indices.tolist() != previous.tolist()
        previous = selection.indices


@pytest.mark.parametrize(
    ("epoch", "ranked"), [(13, False), (19, False), (12, False), (20, True), (35, True), (9, True)]
)
def test_a_jump_over_a_ranking_ranks_anew(epoch, ranked):
    strategy = EpsilonGreedy(prune_ratio=0.5, epsilon=0.0)
    pruner = Pruner(strategy, 40)
    pruner.set_epoch(12)
    index = torch.from_numpy(pruner.begin_epoch().indices.copy())
    pruner.update(index, index.float().requires_grad_())
    pruner.set_epoch(epoch)
    assert (set(pruner.begin_epoch().indices.tolist()) != set(index.tolist())) == ranked


@pytest.mark.parametrize("every", [1, 5])
def test_epsilon_greedy_chooses_by_no_loss_before_it_has_seen_every_sample(every):
    """What its text says of short runs: with q = n/4 and no uniform share, four rankings see the data once."""
    pruner = Pruner(EpsilonGreedy(prune_ratio=0.75, epsilon=0.0, every=every), 40)
    for epoch in range(4 * every):
        index = torch.from_numpy(pruner.begin_epoch().indices.copy())
        pruner.update(index, index.float().requires_grad_())
        assert pruner.report().never_seen == 40 - 10 * (epoch // every + 1)
    assert sorted(pruner.begin_epoch().indices.tolist()) == list(range(30, 40))


# UCB


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 5, width=32)), min_size=1, max_size=60))
@pytest.mark.parametrize(("c", "smoothing"), [(1.0, 0.8), (0.0, 1.0), (4.0, 0.3)])
def test_ucb_remembers_and_keeps_what_its_twin_does(c, smoothing, seen):
    strategy, twin = UCB(prune_ratio=0.6, c=c, smoothing=smoothing), baselines.UcbMemory(smoothing)
    columns = {name: torch.full((10,), first) for name, first in strategy.columns.items()}
    for sample, loss in seen:
        old = {name: column[[sample]] for name, column in columns.items()}
        for name, new in strategy.observe(old, torch.tensor([loss], dtype=torch.float32)).items():
            columns[name][[sample]] = new
        twin.see(sample, loss)
    for sample, mean in twin.mean.items():
        assert float(columns["mean"][sample]) == pytest.approx(mean, rel=1e-4, abs=1e-5)
        assert float(columns["var"][sample]) == pytest.approx(twin.var[sample], rel=1e-3, abs=1e-4)
    memory = Memory(10, 1, {name: column.numpy() for name, column in columns.items()})
    kept = set(strategy.select(memory, np.random.default_rng(0)).indices.tolist())
    assert len(kept) == 4
    bounds = {sample: twin.bound(sample, c) for sample in range(10)}  # in float64: the same but for rounding
    assert min(bounds[sample] for sample in kept) >= max(bounds[sample] for sample in set(range(10)) - kept) - 1e-3


def test_ucb_keeps_the_highest_bound():
    rng = np.random.default_rng(0)
    mean, var = rng.permutation(100).astype(np.float32), np.zeros(100, dtype=np.float32)
    var[mean == 0] = 60
    strategy = UCB(prune_ratio=0.5, c=1.0)
    kept = set(strategy.select(Memory(100, 1, {"mean": mean, "var": var}), rng).indices.tolist())
    assert {int(mean[sample]) for sample in kept} == {0, *range(51, 100)}


@pytest.mark.parametrize("loss", [1e20, 3.4e38, -3.4e38])
def test_ucb_survives_a_loss_whose_square_is_no_float32(loss):
    strategy = UCB(prune_ratio=0.5, c=2.0)
    columns = {"mean": torch.tensor([1.0]), "var": torch.tensor([0.0])}
    columns = strategy.observe(columns, torch.tensor([loss]))
    assert float(columns["var"]) == torch.finfo(torch.float32).max
    for _ in range(60):
        columns = strategy.observe(columns, torch.tensor([1.0]))
    assert float(columns["var"]) < 1e37
    assert float(columns["mean"]) == pytest.approx(1.0, rel=1e-3)


def test_ucb_s_bound_may_overflow():
    mean, var = np.arange(10, dtype=np.float32), np.zeros(10, dtype=np.float32)
    var[2] = 3e38
    kept = UCB(prune_ratio=0.8, c=10.0).select(Memory(10, 1, {"mean": mean, "var": var}), np.random.default_rng(0))
    assert set(kept.indices.tolist()) == {2, 9}


# repeated random


@given(n=st.integers(2, 40), prune_ratio=st.floats(0, 0.95), seed=st.integers(0, 2**32))
def test_repeated_random_visits_every_sample_before_any_twice(n, prune_ratio, seed):
    if round((1 - prune_ratio) * n) < 1:
        return
    pruner = Pruner(RepeatedRandom(prune_ratio=prune_ratio), n, seed=seed)
    for _ in range(9):
        selection = pruner.begin_epoch()
        index = torch.from_numpy(selection.indices)
        pruner.update(index, torch.ones(len(index), requires_grad=True))
        counts = pruner.visits()
        assert int(counts.max()) - int(counts.min()) <= 1


@given(n=st.integers(2, 40), prune_ratio=st.floats(0, 0.95), seed=st.integers(0, 2**32))
def test_repeated_random_is_its_twin(n, prune_ratio, seed):
    q = round((1 - prune_ratio) * n)
    if q < 1:
        return
    pruner, twin = Pruner(RepeatedRandom(prune_ratio=prune_ratio), n, seed=seed), baselines.Rounds(n)
    for _ in range(9):
        selection = pruner.begin_epoch()
        assert_allowed(selection, twin.next(q))
        twin.see(selection.indices.tolist())
        pruner.update(torch.from_numpy(selection.indices), torch.ones(q, requires_grad=True))


def test_repeated_random_makes_up_for_what_another_strategy_left_out():
    def schedule(strategy, epoch):
        return FixedSubset(range(6)) if epoch < 3 else strategy

    pruner = Pruner(RepeatedRandom(prune_ratio=0.5), 12, schedule=schedule)
    visits = []
    for _ in range(8):
        index = torch.from_numpy(pruner.begin_epoch().indices.copy())
        pruner.update(index, torch.ones(6, requires_grad=True))
        visits.append(pruner.visits().tolist())
    assert visits[2] == [3] * 6 + [0] * 6
    assert visits[5] == [3] * 12
    assert visits[7] == [4] * 12


@pytest.mark.filterwarnings("ignore:.* were NaN or infinite")
def test_repeated_random_counts_a_visit_whose_loss_is_not_finite():
    pruner = Pruner(RepeatedRandom(prune_ratio=0.75), 40)
    visited = []
    for _ in range(4):
        index = torch.from_numpy(pruner.begin_epoch().indices.copy())
        pruner.update(index.long(), torch.where(index < 20, math.nan, index.float()).requires_grad_())
        visited += index.tolist()
    assert sorted(visited) == list(range(40))


def test_repeated_random_draws_each_sample_alike():
    counts = np.zeros((2, 10))
    for seed in range(2_000):
        pruner = Pruner(RepeatedRandom(prune_ratio=0.7), 10, seed=seed)
        for epoch in range(2):
            index = pruner.begin_epoch().indices
            counts[epoch, index] += 1
            pruner.update(torch.from_numpy(index), torch.ones(3, requires_grad=True))
    assert (np.abs(counts - 600) <= 5 * math.sqrt(2_000 * 0.3 * 0.7)).all()


# fixed subset


@pytest.mark.filterwarnings("ignore:update was never called")
def test_a_fixed_subset_visits_its_samples_in_a_new_order_each_epoch():
    pruner = Pruner(FixedSubset(range(5, 25)), 40, seed=0)
    orders = [pruner.begin_epoch().indices.tolist() for _ in range(3)]
    assert all(sorted(order) == list(range(5, 25)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("indices", [[3, 1], np.array([3, 1]), (np.int64(3), 1), range(3, 0, -2)])
def test_a_fixed_subset_is_a_value_whatever_it_was_made_of(indices):
    assert FixedSubset(indices) == FixedSubset((3, 1))
    assert repr(FixedSubset(indices)) == "FixedSubset(indices=(3, 1))"


LARGE = FixedSubset(range(0, 2_000_000, 3))


def test_the_repr_of_a_large_fixed_subset_is_short_and_tells_it_from_others():
    assert len(repr(LARGE)) < 200
    assert repr(LARGE).startswith("<FixedSubset of 666667 positions up to 1999998, sha256 ")
    other = list(LARGE.indices)
    other[1] = 4
    assert repr(FixedSubset(other)) != repr(LARGE) == repr(FixedSubset(LARGE.indices))
    assert eval(repr(FixedSubset(range(1_000)))) == FixedSubset(range(1_000))


@pytest.mark.filterwarnings("ignore:update was never called")
def test_the_weights_of_a_fixed_subset_follow_their_samples_and_have_mean_one():
    subset = FixedSubset([4, 9, 2], weights=[1, 2, 6])
    pruner, plain = Pruner(subset, 10, seed=0), Pruner(FixedSubset([4, 9, 2]), 10, seed=0)
    for _ in range(4):
        selection = pruner.begin_epoch()
        assert dict(zip(selection.indices.tolist(), selection.weights.tolist(), strict=True)) == pytest.approx(
            {4: 1 / 3, 9: 2 / 3, 2: 2}
        )
        assert selection.indices.tolist() == plain.begin_epoch().indices.tolist()


def test_a_step_on_a_weighted_subset_trains_the_weighted_mean():
    pruner = Pruner(FixedSubset([4, 9, 2], weights=[1, 2, 6]), 10, seed=0)
    index, _ = next(iter(pruner.loader(range(10), batch_size=3)))
    losses = index.float().requires_grad_()
    assert pruner.update(index, losses).item() == pytest.approx((4 * 1 + 9 * 2 + 2 * 6) / 9)


def test_a_sample_of_weight_zero_takes_its_place_and_trains_nothing():
    pruner = Pruner(FixedSubset([4, 9, 2], weights=[1, 0, 5]), 10, seed=0)
    index, _ = next(iter(pruner.loader(range(10), batch_size=3)))
    losses = index.float().requires_grad_()
    pruner.update(index, losses).backward()
    gradients = dict(zip(index.tolist(), losses.grad.tolist(), strict=True))
    assert gradients == pytest.approx({4: 1 / 6, 9: 0, 2: 5 / 6})


def test_a_weighted_subset_is_a_value_that_its_repr_and_label_distinguish():
    plain, weighted = FixedSubset([3, 1]), FixedSubset([3, 1], weights=np.array([1, 0.5], dtype=np.float32))
    assert weighted == FixedSubset([3, 1], weights=(1.0, 0.5)) != plain
    assert repr(weighted) == "FixedSubset(indices=(3, 1), weights=(1.0, 0.5))"
    assert weighted.describe() == f"fixed subset of 2 weighted samples, {weighted._digest[:8]}" != plain.describe()
    large = FixedSubset(LARGE.indices, weights=np.ones(len(LARGE.indices)))
    assert repr(large).startswith("<FixedSubset of 666667 positions up to 1999998, with weights, sha256 ")
    assert large._digest != LARGE._digest


def test_a_large_fixed_subset_is_looked_through_once_for_all_epochs():
    class Counted(tuple):
        passes = 0

        def __iter__(self):
            Counted.passes += 1
            return super().__iter__()

    strategy = FixedSubset(range(50))
    object.__setattr__(strategy, "indices", Counted(strategy.indices))
    pruner = Pruner(strategy, 100)
    passes = []
    for epochs in (2, 90):
        assert pruner.total_steps(epochs, 8) == epochs * 7
        passes.append(Counted.passes)
        pruner.num_selected()
    assert passes[0] == passes[1]


def test_a_state_of_another_large_subset_is_refused_in_few_words():
    state = Pruner(LARGE, 2_000_000).state_dict()
    with pytest.raises(ValueError, match=r"^the state must be of strategy Fixed.* \.\.\. .*, got <Fixed") as caught:
        Pruner(FixedSubset(range(900)), 2_000_000).load_state_dict(state)
    assert len(str(caught.value)) < 600


# SeTa


@sizes_and_seeds
def test_seta_s_groups_are_its_twin_s(n, seed):
    losses = np.random.default_rng(seed).exponential(size=n).astype(np.float32)
    strategy = SeTa(prune_ratio=0.0, epochs=100)
    groups = np.array(baselines.seta_groups(losses.astype(float).tolist(), 5))
    for epoch in (1, 2, 7):
        kept = set(choose(strategy, losses, epoch, seed).indices.tolist())
        start = epoch % 2
        assert kept == set(np.flatnonzero((groups >= start) & (groups < start + 4)).tolist())


def test_seta_s_sample_at_a_border_is_of_the_group_above_it():
    losses = np.array([0.0, 0.0, 0.0, 1.0, 3.0], dtype=np.float32)
    assert cluster_borders(losses, 2).tolist() == [1.0]
    strategy = SeTa(prune_ratio=0.0, epochs=100, groups=2, window=0.5)
    easy, hard = (sorted(choose(strategy, losses, epoch).indices.tolist()) for epoch in (2, 1))
    assert (easy, hard) == ([0, 1, 2], [3, 4])


def test_seta_draws_a_share_first_and_last_and_slides_between():
    strategy = SeTa(prune_ratio=0.4, epochs=16, groups=4, window=0.5)
    losses = np.repeat(np.arange(4, dtype=np.float32), 250)
    for epoch in (0, 14, 15):
        assert len(choose(strategy, losses, epoch).indices) == 600
    for epoch in range(1, 14):
        indices = choose(strategy, losses, epoch).indices
        assert set(losses[indices].astype(int).tolist()) == {epoch % 3, epoch % 3 + 1}
        assert abs(len(indices) - 300) <= 5 * math.sqrt(600 * 0.25)
    assert set(losses[choose(strategy, losses, 0).indices].tolist()) == {0, 1, 2, 3}


def test_seta_visits_nothing_outside_its_draw():
    losses = np.array([np.inf] * 90 + [1.0] * 10, dtype=np.float32)
    for epoch in (1, 2):
        indices = choose(SeTa(prune_ratio=0.8, epochs=100), losses, epoch).indices
        assert len(indices) <= 20
        assert len(set(indices.tolist())) == len(indices)


@pytest.mark.parametrize("first", [True, False])
def test_seta_s_window_may_hold_losses_of_any_block(monkeypatch, first):
    """Only eight losses lie in the window of this epoch, all of them in the first block or in the last."""
    monkeypatch.setattr(draws, "_BLOCK", 8)
    hard_ones = np.arange(32) < 8 if first else np.arange(32) >= 24
    losses = np.where(hard_ones, 2.0, 1.0)
    strategy = SeTa(prune_ratio=0.0, epochs=100, groups=2, window=0.5)
    hard, easy = (sorted(choose(strategy, losses.astype(np.float32), epoch).indices.tolist()) for epoch in (1, 2))
    assert hard == np.flatnonzero(losses == 2).tolist()
    assert easy == np.flatnonzero(losses == 1).tolist()


def test_seta_visits_what_it_has_not_seen():
    losses = np.array([np.inf, 1.0, 2.0, 3.0, 4.0, 5.0], dtype=np.float32)
    strategy = SeTa(prune_ratio=0.0, epochs=100, groups=5, window=0.2)
    assert [sorted(choose(strategy, losses, epoch).indices.tolist()) for epoch in (5, 6)] == [[0, 1], [0, 2]]


# KAKURENBO


@sizes_and_seeds
@pytest.mark.parametrize("hide", [0.0, 0.3, 0.7])
def test_kakurenbo_is_its_twin(hide, n, seed):
    losses = distinct_losses(n, seed)
    known = dict(enumerate(losses.astype(float)))
    for epoch in (0, 1, 2, 3, 5, 6, 7, 8, 9):
        twin = baselines.kakurenbo(known, n, hide, 0.6, epoch, 10)
        assert_allowed(choose(Kakurenbo(hide=hide, epochs=10, confidence=0.6), losses, epoch, seed), twin)


def test_kakurenbo_hides_fewer_as_training_goes_on():
    losses = np.zeros(1_000, dtype=np.float32)
    visited = [len(choose(Kakurenbo(hide=0.3, epochs=10), losses, epoch).indices) for epoch in range(10)]
    assert visited == [1_000, 700, 700, 760, 760, 760, 820, 820, 880, 880]


def test_kakurenbo_hides_what_is_exactly_as_sure_as_asked():
    losses = np.full(100, -math.log(0.7), dtype=np.float32)
    assert len(choose(Kakurenbo(epochs=10), losses, 1).indices) == 70


def test_kakurenbo_hides_nothing_that_is_unsure():
    losses = np.full(100, -math.log(0.69), dtype=np.float32)
    assert len(choose(Kakurenbo(epochs=10), losses, 1).indices) == 100


def test_kakurenbos_control_hides_nothing_and_has_its_weights():
    losses = np.zeros(1_000, dtype=np.float32)
    control = Kakurenbo(hide=0.3, epochs=10, weights_only=True)
    for epoch in range(10):
        found, hidden = (choose(each, losses, epoch) for each in (control, Kakurenbo(hide=0.3, epochs=10)))
        assert sorted(found.indices.tolist()) == list(range(1_000))
        if epoch:
            assert set(found.weights.tolist()) == set(hidden.weights.tolist())
        else:
            assert found.weights is None
    assert [control.num_selected(1_000, epoch) for epoch in (0, 5)] == [1_000, 1_000]
    assert not control.needs_plain_losses
    with pytest.raises(TypeError, match=r"^weights_only must be True or False, got 'yes'; write weights_only=True$"):
        Kakurenbo(epochs=10, weights_only="yes")


# ordered SGD and selective backprop


@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=40), st.floats(0.01, 1))
def test_ordered_sgd_is_the_mean_over_the_highest_losses(losses, keep):
    values = torch.tensor(losses, dtype=torch.float64)
    weights = OrderedSGD(keep=keep).batch_weights(values.float(), pytest.fail)
    kept = max(1, round(keep * len(losses)))
    assert int((weights > 0).sum()) == kept
    mean = float((weights.double() * values).mean())
    assert mean == pytest.approx(float(values.sort(descending=True).values[:kept].mean()), rel=1e-5, abs=1e-6)


def test_ordered_sgd_is_orderdp_with_fresh_losses_over_everything():
    strategy = OrderDP(explore=1.0, exploit=0.4, per="iteration", fresh=True)
    losses = torch.rand(33, generator=torch.Generator().manual_seed(0))
    ours, theirs = (each.batch_weights(losses, pytest.fail) for each in (OrderedSGD(keep=0.4), strategy))
    assert torch.equal(ours, theirs)
    assert OrderedSGD(keep=0.4).num_selected(50, 0) == strategy.num_selected(50, 0) == 50


@pytest.mark.parametrize("keep", [0.5, 0.4])
def test_selective_backprop_draws_in_proportion_to_the_percentile(keep):
    """Against the chance of each set of two, drawn one after the other, in proportion to percentile^(1/keep - 1)."""
    losses, trials = torch.tensor([0.3, 0.1, 0.9, 0.5]), 20_000
    ranks = {1: 0, 0: 1, 3: 2, 2: 3}
    chances = {sample: ((rank + 0.5) / 4) ** (1 / keep - 1) for sample, rank in ranks.items()}
    total = sum(chances.values())
    expected = {}
    for first, second in itertools.permutations(range(4), 2):
        pair = frozenset((first, second))
        chance = chances[first] / total * chances[second] / (total - chances[first])
        expected[pair] = expected.get(pair, 0.0) + chance
    counts = dict.fromkeys(expected, 0)
    rng = torch.Generator().manual_seed(0)
    for _ in range(trials):
        weights = SelectiveBackprop(keep=keep).batch_weights(losses, lambda: torch.rand(4, generator=rng))
        assert sorted(weights.tolist()) == [0, 0, 2, 2]
        counts[frozenset(weights.nonzero().flatten().tolist())] += 1
    for pair, chance in expected.items():
        assert abs(counts[pair] - trials * chance) <= 5 * math.sqrt(trials * chance * (1 - chance)), pair


@pytest.mark.filterwarnings("ignore:update was never called")
def test_selective_backprop_chooses_alike_after_a_restart_and_differently_in_each_epoch():
    def weights(epoch: int) -> list[float]:
        pruner = Pruner(SelectiveBackprop(keep=0.5), 64, seed=3)
        index = torch.arange(64)
        for _ in range(epoch + 1):
            pruner.begin_epoch()
        losses = torch.linspace(1, 2, 64).requires_grad_()
        pruner.update(index, losses).backward()
        assert pruner.report().visits == 32
        return losses.grad.tolist()

    assert weights(0) == weights(0)
    assert weights(0) != weights(1)


REFUSED = [
    (
        lambda: InfoBatch(prune_probability=1.0),
        ValueError,
        r"prune_probability is a fraction and must lie in \[0, 1\), g",
    ),
    (lambda: InfoBatch(delta=87.5), ValueError, r"delta is a fraction and must lie in \[0, 1\], got 87.5; for 87.5 % "),
    (lambda: InfoBatch(epochs=2.5), TypeError, "epochs must be a whole number, got 2.5"),
    (lambda: EpsilonGreedy(prune_ratio=0.5, epsilon=10), ValueError, r"epsilon is a fraction and must lie in \[0, 1\]"),
    (lambda: EpsilonGreedy(prune_ratio=0.5, every=0), ValueError, "every must be at least 1, got 0"),
    (lambda: EpsilonGreedy(prune_ratio=0.5, initial_score=math.nan), ValueError, "initial_score must be a number that"),
    (lambda: UCB(prune_ratio=0.5, c=math.inf), ValueError, "c must be a finite number in float32, got inf; wr"),
    (lambda: UCB(prune_ratio=0.5, c=1e39), ValueError, r"c must be a finite number in float32, got 1e\+39; write 1.0"),
    (lambda: UCB(prune_ratio=0.5, c=math.nan), ValueError, "c must be a finite number in float32, got nan"),
    (lambda: UCB(prune_ratio=0.5, c="2"), TypeError, "c must be a number, got '2'; write a number such as 1.0"),
    (
        lambda: UCB(prune_ratio=0.5, smoothing="0.8"),
        TypeError,
        r"smoothing is a fraction and must lie in \(0, 1\], got '",
    ),
    (
        lambda: UCB(prune_ratio="0.5"),
        TypeError,
        r"prune_ratio is a fraction and must lie in \[0, 1\), got '0.5'; write",
    ),
    (
        lambda: EpsilonGreedy(prune_ratio=0.5, epsilon="0.1"),
        TypeError,
        r"epsilon is a fraction and must lie in \[0, 1\]",
    ),
    (
        lambda: EpsilonGreedy(prune_ratio=0.5, epsilon=True),
        TypeError,
        r"epsilon is a fraction and must lie in .*got True",
    ),
    (
        lambda: EpsilonGreedy(prune_ratio=0.5, initial_score="3"),
        TypeError,
        "initial_score must be a number, got '3'; wr",
    ),
    (
        lambda: OrderDP(initial_score="3"),
        TypeError,
        "initial_score must be a number, got '3'; write a number such as 3.0",
    ),
    (lambda: UCB(prune_ratio=0.5, smoothing=0), ValueError, r"smoothing is a fraction and must lie in \(0, 1\], got 0"),
    (lambda: SeTa(prune_ratio=0.5, epochs=0), ValueError, "epochs must be at least 1, got 0"),
    (
        lambda: SeTa(prune_ratio=0.5, epochs=9, window=0.05),
        ValueError,
        "window must cover a group, got 0.05 of 5; write",
    ),
    (lambda: SeTa(prune_ratio=0.99, epochs=9).num_selected(9, 0), ValueError, "prune_ratio must leave at least one of"),
    (lambda: Kakurenbo(epochs=9, confidence=0.5), ValueError, "confidence must be more than a half, got 0.5; below it"),
    (lambda: Kakurenbo(epochs=9, hide=1), ValueError, r"hide is a fraction and must lie in \[0, 1\), got 1"),
    (lambda: OrderedSGD(keep=0), ValueError, r"keep is a fraction and must lie in \(0, 1\], got 0"),
    (lambda: FixedSubset([]), ValueError, r"indices holds at least one position, got shape \(0,\)"),
    (lambda: FixedSubset([1, 1]), ValueError, "indices must be distinct and not negative, got 2 of which 1 differ and"),
    (lambda: FixedSubset([0, -1]), ValueError, "indices must be distinct and not negative, got 2 of which 2 differ"),
    (
        lambda: FixedSubset(Subset(np.arange(3))),
        TypeError,
        "indices must be positions, got Subset; for a subset write FixedSubset\\(subset.indices, subset.weights\\)",
    ),
    (lambda: FixedSubset([0.5]), TypeError, "indices holds positions in the data set, got dtype float64; write whole"),
    (lambda: FixedSubset([True]), TypeError, r"indices holds positions in the data set, got dtype bool; write np.flat"),
    (lambda: FixedSubset([0, 1], weights=[1]), ValueError, r"weights must have one entry a position, got shape \(1,\)"),
    (lambda: FixedSubset([0], weights=["a"]), TypeError, "weights must be numbers, got dtype"),
    (
        lambda: FixedSubset([0, 1], weights=[0, 0]),
        ValueError,
        "weights must be finite, at least 0 and not all 0, got 0 t",
    ),
    (
        lambda: FixedSubset([0, 1], weights=[1, -1]),
        ValueError,
        "weights must be finite, at least 0 and not all 0, got -",
    ),
    (
        lambda: FixedSubset([0], weights=[math.inf]),
        ValueError,
        "weights must be finite, at least 0 and not all 0, got i",
    ),
    (lambda: Pruner(FixedSubset([9]), 9), ValueError, r"indices must lie in 0 .. 8, got 9; write positions in this"),
]


@pytest.mark.parametrize(("call", "kind", "line"), REFUSED)
def test_wrong_settings_get_one_line(call, kind, line):
    with pytest.raises(kind, match=rf"^{line}"):
        call()


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("broken", [NAN, INF, -INF])
def test_selective_backprop_leaves_out_losses_that_are_not_finite(broken):
    """The others are drawn as if they were the whole batch, and the mean is theirs."""
    losses = torch.tensor([0.3, broken, 0.1, 0.9, broken, 0.5, 0.7, 0.2])
    finite, rng = torch.isfinite(losses), torch.Generator().manual_seed(0)
    for _ in range(200):
        uniforms = torch.rand(8, generator=rng)
        weights = SelectiveBackprop(keep=0.5).batch_weights(losses, lambda: uniforms)  # noqa: B023
        alone = SelectiveBackprop(keep=0.5).batch_weights(losses[finite], lambda: uniforms[finite])  # noqa: B023
        assert sorted(weights.tolist()) == [0, 0, 0, 0, 2, 2, 2, 2]
        assert not weights[~finite].any()
        assert set(alone.nonzero().flatten().tolist()) <= set(weights[finite].nonzero().flatten().tolist())


@pytest.mark.parametrize(
    "strategy",
    [
        OrderedSGD(keep=0.5),
        SelectiveBackprop(keep=0.5),
        OrderDP(explore=1.0, exploit=0.5, per="iteration", fresh=True),
    ],
)
def test_a_batch_without_a_finite_loss_trains_nothing_and_one_loss_is_its_own_mean(strategy):
    uniforms = torch.full((4,), 0.5)
    assert strategy.batch_weights(torch.tensor([NAN, INF, -INF, NAN]), lambda: uniforms).tolist() == [0, 0, 0, 0]
    assert strategy.batch_weights(torch.tensor([NAN, 5.0, -INF, NAN]), lambda: uniforms).tolist() == [0, 4, 0, 0]


@pytest.mark.parametrize("keep", [1e-38, 1e-45])
def test_selective_backprop_keeps_a_sample_where_every_chance_is_below_float32(keep):
    weights = SelectiveBackprop(keep=keep).batch_weights(torch.rand(8) + 1, lambda: torch.full((8,), 0.5))
    assert sorted(weights.tolist()) == [0] * 7 + [8]


def test_infobatch_s_mean_is_of_all_blocks(monkeypatch):
    losses = np.random.default_rng(0).exponential(size=1_003).astype(np.float32)
    losses[::7] = INF
    known = losses[np.isfinite(losses)]
    whole = below_mean(losses)
    monkeypatch.setattr(draws, "_BLOCK", 8)
    assert np.array_equal(below_mean(losses), whole)
    assert np.array_equal(whole, losses.astype(np.float64) < math.fsum(known.tolist()) / len(known))


@pytest.mark.parametrize("value", [0.1, math.log(2), 3.0])
def test_no_loss_lies_below_the_mean_of_equal_losses(value):
    assert not below_mean(np.full(200_000, value, dtype=np.float32)).any()


def test_seta_s_borders_are_of_all_blocks(monkeypatch):
    losses = np.random.default_rng(0).exponential(size=1_003).astype(np.float32)
    whole = cluster_borders(losses, 5)
    monkeypatch.setattr(draws, "_BLOCK", 8)
    np.testing.assert_allclose(cluster_borders(losses, 5), whole, rtol=1e-5)
    groups = np.array(baselines.seta_groups(losses.astype(float).tolist(), 5))
    assert np.array_equal(np.searchsorted(whole, losses, side="right"), groups)


def test_selective_backprop_chooses_differently_under_another_seed():
    def trained(seed):
        pruner = Pruner(SelectiveBackprop(keep=0.5), 64, seed=seed)
        pruner.begin_epoch()
        pruner.update(torch.arange(64), torch.ones(64, requires_grad=True))
        return pruner.trained().tolist()

    assert trained(3) == trained(3) != trained(4)


def memory_of(losses, epoch):
    return Memory(len(losses), epoch, {"loss": np.array(losses, dtype=np.float32)})


def test_kakurenbo_hides_a_share_of_all_the_data_also_where_some_of_it_is_unseen():
    losses = [math.inf] * 50 + [0.0] * 50
    kept = Kakurenbo(hide=0.3, epochs=10).select(memory_of(losses, 1), np.random.default_rng(0)).indices
    assert len(kept) == 70
    assert set(range(50)) <= set(kept.tolist())


def test_seta_visits_the_whole_draw_where_the_window_holds_no_known_loss():
    strategy = SeTa(prune_ratio=0.0, epochs=100, groups=5, window=0.2)
    losses = [math.inf] + [1.0] * 9  # equal losses are one group
    sizes = {len(strategy.select(memory_of(losses, epoch), np.random.default_rng(0)).indices) for epoch in range(1, 6)}
    assert sizes == {10}


def test_infobatch_takes_the_mean_over_the_samples_seen():
    losses = [0.2, 0.9, 1.0, 2.3] * 10 + [math.inf] * 40  # mean 1.1 of those seen: thirty lie below
    selection = InfoBatch(prune_probability=0.9).select(memory_of(losses, 1), np.random.default_rng(0))
    assert len(selection.indices) == 40 + 10 + 3
    assert sorted(selection.weights.tolist())[-4:] == pytest.approx([1.0, 10.0, 10.0, 10.0])


def test_epsilon_greedy_s_unseen_samples_have_the_score_that_was_set():
    assert EpsilonGreedy(prune_ratio=0.5).columns == {"score": math.inf}
    assert EpsilonGreedy(prune_ratio=0.5, initial_score=3.0).columns == {"score": 3.0}
