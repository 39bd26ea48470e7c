"""The norm of the gradient."""

from statistics import fmean

import numpy as np

from reference.reported import make_section, rows


def test_gradients_stand_with_their_correlation(long):
    results, values = long
    section = make_section("gradients", results)
    assert [chart.name for chart in section.charts] == ["gradient_norm_50", "gradient_norm_deviation_50", "joint_50"]
    correlations = [np.corrcoef(row, np.arange(10))[0, 1] for row in values]
    shown = f"{fmean(correlations):+.2f}".replace("-", "−")
    assert section.tables[0].lines[1:] == [["OrderDP 50 %", shown]]
    joint = {(int(row["seed"]), float(row["gradient norm"])) for row in rows(section.charts[2])}
    assert joint == {(seed, value) for seed in range(3) for value in values[seed]}
