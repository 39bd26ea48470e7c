"""How far static methods agree: rank correlations of their scores, and samples that their subsets have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from orderdp.output.text_table import Table
from orderdp.training.coreset_run import Coresets


def rank_correlations(coresets: Coresets) -> npt.NDArray[np.float64]:
    """Returns (m, m) Spearman's rank correlation of each two scores; NaN where a score is the same for all samples.

    Samples that a method of the two did not score are left out.
    """
    from scipy.stats import rankdata

    columns = list(coresets.scores.values())
    found = np.full((len(columns), len(columns)), np.nan)
    for row, first in enumerate(columns):
        for column, second in enumerate(columns[: row + 1]):
            both = np.isfinite(first) & np.isfinite(second)
            ranks = [rankdata(scores[both]) for scores in (first, second)]
            if all(np.ptp(values) > 0 for values in ranks):
                found[row, column] = found[column, row] = np.corrcoef(*ranks)[0, 1]
    return found


def overlaps(coresets: Coresets, prune_ratio: float) -> npt.NDArray[np.float64]:
    """Returns (m, m) the share of the samples kept that each two methods have in common."""
    kept = [np.sort(subsets[prune_ratio].ids) for subsets in coresets.subsets.values()]
    return np.array(
        [[len(np.intersect1d(one, other, assume_unique=True)) / len(one) for other in kept] for one in kept]
    )


def correlation_table(coresets: Coresets) -> Table:
    """Returns the rank correlations of the scores as a table."""
    labels = [coresets.labels[key] for key in coresets.scores]
    note = (
        "Spearman's rank correlation of the scores: 1 is the same order, 0 is none in common. "
        "A score that is the same for all samples has none."
    )
    return _table("correlations", "Rank correlation of the scores", labels, rank_correlations(coresets), note)


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
