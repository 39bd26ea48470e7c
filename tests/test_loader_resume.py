"""A broken run that loads its state goes on as if it had not been broken."""

import io
import itertools
from dataclasses import replace

import pytest
import torch

from orderdp import UCB, FullData, InfoBatch, Kakurenbo, OrderDP, Pruner, SeTa
from reference.loaders import HALF, loader_of, pruner_of
from reference.loop import loss_of, train, train_epoch

pytestmark = [
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
LEFT = pytest.mark.filterwarnings("ignore:epoch . was left after:RuntimeWarning")
IDLE = pytest.mark.filterwarnings("ignore:update was never called in epoch:RuntimeWarning")
HOW = pytest.mark.parametrize("how", [{}, {"drop_last": True}, {"stable_shapes": True}], ids=str)


def round_trip(state):
    """Through torch.save and a load that allows tensors and plain values only."""
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


def run_and_break(stop_epoch: int, stop_batch: int, **arguments):
    """Trains up to a batch of an epoch (0: as the epoch before ended); returns the batches and the state there."""
    loader = loader_of(**arguments)
    seen = train(pruner_of(loader), loader, stop_epoch)
    last = train_epoch(pruner_of(loader), loader, num_batches=stop_batch) if stop_batch else []
    return seen, last, round_trip(loader.state_dict())


STRATEGIES = [
    HALF,
    OrderDP(),
    OrderDP(explore=1.0, exploit=0.5, per="iteration"),
    FullData(),
    UCB(prune_ratio=0.4),
    InfoBatch(epochs=5, delta=0.75),
    Kakurenbo(hide=0.3, epochs=5, confidence=0.51),
    SeTa(prune_ratio=0.3, epochs=5, delta=0.75),
]


@HOW
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("stop_batch", [0, 1, 2])
@pytest.mark.parametrize("stop_epoch", [0, 2])
def test_a_broken_run_goes_on_as_if_unbroken(strategy, stop_epoch, stop_batch, how):
    unbroken = loader_of(strategy=strategy, batch_size=5, **how)
    expected = train(pruner_of(unbroken), unbroken, 5)
    seen, last, state = run_and_break(stop_epoch, stop_batch, strategy=strategy, batch_size=5, **how)
    resumed = loader_of(strategy=strategy, batch_size=5, **how)
    resumed.load_state_dict(state)
    whole = last == expected[stop_epoch]
    rest = train(pruner_of(resumed), resumed, 5 - stop_epoch - whole)
    assert [*seen, *([last, *rest] if whole else [last + rest[0], *rest[1:]])] == expected
    assert_tables_equal(resumed, unbroken)


def assert_tables_equal(one, other):
    """All that is remembered of each sample, and all counts but the seconds."""
    table, expected = pruner_of(one).table(), pruner_of(other).table()
    assert list(table) == list(expected)
    for name, column in expected.items():
        assert torch.equal(table[name], column), name
    assert replace(pruner_of(one).report(), selection_s=0.0) == replace(pruner_of(other).report(), selection_s=0.0)


@HOW
@pytest.mark.parametrize("stop_batch", [None, 1, 2])
@pytest.mark.filterwarnings("ignore:.* of the .* samples of epoch .* were left without a loss:RuntimeWarning")
@LEFT
def test_what_an_epoch_left_out_has_failed_also_if_its_state_was_loaded_before_it_closed(how, stop_batch):
    """A rest that `drop_last` leaves out has not failed, nor has a batch that the loop did not reach."""
    loader = loader_of(**how)
    pruner = pruner_of(loader)
    for number, (index, _) in enumerate(loader, 1):
        kept = index[number % 2 :]  # the collate function dropped the first sample of each second batch
        pruner.update(kept, loss_of(kept, 0))
        if number == stop_batch:
            break
    twin = loader_of(**how)
    pruner_of(twin).load_state_dict(round_trip(pruner.state_dict()))
    assert_tables_equal(twin, loader)
    for each in (loader, twin):
        pruner_of(each).begin_epoch(6)
    assert pruner.report().missing == {None: 2, 1: 0, 2: 1}[stop_batch]
    assert_tables_equal(twin, loader)


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 0), (0, 2)])
@pytest.mark.parametrize("stop_batch", [1, 3])
def test_a_run_may_be_broken_while_workers_read_ahead(before, after, stop_batch):
    unbroken = loader_of()
    expected = train(pruner_of(unbroken), unbroken, 3)
    seen, last, state = run_and_break(1, stop_batch, num_workers=before)
    assert state["inside"]
    resumed = loader_of(num_workers=after)
    resumed.load_state_dict(state)
    rest = train(pruner_of(resumed), resumed, 2)
    assert [*seen, last + rest[0], *rest[1:]] == expected


