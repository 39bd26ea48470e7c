"""`worth_it` on loops whose scores are known, and on a real one."""

import math
import re
import sys
from dataclasses import dataclass, replace

import pytest
import torch

from orderdp import FullData, InfoBatch, OrderDP, OrderedSGD, Proportional, RepeatedRandom, Scheduled
from orderdp.comparison.own_loop import worth_it

N = 40


class Loop:
    """A loop that visits what its pruner selects for some epochs, and whose score depends on the method and seed."""

    def __init__(self, score, epochs=3):
        self.score, self.epochs, self.runs = score, epochs, []

    def __call__(self, pruner):
        seen = []
        for _ in range(self.epochs):
            index = torch.from_numpy(pruner.begin_epoch().indices).long()
            pruner.update(index, (index / N).requires_grad_())
            seen += index.tolist()
        self.runs.append((type(pruner.strategy), pruner.seed, seen))
        return self.score(type(pruner.strategy), pruner.seed)


@dataclass(frozen=True)
class Seeded(OrderDP):
    """Prunes by the seed of the run."""

    def for_seed(self, seed):
        return replace(self, prune_ratio=(seed + 1) / 4)


def silent(line):
    del line


def test_pruning_that_wins_is_worth_it_and_full_data_is_trained_too():
    loop = Loop(lambda method, seed: {OrderDP: 90.0, RepeatedRandom: 88.0, FullData: 91.0}[method] + seed)
    lines = []
    answer = worth_it(loop, OrderDP(prune_ratio=0.5), N, log=lines.append)
    assert [run[:2] for run in loop.runs] == [
        *((method, seed) for seed in range(3) for method in (OrderDP, RepeatedRandom)),
        *((FullData, seed) for seed in range(3)),
    ]
    assert (answer.worth, answer.share) == (True, 0.5)
    assert (answer.against_short.mean, answer.against_full.mean) == (2.0, -1.0)
    assert lines[:2] == ["seed 0, pruned: 90", "seed 0, shorter schedule: 88"]
    assert str(answer).splitlines() == [
        "pruned: 90, 91, 92",
        "shorter schedule: 88, 89, 90",
        "full data: 91, 92, 93",
        "pruned minus the shorter schedule: +2, 95 % interval [+2, +2], 3 seeds",
        "pruned minus full data: -1, 95 % interval [-1, -1], 3 seeds",
        "Worth it: for 50 % of the samples, pruning is better than stopping early.",
    ]


def test_a_second_method_trains_the_references_of_the_first_only_where_they_differ():
    scores = {OrderDP: 90.0, RepeatedRandom: 88.0, FullData: 91.0, Proportional: 90.5}
    first = worth_it(Loop(lambda method, seed: scores[method] + seed), OrderDP(prune_ratio=0.5), N, log=silent)
    loop, lines = Loop(lambda method, seed: scores[method] + seed), []
    again = worth_it(loop, Proportional(prune_ratio=0.5), N, before=first, log=lines.append)
    assert [run[:2] for run in loop.runs] == [(Proportional, seed) for seed in range(3)]
    assert (again.worth, again.against_short.mean, again.against_full.mean) == (True, 2.5, -0.5)
    assert "seed 1, shorter schedule: 89, as before" in lines
    loop = Loop(lambda method, seed: scores[method] + seed)
    other = worth_it(loop, OrderDP(prune_ratio=0.75), N, seeds=(1, 2, 3), before=first, log=silent)
    trained = [*((method, seed) for seed in (1, 2, 3) for method in (OrderDP, RepeatedRandom)), (FullData, 3)]
    assert [run[:2] for run in loop.runs] == trained  # the shorter schedule is shorter, and full data has a seed more
    assert other.shares == {1: 0.25, 2: 0.25, 3: 0.25}


