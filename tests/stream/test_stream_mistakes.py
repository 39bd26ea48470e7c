"""Mistakes with a stream end with one clear line: a forgotten update, single samples, wrong keys and scores."""

import re
import warnings
from contextlib import nullcontext

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from orderdp import OrderDP
from orderdp.stream import StreamPruner
from reference.processes import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
HALF = OrderDP(prune_ratio=0.5)
FORGOTTEN = "update must be called for every batch of a stream, got no call for the {} batches that came"
HOW = {"key": lambda batch: batch["i"], "score": lambda batch: batch["x"]}


def source_of(num_batches: int, size: int = 8) -> list[dict]:
    numbers = torch.arange(num_batches * size)
    return [{"i": i, "x": (i * 7919 % 1009).float()} for i in numbers.split(size)]


def make(name: str = "key", num_batches: int = 6, window: int = 2, **how) -> StreamPruner:
    how = how or {name: HOW[name]}
    return StreamPruner(source_of(num_batches), HALF, batch_size=4, window=window, **how)


def update(stream: StreamPruner, index, batch) -> None:
    stream.update(index, batch["x"].clone().requires_grad_())


# A block of autocast around the loop.


@pytest.mark.parametrize("name", HOW)
def test_a_pass_inside_autocast_is_warned_of_once_at_the_loop(name):
    stream = make(name)

    def train(around, around_step):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with around:
                for _ in range(2):
                    for index, batch in stream:
                        with around_step:
                            update(stream, index, batch)
        lines = {line for *_, line in train.__code__.co_lines()}
        return [(str(each.message), each.category, each.filename, each.lineno in lines) for each in caught]

    autocast = torch.autocast("cpu", torch.bfloat16)
    assert train(nullcontext(), autocast) == []
    text = (
        "pass 2 begins inside torch.autocast, which goes on with the weights of its first step; write with "
        "torch.autocast(...) in each step, around the forward pass and the loss alone"
    )
    assert train(autocast, nullcontext()) == [(text, RuntimeWarning, __file__, True)]


# A forgotten update.


@pytest.mark.parametrize("name", HOW)
def test_a_forgotten_update_is_an_error_when_the_next_window_begins(name):
    stream = make(name, num_batches=8, window=4)
    batches = iter(stream)
    for _ in range(4):  # those of the first window
        next(batches)
    with pytest.raises(RuntimeError, match=re.escape(FORGOTTEN.format(4))):
        next(batches)
    for index, batch in stream:  # the loop that is mended begins anew
        update(stream, index, batch)
    assert stream.report().trained == 32


def test_windows_of_one_batch_are_read_until_the_third():
    batches = iter(make(num_batches=6, window=1))
    next(batches), next(batches)
    with pytest.raises(RuntimeError, match=re.escape(FORGOTTEN.format(2))):
        next(batches)


@pytest.mark.parametrize("num_batches", [1, 3])
def test_a_forgotten_update_in_a_pass_of_one_window_is_an_error_when_the_next_pass_begins(num_batches):
    stream = make(num_batches=num_batches, window=4)
    assert len(list(stream)) == num_batches
    with pytest.raises(RuntimeError, match=re.escape(FORGOTTEN.format(num_batches))):
        next(iter(stream))


def test_a_pass_that_is_left_early_without_an_update_is_an_error_when_the_next_one_begins():
    stream = make(window=6)
    for number, _ in enumerate(stream, 1):
        if number == 3:
            break
    with pytest.raises(RuntimeError, match=re.escape(FORGOTTEN.format(3))):
        next(iter(stream))


def test_each_pass_needs_its_updates():
    stream = make()
    for index, batch in stream:
        update(stream, index, batch)
    with pytest.raises(RuntimeError, match=re.escape(FORGOTTEN.format(2))):
        list(stream)


def test_an_update_of_a_wrong_index_does_not_count():
    stream = make()
    batches = iter(stream)
    for _ in range(2):
        _, batch = next(batches)
        with pytest.raises(ValueError, match="index must be that of a batch under way"):
            update(stream, [999] * 4, batch)
    with pytest.raises(RuntimeError, match=re.escape(FORGOTTEN.format(2))):
        next(batches)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_loop_may_read_one_batch_ahead(window):
    stream, trained = make(window=window), 0
    for _ in range(3):
        batches = iter(stream)
        ahead = next(batches)
        while ahead is not None:
            (index, batch), ahead = ahead, next(batches, None)
            update(stream, index, batch)
            trained += 1
    assert trained == 3 * 6
    assert stream.report().trained == 3 * 24


def test_a_first_batch_may_be_looked_at_and_an_error_of_the_first_step_met():
    stream = make()
    next(iter(stream))
    batches = iter(stream)
    next(batches), next(batches)  # a loop that reads ahead, whose first step fails
    for index, batch in stream:
        update(stream, index, batch)
    assert stream.report().passes == 3