FAR_AHEAD = pytest.mark.parametrize(
    "workers", [{}, {"num_workers": 2}, {"num_workers": 2, "prefetch_factor": 5}], ids=["0", "2", "2, to the end"]
)


@FAR_AHEAD
@pytest.mark.parametrize("received", [0, 1, 3, 4])
def test_a_state_before_the_first_update_begins_with_the_first_batch(workers, received):
    loader, resumed, alone = loader_of(**workers), loader_of(), loader_of()
    iterator = iter(loader)  # workers have begun the epoch; the loop has trained nothing
    for _ in range(received):
        next(iterator)
    state = round_trip(loader.state_dict())
    assert state["inside"] == (received > 0 or workers != {})
    resumed.load_state_dict(state)
    assert train(pruner_of(resumed), resumed, 2) == train(pruner_of(alone), alone, 2)
    del iterator


@FAR_AHEAD
def test_a_state_before_the_first_batch_of_the_rest_is_at_the_position_that_was_loaded(workers):
    _, _, state = run_and_break(1, 3)
    loader = loader_of(**workers)
    loader.load_state_dict(state)
    batches = iter(loader)  # with workers it has begun the epoch
    again = loader.state_dict()
    assert again["inside"]
    assert loader.remaining == 1
    twin = loader_of()
    twin.load_state_dict(again)
    assert [index.tolist() for index, _ in batches] == train_epoch(pruner_of(twin), twin)
    assert len(pruner_of(twin).report().failed) == 0


@FAR_AHEAD
def test_a_state_after_the_update_of_the_last_batch_goes_on_with_the_next_epoch(workers):
    loader, resumed, alone = loader_of(**workers), loader_of(), loader_of()
    train_epoch(pruner_of(loader), loader, num_batches=4)
    state = round_trip(loader.state_dict())
    assert not state["inside"]
    resumed.load_state_dict(state)
    expected = train(pruner_of(alone), alone, 3)
    assert train(pruner_of(resumed), resumed, 2) == expected[1:]


@FAR_AHEAD
def test_a_state_between_the_last_batch_and_its_update_comes_back_to_that_batch(workers):
    loader, resumed = loader_of(**workers), loader_of()
    expected = train_epoch(pruner_of(resumed), resumed)
    batches = iter(loader)
    for _ in range(3):
        index, _ = next(batches)
        pruner_of(loader).update(index, loss_of(index, 0))
    assert next(batches)[0].tolist() == expected[3]
    resumed.load_state_dict(round_trip(loader.state_dict()))
    assert train_epoch(pruner_of(resumed), resumed) == expected[3:]
    del batches


def test_an_epoch_that_could_not_be_resumed_is_still_to_be_resumed(monkeypatch):
    """The loop catches the error and goes on, as after an error of the data set."""
    loader, resumed = loader_of(), loader_of()
    train_epoch(pruner_of(loader), loader, num_batches=1)
    resumed.load_state_dict(loader.state_dict())
    pruner, left = pruner_of(resumed), resumed.remaining
    begin_epoch = pruner.begin_epoch

    def fails(*arguments, **named):
        monkeypatch.setattr(pruner, "begin_epoch", begin_epoch)
        raise OSError("a rank did not answer")

    monkeypatch.setattr(pruner, "begin_epoch", fails)
    batches = iter(resumed)
    with pytest.raises(OSError, match="a rank did not answer"):
        next(batches)
    assert next(batches, None) is None
    assert resumed.remaining == left > 0
    assert resumed.state_dict()["inside"]
    assert len(train_epoch(pruner, resumed)) == left


