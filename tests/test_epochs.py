"""Which epoch runs, which is next, how long ago one was, and what a state restores."""

import copy
import functools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from orderdp import DynamicRandom, FullData, InfoBatch, OrderDP, Pruner, Selection, Strategy
from orderdp.epochs import Epochs
from reference.loop import TOP_HALF, begun, train, train_epoch, with_gradient

# These epochs are begun for their numbers and selections; most of them train nothing.
pytestmark = pytest.mark.filterwarnings("ignore:update was never called in epoch:RuntimeWarning")

# The numbers of epochs alone.


def epochs_of(strategy: Strategy = TOP_HALF, schedule=lambda strategy, epoch: strategy) -> Epochs:
    return Epochs(strategy, 8, seed=0, schedule=schedule)


def begin(epochs: Epochs) -> Selection:
    n = epochs.num_samples
    scores = {name: np.arange(n, dtype=np.float32) for name in epochs.strategy.columns}
    selection, mask = epochs.select(scores, np.zeros(n, dtype=np.int32), None, None)
    assert np.flatnonzero(mask).tolist() == sorted(selection.indices.tolist())
    epochs.begin(selection, mask)
    return selection


def pick(strategy: Strategy, epoch: int, *, first: Strategy) -> Strategy:
    """A schedule that names another strategy for the first epoch."""
    return strategy if epoch else first


def numbers(epochs: Epochs) -> tuple:
    return epochs.next, epochs.running, epochs.ordinal, epochs.is_open, epochs.resuming


def test_epochs_run_one_after_another_and_their_ordinals_grow_where_numbers_go_back():
    epochs = epochs_of()
    assert numbers(epochs) == (0, None, -1, False, False)
    begin(epochs)
    assert numbers(epochs) == (1, 0, 0, True, False)
    epochs.next = 5
    assert numbers(epochs) == (5, 0, 0, True, False)
    begin(epochs)
    assert numbers(epochs) == (6, 5, 1, True, False)
    epochs.next = 0
    begin(epochs)
    assert numbers(epochs) == (1, 0, 2, True, False)


def test_selecting_begins_nothing():
    epochs = epochs_of()
    epochs.select({"score": np.arange(8, dtype=np.float32)}, np.zeros(8, dtype=np.int32), None, None)
    assert numbers(epochs) == (0, None, -1, False, False)
    assert epochs.selection is None


@pytest.mark.parametrize("resume", [False, True])
def test_restored_epochs_are_closed_until_one_begins(resume):
    epochs = epochs_of()
    for _ in range(3):
        saved = begin(epochs)
    restored = epochs_of().restored(epochs.state_dict(), resume=resume)
    assert numbers(restored) == ((2, 2, 2, False, True) if resume else (3, 2, 2, False, False))
    assert restored.state_dict()["next_epoch"] == 3
    assert restored.selection.indices.tolist() == saved.indices.tolist()
    if resume:
        restored.begin(restored.selection)
        assert numbers(restored) == numbers(epochs) == (3, 2, 2, True, False)
    assert begin(restored).indices.tolist() == begin(epochs).indices.tolist()
    assert numbers(restored) == numbers(epochs)


def test_an_epoch_set_after_a_load_is_not_resumed():
    epochs = epochs_of()
    begin(epochs)
    restored = epochs_of().restored(epochs.state_dict(), resume=True)
    restored.next = 4
    assert numbers(restored) == (4, 0, 0, False, False)
    begin(restored)
    assert numbers(restored) == (5, 4, 1, True, False)


def test_an_epoch_set_inside_another_is_not_the_one_that_is_resumed():
    epochs = epochs_of()
    begin(epochs)
    saved = begin(epochs)
    epochs.next = 7
    restored = epochs_of().restored(epochs.state_dict(), resume=True)
    assert numbers(restored) == (1, 1, 1, False, True)
    restored.begin(restored.selection)
    assert (restored.running, restored.selection.indices.tolist()) == (1, saved.indices.tolist())


