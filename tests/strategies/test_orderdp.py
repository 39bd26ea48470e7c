import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orderdp import Memory, OrderDP, Pruner
from orderdp.strategies.orderdp import round_ratio
from reference import paper_loop
from reference.steps import bounds_of

scores_with_ties = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, math.inf, -math.inf]), min_size=4, max_size=60)


def memory_of(scores: list[float], bounds: tuple[tuple[int, int], ...] | None = None) -> Memory:
    return Memory(len(scores), 0, {"score": np.array(scores, dtype=np.float32)}, bounds)


@pytest.mark.parametrize("uniform_share", [0.0, 0.3])
@given(scores=scores_with_ties, explore=st.floats(0.4, 1), exploit=st.floats(0.5, 1), seed=st.integers(0, 2**32))
def test_an_epoch_is_the_papers_loop_index_for_index(uniform_share, scores, explore, exploit, seed):
    strategy = OrderDP(explore=explore, exploit=exploit, uniform_share=uniform_share)
    s, q = strategy.sizes(len(scores))
    expected = paper_loop.per_epoch(scores, s, q, np.random.default_rng(seed), uniform_share)
    assert strategy.select(memory_of(scores), np.random.default_rng(seed)).indices.tolist() == expected


@pytest.mark.parametrize("uniform_share", [0.0, 0.3])
@given(
    scores=scores_with_ties,
    explore=st.floats(0.4, 1),
    exploit=st.floats(0.5, 1),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_an_epoch_of_iterations_is_the_papers_loop_index_for_index(
    uniform_share, scores, explore, exploit, batch_size, seed
):
    strategy = OrderDP(explore=explore, exploit=exploit, per="iteration", uniform_share=uniform_share)
    s, q = strategy.sizes(len(scores))
    bounds = bounds_of(q, batch_size)
    ends = [end for _, end in bounds]
    expected = paper_loop.per_iteration(scores, s, q, ends, np.random.default_rng(seed), uniform_share)
    selected = strategy.select(memory_of(scores, bounds), np.random.default_rng(seed))
    assert selected.indices.tolist() == expected


@pytest.mark.parametrize("uniform_share", [0.0, 0.3])
@given(scores=scores_with_ties, cuts=st.sets(st.integers(1, 30)), dropped=st.booleans(), seed=st.integers(0, 2**32))
def test_steps_of_any_sizes_are_the_papers_loop_index_for_index(uniform_share, scores, cuts, dropped, seed):
    """As the last steps of several ranks may be. A last step that is dropped is selected all the same."""
    strategy = OrderDP(explore=0.9, exploit=0.6, per="iteration", uniform_share=uniform_share)
    s, q = strategy.sizes(len(scores))
    ends = [*sorted(cut for cut in cuts if cut < q), q]
    bounds = tuple(zip([0, *ends], ends, strict=False))
    told = bounds[:-1] if dropped and len(bounds) > 1 else bounds
    expected = paper_loop.per_iteration(scores, s, q, ends, np.random.default_rng(seed), uniform_share)
    selected = strategy.select(memory_of(scores, told), np.random.default_rng(seed))
    assert selected.indices.tolist() == expected


@given(losses=st.lists(st.integers(0, 5).map(float), min_size=1, max_size=40), exploit=st.floats(0.01, 1))
def test_fresh_weights_keep_the_papers_top_of_the_batch(losses, exploit):
    weights = OrderDP(explore=1.0, exploit=exploit, per="iteration", fresh=True).batch_weights(
        torch.tensor(losses), pytest.fail
    )
    assert weights.nonzero().flatten().tolist() == paper_loop.keep_fresh(losses, exploit)
    assert weights.sum().item() == pytest.approx(len(losses))
    assert len(weights.unique()) <= 2


def fresh_pruner() -> tuple[Pruner, torch.Tensor]:
    """A pruner and the eight candidates of its epoch's one batch, of which it keeps four."""
    pruner = Pruner(OrderDP(explore=0.5, exploit=0.5, per="iteration", fresh=True), 16)
    return pruner, torch.from_numpy(pruner.begin_epoch(8).indices.copy())


def test_fresh_losses_are_reduced_to_the_mean_of_the_kept():
    pruner, ids = fresh_pruner()
    losses = torch.tensor([1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0], requires_grad=True)
    loss = pruner.update(ids, losses)
    loss.backward()
    assert loss.item() == (8 + 7 + 6 + 5) / 4
    assert losses.grad.tolist() == [0, 0.25, 0, 0.25, 0, 0.25, 0, 0.25]


def test_only_the_kept_of_fresh_losses_count_as_visited():
    pruner, ids = fresh_pruner()
    pruner.update(ids, torch.arange(8.0, requires_grad=True))
    assert sorted(pruner.visits().nonzero().flatten().tolist()) == sorted(ids[4:].tolist())
    pruner.begin_epoch(8)
    assert pruner.report().visits == 4


def test_fresh_losses_in_low_precision_keep_the_exact_weights():
    """b/k rounded to bfloat16 would be wrong by up to 0.4 %."""
    strategy = OrderDP(explore=1.0, exploit=0.3, per="iteration", fresh=True)
    pruner = Pruner(strategy, 10)
    ids = torch.from_numpy(pruner.begin_epoch(10).indices.copy())
    loss = pruner.update(ids, torch.ones(10, dtype=torch.bfloat16, requires_grad=True))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1, abs=1e-6)


