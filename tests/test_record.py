"""What the running epoch has seen: slices and other batches, second updates, wrong ids, ids that stay on a device."""

import math

import numpy as np
import pytest
import torch

from orderdp import FullData, OrderDP, OrderedSGD, Pruner, Selection
from orderdp.log import Log
from orderdp.ranks import Batching
from orderdp.record import EpochRecord
from reference.loop import LEFT_EARLY, with_gradient

ORDER = [7, 2, 9, 4, 0, 5, 3, 8]  # of ten samples, 1 and 6 are left out


def record_of(order=ORDER, *, batch_size=None, rank=0, num_ranks=1, weights=None, n=10, **batching):
    selection = Selection(np.array(order, dtype=np.int32), None if weights is None else np.float32(weights))
    record = EpochRecord(selection, n)
    steps = None if batch_size is None else Batching(batch_size, **batching).steps
    record.begin(None if steps is None else steps(len(order), rank=rank, num_ranks=num_ranks), num_ranks)
    return record


def add(record, ids, values=None, dtype=torch.int64, **more):
    values = [float(i) for i in ids] if values is None else values
    return record.add(torch.tensor(ids, dtype=dtype), torch.tensor(values), **more)


def held(record):
    """The value of each sample that was trained."""
    trained = record.trained()
    return dict(zip(record.indices[trained].tolist(), record.values()[trained].tolist(), strict=True))


class OnDevice(torch.Tensor):
    """A tensor that says it is on a device, so that the host may not read it before the epoch ends."""

    is_cpu = property(lambda self: False)


def on_device(*values, dtype=torch.int64, requires_grad=False):
    return torch.tensor(values, dtype=dtype).as_subclass(OnDevice).requires_grad_(requires_grad)


# Batches.

CUTS = [
    [[7, 2], [9, 4], [0, 5], [3, 8]],  # slices in order
    [[7, 2, 9], [4, 0, 5], [3, 8]],
    [[3, 8], [0, 5], [9, 4], [7, 2]],  # slices in another order
    [[7, 9], [8, 2, 3], [0, 4, 5]],  # no slices
    [[2, 7], [9, 4], [5, 0], [3, 8]],
    [[7], [2], [9], [4], [0, 5, 3, 8]],
    [ORDER],
]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_any_cut_of_an_epoch_is_remembered_alike(cut, dtype, batch_size):
    record = record_of(batch_size=batch_size, weights=[1, 2, 3, 4, 5, 6, 7, 8])
    for ids in cut:
        assert add(record, ids, dtype=dtype).tolist() == [ORDER.index(i) + 1 for i in ids]
    assert held(record) == {i: float(i) for i in ORDER}
    assert record.missing().tolist() == [False] * 8


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("again", [[7, 2, 9], [2, 9], [9, 2, 7], [7], [9, 7]], ids=str)
def test_the_newest_value_of_a_sample_counts(again, fold):
    record = record_of(batch_size=3)
    add(record, [7, 2, 9])
    if fold:
        record.fold()
    add(record, again, [100.0 + i for i in again])
    add(record, [4, 0, 5])
    expected = {i: 100.0 + i if i in again else float(i) for i in [7, 2, 9, 4, 0, 5]}
    assert held(record) == expected
    record.fold()
    assert held(record) == expected


def test_a_batch_that_comes_much_later_again_replaces_the_first():
    record = record_of()
    for ids, values in (([7, 2], [1.0, 1.0]), ([9, 4], [1.0, 1.0]), ([7, 2], [2.0, 2.0]), ([2, 9], [3.0, 3.0])):
        add(record, ids, values)
    assert held(record) == {7: 2.0, 2: 3.0, 9: 3.0, 4: 1.0}


def test_an_epoch_of_more_batches_than_a_byte_counts_is_remembered_whole():
    """In backward order, so that no two batches are one slice."""
    order = list(range(600))
    record = record_of(order, n=600)
    for first in reversed(order[::2]):
        add(record, [first, first + 1])
    assert record.seen().all()
    assert held(record) == {i: float(i) for i in order}


