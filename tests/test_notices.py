"""What would train wrongly is warned of once, with both numbers and the cure."""

import itertools
import json
import math
import re
import warnings
from dataclasses import dataclass, fields, replace

import pytest
import torch

import orderdp
from orderdp import DynamicRandom, FullData, IndexedDataset, OrderDP, Pruner
from orderdp.sharded import ShardedPruner
from reference.loop import LEFT_EARLY, joined, loss_of, train_epoch

HALF = OrderDP(explore=1.0, exploit=0.5)
N = 64
STRATEGIES = [HALF, FullData(), orderdp.InfoBatch(), orderdp.OrderedSGD(keep=0.5), orderdp.UCB(prune_ratio=0.5)]
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)


def warned_in(call):
    """The texts of all warnings in a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(warning.category is RuntimeWarning for warning in caught)
    return [str(warning.message) for warning in caught]


def passes(pruner, loader, trains, epochs=3):
    """Runs epochs in which `trains(number of the batch)` decides whether `update` is called."""
    for _ in range(epochs):
        for number, (index, _) in enumerate(loader):
            if trains(number):
                pruner.update(index, loss_of(index, pruner.epoch))


# Row by row: what is wrong, and what is said.


@each_strategy
@pytest.mark.parametrize("workers", [0, 1])
def test_a_loop_without_update_is_told_so_once(strategy, workers):
    pruner = Pruner(strategy, N)
    loader = pruner.loader(range(N), batch_size=8, num_workers=workers)
    size = len(pruner.preview(8).indices)
    texts = warned_in(lambda: passes(pruner, loader, lambda number: False))
    assert texts == [
        f"update was never called in epoch 0, which selected {size} samples, so nothing of it is remembered; "
        "write loss = pruner.update(index, losses) for every batch"
    ]
    assert (pruner.report().missing, pruner.report().failed) == (0, ())  # the mistake is not of the samples


def test_an_update_for_some_batches_only_is_told_how_many_samples_are_missing():
    pruner = Pruner(FullData(), N)
    loader = pruner.loader(range(N), batch_size=8)
    texts = warned_in(lambda: passes(pruner, loader, lambda number: number % 4 != 1))
    assert texts == [
        "16 of the 64 samples of epoch 0 were left without a loss; they rank below all others until one is recorded. "
        "pruner.report().failed lists them. Usual causes: update is not called for every batch, a collate function "
        "drops samples that it cannot read, the loop caught an error of the data set and lost the whole batch, or a "
        "framework splits the batches among the ranks again. pruner.record(ids, scores) ranks them again"
    ]
    assert pruner.report().missing == 3 * 16  # the running one has ended too


@pytest.mark.parametrize("skipped", [[0], [6], [0, 3], [3, 4, 5], list(range(7))], ids=str)
def test_every_batch_that_was_skipped_is_counted(skipped):
    pruner = Pruner(FullData(), N)
    loader = pruner.loader(range(N), batch_size=8)
    batches = [index.tolist() for index, _ in loader]
    for number, ids in enumerate(batches):
        if number not in skipped:
            pruner.update(torch.tensor(ids), torch.ones(8, requires_grad=True))
    assert pruner.report().failed == tuple(sorted(joined(batches[number] for number in skipped)))
    assert pruner.report().trained == N - 8 * len(skipped)
    with pytest.warns(RuntimeWarning, match=f"{8 * len(skipped)} of the 64 samples of epoch 0 were left without"):
        pruner.begin_epoch()


@pytest.mark.parametrize("skipped", [[7], [6, 7], list(range(1, 8))], ids=str)
def test_a_last_batch_that_was_skipped_may_have_been_read_ahead_so_the_epoch_was_left(skipped):
    pruner = Pruner(FullData(), N)
    for number, (index, _) in enumerate(pruner.loader(range(N), batch_size=8)):
        if number not in skipped:
            pruner.update(index, torch.ones(8, requires_grad=True))
    assert pruner.report().failed == ()
    with pytest.warns(RuntimeWarning, match=f"epoch 0 was left after {N - 8 * len(skipped)} of its 64 samples"):
        pruner.begin_epoch()


def test_ids_that_a_loop_splits_again_are_missing():
    """Each process of two takes every second sample of each batch that is already its own."""
    pruner = Pruner(HALF, 160)
    loader = pruner.loader(range(160), batch_size=10)
    for index, _ in loader:
        pruner.update(index[::2], loss_of(index[::2], 0))
    with pytest.warns(RuntimeWarning, match="40 of the 80 samples of epoch 0 were left without a loss.* splits the"):
        pruner.begin_epoch()


@each_strategy
def test_an_epoch_that_was_left_early_is_told_both_numbers_once(strategy):
    """A framework with a limit on the number of batches, say."""
    pruner = Pruner(strategy, N)
    loader = pruner.loader(range(N), batch_size=8)
    size = len(pruner.preview(8).indices)

    def run():
        for _ in range(4):
            train_epoch(pruner, loader, 3)

    assert warned_in(run) == [
        f"epoch 0 was left after 24 of its {size} samples, and the next one begins. If this is not meant, look for "
        "an interruption, a limit on the number of batches, or a length read before the epoch; "
        "loader.load_state_dict(loader.state_dict()) goes on inside an epoch, and so does a framework that resumes its "
        "checkpoint"
    ]


def test_an_early_end_and_a_skipped_batch_are_two_warnings():
    pruner = Pruner(FullData(), N)
    batches = list(pruner.loader(range(N), batch_size=8))
    pruner = Pruner(FullData(), N)
    for number, (index, _) in enumerate(pruner.loader(range(N), batch_size=8)):
        if number in (0, 2):
            pruner.update(index, loss_of(index, 0))
        if number == 4:
            break
    texts = warned_in(pruner.begin_epoch)
    assert [text[:32] for text in texts] == ["8 of the 64 samples of epoch 0 w", "epoch 0 was left after 16 of its"]
    assert pruner.report().failed == tuple(sorted(batches[1][0].tolist()))


@pytest.mark.parametrize("way", ["loader", "samples", "batches", "begin_epoch"])
def test_a_whole_epoch_is_warned_of_in_no_loop(way):
    pruner = Pruner(HALF, N)

    def run():
        for epoch in range(3):
            if way == "begin_epoch":
                batches = torch.from_numpy(pruner.begin_epoch().indices).long().split(10)
            else:
                data = IndexedDataset(range(N))
                if way == "loader":
                    loader = pruner.loader(range(N), batch_size=10)
                elif way == "samples":
                    loader = torch.utils.data.DataLoader(data, sampler=pruner.sampler(), batch_size=10)
                else:
                    loader = torch.utils.data.DataLoader(data, batch_sampler=pruner.sampler(10))
                batches = (index for index, _ in loader)
            for index in batches:
                pruner.update(index, loss_of(index, epoch))

    assert warned_in(run) == []


def test_an_epoch_that_the_caller_leaves_by_a_state_is_not_warned_of():
    """To begin with the next epoch is what loading a pruner's state means."""
    pruner, twin = Pruner(HALF, N), Pruner(HALF, N)
    train_epoch(pruner, pruner.loader(range(N), batch_size=8), 2)
    twin.load_state_dict(pruner.state_dict())
    assert warned_in(twin.begin_epoch) == []
    assert twin.report().visits == 16


