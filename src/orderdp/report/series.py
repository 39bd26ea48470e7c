"""How the lines of a comparison stand in tables and charts: by method and prune ratio, each in a colour of its own."""

from __future__ import annotations

from typing import NamedTuple

from orderdp.comparison.results import Entry, Results
from orderdp.report.canvas import GREY, SERIES

_SOLID = 5  # methods whose lines are drawn through


class Place(NamedTuple):
    """Where an entry belongs.

    Args:
        method: its row or curve: the label without the prune ratio.
        ratio: its prune ratio; None for full data.
    """

    method: str
    ratio: float | None


def place_of(entry: Entry, results: Results) -> Place:
    """Returns method and prune ratio of an entry; a shorter schedule has those of the run it is named after."""
    return Place(entry.method, entry.ratio)


def percent(ratio: float | None) -> str:
    """Returns a prune ratio as the heading of a column."""
    return "" if ratio is None else f"{100 * ratio:.4g} %"


def ratios_of(results: Results) -> list[float]:
    """Returns the prune ratios of a comparison, ascending."""
    pruned = (entry for entry in results.entries.values() if not entry.reference)
    return sorted({entry.ratio for entry in pruned if entry.ratio is not None})


def colors_of(results: Results) -> dict[str, str]:
    """Returns a colour for each method; all the data is grey."""
    methods = dict.fromkeys(place_of(entry, results).method for entry in results.entries.values())
    pruned = [method for method in methods if not method.startswith("full data")]
    colors = {method: SERIES[number % len(SERIES)] for number, method in enumerate(pruned)}
    return {method: colors.get(method, GREY) for method in methods}


def patterns_of(results: Results) -> dict[str, str]:
    """Returns a pattern of line for each method, since ten colours are not told apart by all."""
    return {method: "-" if number < _SOLID else "-." for number, method in enumerate(colors_of(results))}
