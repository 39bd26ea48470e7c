"""The diagnostics of a run, a row each: what it measures, when, and where a report shows it.

The training loop and the report iterate over `DIAGNOSTICS`. A new diagnostic is a function, a row here, its test and
its line in docs/diagnostics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orderdp.diagnostics.alignment import selection_alignment
from orderdp.diagnostics.coverage import run_coverage
from orderdp.diagnostics.dynamics import ROLLING_WINDOW, mean_deviation, mean_norm
from orderdp.diagnostics.moment import CHECKPOINTS, Moment, When
from orderdp.diagnostics.stability import similarity


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class View:
    """One number of a diagnostic, as a report shows it.

    Args:
        name: name of its files: "cosine_full".
        title: heading of its table and its chart: "Cosine to the full gradient".
        path: keys that lead to the number, in a line of metrics, or in the result if it is measured at the end.
        table: name of the section that shows it in a table; None for none.
        chart: name of the section that draws it over the epochs, a curve for each method; None for none.
        y_label: of the chart's vertical axis, with the unit.
        unit: behind each number of the table, such as "%".
        digits: decimals in the table.
        note: what a reader of the table must know; "" for nothing.
        beside_full: whether the chart shows full data too.
        read: turns the value at the path into the number.
    """

    name: str
    title: str
    path: tuple[str, ...]
    table: str | None = None
    chart: str | None = None
    y_label: str = ""
    unit: str = ""
    digits: int = 3
    note: str = ""
    beside_full: bool = False
    read: Callable[[Any], float] = _as_it_is

    def of(self, record: Mapping[str, Any]) -> float | None:
        """Returns the number in a line of metrics, or in a result; None if it was not measured."""
        value: Any = record
        for key in self.path:
            value = value.get(key)
            if value is None:
                return None
        return self.read(value)


@dataclass(frozen=True)
class Diagnostic:
    """Something that a run measures.

    Args:
        key: key of its value in the line of metrics, or in the result if it is measured at the end.
        title: what it is, in a few words.
        when: when it is measured.
        measure: returns plain values for JSON, or None if there is nothing to measure.
        views: how a report shows it.
    """

    key: str
    title: str
    when: When
    measure: Callable[[Moment], Any]
    views: tuple[View, ...] = ()


def _alignment_views(other: str, what: str) -> tuple[View, View]:
    """Returns the views of the two numbers that compare the selection's gradient with another one."""
    cosine = View(
        f"cosine_{other}",
        f"Cosine to {what}",
        ("alignment", other, "cosine"),
        table="alignment",
        chart="alignment",
        y_label=f"cosine to {what}",
    )
    ratio = View(f"norm_ratio_{other}", f"Norm ratio to {what}", ("alignment", other, "norm_ratio"), table="alignment")
    return cosine, ratio


_PART = "A shorter schedule may end within an epoch, of which it trains a part."

