"""A prune ratio that follows the run: sizes by hand, the same choices as the method alone, and its name in tables."""

import math
import re
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from orderdp import (
    UCB,
    EpsilonGreedy,
    FullData,
    InfoBatch,
    Kakurenbo,
    Memory,
    OrderDP,
    OrderedSGD,
    PerClass,
    Proportional,
    Pruner,
    RepeatedRandom,
    Scheduled,
    SelectiveBackprop,
    SeTa,
    StoredSubset,
    citation,
)
from orderdp.cli.folders import chosen_recipe
from orderdp.strategies.registry import from_table, parse, to_table
from orderdp.training.check import check_recipe
from orderdp.training.recipe import Recipe

N = 100
HALF = OrderDP(prune_ratio=0.5)
STORED = StoredSubset(
    file="a.parquet",
    method="herding",
    prune_ratio=0.5,
    title="herding",
    num_samples=N,
    ratios=(0.3, 0.5),
    sha256=("3f8a",),
)


@dataclass(frozen=True)
class Steep(OrderDP):
    rise: float = 0.0


@dataclass(frozen=True)
class Classified(OrderDP):
    classes: int = 0

    def for_labels(self, labels):
        return replace(self, classes=len(labels.unique()))


@dataclass(frozen=True)
class OfASeed(OrderDP):
    seed: int = -1

    def for_seed(self, seed):
        return replace(self, seed=seed)

    def check_files(self, data_sha256=None):
        raise ValueError(data_sha256())


# Settings of ten epochs at a ratio of 0.4, and what each epoch keeps of 100.
SIZES = {
    "nothing": ({}, [60] * 10),
    "between two shares": ({"start": 0.3, "end": 0.7}, [100] * 3 + [60] * 4 + [100] * 3),
    "annealing": ({"end": 0.85}, [60] * 9 + [100]),
    "every third epoch": ({"interval": 3}, [60, 100, 100] * 3 + [60]),
    "every second epoch of a part": (
        {"start": 0.1, "end": 0.6, "interval": 2},
        [100] + [60, 100, 60, 100, 60] + [100] * 4,
    ),
    "a rise": ({"rise": 0.4}, [90, 80, 70] + [60] * 7),
    "a fall": ({"fall": 0.4}, [60] * 7 + [70, 80, 90]),
    "both within a part": (
        {"start": 0.2, "end": 0.8, "rise": 0.2, "fall": 0.2},
        [100, 100, 80, 60, 60, 60, 60, 80, 100, 100],
    ),
    "a wave": ({"wave": 0.1}, [70, 50] * 5),
    "a wave of every second epoch": ({"start": 0.1, "interval": 2, "wave": 0.1}, [100, *[70, 100, 50, 100] * 2, 70]),
}


