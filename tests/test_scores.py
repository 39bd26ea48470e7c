import math

import pytest
import torch

from orderdp import FullData, OrderDP, Pruner
from orderdp.scores import Faults, ScoreTable

CPU = torch.device("cpu")


def keep_losses(old, losses):
    return dict.fromkeys(old, losses)


def table_of(selected: list[int], columns: dict[str, float] | None = None, n: int = 6, weights=None) -> ScoreTable:
    table = ScoreTable(n, {"score": math.inf} if columns is None else columns, CPU)
    indices = torch.tensor(selected).numpy()
    table.expect(indices, None if weights is None else torch.tensor(weights).numpy())
    return table


def recorded(table: ScoreTable, ids: list[int], values: list[float], epoch: int = 0, **more) -> torch.Tensor | None:
    return table.record(torch.tensor(ids), torch.tensor(values), epoch, keep_losses, **more)


def test_a_table_remembers_the_last_value_and_epoch_of_each_sample():
    table = table_of([0, 2, 4])
    recorded(table, [4, 0], [0.5, 1.5])
    recorded(table, [2, 4], [2.5, 3.5], epoch=1)
    assert table.snapshot()["score"].tolist() == [1.5, math.inf, 2.5, math.inf, 3.5, math.inf]
    assert table.last_epoch[:-1].tolist() == [0, -1, 1, -1, 1, -1]


def test_a_table_gives_the_weights_of_a_batch():
    table = table_of([0, 2, 4], weights=[2.0, 0.5, 1.0])
    assert recorded(table, [2, 0], [1.0, 1.0]).tolist() == [0.5, 2.0]
    assert recorded(table_of([0, 2]), [2, 0], [1.0, 1.0]) is None


def test_the_weights_of_one_epoch_are_gone_in_the_next():
    table = table_of([0, 2], weights=[2.0, 0.5])
    table.expect(torch.tensor([0, 2]).numpy(), None)
    assert recorded(table, [0], [1.0]) is None


def test_what_was_not_kept_is_neither_recorded_nor_visited():
    table = table_of([0, 1, 2])
    recorded(table, [0, 1, 2], [5.0, 6.0, 7.0], kept=torch.tensor([True, False, True]))
    assert table.snapshot()["score"][:3].tolist() == [5.0, math.inf, 7.0]
    assert table.last_epoch[:3].tolist() == [0, -1, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_counted_once_and_not_recorded(bad):
    table = table_of([0, 1, 2])
    recorded(table, [0, 1], [1.0, bad])
    assert table.snapshot()["score"][:2].tolist() == [1.0, math.inf]
    assert table.last_epoch[:2].tolist() == [0, 0]
    assert table.take_faults() == Faults(non_finite=1)
    assert table.take_faults() == Faults()


def test_a_score_that_overflows_float32_is_not_finite():
    table = table_of([0])
    table.record(torch.tensor([0]), torch.tensor([1e300], dtype=torch.float64), 0, keep_losses)
    assert table.take_faults().non_finite == 1


def test_a_snapshot_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        table_of([0]).snapshot()["score"][0] = 1.0


def test_closing_an_epoch_counts_its_visits():
    table = table_of([0, 1, 2])
    recorded(table, [0, 1], [1.0, 1.0], epoch=0)
    table.close(0)
    recorded(table, [1, 2], [1.0, 1.0], epoch=1)
    table.close(1)
    assert table.visits[:-1].tolist() == [1, 2, 1, 0, 0, 0]


def test_ids_on_a_device_are_counted_where_they_are():
    """The rule for ids that the host cannot read without waiting, called directly since it needs no such device."""
    table = table_of([0, 2, 4])
    kept = table._count_mistakes(torch.tensor([0, 1, 4, 4, -1, 6, 99]))
    spare = table.num_samples
    assert kept.tolist() == [0, spare, 4, 4, spare, spare, spare]
    faults = table.take_faults()
    assert faults.foreign == 4
    assert faults.repeated >= 1
    assert table.take_faults() == Faults()


def test_right_ids_on_a_device_are_no_fault():
    table = table_of([0, 2, 4])
    assert table._count_mistakes(torch.tensor([4, 0])).tolist() == [4, 0]
    assert table.take_faults() == Faults()


@pytest.mark.parametrize("found_by", [lambda pruner: pruner.begin_epoch(), lambda pruner: pruner.report()])
@pytest.mark.parametrize(
    ("mistaken", "text"),
    [
        (lambda chosen, others: others, "got 2 ids that epoch 0 did not select and 0 repeated in a batch; take both"),
        (lambda chosen, others: chosen[:1] * 2, "got 0 ids that epoch 0 did not select and 1 repeated in a batch"),
    ],
)
def test_ids_counted_as_mistaken_raise_when_the_epoch_is_over(found_by, mistaken, text):
    pruner = Pruner(OrderDP(explore=1.0, exploit=0.5), 4)
    chosen = pruner.begin_epoch().indices.tolist()
    pruner._table._count_mistakes(torch.tensor(mistaken(chosen, sorted({*range(4)} - {*chosen}))))
    with pytest.raises(RuntimeError) as caught:
        found_by(pruner)
    assert text in str(caught.value)


def test_moving_a_table_keeps_what_it_holds():
    table = table_of([0, 1], weights=[2.0, 3.0])
    recorded(table, [1], [5.0])
    table.move(CPU)
    assert table.device == CPU
    assert table.snapshot()["score"][1] == 5.0
    assert recorded(table, [0], [1.0]).tolist() == [2.0]


def test_all_of_a_table_moves():
    table = table_of([0, 1], weights=[2.0, 3.0])
    table.move(torch.device("meta"))
    tensors = [value for value in vars(table).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 6  # last_epoch, visits, weights, selected, finite, mistakes
    assert all(value.is_meta for value in [*tensors, *table.columns.values()])


def test_a_state_goes_round():
    table = table_of([0, 1, 2])
    recorded(table, [0, 1], [1.0, 2.0], epoch=3)
    table.close(3)
    twin = table_of([5])
    twin.load_state_dict(table.state_dict())
    assert twin.snapshot()["score"].tolist() == table.snapshot()["score"].tolist()
    assert twin.last_epoch[:-1].tolist() == table.last_epoch[:-1].tolist()
    assert twin.visits[:-1].tolist() == [1, 1, 0, 0, 0, 0]


def test_a_state_is_a_copy():
    table = table_of([0, 1, 2])
    state = table.state_dict()
    recorded(table, [0], [1.0])
    assert state["columns"]["score"][0] == math.inf
    assert state["last_epoch"][0] == -1


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
def test_a_state_that_does_not_fit_changes_nothing(change, text):
    table, other = table_of([0, 1]), table_of([0, 1])
    recorded(table, [0], [1.0])
    recorded(other, [0], [2.0], epoch=5)
    state = other.state_dict()
    change(state)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        table.load_state_dict(state)
    assert text in str(caught.value)
    assert table.snapshot()["score"][0] == 1.0
    assert table.last_epoch[0] == 0


def test_a_table_without_columns_still_knows_who_was_trained():
    table = table_of([0, 1], columns={})
    recorded(table, [1], [1.0])
    assert table.snapshot() == {}
    assert table.last_epoch[:2].tolist() == [-1, 0]


def test_full_data_remembers_visits_without_a_column():
    pruner = Pruner(FullData(), 4)
    ids = torch.from_numpy(pruner.begin_epoch().indices.copy())
    pruner.update(ids, torch.ones(4, requires_grad=True))
    assert pruner.visits().tolist() == [1, 1, 1, 1]
    assert pruner.scores() == {}
