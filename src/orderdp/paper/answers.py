"""What the runs of a study answer to what the paper reads from its picture or table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import FEWEST_SEEDS, holm, paired_difference
from orderdp.diagnostics.dynamics import ROLLING_WINDOW
from orderdp.report.placement import full_data, percent, pruned_entries, ratios_of
from orderdp.report.sections.cost import below_full_data
from orderdp.report.sections.gradients import correlations
from orderdp.report.sections.lossless import sentences as sentences_of_search
from orderdp.report.tables import counted, interval, listed, share, sign_of, signed
from orderdp.strategies import DynamicRandom, InfoBatch, OrderDP


def answers(study: str, tasks: Mapping[str, Results]) -> Iterator[str]:
    """Yields a sentence or a few for each task of a study that has a claim, where its runs suffice for them."""
    for part, results in tasks.items() if study in ANSWERS else ():
        yield from (f"Here, {part}: {said}" for said in ANSWERS[study](results))


def _gradients(results: Results) -> Iterator[str]:
    """Yields how accuracy and norm go together on full data, and the norm of InfoBatch beside that of full data."""
    full = full_data(results)
    found = [r for entry, of_seeds in correlations(results) if entry is full for r in of_seeds]
    if full is None or not found:
        return
    mean, low, high = (signed(f"{r:+.2f}") for r in (fmean(found), min(found), max(found)))
    seeds = counted(len(found), "seed")
    yield f"r of accuracy and norm over the epochs of full data is {mean}, from {low} to {high} in {seeds}."
    for entry in _named(results, InfoBatch.name):
        norm, spread = (_times(entry, full, key) for key in ("gradient_norm", "gradient_norm_deviation"))
        if norm and spread:
            yield (
                f"the norm of {entry.method} is {fmean(norm):.2f} times that of full data, larger in "
                f"{_seeds_above_one(norm)}. Its standard deviation over {ROLLING_WINDOW} steps is {fmean(spread):.2f} "
                f"times that of full data, larger in {_seeds_above_one(spread)}."
            )


def _times(entry: Entry, full: Entry, key: str) -> list[float]:
    """Returns a number of the epochs as a multiple of that of full data, means over the epochs, seed by seed."""
    means = []
    for seed in sorted(entry.metrics.keys() & full.metrics.keys()):
        run, beside = ([row[key] for row in each.metrics[seed] if row[key] is not None] for each in (entry, full))
        if run and beside:
            means.append(fmean(run) / fmean(beside))
    return means


def _seeds_above_one(ratios: list[float]) -> str:
    return f"{sum(ratio > 1 for ratio in ratios)} of {counted(len(ratios), 'seed')}"


def _frontier(results: Results) -> Iterator[str]:
    """Yields how often OrderDP is more accurate than InfoBatch, and how often its runs take less time."""
    signs: Counter[int] = Counter()
    sooner, more = 0, []
    rivals = {entry.ratio: entry for entry in _named(results, InfoBatch.name)}
    for entry in _named(results, OrderDP.name):
        rival = rivals.get(entry.ratio)
        difference = results.against(entry, rival)
        if rival is not None and difference is not None:
            signs[sign_of(difference)] += 1
            sooner += entry.mean(results.seconds.of) < rival.mean(results.seconds.of)
            more.append(rival.mean("samples_backward") / entry.mean("samples_backward"))
    if signs:
        yield (
            f"OrderDP is more accurate than InfoBatch at {signs[1]} of {counted(len(more), 'prune ratio')}, less "
            f"accurate at {signs[-1]}, and open at {signs[0]}. By {results.seconds.name}, it is faster at "
            f"{sooner}. InfoBatch trains {min(more):.2f} to {max(more):.2f} times as many samples."
        )


def _splits(results: Results) -> Iterator[str]:
    """Yields how many pairs of splits of a prune ratio differ in accuracy and in time."""
    for ratio in ratios_of(results):
        splits = [entry for entry in _named(results, OrderDP.name) if _is_split(entry) and entry.ratio == ratio]
        pairs = [(one, two) for one, two in combinations(splits, 2) if one.results.keys() & two.results.keys()]
        if pairs:
            accuracies = [each for one, two in pairs if (each := results.against(one, two)) is not None]
            apart = [abs(each.mean) for each in accuracies if sign_of(each)]
            kept = sum(holm([each.p_value for each in accuracies if each.seeds >= FEWEST_SEEDS]))
            widest = f", by up to {max(apart):.2f} points ({kept} after Holm's correction)" if apart else ""
            name, of = results.seconds
            times = [paired_difference(*(_spent(each, of) for each in pair), test_size=None) for pair in pairs]
            means = [entry.mean(of) for entry in splits if entry.results]
            yield (
                f"at {percent(ratio)}, accuracy differs in {len(apart)} of {counted(len(pairs), 'pair')} of splits"
                f"{widest}, and time in {sum(map(abs, map(sign_of, times)))}. A split takes {min(means):.1f} "
                f"to {max(means):.1f} {name} on average."
            )


def _spent(entry: Entry, seconds_of: Callable[[Mapping[str, Any]], float]) -> dict[int, float]:
    return {seed: seconds_of(result) for seed, result in entry.results.items()}


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
            yield (
                f"the accuracy of {entry.method} minus that of full data is {minus} points; it leaves out "
                f"{left_out(entry)} of the samples."
            )


def _directions(results: Results) -> Iterator[str]:
    """Yields how near the gradients of OrderDP and InfoBatch are to that of full data, and OrderDP's to ∇L_q."""
    for entry, rival in _beside_infobatch(results):
        beside = _side_by_side(entry, rival, _cosines(entry, "full"), _cosines(rival, "full"), "measurement")
        if beside:
            yield (
                f"at {percent(entry.ratio)}, the cosine to the full gradient is {beside}. That of {entry.method} to "
                f"its surrogate's gradient, ∇L_q, is {fmean(_cosines(entry, 'surrogate').values()):.3f}."
            )