def test_what_was_not_kept_is_seen_and_not_trained():
    record = record_of()
    add(record, [7, 2])
    add(record, [9, 4, 0], kept=torch.tensor([True, False, True]))
    add(record, [5])
    assert held(record) == {i: float(i) for i in [7, 2, 9, 0, 5]}
    assert record.seen().tolist() == [True] * 6 + [False] * 2
    add(record, [9, 4, 0], kept=torch.tensor([False, True, True]))
    assert set(held(record)) == {7, 2, 4, 0, 5}
    add(record, [9])  # kept, as all without a choice
    assert set(held(record)) == {7, 2, 4, 0, 5, 9}


@pytest.mark.parametrize(
    ("ids", "error", "text"),
    [
        ([10], IndexError, "index must lie in 0 .. 9, got 10; pass the ids that the loader yields"),
        ([7, -1], IndexError, "index must lie in 0 .. 9, got -1"),
        ([7, 1], ValueError, "index must hold samples selected for the running epoch, got 1; take ids and batches"),
        ([7, 2, 7], ValueError, "index must hold each sample once, got 7 twice or more"),
    ],
)
def test_a_wrong_id_is_refused_and_nothing_is_remembered_of_its_batch(ids, error, text):
    record = record_of()
    with pytest.raises(error) as caught:
        add(record, ids)
    assert text in str(caught.value)
    assert held(record) == {}
    add(record, [7, 2])
    assert held(record) == {7: 7.0, 2: 2.0}


def test_a_large_selection_is_compared_in_windows():
    """Longer than the ids that are kept ready at once; batches cross the border."""
    n = 150_001
    order = np.random.default_rng(0).permutation(n)
    record = record_of(order, n=n)
    for begin in range(0, n, 997):
        part = torch.from_numpy(order[begin : begin + 997])
        record.add(part, part.float())
    assert np.array_equal(record.values(), order.astype(np.float32))
    with pytest.raises(ValueError, match="each sample once"):
        record.add(torch.from_numpy(order[[5, 5]]), torch.ones(2))


# Ranks.