DIAGNOSTICS = (
    Diagnostic(
        "gradient_norm",
        "mean norm of the gradient over the epoch's steps",
        When.EPOCH,
        lambda moment: mean_norm(moment.gradient_norms, moment.first_step),
        (
            View(
                "gradient_norm",
                "Gradient norm",
                ("gradient_norm",),
                table="progress",
                chart="gradients",
                y_label="mean over the epoch's steps",
                beside_full=True,
            ),
        ),
    ),
    Diagnostic(
        "gradient_norm_deviation",
        f"standard deviation of that norm over {ROLLING_WINDOW} steps, mean over the epoch",
        When.EPOCH,
        lambda moment: mean_deviation(moment.gradient_norms, moment.first_step),
        (
            View(
                "gradient_norm_deviation",
                f"Standard deviation of the gradient norm over {ROLLING_WINDOW} steps",
                ("gradient_norm_deviation",),
                table="progress",
                chart="gradients",
                y_label=f"standard deviation over {ROLLING_WINDOW} steps",
                beside_full=True,
            ),
        ),
    ),
    Diagnostic(
        "jaccard",
        "Jaccard similarity of the samples trained in this epoch and in the one before",
        When.EPOCH,
        lambda moment: similarity(moment.trained_before, moment.trained),
        (
            View(
                "jaccard",
                "Jaccard similarity to the epoch before",
                ("jaccard",),
                table="stability",
                chart="stability",
                y_label="Jaccard similarity to the epoch before",
                note="Jaccard similarity of the samples trained in consecutive epochs. "
                f"Two independent uniform draws of a share p have p/(2 − p). {_PART}",
            ),
        ),
    ),
    Diagnostic(
        "jaccard_checkpoint",
        f"the same of two checkpoints, 1/{CHECKPOINTS} of the run apart",
        When.CHECKPOINT,
        lambda moment: similarity(moment.trained_at_checkpoint, moment.trained),
        (
            View(
                "jaccard_checkpoint",
                "Jaccard similarity to the checkpoint before",
                ("jaccard_checkpoint",),
                table="stability",
                note=f"Jaccard similarity of the samples trained in epochs 1/{CHECKPOINTS} of the run apart.",
            ),
        ),
    ),
    Diagnostic(
        "alignment",
        "cosine and norm ratio of the selection's gradient to the full one, and to ∇L_q",
        When.ASKED,
        selection_alignment,
        (*_alignment_views("full", "the full gradient"), *_alignment_views("surrogate", "∇L_q")),
    ),
    Diagnostic(
        "coverage",
        "how training was spread over samples and classes",
        When.END,
        run_coverage,
        (
            View(
                "never_seen",
                "never trained",
                ("coverage", "never_seen"),
                table="usage",
                unit="%",
                digits=2,
                read=lambda share: 100 * float(share),
            ),
            View("gini", "Gini coefficient", ("coverage", "gini"), table="usage"),
            View(
                "most_visits",
                "most visits",
                ("coverage", "histogram"),
                table="usage",
                digits=1,
                read=lambda histogram: len(histogram) - 1,
            ),
            View(
                "smallest_class_share",
                "smallest share of a class",
                ("coverage", "class_shares"),
                table="usage",
                unit="%",
                digits=1,
                read=lambda shares: 100 * float(min(shares)),
            ),
            View(
                "largest_class_share",
                "largest share of a class",
                ("coverage", "class_shares"),
                table="usage",
                unit="%",
                digits=1,
                read=lambda shares: 100 * float(max(shares)),
            ),
        ),
    ),
    Diagnostic(
        "never_seen",
        "samples that no epoch has trained",
        When.EPOCH,
        lambda moment: moment.report.never_seen,
    ),
    Diagnostic(
        "mastered",
        "share of the samples whose last-seen loss is that of a probability of one half, or lower",
        When.EPOCH,
        lambda moment: None if math.isnan(moment.report.mastered) else moment.report.mastered,
        (
            View(
                "mastered",
                "mastered",
                ("mastered",),
                table="usage",
                unit="%",
                digits=1,
                read=lambda share: 100 * float(share),
            ),
        ),
    ),
    Diagnostic(
        "mean_age",
        "epochs since a sample was last trained, mean over those that ever were",
        When.EPOCH,
        lambda moment: moment.report.mean_age,
    ),
    Diagnostic(
        "max_age",
        "the largest such age",
        When.EPOCH,
        lambda moment: moment.report.max_age,
        (View("max_age", "largest age, epochs", ("max_age",), table="usage", digits=1),),
    ),
)


def measure(moment: Moment, kinds: Collection[When]) -> dict[str, Any]:
    """Returns what the epoch's line of metrics holds of the diagnostics; None for one that is not due."""
    return {row.key: row.measure(moment) if row.when in kinds else None for row in DIAGNOSTICS if row.when != When.END}


def measure_at_end(moment: Moment) -> dict[str, Any]:
    """Returns what the result of a run holds of the diagnostics."""
    return {row.key: row.measure(moment) for row in DIAGNOSTICS if row.when == When.END}


def in_table(section: str) -> Iterator[View]:
    """Yields the views that a section of the report shows in tables."""
    return (view for row in DIAGNOSTICS for view in row.views if view.table == section)


def in_chart(section: str) -> Iterator[View]:
    """Yields the views that a section of the report draws over the epochs."""
    return (view for row in DIAGNOSTICS for view in row.views if view.chart == section)