def test_a_loaded_state_begins_the_count_anew():
    stream, other = make(num_batches=2, window=4), make(num_batches=2, window=4)
    list(stream)
    stream.load_state_dict(other.state_dict())
    for index, batch in stream:
        update(stream, index, batch)
    assert stream.report().trained == 8


# A source of single samples.


class Samples(IterableDataset):
    def __init__(self, sample) -> None:
        self.sample = sample

    def __iter__(self):
        return iter([self.sample] * 20)


SINGLE = "if the source gives single samples, write DataLoader(dataset, batch_size=32)"


@pytest.mark.parametrize(
    ("sample", "got"),
    [
        ((torch.zeros(3), 1), "got int"),
        ((torch.zeros(3), torch.tensor(1)), "got Tensor of shape ()"),
        ((torch.zeros(3, 4), torch.zeros(10)), "got lengths [3, 10]"),
        ({"__key__": "sample0", "jpg": torch.zeros(3), "cls": 1}, "got str"),  # as WebDataset gives them
    ],
    ids=["number", "scalar", "lengths", "shard"],
)
@pytest.mark.parametrize("name", HOW)
def test_a_source_of_single_samples_gets_one_clear_line(sample, got, name):
    stream = StreamPruner(Samples(sample), HALF, batch_size=4, **{name: HOW[name]})
    with pytest.raises((TypeError, ValueError)) as error:
        next(iter(stream))
    assert got in str(error.value)
    assert SINGLE in str(error.value)


@pytest.mark.parametrize("source", [TensorDataset(torch.zeros(40, 3)), 40], ids=["map-style", "number"])
def test_a_source_that_is_no_iterable_gets_one_clear_line(source):
    message = f"source must be an iterable of batches, got {type(source).__name__}; write DataLoader(dataset, "
    with pytest.raises(TypeError, match=re.escape(message)):
        StreamPruner(source, HALF, batch_size=4, key=HOW["key"])


# Functions that are none, or return something else.


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"key": 0}, "key must be a function of a batch, got int 0; write key=lambda batch: batch[0]"),
        ({"key": "i"}, "key must be a function of a batch, got str 'i'; write key=lambda batch: batch[0]"),
        ({"score": True}, "score must be a function of a batch, got bool True; write score=losses_of"),
    ],
)
def test_what_is_no_function_gets_one_clear_line(how, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        make(**how)


KEYS = "key must return a string or an integer for each of the 8 samples, got {}; write what tells the samples apart"
LOSSES = "score must return one loss a sample, (4,), got {}; {}"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"key": lambda b: 7}, KEYS.format("one int for the batch")),
        ({"key": lambda b: "12345678"}, KEYS.format("one str for the batch")),
        ({"key": lambda b: b}, KEYS.format("one dict for the batch")),
        ({"key": lambda b: b["i"][0]}, KEYS.format("shape ()")),
        ({"key": lambda b: b["i"][:5]}, KEYS.format("5 of ['int']")),
        ({"key": lambda b: b["i"].view(8, 1)}, KEYS.format("shape (8, 1)")),
        ({"key": lambda b: list(b["i"])}, KEYS.format("8 of ['Tensor']")),
        ({"score": lambda b: b["x"].mean()}, LOSSES.format("shape ()", 'write reduction="none"')),
        ({"score": lambda b: b["x"].mean().item()}, LOSSES.format("float", 'write reduction="none"')),
        ({"score": lambda b: b["x"].view(-1, 1)}, LOSSES.format("shape (4, 1)", "average the other dimensions")),
        ({"score": lambda b: b["x"][1:]}, LOSSES.format("shape (3,)", 'write reduction="none"')),
    ],
)
def test_wrong_keys_and_scores_get_one_clear_line(how, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        next(iter(make(**how)))


# States of ranks, and passes.


def of_both_ranks(rank: int, folder) -> dict:
    stream = make(num_batches=4)
    for index, batch in stream:
        update(stream, index, batch)
    torch.save(stream.state_dict(), folder / f"state{rank}.pt")
    torch.distributed.barrier()
    stream.load_state_dict(torch.load(folder / f"state{rank}.pt", weights_only=True))
    stream.load_state_dict(torch.load(folder / "state0.pt", weights_only=True))
    return {}


def test_the_state_of_another_rank_is_refused(tmp_path):
    first, second = run_ranks(2, of_both_ranks, tmp_path, tmp_path)
    assert first == {}
    assert second == (
        "ValueError: the state must be of rank 1, got 0; save the state of each rank and load its own, since a "
        "framework's checkpoint may hold one"
    )


def test_the_next_pass_is_known():
    loader = DataLoader(TensorDataset(torch.arange(32.0)), batch_size=4)
    stream = StreamPruner(loader, HALF, batch_size=4, key=lambda batch: [int(i) for i in batch[0]])
    for number in range(2):
        assert stream.next_pass == number
        for index, (x,) in stream:
            assert stream.next_pass == number + 1
            stream.update(index, x.clone().requires_grad_())
    stream.load_state_dict(stream.state_dict())
    assert stream.next_pass == 2