@pytest.mark.parametrize("num_ranks", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("again", [False, True])
def test_a_rank_takes_its_part_of_each_step_and_no_other(num_ranks, batch_size, again):
    order = np.random.default_rng(1).permutation(40).tolist()[:29]
    for rank in range(num_ranks):
        record = record_of(order, n=40, batch_size=batch_size, rank=rank, num_ranks=num_ranks)
        steps = record.steps
        for number in range(len(steps)):
            begin, end = steps.batch(number)
            for _ in range(1 + again):
                add(record, order[begin:end])
            theirs = [i for i in range(*steps[number]) if not begin <= i < end]
            for wrong in ([*range(begin, end), *theirs], theirs[:1], [begin, theirs[-1]]):
                with pytest.raises(ValueError, match="index must hold this rank's part of each step"):
                    add(record, [order[i] for i in sorted(wrong)])
        mine = {i for number in range(len(steps)) for i in order[slice(*steps.batch(number))]}
        assert set(held(record)) == mine


@pytest.mark.parametrize("num_ranks", [2, 3])
@pytest.mark.parametrize("how", [{}, {"stable_shapes": True}, {"drop_last": True}], ids=str)
def test_the_factors_of_uneven_parts_average_to_the_step_wherever_the_ids_are(num_ranks, how):
    """The mean over the ranks of factor·mean is the mean of the step, so each factor is its share of the step."""
    for rank in range(num_ranks):
        host, device = (record_of(batch_size=2, rank=rank, num_ranks=num_ranks, **how) for _ in range(2))
        for number, (begin, end) in enumerate(host.steps):
            mine = host.steps.batch(number)
            ids = ORDER[slice(*mine)]
            add(host, ids)
            device.add(on_device(*ids), on_device(*map(float, ids), dtype=torch.float32))
            assert host.factor == device.factor == num_ranks * (mine[1] - mine[0]) / (end - begin)


def test_a_resumed_epoch_goes_on_with_the_factors_of_the_steps_that_are_left():
    order = list(range(11))  # steps of 3, 4 and 4
    first = record_of(order, n=11, batch_size=2, num_ranks=2)
    first.add(on_device(0), on_device(0.0, dtype=torch.float32))
    assert first.factor == 2 / 3
    twin = EpochRecord(Selection(first.indices), 11)
    twin.load_state_dict(first.state_dict())
    twin.begin(first.steps)
    twin.add(on_device(3, 4), on_device(3.0, 4.0, dtype=torch.float32))
    assert twin.factor == 1


def test_the_whole_step_in_place_of_a_ranks_part_is_refused_at_the_first_batch():
    record = record_of(batch_size=2, num_ranks=2)
    with pytest.raises(ValueError, match="index must hold this rank's part of each step, got 9 of another rank's"):
        add(record, [7, 2, 9, 4])
    add(record, [7, 2])
    with pytest.raises(ValueError, match="index must hold this rank's part of each step, got 9 of another rank's"):
        add(record, [7, 2, 9, 4])


# What an epoch leaves without a loss.


def test_samples_between_those_that_were_seen_are_missing_and_those_after_the_last_are_not():
    record = record_of()
    assert not record.missing().any()
    add(record, [9, 0])
    assert record.indices[record.missing()].tolist() == [7, 2, 4]
    record.close(-1)  # the loop has received all batches, and trained the last
    assert record.indices[record.missing()].tolist() == [7, 2, 4, 5, 3, 8]


def test_the_rest_of_a_step_that_the_loop_stopped_in_is_not_missing():
    record = record_of(batch_size=4)
    add(record, [7, 2])
    assert not record.missing().any()
    add(record, [9, 4])
    assert not record.missing().any()


def test_the_rest_of_the_last_step_is_missing_since_nothing_comes_after_it():
    record = record_of(batch_size=4)
    add(record, [7, 2, 9, 4])
    add(record, [5, 8])
    assert record.indices[record.missing()].tolist() == [0, 3]
    record.close(-1)
    assert record.indices[record.missing()].tolist() == [0, 3]


def test_what_drop_last_leaves_out_is_never_missing():
    record = record_of(batch_size=3, drop_last=True)
    for ids in ([7, 2, 9], [4, 0]):
        add(record, ids)
    record.close(-1)
    assert record.indices[record.missing()].tolist() == [5]
    twin = EpochRecord(Selection(record.indices), 10)
    twin.load_state_dict(record.state_dict())
    assert twin.indices[twin.missing()].tolist() == [5]


def test_a_loop_may_train_what_drop_last_leaves_out():
    record = record_of(batch_size=3, drop_last=True)
    add(record, [3, 8])
    assert record.indices[record.missing()].tolist() == [7, 2, 9, 4, 0, 5]
    assert held(record) == {3: 3.0, 8: 8.0}


def test_an_epoch_of_which_nothing_was_seen_misses_nothing():
    """Then `update` was never called, which is warned of in another way."""
    record = record_of()
    record.close(-1)
    assert not record.missing().any()


def test_a_last_step_that_was_read_ahead_ends_the_epoch_when_it_is_trained():
    record = record_of(batch_size=2)
    record.close(3)
    add(record, [7, 2])
    add(record, [0, 5])
    assert record.indices[record.missing()].tolist() == [9, 4]
    add(record, [3])
    assert record.indices[record.missing()].tolist() == [9, 4, 8]


# Batches that come again after the last one.


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_late_batches_of_a_loop_that_reads_ahead_are_no_repeats(cut, again):
    record = record_of(batch_size=2)
    record.close(3)  # all batches were received before the first update
    for ids in cut:
        for _ in range(1 + again):
            add(record, ids)
    assert not record.repeats


@pytest.mark.parametrize("cut", [cut for cut in CUTS if len(cut) > 1], ids=str)
def test_a_second_round_is_noticed(cut):
    record = record_of(batch_size=2)
    for ids in cut:
        add(record, ids)
    record.close(-1)
    for ids in cut[-1:] * 2:
        add(record, ids)  # the last one again is a second update
    assert not record.repeats
    add(record, cut[0])
    assert record.repeats


def test_a_second_round_is_noticed_where_its_first_batch_is_the_one_expected_next():
    record = record_of(batch_size=2)
    for ids in ([3, 8], [7, 2], [9, 4], [0, 5]):
        add(record, ids)
    record.close(-1)
    add(record, [3, 8])
    assert record.repeats


# Ids and losses on a device.


def test_ids_on_a_device_are_looked_up_when_the_epoch_is_over():
    record = record_of(weights=[1, 2, 3, 4, 5, 6, 7, 8])
    weights = record.add(on_device(2, 4, 8), on_device(20.0, 40.0, 80.0, dtype=torch.float32))
    assert weights.tolist() == [2.0, 4.0, 8.0]
    record.add(on_device(4, 0), on_device(41.0, 1.0, dtype=torch.float32), on_device(True, False, dtype=torch.bool))
    assert held(record) == {2: 20.0, 4: 41.0, 8: 80.0}
    assert record.take_faults() == (0, 0)


@pytest.mark.parametrize(
    ("ids", "faults"),
    [([7, 1], (1, 0)), ([10, -1, 2], (2, 0)), ([7, 7, 2], (0, 1)), ([7, 7, 7, 99], (1, 2)), ([1, 6], (2, 0))],
)
def test_wrong_ids_on_a_device_are_counted_and_the_others_remembered(ids, faults):
    record = record_of(weights=[1, 2, 3, 4, 5, 6, 7, 8])
    weights = record.add(on_device(*ids), on_device(*map(float, ids), dtype=torch.float32))
    good = [place for place, i in enumerate(ids) if i in ORDER]
    assert weights[good].tolist() == [ORDER.index(ids[place]) + 1 for place in good]
    assert held(record) == {i: float(i) for i in ids if i in ORDER}
    assert record.take_faults() == faults
    assert record.take_faults() == (0, 0)


@pytest.mark.parametrize(
    ("mistaken", "text"),
    [
        (lambda chosen, others: others, "got 2 ids that epoch 0 did not select and 0 repeated in a batch; take both"),
        (lambda chosen, others: chosen[:1] * 2, "got 0 ids that epoch 0 did not select and 1 repeated in a batch"),
    ],
)
@pytest.mark.parametrize("found_by", ["begin_epoch", "synchronize", "state_dict"])
def test_wrong_ids_from_a_device_raise_when_the_epoch_is_over(found_by, mistaken, text):
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), 4)
    chosen = pruner.begin_epoch().indices.tolist()
    ids = mistaken(chosen, sorted({*range(4)} - {*chosen}))
    pruner.update(on_device(*ids), on_device(1.0, 2.0, dtype=torch.float32, requires_grad=True))
    with pytest.raises(RuntimeError) as caught:
        getattr(pruner, found_by)()
    assert text in str(caught.value)