# The epochs of a strategy and of the run.


def test_steps_of_epochs_none_of_which_prunes_are_warned_of_once():
    pruner = Pruner(orderdp.Scheduled(strategy=HALF, epochs=40, start=0.5), N)
    text = (
        "no epoch of 4 prunes under Scheduled(strategy=OrderDP(explore=1.0, exploit=0.5), epochs=40, "
        "start=0.5); if they are the whole run, give the strategy epochs=4"
    )
    assert warned_in(lambda: [pruner.total_steps(4, batch_size=8) for _ in range(2)]) == [text]
    assert warned_in(lambda: pruner.total_steps(21, batch_size=8)) == []
    scheduled = Pruner(pruner.strategy, N, schedule=lambda strategy, epoch: HALF)
    assert warned_in(lambda: scheduled.total_steps(4, batch_size=8)) == []


@pytest.mark.parametrize(
    "strategy",
    [orderdp.Scheduled(strategy=HALF, epochs=2), orderdp.InfoBatch(epochs=2), orderdp.Kakurenbo(hide=0.3, epochs=2)],
    ids=repr,
)
def test_an_epoch_past_those_of_the_strategy_is_warned_of_once(strategy):
    pruner = Pruner(strategy, N)
    loader = pruner.loader(range(N), batch_size=8)
    assert warned_in(lambda: passes(pruner, loader, lambda number: True, epochs=2)) == []
    assert warned_in(lambda: passes(pruner, loader, lambda number: True, epochs=2)) == [
        f"epoch 2 is past the end of {strategy}, which goes on as at its end; give it the epochs of the run"
    ]


