"""How often OrderDP keeps the sample of rank j, against eq. (3) in exact fractions."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch

from orderdp import Memory, OrderDP, Pruner
from orderdp.rng import generator
from orderdp.strategies import draws, order
from reference.gamma import assert_frequencies, gammas, gammas_with_uniform_share
from reference.steps import bounds_of, bounds_of_ranks

pytestmark = pytest.mark.filterwarnings("ignore:update was never called")
EPOCHS = 6_400
Bounds = tuple[tuple[int, int], ...]


def ranked_pruner(strategy: OrderDP, scores: np.ndarray) -> Pruner:
    """A pruner that remembers these scores and, without an update, keeps them."""
    pruner = Pruner(strategy, len(scores), seed=0)
    state = pruner.state_dict()
    state["table"]["columns"]["score"] = torch.tensor(scores, dtype=torch.float32)
    pruner.load_state_dict(state)
    return pruner


def shuffled_scores(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct scores in no order of position, and the rank (from 0, highest first) of each position."""
    rank = np.random.default_rng(1).permutation(n)
    return 5.0 - rank, rank


def choices(
    strategy: OrderDP, scores: np.ndarray, epochs: int = EPOCHS, bounds: Bounds | None = None
) -> Iterator[np.ndarray]:
    """What a pruner of seed 0 selects epoch after epoch, without the cost of a pruner."""
    columns = {"score": scores.astype(np.float32)}
    for epoch in range(epochs):
        memory = Memory(len(scores), epoch, columns, bounds)
        yield strategy.select(memory, generator(0, epoch, "select")).indices


def counts_of(selections: Iterable[np.ndarray], n: int) -> np.ndarray:
    counts = np.zeros(n, dtype=np.int64)
    for indices in selections:
        counts[indices] += 1
    return counts


def counts_by_rank(strategy: OrderDP, n: int) -> np.ndarray:
    scores, rank = shuffled_scores(n)
    return counts_of((rank[indices] for indices in choices(strategy, scores)), n)


@pytest.mark.parametrize(
    ("strategy", "batch_size"),
    [
        (OrderDP(explore=0.6, exploit=0.5), None),
        (OrderDP(explore=0.6, exploit=0.5, uniform_share=0.5), 4),
        (OrderDP(explore=0.6, exploit=0.5, per="iteration"), 4),
    ],
)
def test_a_pruner_chooses_what_its_strategy_chooses_with_the_generator_of_the_epoch(strategy, batch_size):
    scores, _ = shuffled_scores(30)
    pruner = ranked_pruner(strategy, scores)
    bounds = batch_size and bounds_of(strategy.sizes(30)[1], batch_size)
    for indices in choices(strategy, scores, epochs=20, bounds=bounds):
        np.testing.assert_array_equal(pruner.begin_epoch(batch_size).indices, indices)


def test_a_pruner_keeps_ranks_with_the_frequencies_of_equation_3():
    scores, rank = shuffled_scores(10)
    pruner = ranked_pruner(OrderDP(explore=0.5, exploit=0.6), scores)
    counts = counts_of((rank[pruner.begin_epoch().indices] for _ in range(EPOCHS)), 10)
    assert_frequencies(counts, gammas(10, 5, 3), EPOCHS)


@pytest.mark.parametrize(
    ("n", "explore", "exploit", "s", "q"),
    [
        (12, 0.75, 0.34, 9, 3),
        (9, 1 / 3, 1 / 3, 3, 1),
        (30, 0.2, 0.5, 6, 3),
        (8, 1.0, 0.5, 8, 4),  # explore=1: the top q, always
        (8, 0.5, 1.0, 4, 4),  # exploit=1: uniform
    ],
)
def test_ranks_are_kept_with_the_frequencies_of_equation_3(n, explore, exploit, s, q):
    strategy = OrderDP(explore=explore, exploit=exploit)
    assert strategy.sizes(n) == (s, q)
    assert_frequencies(counts_by_rank(strategy, n), gammas(n, s, q), EPOCHS)


