"""The order of methods by accuracy: how far it agrees with a table of the paper, and between seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from orderdp.comparison.results import Results
from orderdp.output.text_table import Table
from orderdp.report.agreement import written
from orderdp.report.outline import Published
from orderdp.report.placement import percent, pruned_entries, ratio_of, ratios_of
from orderdp.training.coreset_run import rank_correlation

_FEWEST = 5  # methods; with fewer, only the same order could be told from chance

Accuracies = Mapping[str, float]  # by method


def order_table(results: Results, published: Sequence[Published]) -> list[Table]:
    """Returns the rank correlations of the methods' accuracies, by prune ratio; nothing if few are in common.

    Args:
        results: what was measured.
        published: tables of the paper, with a column for each prune ratio.
    """
    ratios = ratios_of(results)
    measured = {ratio: _measured(results, ratio) for ratio in ratios}
    rows = []
    for table in published:
        theirs = {ratio: _printed(table, percent(ratio)) for ratio in ratios}
        cells = [_agreement([(measured[ratio], theirs[ratio])]) for ratio in ratios]
        if any(cells):
            rows.append([table.title, *cells])
    if not rows:
        return []
    shared = {method for table in published for method in table.rows}
    seeds = [_agreement(_pairs_of_seeds(results, ratio, shared)) for ratio in ratios]
    if any(seeds):
        rows.append(["two seeds measured here", *seeds])
    note = (
        "Spearman's rank correlation of the methods' accuracies at a prune ratio, with the number of methods: 1 is the "
        "same order, 0 is none in common. A table of the paper is held against the mean over the seeds. Two seeds "
        "measured here are held against each other, over the same methods, and the mean is shown: where two seeds "
        "share little of an order, that of one seed is mostly chance."
    )
    return [Table("order", "Order of the methods", [["held against", *map(percent, ratios)], *rows], note)]


def _measured(results: Results, ratio: float) -> Accuracies:
    entries = [entry for entry in pruned_entries(results) if ratio_of(entry) == ratio and entry.results]
    return {entry.method: entry.mean("accuracy_last") for entry in entries}


def _printed(table: Published, column: str) -> Accuracies:
    if column not in table.columns:
        return {}
    place = table.columns.index(column) - 1
    cells = {method: cells[place].split() for method, cells in table.rows.items()}
    return {method: float(words[0]) for method, words in cells.items() if words}


def _pairs_of_seeds(results: Results, ratio: float, methods: set[str]) -> list[tuple[Accuracies, Accuracies]]:
    entries = [entry for entry in pruned_entries(results) if ratio_of(entry) == ratio and entry.method in methods]
    by_seed = [
        {entry.method: entry.values("accuracy_last")[seed] for entry in entries if seed in entry.results}
        for seed in results.seeds
    ]
    return list(combinations(by_seed, 2))


def _agreement(pairs: Sequence[tuple[Accuracies, Accuracies]]) -> str:
    """Returns the mean rank correlation over pairs and the number of methods; "" if a pair has too few in common."""
    common = [sorted(one.keys() & other.keys()) for one, other in pairs]
    if not pairs or min(map(len, common)) < _FEWEST:
        return ""
    found = [
        rank_correlation(*(np.array([side[method] for method in methods]) for side in pair))
        for methods, pair in zip(common, pairs, strict=True)
    ]
    return f"{written(float(np.mean(found)))} ({min(map(len, common))})"
