"""The direction of the gradient."""

import pytest

from orderdp.comparison.results import read_results
from orderdp.training.methods import method_of
from reference.reported import make_section, points


def measured(seed, epoch, *, surrogate):
    full = {"cosine": 0.9 + seed / 100, "norm_ratio": 1.5}
    return {"full": full, **({"surrogate": {"cosine": 0.99, "norm_ratio": 1.0}} if surrogate else {})}


def test_alignment_is_shown_where_it_was_measured(made):
    folder = made(methods=tuple(map(method_of, ("orderdp,prune_ratio=0.5", "infobatch,prune_ratio=0.5"))), seeds=(0, 1))
    for label, surrogate in (("OrderDP 50 %", True), ("InfoBatch 50 %", False)):
        folder.finish(
            label,
            (90.0, 91.0),
            epochs=10,
            alignment=lambda seed, epoch, surrogate=surrogate: (
                measured(seed, epoch, surrogate=surrogate) if epoch % 5 == 0 else None
            ),
        )
    section = make_section("alignment", read_results(folder.path), edges=(0.0, 0.5, 1.0))
    tables = {table.name: table.lines for table in section.tables}
    assert tables["cosine_full"][1:] == [
        [label, *["0.905 ± 0.007"] * 3] for label in ("OrderDP 50 %", "InfoBatch 50 %")
    ]
    assert tables["norm_ratio_full"][1] == ["OrderDP 50 %", *["1.500 ± 0.000"] * 3]
    assert tables["cosine_surrogate"][1:] == [["OrderDP 50 %", *["0.990 ± 0.000"] * 3]]
    assert set(tables) == {"cosine_full", "norm_ratio_full", "cosine_surrogate", "norm_ratio_surrogate"}
    by_name = {chart.name: chart for chart in section.charts}
    assert set(by_name) == {"cosine_full_50", "cosine_surrogate_50"}
    curves = points(by_name["cosine_full_50"], "epoch", "cosine to the full gradient")
    assert curves["InfoBatch 50 %"] == [(5.0, pytest.approx(0.905)), (10.0, pytest.approx(0.905))]


def test_alignment_without_a_surrogate_shows_none(made):
    folder = made(methods=({"strategy": "infobatch", "prune_ratio": 0.5},), against=())
    folder.finish("InfoBatch 50 %", (90.0,), alignment=lambda seed, epoch: measured(seed, epoch, surrogate=False))
    section = make_section("alignment", read_results(folder.path), edges=(0.0, 1.0))
    assert [table.name for table in section.tables] == ["cosine_full", "norm_ratio_full"]
    assert [chart.name for chart in section.charts] == ["cosine_full_50"]


def test_what_was_not_measured_is_left_out(pair):
    results = read_results(pair.path)
    assert make_section("alignment", results, edges=(0.0, 1.0)) is None
    assert make_section("decomposition", results) is None