def test_the_strategy_of_an_epoch_is_the_scheduled_one_also_after_a_load():
    epochs = epochs_of(schedule=lambda strategy, epoch: strategy if epoch else FullData())
    assert (epochs.declared(0), epochs.declared(1)) == (8, 4)
    begin(epochs)
    assert epochs.chooser == FullData()
    restored = epochs.restored(epochs.state_dict(), resume=True)
    assert restored.chooser == FullData()
    restored.begin(restored.selection)
    assert restored.chooser == FullData()
    begin(restored)
    assert restored.chooser == TOP_HALF


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        ({"seed": 1}, "build the pruner as it was saved"),
        ({"num_samples": 9}, r"build the pruner of the size that was saved, load, and call pruner.resize\(n\)"),
        ({"strategy": "OrderDP()"}, r"write load_state_dict\(state, change=\('strategy',\)\)"),
        ({"schedule": "mine:linear"}, r"write load_state_dict\(state, change=\('schedule',\)\)"),
        ({"fingerprint": "cifar10"}, "build the pruner as it was saved"),
    ],
)
def test_epochs_of_other_settings_are_not_restored(change, cure):
    with pytest.raises(ValueError, match=f"the state must be of {next(iter(change))} .*; .*{cure}"):
        epochs_of().restored({**epochs_of().state_dict(), **change}, resume=False)


@dataclass(frozen=True)
class TooFew(FullData):
    """Selects the first sample alone, and does not say so beforehand."""

    def num_selected(self, num_samples, epoch):
        return None

    def select(self, memory, rng):
        return Selection(np.zeros(1, dtype=np.int32))


def test_what_is_drawn_beside_too_small_a_selection_is_drawn_anew_by_seed_and_epoch():
    def drawn(seed):
        epochs, found = Epochs(TooFew(), 1000, seed=seed, schedule=lambda strategy, epoch: strategy), []
        for _ in range(3):
            selection, _ = epochs.select({}, np.zeros(1000, dtype=np.int32), None, None, at_least=4)
            first, *more = selection.indices.tolist()
            assert (first, epochs.added, len({first, *more})) == (0, 3, 4)
            found.append(tuple(more))
            epochs.begin(selection)
        return found

    assert drawn(0) == drawn(0)
    assert len({*drawn(0), *drawn(1)}) == 6


@dataclass(frozen=True)
class TooFewAndWeighted(TooFew):
    """Weights its only sample too."""

    def select(self, memory, rng):
        return Selection(np.zeros(1, dtype=np.int32), np.full(1, 2.5, dtype=np.float32))


def test_what_is_drawn_beside_too_small_a_selection_weighs_one():
    epochs = epochs_of(TooFewAndWeighted())
    selection, _ = epochs.select({}, np.zeros(8, dtype=np.int32), None, None, at_least=3)
    assert selection.weights.tolist() == [2.5, 1.0, 1.0]
    assert selection.weights.dtype == np.float32


def test_the_checksum_of_ranks_holds_all_that_decides_their_epochs():
    def checksum(change=lambda epochs: None, **settings):
        same = {"strategy": TOP_HALF, "num_samples": 8, "seed": 0, "schedule": lambda strategy, epoch: strategy}
        epochs = Epochs(**{**same, **settings})
        begin(epochs)
        change(epochs)
        return epochs.checksum(epochs.chooser)

    def other_selection(epochs):
        epochs.selection = Selection(epochs.selection.indices[::-1].copy())

    others = [
        checksum(lambda epochs: setattr(epochs, "running", 7)),
        checksum(lambda epochs: setattr(epochs, "next", 7)),
        checksum(other_selection),
        checksum(lambda epochs: setattr(epochs, "chooser", FullData())),
        checksum(lambda epochs: setattr(epochs, "_chose", "FullData()")),
        checksum(seed=1),
        checksum(num_samples=9),
        checksum(strategy=OrderDP(explore=1.0, exploit=0.4)),
        checksum(fingerprint="cifar10"),
        checksum(schedule=functools.partial(pick, first=FullData())),
    ]
    assert checksum() == checksum()
    assert len({checksum(), *others}) == 1 + len(others)


