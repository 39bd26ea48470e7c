"""Test accuracy over seconds, and over samples."""

from __future__ import annotations

from itertools import accumulate
from operator import itemgetter

from orderdp.comparison.results import Results
from orderdp.report.curves import XAxis, YAxis, curve_chart
from orderdp.report.placement import ratios_of
from orderdp.report.section import Choices, Section, note_of

_SAMPLES = XAxis("samples that went through the model", lambda lines: [line["samples_forward"] for line in lines])
_ACCURACY = YAxis("test accuracy, %", itemgetter("accuracy"), end=True)


def section(results: Results, _choices: Choices) -> Section | None:
    """Returns two charts for each prune ratio; nothing without the epochs."""
    if not results.has_epochs:
        return None
    seconds = results.seconds
    time = XAxis(f"{seconds.name} without evaluation", lambda lines: list(accumulate(map(seconds.of, lines))))
    charts = [
        curve_chart(results, ratio, x, _ACCURACY, name=f"{name}_to_accuracy", title=f"Test accuracy over {name}")
        for ratio in ratios_of(results)
        for name, x in (("time", time), ("samples", _SAMPLES))
    ]
    text = f"Means over the seeds. Full data is grey. The frame leaves out the first epochs. {note_of(seconds)}"
    return Section("Time to accuracy", text, charts=charts)