def test_a_run_may_be_broken_twice_in_an_epoch():
    alone = loader_of()
    expected = train(pruner_of(alone), alone, 2)
    _, first, state = run_and_break(0, 1)
    again = loader_of()
    again.load_state_dict(state)
    second = train_epoch(pruner_of(again), again, num_batches=2)
    last = loader_of(num_workers=2)
    last.load_state_dict(round_trip(again.state_dict()))
    rest = train(pruner_of(last), last, 2)
    assert [first + second + rest[0], rest[1]] == expected


def test_a_state_saved_right_after_it_was_loaded_is_the_same_state():
    _, _, state = run_and_break(1, 2)
    loader = loader_of()
    loader.load_state_dict(state)
    again = loader.state_dict()
    assert again["inside"]
    assert again["steps"] == state["steps"] == 4
    assert loader.remaining == loader.batch_sampler.remaining == 2
    assert again["pruner"]["next_epoch"] == state["pruner"]["next_epoch"]
    _, _, between = run_and_break(1, 0)
    loader.load_state_dict(between)
    assert not loader.state_dict()["inside"]
    assert loader.remaining == 0


@FAR_AHEAD
def test_the_batches_that_remain_are_counted_as_they_are_trained(workers):
    loader = loader_of(**workers)
    pruner = pruner_of(loader)
    assert loader.remaining == 0
    for epoch in range(2):
        remaining = []
        for index, _ in loader:
            remaining.append(loader.remaining)
            pruner.update(index, loss_of(index, epoch))
            remaining.append(loader.remaining)
        assert remaining == [4, 3, 3, 2, 2, 1, 1, 0]
        assert loader.remaining == 0


@FAR_AHEAD
def test_an_epoch_that_was_received_and_not_trained_comes_again_after_a_load(workers):
    """The loop may have read ahead to the end."""
    loader, twin = loader_of(**workers), loader_of()
    batches = [index.tolist() for index, _ in loader]
    assert loader.remaining == 4
    twin.load_state_dict(loader.state_dict())
    assert train_epoch(pruner_of(twin), twin) == batches


@LEFT
def test_a_used_loader_may_be_set_back():
    alone = loader_of()
    expected = train(pruner_of(alone), alone, 3)
    loader = loader_of()
    seen = train(pruner_of(loader), loader, 1)
    state = loader.state_dict()
    train_epoch(pruner_of(loader), loader, num_batches=3)
    loader.load_state_dict(state)
    assert seen + train(pruner_of(loader), loader, 2) == expected


def test_a_used_loader_may_be_set_back_to_an_epoch_whose_last_batch_was_trained_first():
    """As by a loop that reads ahead: what is left is what `update` has not seen."""
    loader = loader_of()
    batches = list(itertools.islice(iter(loader), len(loader)))  # all of them, but not yet told that they are all
    last, _ = batches[-1]
    pruner_of(loader).update(last, loss_of(last, 0))
    state = loader.state_dict()
    used = loader_of()
    train_epoch(pruner_of(used), used)
    used.load_state_dict(state)
    assert used.remaining == len(batches) - 1
    assert used.state_dict()["inside"]


def test_the_pruners_part_of_a_state_goes_on_with_the_next_epoch():
    _, _, state = run_and_break(1, 2)
    loader = loader_of(batch_size=10)
    pruner_of(loader).load_state_dict(state["pruner"])
    assert (pruner_of(loader).epoch, pruner_of(loader).next_epoch) == (1, 2)
    assert len(list(loader)) == 2
    assert pruner_of(loader).visits().sum() == 20 + 10  # the epoch that was left keeps what it had trained


def test_an_epoch_may_be_skipped_after_a_load():
    _, _, state = run_and_break(1, 2)
    loader = loader_of()
    loader.load_state_dict(state)
    pruner_of(loader).set_epoch(2)
    assert len(list(loader)) == 4
    assert pruner_of(loader).epoch == 2


