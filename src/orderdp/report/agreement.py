"""How far static methods agree: rank correlations of their scores, and samples that their subsets have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from orderdp.output.text_table import Table
from orderdp.training.coreset_run import Coresets, rank_correlation


def rank_correlations(coresets: Coresets) -> npt.NDArray[np.float64]:
    """Returns (m, m) Spearman's rank correlation of each two scores; NaN where a score is the same for all samples."""
    columns = list(coresets.scores.values())
    found = np.full((len(columns), len(columns)), np.nan)
    for row, first in enumerate(columns):
        for column, second in enumerate(columns[: row + 1]):
            found[row, column] = found[column, row] = rank_correlation(first, second)
    return found


def overlaps(coresets: Coresets, prune_ratio: float) -> npt.NDArray[np.float64]:
    """Returns (m, m) the share of the samples kept that each two methods have in common."""
    kept = [np.sort(subsets[prune_ratio].ids) for subsets in coresets.subsets.values()]
    return np.array(
        [[len(np.intersect1d(one, other, assume_unique=True)) / len(one) for other in kept] for one in kept]
    )


def correlation_table(coresets: Coresets) -> Table:
    """Returns the rank correlations of the scores as a table; with several proxies, also those between proxies."""
    labels = [coresets.labels[key] for key in coresets.scores]
    note = (
        "Spearman's rank correlation of the scores: 1 is the same order, 0 is none in common. "
        "A score that is the same for all samples has none."
    )
    table = _table("correlations", "Rank correlation of the scores", labels, rank_correlations(coresets), note)
    if not coresets.between_proxies:
        return table
    ends = ["two proxies", *(written(coresets.between_proxies.get(key, np.nan)) for key in coresets.scores)]
    return table._replace(
        lines=[(*line, end) for line, end in zip(table.lines, ends, strict=True)],
        note=f"{note} Two proxies: the mean over pairs of proxies, of the score by one of them alone.",
    )


def overlap_table(coresets: Coresets, prune_ratio: float) -> Table:
    """Returns the samples that the subsets at a prune ratio have in common as a table."""
    labels = [coresets.labels[key] for key in coresets.subsets]
    note = (
        f"Share of the samples kept at {100 * prune_ratio:.12g} % pruned that two methods have in common. "
        f"Two uniform draws have {1 - prune_ratio:.2f} in common."
    )
    return _table("overlap", "Samples in common", labels, overlaps(coresets, prune_ratio), note)


def _table(name: str, title: str, labels: Sequence[str], values: npt.NDArray[np.float64], note: str) -> Table:
    header = ("method", *(str(number) for number in range(1, len(labels) + 1)))
    rows = [
        (f"{number} {label}", *map(written, row))
        for number, (label, row) in enumerate(zip(labels, values, strict=True), 1)
    ]
    return Table(name, title, [header, *rows], note)


def written(value: float) -> str:
    """Returns a correlation or share as tables show it; a dash for NaN.

    >>> written(-0.001), written(-0.5), written(float("nan"))
    ('0.00', '−0.50', '–')
    """
    if np.isnan(value):
        return "–"
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # adding zero makes −0 a plain 0
