"""The table of what is remembered of each sample: it changes once an epoch, and knows which samples failed."""

import math

import numpy as np
import pytest
import torch

from orderdp import FullData, Pruner
from orderdp.scores import ScoreTable
from reference.loop import begun

N = 6


def keep_losses(old, losses):
    return dict.fromkeys(old, losses)


def average(old, losses):
    """A moving average and a count: neither recovers from -inf by itself."""
    mean = torch.where(old["count"] > 0, (old["mean"] + losses) / 2, losses)
    return {"mean": mean, "count": old["count"] + 1}


def table_of(columns: dict[str, float] | None = None) -> ScoreTable:
    return ScoreTable(N, {"score": math.inf} if columns is None else columns)


def close(table, ids, values, missing=(), epoch=0, observe=None):
    arrays = np.array(ids, dtype=np.int32), np.array(values, dtype=np.float32), np.array(missing, dtype=np.int32)
    table.close(*arrays, epoch, observe)


def test_a_table_remembers_the_last_value_the_last_epoch_and_the_visits_of_each_sample():
    table = table_of()
    close(table, [4, 0], [0.5, 1.5])
    close(table, [2, 4], [2.5, 3.5], epoch=1)
    assert table.columns["score"].tolist() == [1.5, math.inf, 2.5, math.inf, 3.5, math.inf]
    assert table.last_epoch.tolist() == [0, -1, 1, -1, 1, -1]
    assert table.visits.tolist() == [1, 0, 1, 0, 2, 0]
    assert table.failed.tolist() == []


def test_a_rule_that_returns_the_values_does_what_no_rule_does():
    asked, unasked = table_of({"a": 0.0, "b": math.inf}), table_of({"a": 0.0, "b": math.inf})
    for observe, table in ((keep_losses, asked), (None, unasked)):
        close(table, [4, 0, 1], [0.5, 1.5, math.nan], [2], observe=observe)
        close(table, [4, 1], [2.5, 3.5], [0], epoch=1, observe=observe)
    assert all(np.array_equal(asked.columns[name], unasked.columns[name]) for name in "ab")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_fails_its_sample_in_every_column(bad):
    table = table_of({"mean": math.inf, "count": 0.0})
    close(table, [0, 1, 2], [1.0, 2.0, 3.0], observe=average)
    close(table, [1, 2, 3], [bad, 5.0, bad], epoch=1, observe=average)
    assert table.failed.tolist() == [1, 3]
    assert table.columns["mean"].tolist() == [1.0, -math.inf, 4.0, -math.inf, math.inf, math.inf]
    assert table.columns["count"].tolist() == [1.0, -math.inf, 2.0, -math.inf, 0.0, 0.0]
    assert table.visits.tolist() == [1, 2, 2, 1, 0, 0]  # they were trained


def test_a_missing_sample_fails_without_a_visit():
    table = table_of()
    close(table, [0, 1], [1.0, 2.0])
    close(table, [1], [3.0], missing=[0, 5], epoch=1)
    assert table.failed.tolist() == [0, 5]
    assert table.columns["score"].tolist() == [-math.inf, 3.0, math.inf, math.inf, math.inf, -math.inf]
    assert table.visits.tolist() == [1, 2, 0, 0, 0, 0]
    assert table.last_epoch.tolist() == [0, 1, -1, -1, -1, -1]


def test_a_finite_value_heals_and_what_was_before_is_forgotten():
    """-inf in an average would stay for ever, so the sample begins anew."""
    table = table_of({"mean": math.inf, "count": 0.0})
    close(table, [0, 1, 2], [1.0, 8.0, 2.0], observe=average)
    close(table, [2], [4.0], missing=[0, 1], epoch=1, observe=average)
    close(table, [0, 2], [5.0, 5.0], epoch=2, observe=average)
    assert table.failed.tolist() == [1]
    table.record(np.array([1]), np.array([7.0], dtype=np.float32), average)
    assert table.failed.tolist() == []
    assert table.columns["mean"][:3].tolist() == [5.0, 7.0, 4.0]
    assert table.columns["count"][:3].tolist() == [1.0, 1.0, 3.0]


