"""The place of each entry of a comparison in tables and charts: its row, its column, its colour."""

from __future__ import annotations

from collections import Counter

from orderdp.comparison.grid import FULL
from orderdp.comparison.results import Entry, Results
from orderdp.output.palette import GREY, SERIES
from orderdp.strategies import StoredSubset

_SOLID = 5  # methods that are drawn with solid lines


def full_data(results: Results) -> Entry | None:
    """Returns the runs on full data for the whole schedule; None if none is finished."""
    entry = results.entries.get(FULL)
    return entry if entry is not None and entry.results else None


def is_shorter(entry: Entry) -> bool:
    """Returns whether an entry is full data on another schedule than its own, mostly a shorter one."""
    return entry.reference and entry.label != FULL


def is_of_budget(entry: Entry) -> bool:
    """Returns whether an entry is full data for a budget, and for the steps of no run."""
    return is_shorter(entry) and entry.ratio is None


def references_of(results: Results) -> dict[str, str | None]:
    """Returns the label of each reference with that of the run whose number of steps it takes; None for full data."""
    steps_of: dict[str, str] = {}
    for entry in pruned_entries(results):
        steps_of.setdefault(entry.short or "", entry.label)
    references = [entry for entry in results.entries.values() if entry.reference]
    return {entry.label: steps_of.get(entry.label) if is_shorter(entry) else None for entry in references}


def percent(ratio: float | None) -> str:
    """Returns a prune ratio as the heading of a column."""
    return "" if ratio is None else f"{100 * ratio:.4g} %"


def pruned_entries(results: Results) -> list[Entry]:
    """Returns the entries that prune: all but full data and its shorter schedules."""
    return [entry for entry in results.entries.values() if not entry.reference]


def ratio_of(entry: Entry) -> float:
    """Returns the prune ratio of an entry that prunes."""
    assert entry.ratio is not None
    return entry.ratio


def left_nothing_out(results: Results, entry: Entry) -> bool:
    """Returns whether the runs of a method trained as many samples as full data, though it could have pruned."""
    full = full_data(results)
    seeds = entry.results.keys() & full.results.keys() if full is not None and not entry.reference else set()
    trained, all_of_them = (each.values("samples_backward") if each else {} for each in (entry, full))
    return bool(seeds) and all(trained[seed] >= all_of_them[seed] for seed in seeds)


def first_methods(results: Results) -> dict[float, Entry]:
    """Returns the method named first at each prune ratio, which the others are compared with; ratios ascend.

    A method that left nothing out is passed over: the others would be compared with full data. A method with a ratio of
    its own, such as a split, does not come before one that was named earlier and has several ratios.
    """
    first: dict[float, Entry] = {}
    place = {method: at for at, method in enumerate(dict.fromkeys(entry.method for entry in pruned_entries(results)))}
    for entry in sorted(pruned_entries(results), key=lambda entry: place[entry.method]):
        if not left_nothing_out(results, entry):
            first.setdefault(ratio_of(entry), entry)
    return dict(sorted(first.items()))


def uniform_subsets(results: Results) -> dict[float, Entry]:
    """Returns the fixed subset that is drawn uniformly, at each prune ratio that has one."""
    stored = [entry for entry in pruned_entries(results) if entry.strategy.get("name") == StoredSubset.name]
    if not stored:
        return {}
    from orderdp.coresets import Random  # with all static methods, which take a while to import

    return {ratio_of(entry): entry for entry in stored if entry.strategy.get("method") == Random.name}


def ratios_of(results: Results) -> list[float]:
    """Returns the prune ratios of a comparison, ascending."""
    return sorted({ratio_of(entry) for entry in pruned_entries(results)})


def entries_at(results: Results, ratio: float, *, full: bool = True) -> list[Entry]:
    """Returns the entries at a prune ratio.

    Args:
        results: the comparison.
        ratio: the prune ratio.
        full: whether to add full data and the shorter schedule that most of them share.
    """
    pruned = [entry for entry in pruned_entries(results) if entry.ratio == ratio]
    if not full:
        return pruned
    shared = Counter(entry.short for entry in pruned if entry.short not in (None, FULL)).most_common(1)
    beside = [FULL, *(label for label, _ in shared)]
    return [*pruned, *(results.entries[label] for label in beside if label in results.entries)]


def colors_of(results: Results) -> dict[str, str]:
    """Returns a colour for each method; full data is grey."""
    methods = {entry.method: entry.reference for entry in results.entries.values()}
    pruned = [method for method, reference in methods.items() if not reference]
    colors = {method: SERIES[number % len(SERIES)] for number, method in enumerate(pruned)}
    return {method: colors.get(method, GREY) for method in methods}


def patterns_of(results: Results) -> dict[str, str]:
    """Returns a line pattern for each method, because many colours are hard to distinguish."""
    return {method: "-" if number < _SOLID else "-." for number, method in enumerate(colors_of(results))}