@pytest.mark.parametrize(("settings", "sizes"), SIZES.values(), ids=SIZES)
def test_sizes_are_those_of_a_hand_computation(settings, sizes):
    strategy = Scheduled(strategy=Proportional(prune_ratio=0.4), epochs=10, **settings)
    assert [strategy.num_selected(N, epoch) for epoch in range(10)] == sizes
    changes = strategy.size_changes()
    assert set(changes) >= {epoch for epoch in range(1, 10) if sizes[epoch] != sizes[epoch - 1]}
    pruner = Pruner(strategy, N, seed=1)
    assert pruner.total_steps(10, 10) == sum(size // 10 for size in sizes)
    found = []
    for _ in range(10):
        index = torch.from_numpy(pruner.begin_epoch().indices).long()
        found.append(len(index))
        pruner.update(index, torch.rand(len(index), requires_grad=True))
    assert found == sizes


def test_epochs_that_prune_choose_as_the_method_alone():
    losses = np.random.default_rng(0).random(N).astype(np.float32)
    strategy = Scheduled(strategy=HALF, epochs=10, start=0.5)
    assert strategy.columns == HALF.columns
    for epoch in range(10):
        memory = Memory(N, epoch, {"score": losses})
        found = strategy.select(memory, np.random.default_rng(epoch)).indices
        alone = (HALF if epoch >= 5 else FullData()).select(memory, np.random.default_rng(epoch)).indices
        assert found.tolist() == alone.tolist()


def test_a_choice_that_is_kept_for_some_epochs_ends_with_a_full_epoch():
    strategy = Scheduled(strategy=EpsilonGreedy(prune_ratio=0.5, every=10), epochs=10, interval=2)
    losses = np.arange(N, dtype=np.float32)
    full = np.arange(N)
    memory = Memory(N, 4, {"score": losses}, previous=full, previous_epoch=3)
    assert len(strategy.select(memory, np.random.default_rng(0)).indices) == 50
    kept = Scheduled(strategy=EpsilonGreedy(prune_ratio=0.5, every=10), epochs=10, start=0.2)
    chosen = np.arange(50)
    memory = Memory(N, 4, {"score": losses}, previous=chosen, previous_epoch=3)
    assert sorted(kept.select(memory, np.random.default_rng(0)).indices.tolist()) == chosen.tolist()


@pytest.mark.parametrize(("losses", "kept"), [([0.1] * 20 + [2.0] * 80, 80), ([0.1] * 70 + [2.0] * 30, 50)])
def test_the_ratio_is_at_most_the_share_that_is_mastered(losses, kept):
    strategy = Scheduled(strategy=HALF, epochs=10, mastered=math.log(2))
    assert strategy.num_selected(N, 3) is None
    memory = Memory(N, 3, {"score": np.array(losses, dtype=np.float32)})
    assert len(strategy.select(memory, np.random.default_rng(0)).indices) == kept


def test_of_several_columns_the_losses_say_what_is_mastered():
    means = np.where(np.arange(N) < 30, 0.5, 2.0).astype(np.float32)
    strategy = Scheduled(strategy=UCB(prune_ratio=0.5), epochs=10, mastered=1.0)
    memory = Memory(N, 3, {"mean": means, "var": np.zeros(N, np.float32)})
    assert len(strategy.select(memory, np.random.default_rng(0)).indices) == 70


@pytest.mark.parametrize(
    ("mastered", "kept"),
    [(0, 200), (159, 200), (160, 100), (179, 100), (180, 50), (189, 50), (190, 25), (198, 25), (199, 12), (200, 12)],
)
def test_halving_keeps_the_shares_of_ordered_sgd(mastered, kept):
    strategy = Scheduled(strategy=OrderDP(prune_ratio=0.9375), epochs=10, mastered=0.5, halving=True)
    losses = np.where(np.arange(200) < mastered, 0.5, 0.6).astype(np.float32)
    chosen = strategy.select(Memory(200, 3, {"score": losses}), np.random.default_rng(0)).indices
    assert len(chosen) == pytest.approx(kept, abs=0.5)
    mild = Scheduled(strategy=HALF, epochs=10, mastered=0.5, halving=True)
    chosen = mild.select(Memory(200, 3, {"score": losses}), np.random.default_rng(0)).indices
    assert len(chosen) == max(kept, 100)


def test_a_choice_made_at_another_mastered_share_is_not_kept():
    strategy = Scheduled(strategy=EpsilonGreedy(prune_ratio=0.5, every=10), epochs=10, mastered=1.0)
    losses = np.where(np.arange(N) < 60, 0.5, 2.0).astype(np.float32)
    memory = Memory(N, 4, {"score": losses}, previous=np.arange(80), previous_epoch=3)
    assert len(strategy.select(memory, np.random.default_rng(0)).indices) == 50


def test_the_method_remembers_as_it_does_alone_and_all_it_needs():
    pruners = [Pruner(UCB(prune_ratio=0.5), N), Pruner(Scheduled(strategy=UCB(prune_ratio=0.5), epochs=10), N)]
    for values in (torch.arange(float(N)), torch.ones(N)):
        for pruner in pruners:
            pruner.record(torch.arange(N), values)
    for name, column in pruners[0].scores().items():
        assert torch.equal(pruners[1].scores()[name], column)
    assert Scheduled(strategy=OrderedSGD(keep=0.25), epochs=10, start=0.3).columns == {}


def test_the_steps_of_a_method_whose_own_size_changes_are_counted():
    strategy = Scheduled(strategy=UCB(prune_ratio=0.5), epochs=10, start=0.0, end=0.5)
    assert strategy.size_changes() == (1, 5)
    assert Pruner(strategy, N).total_steps(10, 10) == 10 + 4 * 5 + 5 * 10


@pytest.mark.parametrize("unknown", [math.inf, -math.inf])
def test_samples_without_a_loss_are_not_mastered(unknown):
    strategy = Scheduled(strategy=HALF, epochs=10, mastered=1.0)
    memory = Memory(N, 0, {"score": np.full(N, unknown, dtype=np.float32)})
    assert len(strategy.select(memory, np.random.default_rng(0)).indices) == N


@pytest.mark.parametrize(
    ("text", "expected", "label"),
    [
        (
            "scheduled:orderdp,prune_ratio=0.5,start=0.5,end=0.9",
            Scheduled(strategy=HALF, epochs=20, start=0.5, end=0.9),
            "OrderDP 50 %, epochs 50–90 %",
        ),
        (
            "scheduled:epsilon_greedy,prune_ratio=0.5,every=1,interval=2",
            Scheduled(strategy=EpsilonGreedy(prune_ratio=0.5, every=1), epochs=20, interval=2),
            "ε-greedy 50 % every 1, every 2nd epoch",
        ),
        (
            "scheduled:seta,prune_ratio=0.3,rise=0.2,mastered=0.7",
            Scheduled(strategy=SeTa(prune_ratio=0.3, epochs=20), epochs=20, rise=0.2, mastered=0.7),
            "SeTa 30 %, rise over 20 %, at most as mastered at 0.7",
        ),
        (
            "scheduled:orderdp,prune_ratio=0.5,easy_from=0.6",
            Scheduled(strategy=HALF, epochs=20, easy_from=0.6),
            "OrderDP 50 %, easy from 60 % on",
        ),
        (
            "scheduled:infobatch,prune_ratio=0.5,end=0.875",
            Scheduled(strategy=InfoBatch(), epochs=20, end=0.875),
            "InfoBatch 50 %, epochs 0–87.5 %",
        ),
        (
            "scheduled:ordered_sgd,prune_ratio=0.9375,mastered=0.69,halving=true,epochs=40",
            Scheduled(strategy=OrderedSGD(keep=0.0625), epochs=40, mastered=0.69, halving=True),
            "ordered SGD 93.75 %, halved as mastered at 0.69, of 40 epochs",
        ),
        (
            "scheduled:selective_backprop,prune_ratio=0.5,start=0.5,end=0.9,interval=23",
            Scheduled(strategy=SelectiveBackprop(keep=0.5), epochs=20, start=0.5, end=0.9, interval=23),
            "selective backprop 50 %, epochs 50–90 %, every 23rd epoch",
        ),
    ],
)
def test_it_is_written_as_a_table_and_read_back(text, expected, label):
    strategy = from_table(parse(text), epochs=20)
    assert strategy == expected
    assert from_table(to_table(strategy, epochs=20), epochs=20) == strategy
    assert from_table(to_table(strategy)) == strategy
    assert strategy.describe(20) == label
    assert strategy.asked_ratio == expected.strategy.asked_ratio


def test_from_a_share_of_the_run_on_the_easiest_of_the_draw_are_kept():
    turned = Scheduled(strategy=HALF, epochs=10, end=0.9, easy_from=0.52)
    losses = np.random.default_rng(0).random(200).astype(np.float32)
    for epoch in (0, 5, 6, 8, 9, 10):
        found = turned.select(Memory(200, epoch, {"score": losses}), np.random.default_rng(1)).indices
        method = FullData() if epoch >= 9 else HALF if epoch < 6 else replace(HALF, easy_share=1.0)
        alone = method.select(Memory(200, epoch, {"score": losses}), np.random.default_rng(1)).indices
        assert found.tolist() == alone.tolist()
    assert losses[turned.select(Memory(200, 5, {"score": losses}), np.random.default_rng(1)).indices].mean() > 0.55
    assert losses[turned.select(Memory(200, 6, {"score": losses}), np.random.default_rng(1)).indices].mean() < 0.45
    followed = replace(turned, mastered=0.5)  # of which half are
    halves = Memory(200, 6, {"score": np.arange(200, dtype=np.float32) / 199})
    easy, alone = (each.select(halves, np.random.default_rng(1)).indices for each in (followed, turned))
    assert easy.tolist() == alone.tolist()
    never = Scheduled(strategy=HALF, epochs=10)
    late = never.select(Memory(200, 30, {"score": losses}), np.random.default_rng(1)).indices
    assert losses[late].mean() > 0.6


def test_a_run_of_other_epochs_stretches_both():
    strategy = Scheduled(strategy=SeTa(prune_ratio=0.3, epochs=20), epochs=20, end=0.5)
    assert strategy.for_epochs(40, instead_of=20) == Scheduled(
        strategy=SeTa(prune_ratio=0.3, epochs=40), epochs=40, end=0.5
    )
    assert strategy.for_epochs(40, instead_of=30) == strategy


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"strategy": "orderdp"},
            TypeError,
            "strategy must be a method, got 'orderdp'; write OrderDP(prune_ratio=0.5)",
        ),
        (
            {"strategy": FullData()},
            ValueError,
            "a method to schedule must prune and hold no other method, got FullData(); write OrderDP(prune_ratio=0.5)",
        ),
        (
            {"strategy": PerClass(strategy=HALF)},
            ValueError,
            "a method to schedule must prune and hold no other method, got "
            "PerClass(strategy=OrderDP(prune_ratio=0.5)); write Scheduled(strategy=OrderDP(prune_ratio=0.5), ...), or "
            "use PerClass alone",
        ),
        (
            {"strategy": SeTa(prune_ratio=0.3, epochs=7)},
            ValueError,
            "epochs must be those of the method, got 10 and 7; write them alike",
        ),
        ({"start": 0.5, "end": 0.5}, ValueError, "end must lie above start, got 0.5 and 0.5; write end=1 for none"),
        (
            {"wave": 0.6},
            ValueError,
            "wave must keep the ratio in [0, 1), got 0.6 around 0.5; write at most 0.49",
        ),
        (
            {"strategy": OrderDP(explore=0.5, exploit=0.5), "rise": 0.5},
            ValueError,
            "rise, fall, wave and mastered change a prune ratio, got OrderDP(explore=0.5, exploit=0.5) without; "
            "write prune_ratio=0.5",
        ),
        (
            {"start": 0.99},
            ValueError,
            "a schedule must prune in one of its epochs, got none of 10 with start=0.99, end=1 and wave=0; "
            "write a smaller start, or more epochs",
        ),
        (
            {"start": 0.9, "wave": 0.5},
            ValueError,
            "a schedule must prune in one of its epochs, got none of 10 with start=0.9, end=1 and wave=0.5; "
            "write a smaller start, or more epochs",
        ),
        ({"interval": 0}, ValueError, "interval must be at least 1, got 0; write a positive whole number"),
        (
            {"mastered": math.nan},
            ValueError,
            "mastered must be a number that can be compared, got nan; write 0.69",
        ),
        (
            {"strategy": RepeatedRandom(prune_ratio=0.5), "mastered": 0.7},
            ValueError,
            "mastered needs a method that remembers losses, got RepeatedRandom(prune_ratio=0.5); "
            "write OrderDP(prune_ratio=0.5)",
        ),
        (
            {"strategy": Steep(prune_ratio=0.5)},
            ValueError,
            "a method to schedule must leave rise to the schedule, got Steep(prune_ratio=0.5); rename it",
        ),
        (
            {"strategy": STORED, "fall": 0.5},
            ValueError,
            "prune_ratio must be one that a.parquet holds for herding, got 0.1; write one of 0.3, 0.5",
        ),
        (
            {"strategy": InfoBatch(), "easy_from": 0.5},
            ValueError,
            f"easy_from needs a method that can keep the lowest losses, got {InfoBatch()!r}; "
            "write OrderDP(prune_ratio=0.5)",
        ),
        (
            {"strategy": OrderDP(prune_ratio=0.5, per="iteration", fresh=True), "easy_from": 0.5},
            ValueError,
            "easy_share is for stored scores, got 1.0 with fresh=True; leave it out",
        ),
        (
            {"easy_from": 0},
            ValueError,
            "easy_from is a fraction and must lie in (0, 1], got 0; write a number such as 0.5",
        ),
        ({"halving": True}, ValueError, "halving follows the mastered share, got mastered=None; write mastered=0.69"),
        ({"mastered": 0.7, "halving": 1}, TypeError, "halving must be True or False, got 1; write halving=True"),
        ({"mastered": "low"}, TypeError, "mastered must be a number, got 'low'; write a number such as 0.69"),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Scheduled(**{"strategy": HALF, "epochs": 10, **settings})