def _similarities(results: Results) -> Iterator[str]:
    """Yields how alike the choices of consecutive epochs are, of OrderDP, of InfoBatch and of a random choice."""
    random = {entry.ratio: entry for entry in _named(results, DynamicRandom.name)}
    for entry, rival in _beside_infobatch(results):
        beside = _side_by_side(entry, rival, _jaccards(entry), _jaccards(rival), "epoch")
        chance = _jaccards(random[entry.ratio]) if entry.ratio in random else {}
        if beside:
            by_chance = f" For {random[entry.ratio].method} it is {fmean(chance.values()):.3f}." if chance else ""
            yield f"at {percent(entry.ratio)}, the similarity to the epoch before is {beside}.{by_chance}"


def _beside_infobatch(results: Results) -> Iterator[tuple[Entry, Entry]]:
    """Yields OrderDP as it is by default and InfoBatch, at each prune ratio that both have."""
    rivals = {entry.ratio: entry for entry in _named(results, InfoBatch.name)}
    for entry in _named(results, OrderDP.name):
        if not {"explore", "initial_score"} & entry.strategy.keys() and entry.ratio in rivals:
            yield entry, rivals[entry.ratio]


def _side_by_side(
    entry: Entry,
    rival: Entry,
    mine: Mapping[tuple[int, int], float],
    theirs: Mapping[tuple[int, int], float],
    where: str,
) -> str:
    """Returns the means of two runs over the epochs that both have measured; empty if there is none."""
    both = sorted(mine.keys() & theirs.keys())
    if not both:
        return ""
    larger = sum(mine[at] > theirs[at] for at in both)
    return (
        f"{fmean(mine[at] for at in both):.3f} for {entry.method} and {fmean(theirs[at] for at in both):.3f} for "
        f"{rival.method} on average, and larger for {entry.method} in {larger} of {counted(len(both), where)}"
    )


def _jaccards(entry: Entry) -> dict[tuple[int, int], float]:
    """Returns (seed, epoch) to the similarity of its samples to those of the epoch before."""
    return {
        (seed, row["epoch"]): row["jaccard"]
        for seed, rows in entry.metrics.items()
        for row in rows
        if row["jaccard"] is not None
    }