def test_fresh_losses_remember_no_column():
    assert OrderDP(per="iteration", fresh=True).columns == {}
    assert OrderDP().columns == {"score": math.inf}
    assert OrderDP(initial_score=3.0).columns == {"score": 3.0}


def test_a_prune_ratio_keeps_its_root_of_each_fresh_batch():
    """explore = exploit = √(1 - r): s candidates are looked at, and of a batch the same share is kept again."""
    strategy = OrderDP(prune_ratio=0.75, per="iteration", fresh=True)
    assert strategy.num_selected(100, epoch=0) == 50
    assert strategy.batch_weights(torch.arange(10.0), pytest.fail).tolist() == [0.0] * 5 + [2.0] * 5


def test_stored_scores_weigh_no_batch():
    assert OrderDP().batch_weights(torch.ones(3), pytest.fail) is None


@pytest.mark.parametrize(
    ("strategy", "n", "sizes"),
    [
        (OrderDP(), 50_000, (25_000, 15_000)),
        (OrderDP(explore=0.75, exploit=0.8), 1_281_167, (960_875, 768_700)),
        (OrderDP(explore=0.5), 100, (50, 30)),
        (OrderDP(exploit=0.5), 100, (50, 25)),
        (OrderDP(prune_ratio=0.5), 50_000, (35_355, 25_000)),
        (OrderDP(prune_ratio=0), 10, (10, 10)),
        (OrderDP(prune_ratio=0.9), 10, (3, 1)),
        (OrderDP(explore=0.38, exploit=0.7), 10, (4, 3)),  # both rounded up
        (OrderDP(explore=1, exploit=1), 7, (7, 7)),
    ],
)
def test_sizes_are_those_of_the_paper(strategy, n, sizes):
    assert strategy.sizes(n) == sizes
    assert strategy.num_selected(n, epoch=0) == sizes[1]