@pytest.mark.parametrize(("uniform_share", "uniform"), [(0.0, 0), (0.5, 2)])
def test_the_law_is_the_same_across_blocks_brackets_and_parts(monkeypatch, uniform_share, uniform):
    """With so few samples in a block, a bracket and a part that sixteen need several of each."""
    for module, name, value in (
        (draws, "_BLOCK", 8),
        (draws, "_SPREAD", 0),
        (draws, "_FEW", 1),
        (draws, "_MOST_AT_ONCE", 2),
        (order, "_SAMPLE", 4),
    ):
        monkeypatch.setattr(module, name, value)
    n, s, q, epochs = 16, 10, 4, 4_000
    strategy = OrderDP(explore=s / n, exploit=q / s, uniform_share=uniform_share)
    assert strategy.sizes(n) == (s, q)
    scores, rank = shuffled_scores(n)
    selections = [rank[indices] for indices in choices(strategy, scores, epochs)]
    assert_frequencies(counts_of(selections, n), gammas_with_uniform_share(n, s, q, uniform), epochs)
    firsts = np.bincount([indices[0] for indices in selections], minlength=n)  # each kept sample comes first alike
    law = [gamma / q for gamma in gammas_with_uniform_share(n, s, q, uniform)]
    assert_frequencies(firsts, law, epochs)


def test_ties_share_their_places_across_blocks(monkeypatch):
    monkeypatch.setattr(draws, "_BLOCK", 8)
    monkeypatch.setattr(order, "_SAMPLE", 4)
    n, s, q, epochs = 16, 10, 6, 4_000
    scores = np.where(np.arange(n) % 4 == 1, 9.0 - np.arange(n) / 4, 1.0)  # four are distinct, one in each block
    counts = counts_of(choices(OrderDP(explore=s / n, exploit=q / s), scores, epochs), n)
    gamma = gammas(n, s, q)
    assert_frequencies(counts[1::4], gamma[:4], epochs)
    assert_frequencies(np.delete(counts, np.arange(1, n, 4)), [sum(gamma[4:]) / 12] * 12, epochs)


def test_a_prune_ratio_follows_the_law_of_its_sizes():
    strategy = OrderDP(prune_ratio=0.6)
    assert strategy.sizes(10) == (6, 4)
    assert_frequencies(counts_by_rank(strategy, 10), gammas(10, 6, 4), EPOCHS)


def test_the_law_holds_for_losses_that_were_trained():
    pruner = Pruner(OrderDP(explore=1.0, exploit=1.0), 8, schedule=lambda full, epoch: full if not epoch else pruned)
    pruned = OrderDP(explore=0.75, exploit=0.5)
    ids = torch.from_numpy(pruner.begin_epoch().indices.copy())
    pruner.update(ids, (7.0 - ids).requires_grad_())  # sample i has rank i
    counts = counts_of((pruner.begin_epoch().indices for _ in range(EPOCHS)), 8)
    assert_frequencies(counts, gammas(8, 6, 3), EPOCHS)


def test_ranks_beyond_n_minus_s_plus_q_are_never_kept():
    counts = counts_by_rank(OrderDP(explore=0.6, exploit=0.5), 20)
    s, q = 12, 6
    assert not counts[20 - s + q :].any()
    assert counts[: 20 - s + q].all()


@pytest.mark.parametrize(("n", "s", "q"), [(10, 5, 3), (50, 40, 1), (7, 7, 3), (7, 3, 3), (1, 1, 1)])
def test_gamma_sums_to_q_falls_with_rank_and_has_the_stated_limits(n, s, q):
    gamma = gammas(n, s, q)
    assert sum(gamma) == q
    assert gamma == sorted(gamma, reverse=True)
    assert gamma[0] == Fraction(s, n)
    assert not any(gamma[n - s + q :])
    if s == n:
        assert gamma == [1] * q + [0] * (n - q)
    if s == q:
        assert gamma == [Fraction(q, n)] * n


@pytest.mark.parametrize(("share", "uniform"), [(0.5, 2), (0.25, 1)])
def test_a_uniform_share_follows_its_closed_form(share, uniform):
    n, s, q = 12, 8, 4
    strategy = OrderDP(explore=8 / 12, exploit=0.5, uniform_share=share)
    law = gammas_with_uniform_share(n, s, q, uniform)
    assert sum(law) == q
    assert min(law) > 0
    assert_frequencies(counts_by_rank(strategy, n), law, EPOCHS)


def test_each_batch_of_the_iteration_form_follows_the_law_of_its_own_sizes():
    n, batch_size = 16, 2
    strategy = OrderDP(explore=0.75, exploit=0.5, per="iteration")
    assert strategy.sizes(n) == (12, 6)  # three batches of two, each of four candidates
    scores, rank = shuffled_scores(n)
    counts = np.zeros((3, n), dtype=np.int64)
    for indices in choices(strategy, scores, bounds=bounds_of(6, batch_size)):
        counts[np.arange(3)[:, None], rank[indices].reshape(3, batch_size)] += 1
    for of_batch in counts:
        assert_frequencies(of_batch, gammas(n, 4, 2), EPOCHS)


