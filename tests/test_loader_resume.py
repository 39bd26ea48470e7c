"""A broken run that loads its state goes on as if it had not been broken."""

import io

import pytest
import torch

from orderdp import FullData, OrderDP, Pruner
from reference.loaders import HALF, loader_of, pruner_of
from reference.loop import train, train_epoch

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


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


@pytest.mark.parametrize("strategy", [HALF, OrderDP(), OrderDP(explore=1.0, exploit=0.5, per="iteration"), FullData()])
@pytest.mark.parametrize("stop_batch", [0, 1, 2])
@pytest.mark.parametrize("stop_epoch", [0, 2])
def test_a_broken_run_goes_on_as_if_unbroken(strategy, stop_epoch, stop_batch):
    unbroken = loader_of(strategy=strategy, batch_size=5)
    expected = train(pruner_of(unbroken), unbroken, 5)
    seen, last, state = run_and_break(stop_epoch, stop_batch, strategy=strategy, batch_size=5)
    resumed = loader_of(strategy=strategy, batch_size=5)
    resumed.load_state_dict(state)
    rest = train(pruner_of(resumed), resumed, 5 - stop_epoch)
    assert [*seen, last + rest[0], *rest[1:]] == expected
    for name, scores in pruner_of(unbroken).scores().items():
        assert torch.equal(pruner_of(resumed).scores()[name], scores)
    assert torch.equal(pruner_of(resumed).visits(), pruner_of(unbroken).visits())


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 0), (0, 2)])
@pytest.mark.parametrize("stop_batch", [1, 3])
def test_a_run_may_be_broken_while_workers_read_ahead(before, after, stop_batch):
    unbroken = loader_of()
    expected = train(pruner_of(unbroken), unbroken, 3)
    seen, last, state = run_and_break(1, stop_batch, num_workers=before)
    assert state["batches"] == stop_batch
    resumed = loader_of(num_workers=after)
    resumed.load_state_dict(state)
    rest = train(pruner_of(resumed), resumed, 2)
    assert [*seen, last + rest[0], *rest[1:]] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_before_the_first_batch_begins_with_it(workers):
    loader, resumed, alone = loader_of(num_workers=workers), loader_of(), loader_of()
    iterator = iter(loader)  # workers have begun the epoch; the loop has received nothing
    resumed.load_state_dict(round_trip(loader.state_dict()))
    assert train(pruner_of(resumed), resumed, 2) == train(pruner_of(alone), alone, 2)
    del iterator


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_before_the_first_batch_of_the_rest_is_at_the_position_that_was_loaded(workers):
    _, _, state = run_and_break(1, 3)
    loader = loader_of(num_workers=workers)
    loader.load_state_dict(state)
    batches = iter(loader)  # with workers it has begun the epoch
    again = loader.state_dict()
    assert (again["batches"], again["samples"]) == (state["batches"], state["samples"]) == (3, 18)
    assert loader.batch_sampler.remaining == len(list(batches)) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_in_the_body_of_the_last_batch_goes_on_with_the_next_epoch(workers):
    loader, resumed, alone = loader_of(num_workers=workers), loader_of(), loader_of()
    train_epoch(pruner_of(loader), loader, num_batches=4)
    state = round_trip(loader.state_dict())
    assert state["batches"] is None
    resumed.load_state_dict(state)
    expected = train(pruner_of(alone), alone, 3)
    assert train(pruner_of(resumed), resumed, 2) == expected[1:]


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
    assert again["batches"] == state["batches"] == 2
    assert loader.batch_sampler.remaining == 2
    assert again["pruner"]["next_epoch"] == state["pruner"]["next_epoch"]
    _, _, between = run_and_break(1, 0)
    loader.load_state_dict(between)
    assert loader.state_dict()["batches"] is None
    assert loader.batch_sampler.remaining == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_that_remain_are_counted_as_the_loop_receives_them(workers):
    loader = loader_of(num_workers=workers)
    assert loader.batch_sampler.remaining == 0
    for _ in range(2):
        assert [loader.batch_sampler.remaining for _ in loader] == [3, 2, 1, 0]


def test_a_used_loader_may_be_set_back():
    alone = loader_of()
    expected = train(pruner_of(alone), alone, 3)
    loader = loader_of()
    seen = train(pruner_of(loader), loader, 1)
    state = loader.state_dict()
    train_epoch(pruner_of(loader), loader, num_batches=3)
    loader.load_state_dict(state)
    assert seen + train(pruner_of(loader), loader, 2) == expected


def test_the_pruners_part_of_a_state_goes_on_with_the_next_epoch():
    _, _, state = run_and_break(1, 2)
    loader = loader_of(batch_size=10)
    pruner_of(loader).load_state_dict(state["pruner"])
    assert pruner_of(loader).epoch == 2
    assert len(list(loader)) == 2


def test_an_epoch_may_be_skipped_after_a_load():
    _, _, state = run_and_break(1, 2)
    loader = loader_of()
    loader.load_state_dict(state)
    pruner_of(loader).set_epoch(2)
    assert len(list(loader)) == 4
    assert pruner_of(loader).epoch == 2


def test_after_a_state_from_inside_an_epoch_the_length_is_what_is_left():
    _, _, state = run_and_break(0, 2)
    loader = Pruner(OrderDP(explore=1, exploit=0.5), 40).loader(range(40), batch_size=6)
    loader.load_state_dict(state)
    assert len(loader) == len(list(loader)) == 2
    assert len(loader) == len(list(loader)) == 4


# States that do not fit.


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"strategy": OrderDP()}, "the state must be of strategy OrderDP("),
        ({"seed": 1}, "the state must be of seed 1, got 0; build the pruner as it was saved"),
        ({"dataset": range(50)}, "the state must be of num_samples 50, got 40; build the pruner as it was saved"),
        (
            {"batch_size": 7},
            "a state inside an epoch needs the steps over all ranks that it was saved with, "
            "{'batch_size': 6, 'drop_last': False, 'samples': 12}, "
            "got {'batch_size': 7, 'drop_last': False, 'samples': 14}",
        ),
        ({"drop_last": True}, "use those, or load only state['pruner'] to begin with the next epoch"),
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
    with pytest.raises(ValueError, match="the state must be one of a pruner, got a loader's with the keys"):
        pruner.load_state_dict(loader.state_dict())