@IDLE
@pytest.mark.parametrize("strategy", [HALF, InfoBatch(epochs=5, delta=0.75)], ids=repr)
def test_after_a_state_from_inside_an_epoch_the_length_is_whole_and_what_is_left_has_its_own_name(strategy):
    _, _, state = run_and_break(2, 2, strategy=strategy)
    loader = loader_of(strategy=strategy)
    loader.load_state_dict(state)
    whole = len(loader)
    assert whole == -(-len(pruner_of(loader).selection.indices) // 6)
    assert (loader.remaining, loader.batch_sampler.remaining) == (whole - 2, whole - 2)
    batches = 0
    for batches, (index, _) in enumerate(loader, 1):
        assert len(loader) == whole
        pruner_of(loader).update(index, loss_of(index, 2))
        assert loader.remaining == whole - 2 - batches
    assert batches == whole - 2
    assert loader.remaining == 0


# States that do not fit.


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"strategy": OrderDP()}, "the state must be of strategy OrderDP("),
        ({"seed": 1}, "the state must be of seed 1, got 0; build the pruner as it was saved"),
        ({"dataset": range(50)}, "the state must be of num_samples 50, got 40; build the pruner of the size that was"),
        (
            {"batch_size": 7},
            "a state inside an epoch needs the steps over all ranks that it was saved with, "
            "{'batch_size': 6, 'drop_last': False, 'stable_shapes': False, 'steps': 4, 'last_step': 5}, "
            "got {'batch_size': 7, 'drop_last': False, 'stable_shapes': False, 'steps': 3, 'last_step': 7}",
        ),
        ({"drop_last": True}, "use those, or load only state['pruner'] to begin with the next epoch"),
        ({"stable_shapes": True}, "a state inside an epoch needs the steps over all ranks that it was saved with"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(arguments, text):
    _, _, state = run_and_break(1, 2)
    loader, untouched = loader_of(**arguments), loader_of(**arguments)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        loader.load_state_dict(state)
    assert text in str(caught.value)
    assert train(pruner_of(loader), loader, 2) == train(pruner_of(untouched), untouched, 2)


def test_a_state_between_epochs_fits_any_batch_size():
    _, _, state = run_and_break(1, 0)
    loader = loader_of(batch_size=7)
    loader.load_state_dict(state)
    assert len(list(loader)) == 3


def test_states_of_loader_and_pruner_are_told_apart():
    pruner = Pruner(OrderDP(), 40)
    loader = pruner.loader(range(40), batch_size=6)
    with pytest.raises(ValueError, match="the state must be one of a loader or sampler, got the keys"):
        loader.load_state_dict(pruner.state_dict())
    with pytest.raises(TypeError, match=r"^the state must be what state_dict\(\) returned, got NoneType; write loader"):
        loader.load_state_dict(None)
    with pytest.raises(ValueError, match="the state must be one of a pruner, got a loader's with the keys"):
        pruner.load_state_dict(loader.state_dict())


class Augmented(torch.utils.data.Dataset):
    """Draws for each sample from a generator of its own, as docs/resume.md says."""

    epoch = 0

    def __len__(self):
        return 64

    def __getitem__(self, i):
        return torch.rand(3, generator=torch.Generator().manual_seed(self.epoch * len(self) + i))


@LEFT
def test_augmentation_that_epoch_and_sample_seed_comes_again_in_workers():
    def run(state=None, stop=None):
        data, pruner, seen = Augmented(), Pruner(HALF, 64, seed=0), []
        loader = pruner.loader(data, batch_size=8, num_workers=2)
        if state is not None:
            loader.load_state_dict(state)
        for data.epoch in range(pruner.next_epoch, 3):
            for index, x in loader:
                pruner.update(index, x.sum(1).requires_grad_())
                seen.append(x)
                if len(seen) == stop:
                    return seen, loader.state_dict()
        return seen, None

    whole, _ = run()
    begun, state = run(stop=6)  # in the middle of the second epoch
    rest, _ = run(round_trip(state))
    assert torch.equal(torch.stack([*begun, *rest]), torch.stack(whole))