def test_equal_differences_of_a_coarse_score_are_no_proof():
    loop = Loop(lambda method, seed: 90.0 + 0.1 * (method is OrderDP))
    answer = worth_it(loop, OrderDP(prune_ratio=0.5), N, resolution=0.1, log=silent)
    # Half of the interval: 4.3027·0.1/√6/√3.
    assert answer.against_short.high - answer.against_short.mean == pytest.approx(0.10142, rel=1e-3)
    assert answer.worth is None


def test_pruning_that_loses_ends_before_full_data_is_trained():
    loop = Loop(lambda method, seed: {OrderDP: 88.0, RepeatedRandom: 90.0}[method] + seed)
    answer = worth_it(loop, OrderDP(prune_ratio=0.5), N, log=silent)
    assert len(loop.runs) == 6
    assert (answer.worth, answer.against_full) == (False, None)
    assert str(answer).endswith("Not worth it: full data on a shorter schedule costs as much and is better.")


def test_seeds_that_disagree_leave_it_open():
    loop = Loop(lambda method, seed: 90.0 + (seed - 1) * (method is OrderDP))
    answer = worth_it(loop, OrderDP(prune_ratio=0.5), N, log=silent)
    assert (answer.worth, len(loop.runs)) == (None, 9)
    assert "Open: these seeds do not tell pruning from stopping early at 50 % of the samples." in str(answer)
    assert str(answer).endswith("If mean and spread stay as they are, more than 100 seeds would.")  # the mean is 0


def test_it_says_how_many_seeds_would_settle_it():
    scores = (0.0, 2.0, 1.0)  # above the shorter schedule: mean 1, standard deviation 1
    loop = Loop(lambda method, seed: 90.0 + scores[seed] * (method is OrderDP))
    answer = worth_it(loop, OrderDP(prune_ratio=0.5), N, log=silent)
    # t of 5 degrees of freedom / √6 is 1.0494, of 6 / √7 is 0.9248.
    assert str(answer).endswith("If mean and spread stay as they are, 7 seeds would.")


def test_one_seed_concludes_nothing():
    loop = Loop(lambda method, seed: {OrderDP: 80.0, RepeatedRandom: 90.0, FullData: 91.0}[method])
    answer = worth_it(loop, OrderDP(prune_ratio=0.5), N, seeds=(7,), log=silent)
    assert (answer.worth, len(loop.runs)) == (None, 3)
    assert str(answer).splitlines()[-3:] == [
        "pruned minus full data: -11, 1 seed",
        "Open: these seeds do not tell pruning from stopping early at 50 % of the samples.",
        "One seed has no interval: train at least 3, seeds=(0, 1, 2).",
    ]


def test_two_seeds_conclude_nothing_so_full_data_is_trained_too():
    loop = Loop(lambda method, seed: {OrderDP: 80.0, RepeatedRandom: 90.0, FullData: 91.0}[method])
    answer = worth_it(loop, OrderDP(prune_ratio=0.5), N, seeds=(0, 1), log=silent)
    assert (answer.worth, len(loop.runs), answer.against_full.mean) == (None, 6, -11.0)


def test_a_loss_is_better_where_it_is_smaller():
    loop = Loop(lambda method, seed: {OrderDP: 0.3, RepeatedRandom: 0.5, FullData: 0.2}[method])
    answer = worth_it(loop, OrderDP(prune_ratio=0.5), N, larger_is_better=False, log=silent)
    assert answer.worth is True
    assert answer.against_short.mean == pytest.approx(0.2)
    assert answer.against_full.mean == pytest.approx(-0.1)


@pytest.mark.parametrize("strategy", [OrderDP(prune_ratio=0.5), InfoBatch()], ids=repr)
def test_the_shorter_schedule_is_full_data_for_the_samples_of_the_pruned_run(strategy):
    loop = Loop(lambda method, seed: 90.0)
    answer = worth_it(loop, strategy, N, log=silent)
    for (_, _, pruned), (method, _, shorter) in zip(loop.runs[:6:2], loop.runs[1:6:2], strict=True):
        assert method is RepeatedRandom
        assert abs(len(shorter) - len(pruned)) <= 3  # rounding, in each epoch
        counts = [shorter.count(sample) for sample in range(N)]
        assert max(counts) - min(counts) <= 1
    assert answer.share == pytest.approx(sum(len(run[2]) for run in loop.runs[:6:2]) / (3 * 3 * N))