@pytest.mark.parametrize(
    ("ratio", "skip", "halving", "line"),
    [
        (0.5, 0.25, False, "skip must leave 99 of the 99 samples drawn, got 0.25 beside prune_ratio=0.01"),
        (0.75, 0.4, True, "skip must leave 50 of the 71 samples drawn, got 0.4 beside prune_ratio=0.5"),
    ],
)
def test_what_a_method_has_against_the_ratio_of_few_mastered_samples_is_said_at_once(ratio, skip, halving, line):
    method = OrderDP(prune_ratio=ratio, skip=skip)
    method.sizes(N)
    strategy = Scheduled(strategy=method, epochs=10, mastered=0.5, halving=halving)
    with pytest.raises(ValueError, match=f"^{re.escape(line)}; write at most"):
        Pruner(strategy, N)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strategy": OrderDP(prune_ratio=0.98), "wave": 0.019},
            "the sizes must keep at least one of the 50 samples, got q = 0 from prune_ratio=0.999; write larger "
            "fractions to keep, or a smaller prune ratio (the ratio is 0.999 by wave=0.019)",
        ),
        (
            {"strategy": OrderDP(prune_ratio=0.5, skip=0.2), "mastered": 0.69},  # once few samples are mastered
            "skip must leave 49 of the 49 samples drawn, got 0.2 beside prune_ratio=0.02; write at most 0 "
            "(the ratio is 0.02 by mastered=0.69)",
        ),
        (
            {"strategy": OrderDP(prune_ratio=1 - 1e-9), "start": 0.5},
            "the sizes must keep at least one of the 50 samples, got q = 0 from prune_ratio=0.999999999; write larger "
            "fractions to keep, or a smaller prune ratio",
        ),
    ],
)
def test_a_ratio_that_the_schedule_makes_is_refused_with_its_setting(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Pruner(Scheduled(epochs=6, **settings), 50).total_steps(6, 10)


def test_a_method_of_ratio_0_may_be_scheduled_beside_others():
    strategy = Scheduled(strategy=OrderDP(prune_ratio=0.0), epochs=10, start=0.5)
    assert strategy.num_selected(N, 9) == N
    check_recipe(Recipe(strategy=strategy, epochs=10), N)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Pruner(strategy, N).total_steps(10, 10)


def test_a_run_that_ends_before_the_schedule_prunes_is_refused():
    strategy = Scheduled(strategy=HALF, epochs=9, start=0.5)
    check_recipe(Recipe(strategy=strategy, epochs=6), N)
    message = (
        "strategy must prune in an epoch of the run, got none of 5 with OrderDP 50 %, epochs 50–100 %, "
        "of 9 epochs; leave its epochs out, or write more for the run"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_recipe(Recipe(strategy=strategy, epochs=5), N)
    with pytest.raises(ValueError, match="got none of 5 with"):
        check_recipe(Recipe(strategy=strategy, epochs=6, max_steps=5, batch_size=N), N)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "inner is needed by strategy 'scheduled', got None; write scheduled:orderdp"),
        (
            {"inner": "per_class", "epochs": 3, "prune_ratio": 0.5},
            "the method of 'scheduled' must hold no other method, got per_class; write scheduled:orderdp, or "
            "per_class:orderdp alone",
        ),
        ({"inner": "orderdp"}, "epochs is needed by strategy 'scheduled', got None; write epochs = 30"),
        (
            {"inner": "repeated_random", "epochs": 3, "prune_ratio": 0.5, "stat": 0.5},
            "stat does not apply to strategy 'repeated_random', got 0.5; it takes prune_ratio",
        ),
    ],
)
def test_bad_tables_are_refused(table, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        from_table({"name": "scheduled", **table})


def test_a_method_without_a_ratio_is_scheduled_as_it_is():
    strategy = Scheduled(strategy=OrderDP(explore=0.5, exploit=0.5), epochs=10, start=0.5)
    assert [strategy.num_selected(N, epoch) for epoch in (0, 9)] == [100, 25]
    repeated = Scheduled(strategy=RepeatedRandom(prune_ratio=0.5), epochs=10, end=0.5)
    assert [repeated.num_selected(N, epoch) for epoch in (0, 9)] == [50, 100]


def test_it_is_cited_and_advised_as_its_method():
    inner = Kakurenbo(hide=0.3, epochs=10)
    for strategy in (
        Scheduled(strategy=inner, epochs=10),
        Scheduled(strategy=inner, epochs=5 * 2).for_epochs(20, instead_of=10),
    ):
        assert citation(strategy) == citation(inner)
        assert strategy.plain_losses_advice == inner.plain_losses_advice
    assert Scheduled.references == ()


def test_a_method_with_all_ratios_of_the_schedule_is_taken():
    assert Scheduled(strategy=STORED, epochs=10, start=0.5).num_selected(N, 9) == 50


def test_what_the_proxies_of_its_subset_trained_is_part_of_its_cost():
    costly = replace(STORED, proxy_samples=7000)
    assert Scheduled(strategy=costly, epochs=10, start=0.5).samples_before == costly.samples_before == 7000
    assert Scheduled(strategy=HALF, epochs=10).samples_before == 0


def test_what_its_method_says_of_itself_it_says_too():
    assert Scheduled(strategy=Kakurenbo(hide=0.3, epochs=10), epochs=10).needs_plain_losses
    assert Scheduled(strategy=STORED, epochs=10, start=0.5).names_samples
    assert Scheduled(strategy=OrderDP(), epochs=10).assumed_size == OrderDP().assumed_size is not None
    plain = Scheduled(strategy=HALF, epochs=10)
    assert (plain.needs_plain_losses, plain.names_samples, plain.assumed_size) == (False, False, None)


def test_its_method_gets_the_seed_and_checks_its_files():
    strategy = Scheduled(strategy=OfASeed(prune_ratio=0.5), epochs=10)
    assert strategy.for_seed(7).strategy.seed == 7
    with pytest.raises(ValueError, match=r"^3f8a$"):
        strategy.check_files(lambda: "3f8a")


def test_a_method_that_knows_the_classes_gets_them():
    strategy = Scheduled(strategy=Classified(prune_ratio=0.5), epochs=10, start=0.5)
    assert strategy.for_labels(torch.tensor([0, 1, 2])).strategy == Classified(prune_ratio=0.5, classes=3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"inner": "orderdp"}, {"prune_ratio": 0.3}),
        ({"name": "scheduled", "inner": "orderdp", "end": 0.5}, {"prune_ratio": 0.3, "end": 0.5}),
        ({"name": "scheduled", "inner": "orderdp", "explore": 0.5}, {"explore": 0.5}),
        ({"inner": "infobatch", "end": 0.9}, {"prune_ratio": 0.3, "delta": 0.8, "start": 0.2, "end": 0.9}),
    ],
)
def test_on_the_command_line_another_method_keeps_only_the_prune_ratio(given, expected):
    table = {"name": "scheduled", "inner": "infobatch", "prune_ratio": 0.3, "delta": 0.8, "start": 0.2}
    recipe = chosen_recipe(None, {"strategy": table, "epochs": 10}, given)
    assert to_table(recipe.strategy, epochs=10) == {"name": "scheduled", "inner": given["inner"], **expected}
