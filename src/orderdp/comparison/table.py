"""The table of a comparison: one row for each run, over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table: mean and standard deviation over the seeds, which is 0 for a single one.

    Args:
        label: which run.
        seeds: number of seeds.
        accuracy_last: accuracy after the last epoch, in percent.
        accuracy_best: accuracy after the best epoch, in percent.
        samples: samples that went through the model in training.
        steps: optimiser steps.
        training_s: seconds of forward and backward passes and optimiser steps.
        selection_s: seconds of choosing.
        data_s: seconds of waiting for batches.
        evaluation_s: seconds of evaluation.
        saved: fraction of full data's seconds, evaluation left out, that was not needed; None without that run.
        samples_saved: fraction of full data's samples that was not needed; None without that run.
    """

    label: str
    seeds: int
    accuracy_last: tuple[float, float]
    accuracy_best: tuple[float, float]
    samples: float
    steps: float
    training_s: float
    selection_s: float
    data_s: float
    evaluation_s: float
    saved: float | None = None
    samples_saved: float | None = None


def rows(by_label: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """Returns the table, a row for each label.

    Args:
        by_label: label to the results of its runs, one for each seed; "full data" is what the others are held against.
    """
    full = by_label.get("full data")
    cost = None if full is None else _mean(spent_s(result) for result in full)
    samples = None if full is None else _mean(result["samples_forward"] for result in full)
    table = []
    for label, results in by_label.items():
        column = {name: [result[name] for result in results] for name in results[0]}
        spent = _mean(spent_s(result) for result in results)
        table.append(
            Row(
                label=label,
                seeds=len(results),
                accuracy_last=_mean_and_deviation(column["accuracy_last"]),
                accuracy_best=_mean_and_deviation(column["accuracy_best"]),
                samples=_mean(column["samples_forward"]),
                steps=_mean(column["steps"]),
                training_s=_mean(column["training_s"]),
                selection_s=_mean(column["selection_s"]),
                data_s=_mean(column["data_s"]),
                evaluation_s=_mean(column["evaluation_s"]),
                saved=None if cost is None else 1 - spent / cost,
                samples_saved=None if samples is None else 1 - _mean(column["samples_forward"]) / samples,
            )
        )
    return table


def spent_s(seconds: Mapping[str, Any]) -> float:
    """Returns what a run, or one of its epochs, cost in seconds: all but the evaluation."""
    return float(seconds["training_s"] + seconds["selection_s"] + seconds["data_s"])


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    return _mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


_HEADER = (
    "run",
    "last %",
    "best %",
    "samples",
    "samples saved",
    "steps",
    "train s",
    "select s",
    "data s",
    "eval s",
    "time saved",
)


def _cells(row: Row, seeds: int) -> tuple[str, ...]:
    def accuracy(value: tuple[float, float]) -> str:
        some = f" ({row.seeds} of {seeds})" if row.seeds < seeds else ""
        return (f"{value[0]:.2f} ± {value[1]:.2f}" if row.seeds > 1 else f"{value[0]:.2f}") + some

    def saved(value: float | None) -> str:
        return "" if value is None or row.label == "full data" else f"{100 * value:.1f} %"

    return (
        row.label,
        accuracy(row.accuracy_last),
        accuracy(row.accuracy_best),
        f"{row.samples:,.0f}",
        saved(row.samples_saved),
        f"{row.steps:,.0f}",
        f"{row.training_s:.1f}",
        f"{row.selection_s:.2f}",
        f"{row.data_s:.1f}",
        f"{row.evaluation_s:.1f}",
        saved(row.saved),
    )


def lines(table: Sequence[Row]) -> list[tuple[str, ...]]:
    """Returns the header and a line of text for each row, marked where it has fewer seeds than another."""
    seeds = max((row.seeds for row in table), default=0)
    return [_HEADER, *(_cells(row, seeds) for row in table)]