@pytest.mark.parametrize("make", [Pruner, ShardedPruner])
@pytest.mark.parametrize("workers", [0, 1])
def test_epochs_inside_autocast_are_warned_of_once(make, workers):
    pruner = make(HALF, N)
    loader = pruner.loader(range(N), batch_size=8, num_workers=workers)

    def inside(**settings):
        with torch.autocast("cpu", torch.bfloat16, **settings):
            passes(pruner, loader, lambda number: True, epochs=2)

    assert warned_in(lambda: inside(cache_enabled=False)) == []
    assert warned_in(lambda: inside(enabled=False)) == []
    assert warned_in(inside) == [
        "epoch 4 begins inside torch.autocast, which goes on with the weights of its first step; write with "
        "torch.autocast(...) in each step, around the forward pass and the loss alone"
    ]


@pytest.mark.parametrize("make", [Pruner, ShardedPruner])
def test_a_warning_of_autocast_points_to_the_loop(make):
    loader = make(HALF, N).loader(range(N), batch_size=8)
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(RuntimeWarning, match="inside torch.autocast") as caught:
        next(iter(loader))
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu"])
def test_autocast_of_another_device_is_seen_without_one(device):
    """A block of `torch.autocast` does nothing on a machine without the device."""
    torch.set_autocast_enabled(device, True)
    try:
        (text,) = warned_in(lambda: Pruner(HALF, N).begin_epoch())
    finally:
        torch.set_autocast_enabled(device, False)
    assert text.startswith("epoch 0 begins inside torch.autocast, ")


@each_strategy
def test_a_block_of_autocast_for_each_step_is_not_warned_of(strategy):
    pruner = Pruner(strategy, N)

    def train():
        for _ in range(2):
            for index, _ in pruner.loader(range(N), batch_size=8):
                with torch.autocast("cpu", torch.bfloat16):
                    pruner.update(index, loss_of(index, pruner.epoch))

    assert warned_in(train) == []


@dataclass(frozen=True, kw_only=True)
class ChoosesAnewAt(orderdp.OrderDP):
    """A method whose setting `epochs` is no number of epochs."""

    epochs: tuple[int, ...]


def test_a_setting_of_that_name_that_is_no_number_is_left_alone():
    pruner = Pruner(ChoosesAnewAt(prune_ratio=0.5, epochs=(0, 2)), N)
    loader = pruner.loader(range(N), batch_size=8)
    assert warned_in(lambda: passes(pruner, loader, lambda number: True, epochs=3)) == []


# Losses that tie.


def with_ties(strategy, share, dtype=torch.float32, n=1000, epochs=2):
    """What is warned of if a share of the losses of each epoch is 0."""
    pruner = Pruner(strategy, n)

    def run():
        for _ in range(epochs + 1):
            ids = torch.from_numpy(pruner.begin_epoch().indices.copy()).long()
            losses = torch.where(ids < share * n, 0, 1 + ids / n)
            pruner.update(ids, losses.to(dtype).requires_grad_())

    return warned_in(run)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.83, 1.0])
