"""How often samples were trained."""

import pytest

from orderdp.comparison.results import read_results
from orderdp.report.canvas import Canvas
from orderdp.report.sections.usage import _cut_spikes
from reference.reported import SHORT, make_section, rows


def test_usage_is_the_share_of_the_samples_by_visits(pair):
    folder = pair.folder("OrderDP 50 %", 1)
    other = {"never_seen": 0.0, "gini": 0.5, "histogram": [0, 0, 0, 200], "class_shares": [0.1] * 10}
    folder.write_result({**folder.result(), "coverage": other})
    section = make_section("usage", read_results(pair.path))
    (chart,), (table, losses) = section.charts, section.tables
    assert losses.lines[1] == ["OrderDP (prunes 43 %)", "0.333"]  # 1/3 after three epochs
    shares = {int(row["epochs"]): float(row["share of the samples"]) for row in rows(chart)}
    # Two seeds have 10, 90 and 100 samples of 0, 1 and 2 visits; one has 200 of 3.
    assert shares == pytest.approx({0: 0.1 / 3, 1: 0.9 / 3, 2: 1 / 3, 3: 1 / 3})
    assert {row["run"] for row in rows(chart)} == {"OrderDP 50 %"}
    assert table.lines[0] == [
        *("run", "never trained", "Gini coefficient", "most visits"),
        *("smallest share of a class", "largest share of a class", "largest age, epochs"),
    ]
    assert table.lines[1] == ["OrderDP 50 %", "3.33 %", "0.333", "2.3", "8.7 %", "11.3 %", "2.0"]
    assert [line[0] for line in table.lines[1:]] == ["OrderDP 50 %", "full data", SHORT]


def test_the_loss_of_the_last_epoch_is_a_mean_over_the_seeds(made):
    folder = made(methods=({"name": "orderdp", "prune_ratio": 0.5},), against=(), seeds=(0, 1, 2))
    folder.finish("OrderDP 50 %", (90.0, 91.0, 92.0), loss=lambda seed, epoch: seed**2 + epoch / 10)
    _, losses = make_section("usage", read_results(folder.path)).tables
    assert losses.lines[1][1] == "1.967"  # of 0.3, 1.3 and 4.3


def test_the_bars_of_usage_are_centred_on_their_number_of_epochs_and_inside_the_frame(pair, drawn):
    make_section("usage", read_results(pair.path))
    (stairs,) = drawn[0].patches
    values, edges, _ = stairs.get_data()
    assert list((edges[:-1] + edges[1:]) / 2) == [0, 1, 2]
    assert all(float(tick).is_integer() for tick in drawn[0].get_xticks())
    assert drawn[0].get_ylim()[0] == 0
    assert drawn[0].get_ylim()[1] > max(values)  # one method alone is no spike among others


def test_the_column_of_mastered_samples_is_explained_where_it_is(pair):
    (table, _) = make_section("usage", read_results(pair.path)).tables
    assert "Mastered" not in table.note
    for seed in pair.plan.seeds:
        run = pair.folder("OrderDP 50 %", seed)
        run.write_metrics([{**line, "mastered": 0.25} for line in run.metrics()])
    (table, _) = make_section("usage", read_results(pair.path)).tables
    assert table.lines[1][table.lines[0].index("mastered")] == "25.0 %"
    assert table.note.endswith("blank for methods that remember no losses.")


@pytest.mark.parametrize(("highest", "top"), [(0.59, None), (0.61, 0.6)])
def test_a_peak_of_twice_the_middle_one_is_cut_off(highest, top):
    canvas = Canvas("epochs", "share", ("run", "epochs", "share"))
    canvas.axes.plot([0, 1], [0, 1])
    canvas.rows += [("a", 0, 0.1), ("b", 0, 0.3), ("b", 1, 0.2), ("c", 0, highest)]
    note = _cut_spikes(canvas)
    assert note == (f"The frame cuts off the highest peaks, which reach {highest:.2f}." if top else "")
    assert bool(canvas.axes.get_ylim()[1] == pytest.approx(0.6)) is (top is not None)