# Which epoch, and which draw.


def test_the_epoch_is_the_one_begun_last():
    pruner = Pruner(TOP_HALF, 8)
    assert (pruner.epoch, pruner.next_epoch) == (None, 0)
    pruner.begin_epoch()
    assert (pruner.epoch, pruner.next_epoch) == (0, 1)
    pruner.begin_epoch()
    assert (pruner.epoch, pruner.next_epoch) == (1, 2)
    pruner.set_epoch(7)
    assert (pruner.epoch, pruner.next_epoch) == (1, 7)
    pruner.begin_epoch()
    assert (pruner.epoch, pruner.next_epoch) == (7, 8)


def test_a_draw_is_a_function_of_seed_and_epoch():
    def chosen(seed: int, epoch: int) -> tuple[int, ...]:
        pruner = Pruner(DynamicRandom(prune_ratio=0.5), 40, seed=seed)
        pruner.set_epoch(epoch)
        return tuple(pruner.begin_epoch().indices.tolist())

    assert chosen(3, 4) == chosen(3, 4)
    assert len({chosen(seed, epoch) for seed in range(6) for epoch in range(6)}) == 36  # seed + epoch would collide


def test_an_epoch_number_that_comes_again_is_an_epoch_of_its_own():
    pruner = Pruner(FullData(), 10)
    train(pruner, pruner.loader(range(10), batch_size=5), 1)
    pruner.set_epoch(0)
    ids = torch.from_numpy(pruner.begin_epoch().indices[:5].copy())
    pruner.update(ids, torch.ones(5, requires_grad=True))
    assert pruner.visits().sum() == pruner.report().visits == 15
    assert pruner.visits()[ids].tolist() == [2] * 5


def told(pruner):
    return pruner.visits().tolist(), pruner.ages().tolist(), pruner.trained().tolist()


def jumped(epochs):
    """A pruner whose epochs were numbered by hand, each trained in part, and what its ages should be."""
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), 8)
    last = {}
    for ordinal, epoch in enumerate(epochs):
        pruner.set_epoch(epoch)
        index = torch.from_numpy(pruner.begin_epoch().indices[: 3 if ordinal else 4].copy())
        pruner.update(index, (index + 1.0).requires_grad_())
        last.update(dict.fromkeys(index.tolist(), ordinal))
    return pruner, [len(epochs) - 1 - last[i] if i in last else -1 for i in range(8)]


@pytest.mark.parametrize("epochs", [(0, 7), (5, 0), (3, 3, 1)])
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.filterwarnings("ignore:epoch . was left after 3 of its 4 samples:RuntimeWarning")
def test_ages_count_epochs_begun_whatever_their_numbers_and_survive_a_state(epochs, resume):
    pruner, ages = jumped(epochs)
    assert pruner.ages().tolist() == ages
    twin = Pruner(OrderDP(explore=1.0, exploit=0.5), 8)
    twin.load_state_dict(pruner.state_dict(), resume=resume)
    assert told(twin) == told(pruner)


# States of a pruner alone; tests/test_loader_resume.py has those inside an epoch.


def trained(epochs: int, seed: int = 0) -> Pruner:
    pruner = Pruner(OrderDP(), 20, seed=seed)
    train(pruner, pruner.loader(range(20), batch_size=4), epochs)
    return pruner