def test_many_equal_losses_are_warned_of_once_with_the_cure(share):
    (text,) = with_ties(OrderDP(explore=1.0, exploit=1.0), share)
    assert text == (
        f"{share:.0%} of the losses of epoch 0 are equal, so their order is left to chance; compute them in float32, "
        "cross_entropy(logits.float(), ...), since bfloat16 and float16 round small losses to 0"
    )


def test_a_few_equal_losses_are_normal():
    assert with_ties(OrderDP(explore=1.0, exploit=1.0), 0.2) == []
    assert with_ties(OrderDP(explore=1.0, exploit=1.0), 1.0, n=200) == []  # too few to tell


@pytest.mark.parametrize("strategy", [FullData(), DynamicRandom(prune_ratio=0.5)], ids=repr)
def test_equal_losses_do_not_matter_to_a_strategy_that_forgets_them(strategy):
    assert with_ties(strategy, 1.0) == []


def sure_logits():
    """A model that is sure of most of its data, as after some epochs."""
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(2000) % 10
    return torch.randn(2000, 10, generator=rng) + 12 * torch.nn.functional.one_hot(y, 10), y


def test_losses_in_bfloat16_of_a_model_that_is_sure_are_warned_of_and_the_cure_is_one():
    logits, y = sure_logits()
    texts = {}
    for name, given in (("bfloat16", logits.bfloat16()), ("cured", logits.bfloat16().float())):
        pruner = Pruner(OrderDP(explore=1.0, exploit=0.3), 2000, schedule=lambda s, e: s if e else FullData())
        losses = torch.nn.functional.cross_entropy(given, y, reduction="none")
        ids = torch.from_numpy(pruner.begin_epoch().indices.copy()).long()
        pruner.update(ids, losses[ids].detach().requires_grad_())
        texts[name] = warned_in(pruner.begin_epoch)
        true = torch.nn.functional.cross_entropy(logits, y, reduction="none").argsort(descending=True)[:600]
        texts[f"{name} right"] = len({*pruner.selection.indices.tolist()} & {*true.tolist()}) / 600
    assert len(texts["bfloat16"]) == 1
    assert "cross_entropy(logits.float(), ...)" in texts["bfloat16"][0]
    assert texts["cured"] == []
    assert texts["cured right"] > 0.95 > texts["bfloat16 right"]


def test_losses_that_are_not_finite_do_not_tie():
    pruner = Pruner(HALF, 1000)
    ids = torch.from_numpy(pruner.begin_epoch().indices.copy()).long()
    values = torch.rand(500, generator=torch.Generator().manual_seed(0))
    values[:400] = math.nan
    pruner.update(ids, values.requires_grad_())
    (text,) = warned_in(pruner.begin_epoch)
    assert text.startswith("400 losses of epoch 0 were NaN or infinite and were not recorded; ")


def blind(strategy, n=1000, low=0.1, epochs=2):
    """What is warned of if the losses of each epoch lie between two numbers, `low` and `low` + 1."""
    pruner = Pruner(strategy, n)

    def run():
        for _ in range(epochs):
            ids = torch.from_numpy(pruner.begin_epoch().indices.copy()).long()
            pruner.update(ids, (low + ids / n).requires_grad_())
        pruner.begin_epoch()

    return warned_in(run)


P, S = orderdp.Proportional, orderdp.Scheduled
TENTH = OrderDP(prune_ratio=0.1)


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        (OrderDP(prune_ratio=0.1, ceiling=-1), "none lies below ceiling=-1, so all rank alike"),
        (P(prune_ratio=0.1, ceiling=-1), "none lies below ceiling=-1, so all rank alike"),
        (P(prune_ratio=0.1, floor=3.0), "none lies above floor=3, so all have the same chance"),
        (
            S(strategy=TENTH, epochs=9, mastered=-1),
            "none is as low as mastered=-1, so no epoch prunes until one is",
        ),
        (
            S(strategy=TENTH, epochs=9, mastered=69),
            "none lies above mastered=69, so the ratio does not depend on them",
        ),
        (
            S(strategy=orderdp.OrderedSGD(keep=0.5), epochs=9, mastered=69),
            "none lies above mastered=69, so the ratio does not depend on them",
        ),
        (S(strategy=P(prune_ratio=0.1, floor=3.0), epochs=9), "none lies above floor=3, so all have the same chance"),
    ],
    ids=repr,
)
def test_a_setting_that_lets_no_loss_count_is_warned_of_once(strategy, reason):
    (text,) = blind(strategy)
    assert re.fullmatch(
        rf"the losses of epoch 0 lie between 0\.\d+ and 1\.\d+, and {re.escape(reason)}; write another value, or leave "
        "it out",
        text,
    )
    assert blind(strategy, n=30) == []  # too few to tell