def test_a_sample_that_fails_twice_is_listed_once_and_one_that_is_not_selected_stays_failed():
    table = table_of()
    close(table, [0], [math.nan], missing=[3])
    close(table, [0, 1], [math.nan, 1.0], missing=[2], epoch=1)
    assert table.failed.tolist() == [0, 2, 3]
    assert table.failed.dtype == np.int64


def test_scores_from_outside_count_as_no_visit():
    table = table_of()
    table.record(np.array([5, 2], dtype=np.int32), np.array([0.5, 1.5], dtype=np.float32), None)
    assert table.columns["score"].tolist() == [math.inf, math.inf, 1.5, math.inf, math.inf, 0.5]
    assert table.visits.tolist() == [0] * N
    assert table.last_epoch.tolist() == [-1] * N


def test_many_samples_are_recorded_as_few_are():
    """More than are moved at once."""
    n = (1 << 20) + 1234
    table = ScoreTable(n, {"mean": math.inf, "count": 0.0})
    rng = np.random.default_rng(0)
    ids, values = rng.permutation(n).astype(np.int32), rng.random(n, dtype=np.float32)
    values[[3, n - 3]] = math.nan
    table.close(ids, values, ids[:0], 0, average)
    expected = np.empty(n, dtype=np.float32)
    expected[ids] = np.where(np.isnan(values), -math.inf, values)
    assert np.array_equal(table.columns["mean"], expected)
    assert table.failed.tolist() == sorted(ids[[3, n - 3]].tolist())
    assert (table.visits == 1).all()
    assert (table.last_epoch == 0).all()


def test_counters_take_two_bytes_until_they_need_four():
    table = table_of()
    close(table, [0], [1.0], epoch=32_766)
    assert (table.visits.dtype, table.last_epoch.dtype) == (np.int16, np.int16)
    close(table, [0, 1], [1.0, 1.0], epoch=32_768)
    assert table.last_epoch.tolist() == [32_768, 32_768, -1, -1, -1, -1]
    assert table.visits.tolist() == [2, 1, 0, 0, 0, 0]
    close(table, [1], [1.0], epoch=70_000)
    assert table.last_epoch.tolist() == [32_768, 70_000, -1, -1, -1, -1]


def test_a_sample_that_every_epoch_trains_is_counted_beyond_two_bytes():
    table = table_of()
    for epoch in range(32_770):
        close(table, [0], [1.0], epoch=epoch)
    assert (table.visits[0], table.last_epoch[0]) == (32_770, 32_769)


@pytest.mark.parametrize("epoch", [5, 32_766, 32_767, 40_000])
def test_a_state_with_any_number_of_epochs_goes_on(epoch):
    table = table_of()
    close(table, [0, 2], [1.0, 1.0], epoch=epoch)
    twin = table_of().restored(table.state_dict())
    for each in (table, twin):
        close(each, [0, 1], [2.0, 3.0], epoch=epoch + 1)
        assert each.last_epoch.tolist() == [epoch + 1, epoch + 1, epoch, -1, -1, -1]
        assert each.visits.tolist() == [2, 1, 1, 0, 0, 0]


def test_a_snapshot_is_read_only_and_shows_the_table():
    table = table_of()
    columns, visits, failed = table.snapshot()
    assert failed is None
    for array in (columns["score"], visits):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    close(table, [0, 3], [2.0, math.nan])
    assert columns["score"][0] == 2.0
    failed = table.snapshot()[2]
    assert failed.tolist() == [3]
    with pytest.raises(ValueError, match="read-only"):
        failed[0] = 1
    assert table.columns["score"].flags.writeable


@pytest.mark.parametrize("name", ["mean", "count"])
def test_the_checksum_holds_every_column(name):
    table, other = table_of({"mean": math.inf, "count": 0.0}), table_of({"mean": math.inf, "count": 0.0})
    assert table.checksum() == other.checksum()
    other.columns[name][3] = 0.5
    assert table.checksum() != other.checksum()