def test_a_state_between_epochs_goes_on_with_the_next():
    unbroken, twin = trained(3), Pruner(OrderDP(), 20)
    twin.load_state_dict(unbroken.state_dict())
    assert (twin.epoch, twin.next_epoch) == (2, 3)
    assert not twin.resuming
    assert twin.begin_epoch().indices.tolist() == unbroken.begin_epoch().indices.tolist()
    assert twin.visits().tolist() == unbroken.visits().tolist()
    assert twin.report().visits == unbroken.report().visits


def test_a_state_before_any_epoch_begins_with_the_first():
    for resume in (False, True):
        twin = trained(2)
        twin.load_state_dict(Pruner(OrderDP(), 20).state_dict(), resume=resume)
        assert (twin.epoch, twin.next_epoch) == (None, 0)
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
        (Pruner(OrderDP(), 21), "must be of num_samples 21, got 20; build the pruner of the size that was sav"),
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


def test_a_state_of_version_2_holds_these_entries():
    """Files that users saved hold them too: another layout needs another version."""
    pruner = trained(1)
    loader = pruner.loader(range(20), batch_size=4)
    train_epoch(pruner, loader, num_batches=1)
    state = loader.state_dict()
    kinds = {name: type(value).__name__ for name, value in state["pruner"].items()}
    assert {name: state[name] for name in state if name != "pruner"} == {
        "inside": True,
        "batch_size": 4,
        "drop_last": False,
        "stable_shapes": False,
        "steps": 2,
        "last_step": 3,
    }
    assert kinds == {
        "version": "int",
        "strategy": "str",
        "num_samples": "int",
        "seed": "int",
        "schedule": "str",
        "fingerprint": "NoneType",
        "scheduled": "list",
        "next_epoch": "int",
        "running": "int",
        "begun": "int",
        "chooser": "str",
        "indices": "Tensor",
        "weights": "NoneType",
        "record": "dict",
        "non_finite": "int",
        "missing": "int",
        "recorded": "int",
        "later": "list",
        "selection_s": "float",
        "table": "dict",
    }
    assert set(state["pruner"]["table"]) == {"columns", "last_epoch", "visits", "failed"}
    assert set(state["pruner"]["record"]) == {"values", "stamps", "left_out", "expected", "reached"}
    assert {name: state["pruner"][name] for name in ("version", "next_epoch", "running", "begun")} == {
        "version": 2,
        "next_epoch": 2,
        "running": 1,
        "begun": 2,
    }


@pytest.mark.parametrize("version", [None, 0, 3])
def test_a_state_of_another_version_is_refused(version):
    pruner = trained(1)
    state = {**pruner.state_dict(), "version": version}
    with pytest.raises(ValueError, match=f"the state must be of version 2 or 1, got {version}; load it with the relea"):
        pruner.load_state_dict(state)


def test_a_state_with_a_damaged_table_is_refused_and_changes_nothing():
    pruner = trained(2)
    state = pruner.state_dict()
    state["table"]["visits"] = torch.zeros(3)
    twin = Pruner(OrderDP(), 20)
    with pytest.raises(ValueError, match=r"must hold 20 samples, got visits of shape \(3,\)"):
        twin.load_state_dict(state)
    assert twin.next_epoch == 0
    assert twin.begin_epoch().indices.tolist() == Pruner(OrderDP(), 20).begin_epoch().indices.tolist()


def test_a_state_is_not_changed_by_what_follows():
    pruner = trained(1)
    state = pruner.state_dict()
    before = copy.deepcopy(state)
    train(pruner, pruner.loader(range(20), batch_size=4), 2)
    torch.testing.assert_close(state["table"], before["table"], rtol=0, atol=0)
    assert state["indices"].tolist() == before["indices"].tolist()


def test_a_loaded_pruner_and_its_state_share_nothing():
    pruner = Pruner(InfoBatch(), 20)
    train(pruner, pruner.loader(range(20), batch_size=4), 1)
    pruner.begin_epoch()
    state = pruner.state_dict()
    twin = Pruner(InfoBatch(), 20)
    twin.load_state_dict(state, resume=True)
    for name in ("indices", "weights"):
        state[name].zero_()
    resumed, saved = twin.begin_epoch(), pruner.selection
    assert resumed.indices.tolist() == saved.indices.tolist()
    assert resumed.weights.tolist() == saved.weights.tolist()