def test_each_seed_has_a_method_and_a_shorter_schedule_of_its_own():
    loop = Loop(lambda method, seed: 90.0)
    answer = worth_it(loop, Seeded(prune_ratio=0.1), N, log=silent)
    assert [len(seen) for _, _, seen in loop.runs[:6]] == [90, 90, 60, 60, 30, 30]
    assert answer.share == pytest.approx(0.5)


def test_without_scipy_several_seeds_are_refused_before_anything_is_trained(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    loop = Loop(lambda method, seed: 90.0)
    with pytest.raises(ImportError, match="the interval of a difference needs SciPy: pip install scipy"):
        worth_it(loop, OrderDP(prune_ratio=0.5), N, log=silent)
    assert not loop.runs


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"strategy": FullData()}, ValueError, "the method must prune, got FullData(); write OrderDP(prune_ratio=0.5)"),
        (
            {"strategy": OrderedSGD(keep=0.5)},
            ValueError,
            "the method must choose before an epoch, got OrderedSGD(keep=0.5), which makes all steps of full data; "
            "compare it with full data",
        ),
        (
            {"strategy": "orderdp"},
            TypeError,
            "strategy must be a method, got 'orderdp'; write OrderDP(prune_ratio=0.5)",
        ),
        (
            {"strategy": Scheduled(strategy=OrderDP(prune_ratio=0.5), epochs=8, start=0.5)},
            ValueError,
            "the method must prune, got Scheduled(strategy=OrderDP(prune_ratio=0.5), epochs=8, start=0.5), which "
            "trained all samples in every epoch of seed 0; write a higher prune ratio, or a schedule of epochs=3",
        ),
        ({"seeds": 1}, TypeError, "seeds must be different numbers, got 1; write range(3)"),
        ({"seeds": 5}, TypeError, "seeds must be different numbers, got 5; write range(5)"),
        (
            {"train": lambda pruner: torch.tensor(90.0)},
            TypeError,
            "the run of seed 0, pruned, must return a number, got tensor(90.); return score.item()",
        ),
        (
            {"resolution": -1},
            ValueError,
            "resolution must be 0 or a step of the score, got -1; write 0.1",
        ),
        (
            {"before": 90.0},
            TypeError,
            "before must be an answer of worth_it, got 90.0; leave it out for the first method",
        ),
        ({"seeds": ()}, ValueError, "seeds must be different numbers, got []; write (0, 1, 2)"),
        ({"seeds": (1, 1)}, ValueError, "seeds must be different numbers, got [1, 1]; write (0, 1, 2)"),
        (
            {"train": lambda pruner: None},
            TypeError,
            "the run of seed 0, pruned, must return a number, got None; return the score on held-out data",
        ),
        (
            {"train": lambda pruner: math.nan},
            ValueError,
            "the run of seed 0, pruned, must return a finite number, got nan; look for a diverging loss",
        ),
        (
            {"num_samples": range(3)},
            TypeError,
            "num_samples must be an integer of at least 1, got range range(0, 3); write len(dataset)",
        ),
        (
            {"train": lambda pruner: 90.0},
            ValueError,
            "the run of seed 0, pruned, trained no sample of its pruner; loop over pruner.loader(...) and call "
            "pruner.update(...)",
        ),
    ],
)
def test_bad_input_is_refused(settings, error, message):
    given = {"train": Loop(lambda method, seed: 1.0), "strategy": OrderDP(prune_ratio=0.5), "num_samples": N}
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        worth_it(**{**given, **settings}, log=silent)
