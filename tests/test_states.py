"""States of version 1, changes between two epochs, the name of a data set, and pruners made in unusual places."""

import io
import math

import pytest
import torch

import orderdp
from orderdp import (
    UCB,
    DynamicRandom,
    EpsilonGreedy,
    FixedSubset,
    FullData,
    InfoBatch,
    OrderDP,
    OrderedSGD,
    Pruner,
    SelectiveBackprop,
)
from orderdp.sharded import ShardedPruner
from orderdp.stream import StreamPruner
from reference.loop import LEFT_EARLY, TOP_HALF, begun, train, train_epoch

N, BATCH = 40, 6


def loader_of(strategy=TOP_HALF, n=N, **arguments):
    return Pruner(strategy, n, **arguments).loader(range(n), batch_size=BATCH)


def pruner_of(loader):
    return loader.batch_sampler.pruner


def after(epochs, loader):
    """The state of a loader after some epochs."""
    train(pruner_of(loader), loader, epochs)
    return loader.state_dict()


def warm_up(strategy, epoch):
    return FullData() if epoch < 1 else strategy


def saved(state):
    """A state that was written and read as a file of tensors and plain values."""
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


# What version 0.1 wrote for OrderDP over eight samples, after two epochs of which the first was full: sample i had
# the loss i / 4, then (i + 10) / 4.
VERSION_1 = {
    "pruner": {
        "version": 1,
        "strategy": "OrderDP(explore=1.0, exploit=0.5)",
        "num_samples": 8,
        "seed": 3,
        "next_epoch": 2,
        "running": 1,
        "begun": 2,
        "indices": torch.tensor([5, 4, 6, 7]),
        "weights": None,
        "non_finite": 0,
        "selection_s": 0.001,
        "table": {
            "columns": {"score": torch.tensor([0.0, 0.25, 0.5, 0.75, 3.5, 3.75, 4.0, 4.25])},
            "last_epoch": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1], dtype=torch.int32),
            "visits": torch.ones(8, dtype=torch.int32),  # without those of the epoch begun last
        },
    },
    "batches": None,
    "samples": None,
    "batch_size": 2,
    "drop_last": False,
}
INSIDE_1 = {**VERSION_1, "batches": 1, "samples": 2}


@pytest.mark.parametrize("schedule", [None, warm_up])
@pytest.mark.parametrize("whole", [True, False], ids=["loader", "pruner"])
def test_a_state_of_version_1_between_two_epochs_goes_on(schedule, whole):
    pruner = Pruner(TOP_HALF, 8, seed=3, schedule=schedule)
    loader = pruner.loader(range(8), batch_size=2)
    if whole:
        loader.load_state_dict(VERSION_1)
    else:
        pruner.load_state_dict(VERSION_1["pruner"])
    assert (pruner.epoch, pruner.next_epoch, pruner.selection.indices.tolist()) == (1, 2, [5, 4, 6, 7])
    assert pruner.visits().tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert pruner.ages().tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert pruner.trained().tolist() == [False] * 4 + [True] * 4
    assert pruner.scores()["score"].tolist() == [0.0, 0.25, 0.5, 0.75, 3.5, 3.75, 4.0, 4.25]
    assert sorted(pruner.begin_epoch().indices.tolist()) == [4, 5, 6, 7]
    assert saved(loader.state_dict())["pruner"]["version"] == 2


def test_a_state_of_version_1_before_the_first_epoch_begins_with_it():
    table = {
        "columns": {"score": torch.full((8,), math.inf)},
        "last_epoch": torch.full((8,), -1, dtype=torch.int32),
        "visits": torch.zeros(8, dtype=torch.int32),
    }
    first = {"next_epoch": 0, "running": None, "begun": 0, "indices": None, "table": table}
    pruner, fresh = Pruner(TOP_HALF, 8, seed=3), Pruner(TOP_HALF, 8, seed=3)
    pruner.load_state_dict({**VERSION_1["pruner"], **first})
    assert (pruner.epoch, pruner.next_epoch) == (None, 0)
    assert pruner.visits().tolist() == [0] * 8
    assert pruner.begin_epoch().indices.tolist() == fresh.begin_epoch().indices.tolist()


def test_a_state_of_version_1_inside_an_epoch_is_refused_with_the_cure():
    loader = Pruner(TOP_HALF, 8, seed=3).loader(range(8), batch_size=2)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        pruner_of(loader).load_state_dict(INSIDE_1["pruner"], resume=True)
    assert str(caught.value) == (
        "a state inside an epoch must be of version 2, got version 1, whose batches were cut otherwise; finish that "
        "epoch with the release that wrote it, or load state['pruner'] into the pruner to begin the next epoch"
    )
    with pytest.raises(ValueError, match="must be of version 2, got version 1"):
        loader.load_state_dict(INSIDE_1)
    assert pruner_of(loader).next_epoch == 0
    pruner_of(loader).load_state_dict(INSIDE_1["pruner"])  # the cure
    assert pruner_of(loader).next_epoch == 2