def test_losses_may_move_between_host_and_device_within_an_epoch():
    record = record_of()
    add(record, [7, 2], [1.0, 2.0])
    record.add(torch.tensor([9, 4]), on_device(3.0, 4.0, dtype=torch.float32))
    record.add(on_device(0, 7), on_device(5.0, 6.0, dtype=torch.float32))
    add(record, [5], [7.0])
    assert held(record) == {7: 6.0, 2: 2.0, 9: 3.0, 4: 4.0, 0: 5.0, 5: 7.0}


# The log, and the state.


@pytest.mark.parametrize("device", [False, True])
def test_a_log_grows_and_keeps_the_order(device):
    log = Log(2)
    expected = []
    for number in range(40):
        values = torch.arange(number % 5 + 1, dtype=torch.float32) + number
        if device:
            values = values.as_subclass(OnDevice)
        if log.on_host is None:
            log.settle(on_host=values.is_cpu)
        kept = torch.arange(len(values)) % 2 == 0 if number > 20 else None
        log.append(np.arange(len(values)), values, kept)
        expected += [(float(v), kept is not None and i % 2 == 1) for i, v in enumerate(values.tolist())]
    values, left_out, ids = log.take()
    assert list(zip(values.tolist(), left_out.tolist(), strict=True)) == expected
    assert ids is None
    assert sum(size for _, size in log.entries) == len(expected)