def _cosines(entry: Entry, other: str) -> dict[tuple[int, int], float]:
    """Returns (seed, epoch) to the cosine of the selection's gradient to another one, where it was measured."""
    return {
        (seed, row["epoch"]): row["alignment"][other]["cosine"]
        for seed, rows in entry.metrics.items()
        for row in rows
        if row.get("alignment")
    }


def _uses(results: Results) -> Iterator[str]:
    """Yields whether every sample is used, and how often the middle half of them is, beside a random choice."""
    for entry in (each for name in (OrderDP.name, DynamicRandom.name) for each in _named(results, name)):
        histograms = [result["coverage"]["histogram"] for result in entry.results.values()]
        if histograms:
            unused = [histogram[0] for histogram in histograms]
            rest = f" and leaves out up to {max(unused):,} in the others" if any(unused) else ""
            low, high = _middle_half(histograms)
            yield (
                f"{entry.method} uses every sample in {unused.count(0)} of {counted(len(unused), 'seed')}{rest}. It "
                f"uses the middle half of the samples {low} to {high} times."
            )


def _middle_half(histograms: list[list[int]]) -> tuple[int, int]:
    """Returns the quartiles of the number of uses, over the samples of all seeds."""
    uses = np.concatenate([np.repeat(np.arange(len(histogram)), histogram) for histogram in histograms])
    low, high = np.quantile(uses, (0.25, 0.75), method="inverted_cdf")
    return int(low), int(high)


def _times_to(results: Results) -> Iterator[str]:
    """Yields how often OrderDP reaches an accuracy before InfoBatch and before a random choice."""
    goals = below_full_data(results)
    for entry in _named(results, OrderDP.name):
        for rival in (rival for name in (InfoBatch.name, DynamicRandom.name) for rival in _named(results, name)):
            seeds = entry.metrics.keys() & rival.metrics.keys()
            if goals and seeds and rival.ratio == entry.ratio:
                costs = (partial(Entry.seconds_to, seconds=results.seconds), Entry.samples_to)
                time, samples = (_ahead(entry, rival, goals, each) for each in costs)
                cases = counted(time.total(), "case")
                accuracies = listed([f"{goal:g}" for goal in goals])
                yield (
                    f"in {cases} (accuracy {accuracies} %, {counted(len(seeds), 'seed')}), {entry.method} is first in "
                    f"{time[1]} by {results.seconds.name}, {rival.method} in {time[-1]}, and neither gets there in "
                    f"{time[None]}. By samples: {samples[1]} and {samples[-1]}, and equal in {samples[0]}."
                )


def _ahead(
    entry: Entry, rival: Entry, goals: tuple[float, ...], costs: Callable[[Entry, float], Mapping[int, float | None]]
) -> Counter[int | None]:
    """Returns how often an entry reaches a goal at less (1), equal (0) or more cost (-1), or neither does (None)."""
    found: Counter[int | None] = Counter()
    for goal in goals:
        mine, theirs = costs(entry, goal), costs(rival, goal)
        for seed in mine.keys() & theirs.keys():
            one, two = (math.inf if cost is None else cost for cost in (mine[seed], theirs[seed]))
            found[None if one == two == math.inf else (one < two) - (one > two)] += 1
    return found


def _named(results: Results, name: str) -> list[Entry]:
    """Returns the entries of a strategy."""
    return [entry for entry in pruned_entries(results) if entry.strategy["name"] == name]


# Study with a claim to the function that answers it.
ANSWERS: Mapping[str, Callable[[Results], Iterable[str]]] = {
    "figure1": _gradients,
    "figure3": _frontier,
    "figure4": _splits,
    "table5": _beside_full,
    "table6": sentences_of_search,
    "table7": _beside_full,
    "table8": _similarities,
    "figure9": _uses,
    "figure10": _uses,
    "figure11": _uses,
    "figure12": _times_to,
    "figure13": _times_to,
    "table11": _directions,
}