@pytest.mark.parametrize(
    ("strategy", "seed"), [(OrderDP(explore=1.0, exploit=0.25), 3), (TOP_HALF, 4)], ids=["strategy", "seed"]
)
def test_a_state_of_version_1_of_another_pruner_is_refused(strategy, seed):
    with pytest.raises(ValueError, match=r"the state must be of (strategy|seed) .*, got"):
        Pruner(strategy, 8, seed=seed).load_state_dict(VERSION_1["pruner"])


# Another strategy or schedule between two epochs.

CHANGES = {
    "another ratio": (TOP_HALF, OrderDP(explore=1.0, exploit=0.25)),
    "another method with the same column": (TOP_HALF, EpsilonGreedy(prune_ratio=0.5, every=1)),
    "another method with other columns": (TOP_HALF, UCB(prune_ratio=0.5)),
    "a method that remembers nothing": (TOP_HALF, FullData()),
    "a method that chooses within batches": (TOP_HALF, OrderedSGD(keep=0.5)),
    "other epochs of InfoBatch": (InfoBatch(epochs=4), InfoBatch(epochs=8)),
    "other epochs of SeTa": (orderdp.SeTa(prune_ratio=0.3, epochs=4), orderdp.SeTa(prune_ratio=0.3, epochs=8)),
    "other epochs of KAKURENBO": (orderdp.Kakurenbo(epochs=4), orderdp.Kakurenbo(epochs=8)),
}


@pytest.mark.parametrize(("old", "new"), CHANGES.values(), ids=CHANGES.keys())
def test_the_strategy_may_change_between_two_epochs_by_an_explicit_argument(old, new):
    loader = loader_of(old)
    state = saved(after(3, loader))
    other = loader_of(new)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        other.load_state_dict(state)
    assert str(caught.value) == (
        f"the state must be of strategy {new}, got {old}; build the pruner as it was saved, or write "
        "load_state_dict(state, change=('strategy',)) between two epochs to go on with the new one"
    )
    assert pruner_of(other).next_epoch == 0
    other.load_state_dict(state, change=("strategy",))
    pruner = pruner_of(other)
    assert pruner.next_epoch == 3
    assert pruner.visits().tolist() == pruner_of(loader).visits().tolist()
    for name, column in pruner.scores().items():
        if name in old.columns:
            assert torch.equal(column, pruner_of(loader).scores()[name])
        else:  # begins anew, with the losses of the epoch that had not been closed
            assert (column[~pruner.trained()] == new.columns[name]).all()
    train(pruner, other, 2)
    assert pruner.next_epoch == 5


def test_a_new_ratio_takes_the_highest_of_the_losses_that_the_old_one_recorded():
    loader = loader_of(schedule=warm_up)
    state = after(1, loader)
    losses = pruner_of(loader).scores()["score"]
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.1), N, schedule=warm_up)
    pruner.load_state_dict(state["pruner"], change=["strategy"])
    chosen = pruner.begin_epoch().indices
    assert losses[chosen].min() >= losses.sort(descending=True).values[3]


def test_the_batch_size_may_change_between_two_epochs_without_an_argument():
    loader = loader_of()
    state = after(2, loader)
    other = Pruner(TOP_HALF, N).loader(range(N), batch_size=4, drop_last=True)
    other.load_state_dict(state)
    assert [len(index) for index, _ in other] == [4] * 5


@LEFT_EARLY
def test_nothing_may_change_inside_an_epoch():
    loader = loader_of()
    train_epoch(pruner_of(loader), loader, 1)
    state = loader.state_dict()
    for new, change in ((OrderDP(explore=1.0, exploit=0.25), ("strategy",)), (TOP_HALF, ("schedule",))):
        other = loader_of(new)
        with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
            other.load_state_dict(state, change=change)
        assert str(caught.value) == (
            f"{change[0]} can change between two epochs, got a state inside one; write "
            f"pruner.load_state_dict(state['pruner'], change={change}) to begin with the next epoch"
        )
        pruner_of(other).load_state_dict(state["pruner"], change=change)  # the cure
        assert pruner_of(other).next_epoch == 1


@pytest.mark.parametrize("change", ["strategy", ("seed",), ("num_samples", "strategy"), ["fingerprint"]])
def test_only_a_strategy_or_a_schedule_may_change(change):
    state = loader_of().state_dict()
    with pytest.raises(ValueError, match=r"change names settings, 'strategy' or 'schedule', got .*; write change=\("):
        loader_of().load_state_dict(state, change=change)


@pytest.mark.parametrize(
    ("change", "arguments", "text"),
    [
        (("strategy",), {"seed": 1}, "the state must be of seed 1, got 0; build the pruner as it was saved"),
        (("strategy",), {"schedule": warm_up}, "the state must be of schedule"),
        (("schedule",), {"strategy": FullData()}, "the state must be of strategy FullData(), got OrderDP("),
        (("strategy", "schedule"), {"fingerprint": "b"}, "the state must be of fingerprint b, got None"),
        (("strategy", "schedule"), {"n": 50}, "the state must be of num_samples 50, got 40"),
    ],
)
def test_what_was_not_asked_for_must_still_be_the_same(change, arguments, text):
    state = after(2, loader_of())
    other = loader_of(**arguments)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        other.load_state_dict(state, change=change)
    assert text in str(caught.value)
    assert pruner_of(other).next_epoch == 0