@pytest.mark.parametrize("device", [False, True])
def test_a_log_that_grew_keeps_what_comes_without_a_choice(device):
    log = Log(4)
    log.settle(on_host=not device)
    for kept in (torch.tensor([True, False]), *[None] * 4):
        values = torch.ones(2)
        log.append(0, values.as_subclass(OnDevice) if device else values, kept)
    assert log.take()[1].tolist() == [False, True, *[False] * 8]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_log_takes_losses_of_any_precision(dtype):
    record = record_of()
    record.add(torch.tensor([7, 2]), torch.tensor([0.5, 1.5], dtype=dtype))
    assert held(record) == {7: 0.5, 2: 1.5}
    assert record.values().dtype == np.float32


def test_a_state_goes_round_in_the_middle_of_an_epoch():
    record = record_of(batch_size=2)
    add(record, [7, 2], [1.0, math.nan])
    add(record, [0, 5], kept=torch.tensor([True, False]))
    twin = EpochRecord(Selection(record.indices), 10)
    twin.load_state_dict(record.state_dict())
    twin.begin(Batching(2).steps(8))
    assert twin.seen().tolist() == record.seen().tolist()
    assert twin.trained().tolist() == record.trained().tolist()
    assert twin.steps_done(twin.steps).tolist() == [True, False, True, False]
    for each in (record, twin):
        add(each, [2], [9.0])
        add(each, [9, 4], [3.0, 4.0])
    assert held(twin) == held(record) == {7: 1.0, 2: 9.0, 9: 3.0, 4: 4.0, 0: 0.0}


def test_a_state_is_a_copy():
    record = record_of()
    add(record, [7, 2], kept=torch.tensor([True, False]))
    state = record.state_dict()
    before = {name: value.clone() for name, value in state.items() if isinstance(value, torch.Tensor)}
    add(record, [7, 2, 9], [5.0, 6.0, 7.0])
    record.fold()
    assert before
    assert all(torch.equal(state[name], value) for name, value in before.items())


@pytest.mark.parametrize("name", ["values", "stamps", "left_out"])
def test_a_state_of_another_size_is_refused(name):
    record = record_of()
    add(record, [7, 2], kept=torch.tensor([True, False]))
    state = {**record.state_dict(), name: torch.zeros(5)}
    with pytest.raises(ValueError, match=rf"the state must hold 8 samples of its epoch, got {name} of shape \(5,\)"):
        record_of().load_state_dict(state)


def test_asking_in_the_middle_of_an_epoch_changes_nothing():
    """Each question moves the losses seen so far to the host."""
    pruner, twin = Pruner(FullData(), 12, seed=3), Pruner(FullData(), 12, seed=3)
    for each in (pruner, twin):
        for number, (index, _) in enumerate(each.loader(range(12), batch_size=4)):
            for value in (1.0, 2.0):
                each.update(index, (index.float() * value + number).requires_grad_())
                if each is twin:
                    twin.report(), twin.scores(), twin.state_dict(), twin.table(), twin.preview(4)
    first, second = pruner.state_dict(), twin.state_dict()
    assert torch.equal(first["record"]["values"], second["record"]["values"])
    assert pruner.report().visits == twin.report().visits == 12


@LEFT_EARLY
@pytest.mark.parametrize("strategy", [FullData(), OrderedSGD(keep=0.5)], ids=repr)
def test_an_epoch_that_ends_in_the_middle_is_told_apart_from_a_whole_one(strategy):
    pruner = Pruner(strategy, 8)
    ids = torch.from_numpy(pruner.begin_epoch(4).indices.copy()).long()
    pruner.update(ids[:4], with_gradient(1.0, 2.0, 3.0, 4.0))
    assert pruner.report().missing == 0
    pruner.begin_epoch(4)
    assert pruner.report().failed == ()