def test_a_copy_is_independent():
    table = table_of()
    close(table, [0], [math.nan])
    twin = table.copy()
    close(twin, [0, 1], [1.0, 2.0], epoch=1)
    assert table.columns["score"].tolist() == [-math.inf] + [math.inf] * 5
    assert (table.failed.tolist(), twin.failed.tolist()) == ([0], [])


def test_samples_that_are_added_were_never_seen():
    table = table_of({"mean": math.inf, "count": 0.0})
    close(table, [0, 5], [1.0, math.nan], observe=average)
    table.resize(8)
    assert table.columns["mean"].tolist() == [1.0, *[math.inf] * 4, -math.inf, math.inf, math.inf]
    assert table.columns["count"].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, -math.inf, 0.0, 0.0]
    assert table.last_epoch.tolist() == [0, -1, -1, -1, -1, 0, -1, -1]
    assert table.visits.tolist() == [1, 0, 0, 0, 0, 1, 0, 0]
    close(table, [7], [3.0], epoch=1, observe=average)
    assert table.columns["mean"][7] == 3.0
    assert table.restored(table.state_dict()).failed.tolist() == [5]


def test_a_state_goes_round():
    table = table_of()
    close(table, [0, 1, 4], [1.0, 2.0, math.nan], missing=[3])
    twin = table_of().restored(table.state_dict())
    assert twin.columns["score"].tolist() == table.columns["score"].tolist()
    assert twin.last_epoch.tolist() == [0, 0, -1, -1, 0, -1]
    assert twin.visits.tolist() == [1, 1, 0, 0, 1, 0]
    assert twin.failed.tolist() == [3, 4]


def test_a_state_is_a_copy():
    table = table_of()
    state = table.state_dict()
    close(table, [0, 1], [1.0, math.nan])
    assert state["columns"]["score"].tolist() == [math.inf] * N
    assert state["last_epoch"].tolist() == [-1] * N
    assert state["failed"].tolist() == []
    loaded = table_of().restored(state)
    close(loaded, [0], [1.0])
    assert state["columns"]["score"].tolist() == [math.inf] * N


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s["columns"].update(other=s["visits"]), "must hold the columns ['score'], got ['other', 'score']"),
        (lambda s: s["columns"].clear(), "must hold the columns ['score'], got []; load it into a pruner with the"),
        (lambda s: s["columns"].update(score=torch.ones(5)), "must hold 6 samples, got score of shape (5,); load it"),
        (lambda s: s.update(last_epoch=torch.ones(7)), "must hold 6 samples, got last_epoch of shape (7,)"),
        (lambda s: s.update(visits=torch.ones(6, 1)), "must hold 6 samples, got visits of shape (6, 1)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, text):
    table = table_of()
    state = table.state_dict()
    change(state)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        table.restored(state)
    assert text in str(caught.value)


def test_a_state_of_other_columns_keeps_those_that_are_shared():
    table = table_of({"score": math.inf, "old": 0.0})
    close(table, [0, 1], [2.0, math.nan])
    twin = table_of({"score": math.inf, "new": 7.0}).restored(table.state_dict(), other_columns=True)
    assert twin.columns["score"].tolist() == [2.0, -math.inf, *[math.inf] * 4]
    assert twin.columns["new"].tolist() == [7.0, -math.inf, 7.0, 7.0, 7.0, 7.0]
    assert twin.visits.tolist() == [1, 1, 0, 0, 0, 0]


def test_a_table_without_columns_still_knows_who_was_trained_and_who_failed():
    table = table_of({})
    close(table, [1, 2], [1.0, math.nan], missing=[3])
    assert table.snapshot()[0] == {}
    assert table.last_epoch.tolist() == [-1, 0, 0, -1, -1, -1]
    assert table.failed.tolist() == [2, 3]


def test_full_data_remembers_visits_without_a_column():
    pruner, ids = begun(FullData(), 4)
    pruner.update(ids, torch.ones(4, requires_grad=True))
    assert pruner.visits().tolist() == [1, 1, 1, 1]
    assert pruner.scores() == {}
    assert Pruner(FullData(), 4).scores() == {}