def test_a_state_goes_on_with_the_counts_and_seconds_of_the_report():
    pruner, ids = begun()
    pruner.update(ids, with_gradient(1.0, math.nan, 2.0, 3.0))
    state = pruner.state_dict()
    for resume in (False, True):
        twin = Pruner(TOP_HALF, 8)
        twin.load_state_dict(state, resume=resume)
        assert twin.report() == pruner.report()
        assert twin.report().failed == (int(ids[1]),)
        assert twin.report().selection_s > 0


def test_losses_from_before_a_load_are_forgotten():
    pruner, ids = begun()
    state = pruner.state_dict()
    pruner.update(ids, with_gradient(1.0, math.nan, 2.0, 3.0))
    pruner.load_state_dict(state)
    assert pruner.report().non_finite == 0
    assert pruner.report().failed == ()


def test_losses_counted_before_a_load_are_forgotten_and_those_of_the_state_count_once():
    pruner, ids = begun()
    pruner.update(ids, with_gradient(1.0, math.nan, 2.0, 3.0))
    state = pruner.state_dict()
    pruner.update(ids, with_gradient(math.nan, math.nan, 2.0, 3.0))
    assert pruner.report().non_finite == 2  # of a batch that is seen twice the newest losses count
    pruner.load_state_dict(state)
    assert pruner.report().non_finite == 1


# States of version 1, from before an epoch was recorded as one.


def as_version_1(state: dict) -> dict:
    """A state between two epochs as the release of version 1 wrote it. It had each visit of the last epoch apart."""
    table = state["table"]
    last_epoch, columns = table["last_epoch"], {name: column.clone() for name, column in table["columns"].items()}
    assert state["record"] is None
    kept = ("strategy", "num_samples", "seed", "next_epoch", "running", "begun", "indices", "weights", "non_finite")
    before = table["visits"] - (last_epoch == state["begun"] - 1).to(torch.int32)
    return {
        **{name: state[name] for name in kept},
        "version": 1,
        "selection_s": state["selection_s"],
        "table": {"columns": columns, "last_epoch": last_epoch.clone(), "visits": before},
    }


@pytest.mark.parametrize("schedule", [None, functools.partial(pick, first=FullData())], ids=["constant", "scheduled"])
@pytest.mark.parametrize("strategy", [OrderDP(), InfoBatch(epochs=8), FullData()], ids=repr)
def test_a_state_of_version_1_goes_on_between_epochs(strategy, schedule):
    pruner = Pruner(strategy, 20, schedule=schedule)
    train(pruner, pruner.loader(range(20), batch_size=4), 2)
    pruner._close_epoch()
    twin = Pruner(strategy, 20, schedule=schedule)
    twin.load_state_dict(as_version_1(pruner.state_dict()))
    assert (twin.epoch, twin.next_epoch) == (1, 2)
    assert told(twin) == told(pruner)
    assert twin.begin_epoch().indices.tolist() == pruner.begin_epoch().indices.tolist()


def test_a_state_of_version_1_is_not_resumed_inside_an_epoch():
    pruner = trained(2)
    pruner._close_epoch()
    state = as_version_1(pruner.state_dict())
    twin = Pruner(OrderDP(), 20)
    with pytest.raises(ValueError, match="inside an epoch must be of version 2, got version 1, whose batches were cut"):
        twin.loader(range(20), batch_size=4).load_state_dict({"pruner": state, "batches": 1, "samples": 4})
    assert twin.next_epoch == 0
    twin.loader(range(20), batch_size=4).load_state_dict({"pruner": state, "batches": None, "samples": None})
    assert twin.next_epoch == 2