def test_an_uneven_last_batch_of_the_iteration_form_follows_the_law_of_its_own_sizes():
    n = 10
    strategy = OrderDP(explore=0.6, exploit=0.5, per="iteration")  # s = 6, q = 3: batches of 2 and 1 of 4 and 2
    scores, rank = shuffled_scores(n)
    first, last = np.zeros((2, n), dtype=np.int64)
    for indices in choices(strategy, scores, bounds=((0, 2), (2, 3))):
        first[rank[indices[:2]]] += 1
        last[rank[indices[2:]]] += 1
    assert_frequencies(first, gammas(n, 4, 2), EPOCHS)
    assert_frequencies(last, gammas(n, 2, 1), EPOCHS)


@pytest.mark.parametrize(
    ("selected", "batch_size", "num_ranks"),
    [
        (7, 2, 3),  # steps of 4 and 3 samples, where one process makes steps of 6 and 1
        (13, 3, 2),  # 6, 5 and 2, where one process makes steps of 6, 6 and 1
    ],
)
def test_a_last_step_too_small_for_the_ranks_follows_the_law_of_its_own_sizes(selected, batch_size, num_ranks):
    n, s = 30, 2 * selected
    strategy = OrderDP(explore=s / n, exploit=0.5, per="iteration")
    assert strategy.sizes(n) == (s, selected)
    bounds = bounds_of_ranks(selected, batch_size, num_ranks, stable_shapes=True)
    assert bounds != bounds_of(selected, batch_size * num_ranks, stable_shapes=True)
    scores, rank = shuffled_scores(n)
    counts = np.zeros((len(bounds), n), dtype=np.int64)
    for indices in choices(strategy, scores, bounds=bounds):
        for step, (begin, end) in enumerate(bounds):
            counts[step, rank[indices[begin:end]]] += 1
    for of_step, (begin, end) in zip(counts, bounds, strict=True):
        assert_frequencies(of_step, gammas(n, 2 * (end - begin), end - begin), EPOCHS)


def test_steps_before_a_dropped_one_follow_the_law_of_their_own_sizes():
    n, bounds = 20, bounds_of(7, 3, drop_last=True)
    strategy = OrderDP(explore=0.7, exploit=0.5, per="iteration")
    assert (strategy.sizes(n), bounds) == ((14, 7), ((0, 3), (3, 6)))
    scores, rank = shuffled_scores(n)
    counts = np.zeros((2, n), dtype=np.int64)
    for indices in choices(strategy, scores, bounds=bounds):
        assert len(indices) == 7  # the epoch selects q samples, though it trains fewer
        counts[np.arange(2)[:, None], rank[indices[:6]].reshape(2, 3)] += 1
    for of_step in counts:
        assert_frequencies(of_step, gammas(n, 6, 3), EPOCHS)


@pytest.mark.parametrize("score", [1.5, math.inf])
def test_equal_scores_are_kept_alike(score):
    n = 10
    counts = counts_of(choices(OrderDP(explore=0.8, exploit=0.5), np.full(n, score)), n)
    assert_frequencies(counts, [Fraction(4, n)] * n, EPOCHS)


def test_a_tied_half_shares_the_places_of_its_ranks():
    n, s, q = 10, 6, 4
    scores = np.array([9, 1, 8, 1, 7, 1, 6, 1, 5, 1])
    counts = counts_of(choices(OrderDP(explore=0.6, exploit=0.65), scores), n)
    gamma = gammas(n, s, q)
    tied = sum(gamma[5:]) / 5
    assert_frequencies(counts[0::2], gamma[:5], EPOCHS)
    assert_frequencies(counts[1::2], [tied] * 5, EPOCHS)


def test_every_order_of_the_kept_samples_is_equally_frequent():
    top_three = choices(OrderDP(explore=1.0, exploit=0.5), np.array([3.0, 2.0, 1.0, 4.0, 0.0, 0.0]))
    orders = Counter(tuple(indices.tolist()) for indices in top_three)
    assert len(orders) == 6
    assert_frequencies(list(orders.values()), [Fraction(1, 6)] * 6, EPOCHS)


def test_choices_of_one_epoch_say_nothing_of_the_next():
    """Kept in epochs t and t + 1 together: γ_j² where the two are independent."""
    n = 8
    scores, rank = shuffled_scores(n)
    selections = choices(OrderDP(explore=0.5, exploit=0.5), scores)
    pairs = zip(selections, selections, strict=True)
    both = counts_of((rank[np.intersect1d(first, second)] for first, second in pairs), n)
    assert_frequencies(both, [p * p for p in gammas(n, 4, 2)], EPOCHS // 2)