def half_after_two(strategy, epoch):
    return strategy if epoch < 2 else DynamicRandom(prune_ratio=0.5)


class Widening:
    """A schedule that is no function."""

    def __init__(self, epochs):
        self.epochs = epochs

    def __call__(self, strategy, epoch):
        return FullData() if epoch < self.epochs else strategy


@pytest.mark.parametrize(
    ("old", "new"),
    [(warm_up, None), (None, warm_up), (warm_up, half_after_two), (Widening(5), Widening(2)), (Widening(1), None)],
)
def test_another_schedule_is_refused_by_name_and_may_be_asked_for(old, new):
    state = saved(after(2, loader_of(schedule=old)))
    other = loader_of(schedule=new)
    with pytest.raises(ValueError, match=r"schedule .*load_state_dict\(state, change=\('schedule',\)\)"):
        other.load_state_dict(state)
    other.load_state_dict(state, change=("schedule",))
    expected = (new or (lambda strategy, epoch: strategy))(TOP_HALF, 2)
    assert len(other) == Pruner(expected, N).steps_per_epoch(BATCH)


def test_a_schedule_that_is_the_same_is_taken():
    for schedule in (None, warm_up, Widening(3)):
        state = after(2, loader_of(schedule=schedule))
        loader_of(
            schedule=Widening(3) if schedule is not None and schedule is not warm_up else schedule
        ).load_state_dict(state)


def test_an_unchanged_setting_may_be_named_too():
    state = after(2, loader_of())
    other = loader_of()
    other.load_state_dict(state, change=("strategy", "schedule"))
    twin = loader_of()
    twin.load_state_dict(state)
    assert train(pruner_of(other), other, 2) == train(pruner_of(twin), twin, 2)


# The name of a data set.


@pytest.mark.parametrize(("was", "now"), [("cifar-10", "cifar-100"), ("cifar-10", None), (None, "cifar-10")])
def test_a_state_of_another_data_set_of_the_same_size_is_refused(was, now):
    state = saved(after(1, loader_of(fingerprint=was)))
    other = loader_of(fingerprint=now)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        other.load_state_dict(state)
    assert f"the state must be of fingerprint {now}, got {was}; build the pruner as it was saved" in str(caught.value)
    assert pruner_of(other).next_epoch == 0


def test_a_state_of_the_same_data_set_is_taken():
    other = loader_of(fingerprint="sha256:ab")
    other.load_state_dict(after(1, loader_of(fingerprint="sha256:ab")))
    assert pruner_of(other).next_epoch == 1


# Pruners made in unusual places.


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize(
    "strategy",
    [TOP_HALF, UCB(prune_ratio=0.5, every=1), InfoBatch(), OrderedSGD(keep=0.5), SelectiveBackprop(keep=0.5)],
    ids=repr,
)
def test_a_pruner_built_begun_and_asked_in_any_mode_trains_alike(context, strategy):
    expected = loader_of(strategy)
    batches = train(pruner_of(expected), expected, 3)
    with context():
        loader = loader_of(strategy)
        pruner = pruner_of(loader)
    got = []
    for _ in range(3):
        with context():
            batches_of_epoch = iter(loader)
        got.append(train_epoch(pruner, batches_of_epoch))
        with context():
            pruner.report(), pruner.table(), pruner.preview(BATCH)
            loader.load_state_dict(loader.state_dict())
    assert got == batches
    assert {name: c.tolist() for name, c in pruner.scores().items()} == {
        name: c.tolist() for name, c in pruner_of(expected).scores().items()
    }


def test_losses_recorded_in_inference_mode_are_refused_since_they_have_no_gradient():
    pruner, ids = begun()
    with torch.inference_mode(), pytest.raises(ValueError, match="losses must carry a gradient"):
        pruner.update(ids, torch.ones(4))


def test_a_state_that_another_dtype_or_device_map_made_is_read():
    state = loader_of(FixedSubset(range(10))).state_dict()
    pruner = pruner_of(loader_of(FixedSubset(range(10))))
    pruner.load_state_dict(saved(state)["pruner"])
    assert sorted(pruner.begin_epoch().indices.tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: Pruner(TOP_HALF, 8), "orderdp.Pruner"),
        (lambda: ShardedPruner(TOP_HALF, 8), "orderdp.sharded.ShardedPruner"),
        (lambda: StreamPruner([], OrderDP(), batch_size=2, key=list), "orderdp.stream.StreamPruner"),
    ],
)
def test_what_is_no_state_is_refused_and_says_what_one_is(make, kind):
    rule, cure = f"the state must be what {kind}.state_dict returned, got", "; pass the entry of the checkpoint that"
    model = torch.nn.Linear(2, 2).state_dict()
    for state, got, error in (
        (None, "NoneType", TypeError),
        ("last.pt", "str", TypeError),
        ({}, "a dictionary without version", ValueError),
        (model, "a dictionary without version", ValueError),
    ):
        with pytest.raises(error, match=f"^{rule} {got}{cure}"):
            make().load_state_dict(state)
