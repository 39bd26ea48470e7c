"""A diagnostic that is a row is measured by runs and shown by reports; nothing else has to change."""

import pytest

from orderdp.comparison.grid import Comparison
from orderdp.comparison.results import read_results
from orderdp.comparison.workers import start
from orderdp.diagnostics import registry
from orderdp.diagnostics.moment import When
from orderdp.diagnostics.registry import Diagnostic, View
from reference.reported import make_section, points


def test_a_new_row_is_measured_by_a_run_and_shown_by_a_report(tmp_path, tiny, monkeypatch):
    view = View(
        "seen", "Samples seen", ("seen",), table="progress", chart="gradients", y_label="samples seen", digits=1
    )
    row = Diagnostic(
        "seen", "samples trained at least once", When.EPOCH, lambda moment: 200 - moment.report.never_seen, (view,)
    )
    monkeypatch.setattr(registry, "DIAGNOSTICS", (*registry.DIAGNOSTICS, row))
    start(Comparison(tiny(prune_ratio=0.5), against=()), tmp_path / "run", show=False)
    results = read_results(tmp_path / "run")
    table = next(table for table in make_section("progress", results).tables if table.name.endswith("seen"))
    chart = next(chart for chart in make_section("gradients", results).charts if chart.name.startswith("seen"))
    (curve,) = points(chart, "epoch", "samples seen").values()
    assert table.lines[1][-1] == f"{curve[-1][1]:.1f}"
    assert curve[0] == (1, 100)
    assert curve[-1][1] == pytest.approx(200, abs=60)
