"""What the runs of a study answer to what the paper reads from its picture or table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from statistics import fmean

import numpy as np

from orderdp.comparison.results import Entry, Results
from orderdp.report.placement import full_data, percent, pruned_entries, ratio_of, ratios_of
from orderdp.report.sections.cost import below_full_data
from orderdp.report.sections.gradients import correlations
from orderdp.report.tables import interval, share, sign_of, signed
from orderdp.strategies import DynamicRandom, InfoBatch, OrderDP


def answers(study: str, tasks: Mapping[str, Results]) -> Iterator[str]:
    """Yields a sentence or a few for each task of a study that has a claim, where its runs suffice for them."""
    for part, results in tasks.items() if study in ANSWERS else ():
        yield from (f"Here, {part}: {said}" for said in ANSWERS[study](results))


def _gradients(results: Results) -> Iterator[str]:
    """Yields how accuracy and norm go together on full data, and the norm of InfoBatch beside that of full data."""
    full, of_full = full_data(results), dict(_by_label(correlations(results)))
    if full is None or full.label not in of_full:
        return
    yield signed(f"r of accuracy and norm is {of_full[full.label]:+.2f} on full data.")
    for entry in _named(results, InfoBatch.name):
        norm, spread = (_times(entry, full, key) for key in ("gradient_norm", "gradient_norm_deviation"))
        if norm and spread:
            yield (
                f"the norm of {entry.method} is {fmean(norm):.2f} times that of full data, larger in "
                f"{_seeds_above_one(norm)}. Its standard deviation over 20 steps is {fmean(spread):.2f} times as "
                f"large, larger in {_seeds_above_one(spread)}."
            )


def _by_label(found: Iterator[tuple[Entry, float]]) -> Iterator[tuple[str, float]]:
    return ((entry.label, r) for entry, r in found)


def _times(entry: Entry, full: Entry, key: str) -> list[float]:
    """Returns a number of the epochs as a multiple of that of full data, means over the epochs, seed by seed."""
    means = []
    for seed in sorted(entry.metrics.keys() & full.metrics.keys()):
        run, beside = ([row[key] for row in each.metrics[seed] if row[key] is not None] for each in (entry, full))
        if run and beside:
            means.append(fmean(run) / fmean(beside))
    return means


def _seeds_above_one(ratios: list[float]) -> str:
    return f"{sum(ratio > 1 for ratio in ratios)} of {len(ratios)} seeds"


def _frontier(results: Results) -> Iterator[str]:
    """Yields how often OrderDP is more accurate than InfoBatch, and how often its runs take less time."""
    signs: Counter[int] = Counter()
    sooner = 0
    rivals = {entry.ratio: entry for entry in _named(results, InfoBatch.name)}
    for entry in _named(results, OrderDP.name):
        rival = rivals.get(entry.ratio)
        difference = results.against(entry, rival)
        if rival is not None and difference is not None:
            signs[sign_of(difference)] += 1
            sooner += entry.cost_s() < rival.cost_s()
    if signs:
        yield (
            f"OrderDP is more accurate than InfoBatch at {signs[1]} of {signs.total()} prune ratios, less accurate at "
            f"{signs[-1]}, and {signs[0]} are open. Its runs take less time at {sooner}."
        )


def _splits(results: Results) -> Iterator[str]:
    """Yields how many pairs of splits of a prune ratio differ in accuracy, and how long they take."""
    for ratio in ratios_of(results):
        splits = [entry for entry in _named(results, OrderDP.name) if _is_split(entry) and entry.ratio == ratio]
        pairs = [results.against(one, two) for one, two in combinations(splits, 2)]
        between = [difference for difference in pairs if difference is not None]
        if between:
            apart = sum(sign_of(difference) != 0 for difference in between)
            widest = max(abs(difference.mean) for difference in between)
            seconds = [entry.cost_s() for entry in splits]
            yield (
                f"at {percent(ratio)}, {apart} of {len(between)} pairs of splits differ in accuracy, the widest by "
                f"{widest:.2f} points, and a run takes {min(seconds):.1f} to {max(seconds):.1f} s."
            )


def _is_split(entry: Entry) -> bool:
    """Returns whether a run has a split of its own, and comes to samples without a loss first, as by default."""
    strategy = entry.strategy
    return "explore" in strategy and strategy.get("initial_score", math.inf) == math.inf


def _beside_full(results: Results) -> Iterator[str]:
    """Yields the accuracy of OrderDP and InfoBatch minus that of full data, and what they leave out."""
    left_out = share("samples_backward", full_data(results), left_out=True)
    for entry in (entry for name in (OrderDP.name, InfoBatch.name) for entry in _named(results, name)):
        difference = results.against_full(entry)
        if difference is not None:
            minus = interval(difference, len(results.seeds))
            yield f"{entry.label} minus full data is {minus} points; it leaves out {left_out(entry)}."


def _uses(results: Results) -> Iterator[str]:
    """Yields whether every sample is used, and how often the middle half of them is."""
    for entry in _named(results, OrderDP.name):
        histograms = [result["coverage"]["histogram"] for result in entry.results.values()]
        if histograms:
            unused = [histogram[0] for histogram in histograms]
            whole = sum(number == 0 for number in unused)
            rest = "" if whole == len(unused) else f", and leaves out up to {max(unused):,} in the others"
            beside = [
                f", with {each.method} {_middle_half(each)}"
                for each in _named(results, DynamicRandom.name)
                if each.ratio == entry.ratio and each.results
            ]
            yield (
                f"{entry.method} uses every sample in {whole} of {len(unused)} seeds{rest}. The middle half of the "
                f"samples is used {_middle_half(entry)} times{''.join(beside)}."
            )


def _middle_half(entry: Entry) -> str:
    """Returns the quartiles of the number of uses, over the samples of all seeds."""
    counts: Counter[int] = Counter()
    for result in entry.results.values():
        counts.update(dict(enumerate(result["coverage"]["histogram"])))
    uses = np.repeat(np.array(sorted(counts)), [counts[number] for number in sorted(counts)])
    low, high = np.quantile(uses, (0.25, 0.75), method="inverted_cdf")
    return f"{low} to {high}"


def _times_to(results: Results) -> Iterator[str]:
    """Yields how often OrderDP reaches an accuracy sooner than InfoBatch and dynamic random."""
    goals = below_full_data(results)
    for entry in _named(results, OrderDP.name):
        for rival in (rival for name in (InfoBatch.name, DynamicRandom.name) for rival in _named(results, name)):
            ways = (Entry.seconds_to, Entry.samples_to) if rival.ratio == entry.ratio else ()
            by_way = [Counter(_sooner(entry, rival, goals, costs)) for costs in ways]
            if any(by_way):
                seconds, samples = by_way
                yield (
                    f"of {seconds.total()} accuracies, by seed, that either reaches, {entry.method} reaches "
                    f"{seconds[1]} sooner than {rival.method}, {samples[1]} with fewer samples and {samples[0]} with "
                    "as many."
                )


def _sooner(
    entry: Entry, rival: Entry, goals: tuple[float, ...], costs: Callable[[Entry, float], Mapping[int, float | None]]
) -> Iterator[int]:
    """Yields 1, 0 or -1 for each goal and seed that either reaches: the first at less, equal or more cost."""
    for goal in goals:
        mine, theirs = costs(entry, goal), costs(rival, goal)
        for seed in mine.keys() & theirs.keys():
            one, two = (math.inf if cost is None else cost for cost in (mine[seed], theirs[seed]))
            if min(one, two) < math.inf:
                yield (one < two) - (one > two)


def _named(results: Results, name: str) -> list[Entry]:
    """Returns the entries of a strategy, by prune ratio."""
    return sorted((entry for entry in pruned_entries(results) if entry.strategy["name"] == name), key=ratio_of)


# Study with a claim to the function that answers it.
ANSWERS: Mapping[str, Callable[[Results], Iterator[str]]] = {
    "figure1": _gradients,
    "figure3": _frontier,
    "figure4": _splits,
    "table5": _beside_full,
    "table7": _beside_full,
    "figure9": _uses,
    "figure10": _uses,
    "figure11": _uses,
    "figure12": _times_to,
    "figure13": _times_to,
}