@pytest.mark.parametrize(
    ("strategy", "low"),
    [
        (OrderDP(prune_ratio=0.1, ceiling=0.69), 2.0),  # nothing is learnt yet
        (P(prune_ratio=0.1, ceiling=0.69), 2.0),
        (P(prune_ratio=0.1, floor=0.0), 0.1),
        (OrderDP(prune_ratio=0.1, ceiling=-1), -3.0),  # losses may be negative
        (S(strategy=TENTH, epochs=9, mastered=0.69), 2.0),
        (S(strategy=TENTH, epochs=9, mastered=-2.5), -3.0),
        (HALF, -3.0),
    ],
    ids=repr,
)
def test_a_setting_that_may_count_later_or_for_negative_losses_is_not_warned_of(strategy, low):
    assert blind(strategy, low=low) == []


# Loops that go round.


@pytest.mark.parametrize("strategy", [HALF, FullData(), orderdp.OrderedSGD(keep=0.5)], ids=repr)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_cycle_over_the_loader_is_warned_of_once(strategy, workers):
    pruner = Pruner(strategy, N)
    loader = pruner.loader(range(N), batch_size=8, num_workers=workers)

    def run():
        for index, _ in itertools.islice(itertools.cycle(loader), 3 * len(loader)):
            pruner.update(index, loss_of(index, pruner.epoch))

    assert warned_in(run) == [
        "batches of epoch 0 came again after its last one; each pass over the loader is a new epoch, so write a for "
        "loop over it instead of itertools.cycle or a list of its batches"
    ]
    assert pruner.epoch == 0


def test_a_list_of_batches_that_is_trained_again_is_warned_of():
    pruner = Pruner(HALF, N)
    batches = list(pruner.loader(range(N), batch_size=8))

    def run():
        for _ in range(2):
            for index, _ in batches:
                pruner.update(index, loss_of(index, pruner.epoch))

    assert len(warned_in(run)) == 1


@pytest.mark.parametrize("times", [2, 3])
def test_several_updates_of_each_batch_are_no_cycle(times):
    """SAM, LBFGS and the like."""
    pruner = Pruner(HALF, N)
    loader = pruner.loader(range(N), batch_size=8)

    def run():
        for _ in range(2):
            for index, _ in loader:
                for value in range(times):
                    pruner.update(index, loss_of(index, value))

    assert warned_in(run) == []


def test_a_loop_over_islice_of_a_cycle_by_hand_goes_through_the_epochs():
    """The right form of an endless loop."""

    def forever(loader):
        while True:
            yield from loader

    pruner = Pruner(HALF, N)
    loader = pruner.loader(range(N), batch_size=8)
    for index, _ in itertools.islice(forever(loader), 3 * len(loader)):
        pruner.update(index, loss_of(index, pruner.epoch))
    assert (pruner.epoch, pruner.report().visits) == (2, 3 * 32)


# An interruption between a batch and its update.