@given(n=st.integers(1, 10**7), prune_ratio=st.floats(0, 0.99))
def test_the_sizes_of_a_prune_ratio_are_ordered(n, prune_ratio):
    if round((1 - prune_ratio) * n):
        s, q = OrderDP(prune_ratio=prune_ratio).sizes(n)
        assert 1 <= q <= s <= n
        assert q == round((1 - prune_ratio) * n)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"explore": 85}, ValueError, "explore is a fraction and must lie in (0, 1], got 85; for 85 % write 0.85"),
        ({"explore": 0.0}, ValueError, "explore is a fraction and must lie in (0, 1], got 0.0; write a number"),
        ({"exploit": -0.1}, ValueError, "exploit is a fraction and must lie in (0, 1], got -0.1"),
        ({"exploit": math.nan}, ValueError, "exploit is a fraction and must lie in (0, 1], got nan"),
        ({"prune_ratio": 1.0}, ValueError, "prune_ratio is a fraction and must lie in [0, 1), got 1.0"),
        ({"prune_ratio": "0.5"}, TypeError, "prune_ratio is a fraction and must lie in [0, 1), got '0.5'; write a"),
        ({"prune_ratio": True}, TypeError, "prune_ratio is a fraction and must lie in [0, 1), got True"),
        ({"prune_ratio": 0.5, "explore": 0.5}, ValueError, "prune_ratio excludes explore and exploit, got prune_rat"),
        ({"prune_ratio": 0.5, "exploit": 0.5}, ValueError, "give the ratio or the other two"),
        ({"uniform_share": 1.0}, ValueError, "uniform_share is a fraction and must lie in [0, 1), got 1.0"),
        ({"initial_score": math.nan}, ValueError, "initial_score must be a number that can be compared, got nan"),
        ({"per": "batch"}, ValueError, "per is 'epoch' or 'iteration', got 'batch'; write per='epoch'"),
        (
            {"fresh": True},
            ValueError,
            "fresh scores need a choice at each step, got per='epoch'; write per='iteration'",
        ),
        (
            {"fresh": True, "per": "iteration", "uniform_share": 0.1},
            ValueError,
            "uniform_share is for stored scores, got 0.1 with fresh=True; leave it out",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, error, text):
    with pytest.raises(error) as caught:
        OrderDP(**settings)
    assert text in str(caught.value)


@pytest.mark.parametrize("strategy", [OrderDP(prune_ratio=0.9), OrderDP(explore=0.1, exploit=0.1)])
def test_sizes_that_keep_nothing_are_refused(strategy):
    with pytest.raises(ValueError, match=r"keep at least one of the 4 samples, got q = 0 from (prune_ratio|explore)="):
        strategy.sizes(4)


def test_the_iteration_form_must_know_the_batches():
    with pytest.raises(ValueError, match=r"must know the batches, got none; write pruner.sampler\(batch_size=...\)"):
        OrderDP(per="iteration").select(memory_of([1.0, 2.0, 3.0, 4.0]), np.random.default_rng(0))


def test_unseen_samples_go_before_seen_ones():
    scores = [100.0] * 10 + [math.inf] * 10
    for seed in range(20):
        chosen = OrderDP(explore=1.0, exploit=0.5).select(memory_of(scores), np.random.default_rng(seed)).indices
        assert sorted(chosen.tolist()) == list(range(10, 20))


def test_no_sample_is_a_candidate_twice_in_an_epoch_of_iterations():
    """Every step's candidates fit side by side in the one draw, so stored scores cannot go stale in the epoch."""
    strategy = OrderDP(explore=1.0, exploit=0.5, per="iteration")
    chosen = strategy.select(memory_of([1.0] * 40, bounds_of(20, 6)), np.random.default_rng(0)).indices
    assert len(set(chosen.tolist())) == 20


@given(numerator=st.integers(0, 10**12), denominator=st.integers(1, 10**6))
def test_round_ratio_rounds_half_up(numerator, denominator):
    rounded = round_ratio(numerator, denominator)
    assert 2 * numerator - denominator < 2 * denominator * rounded <= 2 * numerator + denominator


@pytest.mark.parametrize(
    ("explore", "exploit", "ratio"), [(0.9, 0.45, 0.595), (0.95, 0.93, 0.1165), (1 / 3, 1, 0.6667), (1, 1, 0)]
)
def test_the_ratio_of_explore_and_exploit_has_four_digits(explore, exploit, ratio):
    assert OrderDP(explore=explore, exploit=exploit).asked_ratio == ratio