@LEFT_EARLY
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("interrupted", [0, 2, 3])
def test_a_batch_that_was_interrupted_before_its_update_is_met_again(workers, interrupted):
    whole = Pruner(HALF, N)
    expected = [train_epoch(whole, whole.loader(range(N), batch_size=8)) for _ in range(2)]

    def interrupted_run(pruner, loader):
        for number, (index, _) in enumerate(loader):
            if number == interrupted:
                raise KeyboardInterrupt
            pruner.update(index, loss_of(index, pruner.epoch))

    pruner = Pruner(HALF, N)
    loader = pruner.loader(range(N), batch_size=8, num_workers=workers)
    with pytest.raises(KeyboardInterrupt):
        interrupted_run(pruner, loader)
    assert loader.remaining == 4 - interrupted
    twin = Pruner(HALF, N)
    rest = twin.loader(range(N), batch_size=8)
    rest.load_state_dict(loader.state_dict())
    assert [train_epoch(twin, rest), train_epoch(twin, rest)] == [expected[0][interrupted:], expected[1]]


@LEFT_EARLY
def test_after_an_interruption_in_a_notebook_the_loop_of_the_readme_goes_on_with_the_next_epoch():
    pruner = Pruner(HALF, N)
    loader = pruner.loader(range(N), batch_size=8)
    epochs, trained = 5, []

    def cell(stop=None):
        for epoch in range(pruner.next_epoch, epochs):
            for number, (index, _) in enumerate(loader):
                assert pruner.epoch == epoch
                if (epoch, number) == stop:
                    raise KeyboardInterrupt
                pruner.update(index, loss_of(index, epoch))
            trained.append(epoch)

    with pytest.raises(KeyboardInterrupt):
        cell(stop=(2, 1))
    cell()
    cell()  # nothing is left
    assert trained == [0, 1, 3, 4]


# The report.


def test_a_report_is_plain_values():
    pruner = Pruner(HALF, N)
    for index, _ in pruner.loader(range(N), batch_size=8):
        losses = loss_of(index, 0).detach()
        losses[2] = math.nan
        pruner.update(index, losses.requires_grad_())
    report = pruner.report()
    assert {type(getattr(report, field.name)) for field in fields(report)} == {int, float, tuple}
    assert {type(i) for i in report.failed} == {int}
    assert (report.trained, report.non_finite, len(report.failed)) == (32, 4, 4)
    report = replace(report, mean_age=1 / 3, selection_s=0.0032237570121651515)
    assert "mean_age=0.333333, max_age=0" in repr(report)
    assert repr(report).endswith("selection_s=0.00322376)")
    again = eval(repr(report), {"Report": type(report), "nan": math.nan})
    rounded = {"mean_age": 0.333333, "mastered": again.mastered, "selection_s": 0.00322376}
    assert again == replace(report, **rounded)


def test_a_printed_report_names_few_of_many_failed_samples():
    report = replace(Pruner(HALF, N).report(), failed=tuple(range(10)))
    assert str(report) == repr(report)
    many = replace(report, failed=tuple(range(0, 4000, 2)))
    assert ", failed=(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, ... 2,000 in all), " in str(many)
    assert len(str(many)) < 400 < len(repr(many))


def test_each_pruner_warns_for_itself():
    for _ in range(2):
        pruner = Pruner(HALF, N)
        pruner.begin_epoch()
        with pytest.warns(RuntimeWarning, match="update was never called in epoch 0"):
            pruner.begin_epoch()


@each_strategy
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_a_report_is_plain_numbers_for_json_and_loggers(strategy):
    """Before and after an epoch with a loss that is not finite; what is not known is left out."""
    pruner = Pruner(strategy, N)
    reports = [pruner.report()]
    for number, (index, _) in enumerate(pruner.loader(range(N), batch_size=8)):
        failing = (torch.arange(len(index)) == 0) & (number == 0)  # the first sample of the first batch
        pruner.update(index, loss_of(index, 0).where(~failing, math.nan))
    reports.append(pruner.report())
    for report in reports:
        found = report.as_dict()
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        left_out = {field.name for field in fields(report)} - set(found)
        assert left_out == {name for name in ("mean_age", "mastered") if math.isnan(getattr(report, name))}
        assert found["failed"] == len(report.failed)
    assert "mean_age" not in reports[0].as_dict()
    assert reports[1].as_dict()["non_finite"] == 1
