"""The summary at the top of a report: what was compared, and what may or may not be concluded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from orderdp.comparison.results import Entry, Results
from orderdp.comparison.searched import search_of
from orderdp.comparison.tuning import at_an_end
from orderdp.comparison.verdicts import CONFIDENCE, FEWEST_SEEDS, TOLERANCE, Difference
from orderdp.comparison.worth import Worth, worth_of
from orderdp.report.origins import dates_of, made_with
from orderdp.report.placement import first_methods, left_nothing_out, percent, pruned_entries, ratios_of
from orderdp.report.sections.lossless import limits as limits_of_search
from orderdp.report.sections.lossless import sentences as sentences_of_search
from orderdp.report.sections.worth import more_steps
from orderdp.report.tables import digits_of, interval, listed, sign_of

SHORTER = "full data trained for the same number of steps"
_STEPS = " steps than stopping early"
_VERBS = {
    1: ("gains", "gain"),
    -1: ("loses", "lose"),
    0: ("is statistically indistinguishable", "are statistically indistinguishable"),
}
_MOST_METHODS = 11  # that a summary names
_MANY = 20  # intervals of which one is expected to exclude 0 by chance


class Summary(NamedTuple):
    """What a reader should know first.

    Args:
        facts: what was compared, on what data, when, with which version.
        may: sentences that the results support.
        may_not: sentences on what they do not show, and why.
    """

    facts: Sequence[tuple[str, str]]
    may: Sequence[str]
    may_not: Sequence[str]

    def conclusions(self) -> tuple[tuple[str, Sequence[str]], ...]:
        """Returns headings, each with its sentences."""
        return ("What may be concluded", self.may), ("What may not be concluded", self.may_not)


def summary_of(results: Results) -> Summary:
    """Returns the summary of a comparison."""
    return Summary(_facts(results), conclusions(results), _limits(results))


def _facts(results: Results) -> list[tuple[str, str]]:
    recipe, sizes = results.recipe, results.sizes
    methods = list(dict.fromkeys(entry.method for entry in pruned_entries(results)))
    named = ", ".join(methods[:_MOST_METHODS])
    more = f" and {len(methods) - _MOST_METHODS} more" if len(methods) > _MOST_METHODS else ""
    ratios = listed([percent(ratio) for ratio in ratios_of(results)])
    references = {"full": "full data", "short": SHORTER}
    compared = [references[name] for name in results.references]
    if (augment := _augment_of(results)) is not None:
        compared.append(f"the same with augment {augment}")
    against = listed(compared) or "nothing"
    data = f"{recipe['dataset']}, {sizes.num_samples:,} training and {sizes.num_test_samples:,} test samples"
    if (imbalance := recipe.get("imbalance", 1)) > 1:
        data += f", half of the classes at 1 in {imbalance:g} of their training samples"
    if noise := recipe.get("label_noise"):
        data += f", {percent(noise)} of the training labels wrong"
    finished = [result for entry in results.entries.values() for result in entry.results.values()]
    if unreadable := {name for result in finished for name in result.get("unreadable", ())}:
        data += f"; {len(unreadable)} cannot be decoded, and others of their classes are read instead"
    seeds = ", ".join(map(str, results.seeds))
    dates = dates_of(results)
    rates = results.planned.table.get("max_lrs", [])
    chosen = f"of {listed([f'{rate:g}' for rate in rates])}, for each run the best on held-out training samples"
    return [
        ("Methods", f"{named}{more}" if methods else "none that prunes"),
        ("Prune ratios", ratios or "none"),
        ("Compared with", against),
        ("Data", data),
        ("Training", f"{recipe['model']}, {recipe['epochs']} epochs, seeds {seeds}"),
        *([("Learning rate", chosen)] if rates else []),
        ("Finished", " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "not recorded"),
        ("Made with", made_with(results)),
    ]


def conclusions(results: Results) -> list[str]:
    """Returns sentences on accuracy that the results support: first about the method named first, then the others.

    Of a search they are about its ratios alone, since its number of seeds depends on the differences.
    """
    if search_of(results) is not None:
        return sentences_of_search(results)
    pruned, first = pruned_entries(results), first_methods(results)
    if not pruned:
        return ["No method prunes here, so nothing may be concluded about pruning."]
    if not any(results.against_full(entry) or results.against_short(entry) for entry in pruned):
        return ["No pair of a pruned run and its reference is finished, so nothing may be concluded about pruning."]
    idle = [entry for entry in pruned if left_nothing_out(results, entry)]
    if not first:
        return _of_idle(idle)
    if len(results.seeds) < FEWEST_SEEDS:
        return [_of_few_seeds(results, first.values()), *_of_idle(idle)]
    others = [entry for entry in pruned if entry not in first.values() and entry not in idle]
    sentences = []
    for against, reference in ((results.against_short, SHORTER), (results.against_full, "full data")):
        outcomes: dict[str, list[str]] = {}
        for entry in first.values():
            if (difference := against(entry)) is not None:
                outcomes.setdefault(entry.method, []).append(f"{_outcome(difference)} at {percent(entry.ratio)}")
        if outcomes:
            phrases = [f"{method} {listed(each)}" for method, each in outcomes.items()]
            sentences.append(f"Compared with {reference}, {listed(phrases)}.")
    of_control = _of_control(results, list(first.values()), others)
    return [*_worth(results, first.values()), *sentences, *_of_others(results, others), *of_control, *_of_idle(idle)]


def legend(sentences: Iterable[str]) -> str:
    """Returns what the brackets in conclusions mean, for a terminal; "" if there are none."""
    text = " ".join(sentences)
    if "[" not in text and "(from" not in text:
        return ""
    return (
        "Brackets and ranges: 95 % intervals."
        + (" −100: no schedule of full data is worse for certain." if "(−100" in text else "")
        + (" ∞: no schedule of full data is better for certain." if "∞" in text else "")
    )


def _worth(results: Results, entries: Iterable[Entry]) -> list[str]:
    """Returns what the method named first is worth at each prune ratio, or that this is not known."""
    known: dict[str, list[str]] = {}
    unknown: dict[str, list[str]] = {}
    for entry in entries:
        worth = worth_of(results, entry)
        if worth is None or worth.seeds < FEWEST_SEEDS:
            continue
        said, ratio = known.setdefault(entry.method, []), percent(entry.ratio)
        if worth.sign:
            unit = "" if said else _STEPS
            said.append(f"{_amount(worth)}{unit} {more_steps(worth).partition(' % ')[2]} at {ratio}")
        else:
            unknown.setdefault(entry.method, []).append(f"at {ratio} ({_range(worth)})")
    sentences = []
    for method, said in known.items():
        parts = [f"{method} is worth {listed(said)}."] if said else []
        if method in unknown:
            what = "it is worth more or fewer" if said else f"{method} is worth more or fewer{_STEPS}"
            parts.append(f"Whether {what} is not known {listed(unknown[method])}.")
        sentences.append(" ".join(parts))
    return sentences


def _amount(worth: Worth) -> str:
    """Returns how many more steps a run is worth, such as "39 % more"; "more" if the run is at the end of the curve."""
    percents = round(100 * (worth.ratio - 1))
    if not percents:
        return "more" if worth.sign > 0 else "fewer"
    if percents < 0:
        beyond = {"": "", "more than": "at most ", "less than": "at least "}[worth.beyond]
        return f"{beyond}{-percents} % fewer"
    return f"{worth.beyond} {percents} % more".lstrip()


def _range(worth: Worth) -> str:
    """Returns an interval that leaves open whether a run is worth more or fewer steps, in words.

    >>> _range(Worth(0.94, 0.53, math.inf, 3, "")), _range(Worth(1.06, 0.0, 1.17, 5, ""))
    ('from 47 % fewer to no known limit', 'from no known limit to 17 % more')
    """
    if not worth.low and math.isinf(worth.high):
        return "no limit is known"

    def end(ratio: float) -> str:
        if not ratio or math.isinf(ratio):
            return "no known limit"
        percents = round(100 * (ratio - 1))
        return f"{abs(percents)} % {'fewer' if percents < 0 else 'more'}"

    return f"from {end(worth.low)} to {end(worth.high)}"


def _outcome(difference: Difference) -> str:
    """Returns what a difference shows, such as "loses 0.78 points [0.42, 1.14]"."""
    if difference.seeds < FEWEST_SEEDS:
        return f"has only {difference.seeds} of the {FEWEST_SEEDS} pairs that a conclusion needs"
    sign, shown = sign_of(difference), interval(difference, difference.seeds)
    if sign:
        verb = "gains" if sign > 0 else "loses"
        within = f", within the tolerance of {TOLERANCE:g}" if sign < 0 and difference.verdict == "lossless" else ""
        return f"{verb} {_points(difference)}{within}"
    if difference.verdict == "lossless":
        return f"loses at most {TOLERANCE:g} points ({shown})"
    return f"is statistically indistinguishable ({shown})"


def _of_few_seeds(results: Results, entries: Collection[Entry]) -> str:
    """Returns what the runs ended with, and that it may be chance."""
    ended = []
    for entry in entries:
        apart = [
            f"{abs(difference.mean):.2f} points {'above' if difference.mean >= 0 else 'below'} {reference}"
            for difference, reference in (
                (results.against_full(entry), "full data"),
                (results.against_short(entry), SHORTER),
                (results.against_control(entry), f"the same with augment {_augment_of(results)}"),
            )
            if difference is not None
        ]
        if apart:
            ended.append(f"{entry.method} at {percent(entry.ratio)} ended {listed(apart)}")
    if not ended:
        methods = listed(list(dict.fromkeys(entry.method for entry in entries)))
        return f"No pair of {methods} and a reference is finished, so nothing may be concluded about it."
    count = len(results.seeds)
    seeds = "one seed" if count == 1 else f"{count} seeds"
    return f"{'; '.join(ended)}; with {seeds} this may be chance, so train at least {FEWEST_SEEDS} (--seed 0 1 2)."


def _of_others(results: Results, others: Sequence[Entry]) -> list[str]:
    """Returns how many of the other methods gain and lose, each at each of its prune ratios."""
    against: Callable[[Entry], Difference | None] = results.against_short
    reference = SHORTER
    if not any(against(entry) for entry in others):
        against, reference = results.against_full, "full data"
    judged = [(entry, found) for entry in others if (found := against(entry)) and found.seeds >= FEWEST_SEEDS]
    return [f"Compared with {reference}, {_counted(judged)}."] if judged else []


def _counted(judged: Sequence[tuple[Entry, Difference]]) -> str:
    """Returns how many other cases have differences of which sign, such as "all 3 other cases ... gain"."""
    counts = Counter(sign_of(difference) for _, difference in judged)
    if len(judged) == 1:
        ((entry, difference),) = judged
        return f"{entry.method} at {percent(entry.ratio)} {_VERBS[sign_of(difference)][0]}"
    cases = f"{len(judged)} other cases (a method at a prune ratio)"
    if len(counts) == 1:
        every = cases.replace("2", "both", 1) if len(judged) == 2 else f"all {cases}"
        return f"{every} {_VERBS[next(iter(counts))][1]}"
    outcomes = [f"{counts[sign]} {_VERBS[sign][counts[sign] > 1]}" for sign in (1, -1, 0) if counts[sign]]
    return f"of {cases} {listed(outcomes)}"


def _of_control(results: Results, first: Sequence[Entry], others: Sequence[Entry]) -> list[str]:
    """Returns how a second shorter schedule, with another augmentation, ended beside the methods, and what follows."""
    found = [(entry, results.against_control(entry)) for entry in (*first, *others)]
    judged = [(entry, each) for entry, each in found if each is not None and each.seeds >= FEWEST_SEEDS]
    if not judged:
        return []
    augment = _augment_of(results)
    named = [(entry, each) for entry, each in judged if entry in first]
    rest = [(entry, each) for entry, each in judged if entry not in first]
    said = []
    if named:
        phrases = [f"{_beside(difference)} {entry.method} at {percent(entry.ratio)}" for entry, difference in named]
        said.append(f"With augment {augment}, {SHORTER} {listed(phrases)}.")
    if rest:
        said.append(f"Compared with that schedule, {_counted(rest)}.")
    if any(sign_of(difference) < 0 for _, difference in judged):
        said.append(f"Compare again with --augment {augment} in all runs before you prune.")
    return [" ".join(said)]


def _augment_of(results: Results) -> str | None:
    """Returns the augmentation of the second shorter schedules; None without them."""
    return next((entry.augment for entry in results.entries.values() if entry.augment is not None), None)


def _beside(difference: Difference) -> str:
    """Returns how a schedule ended beside a run, from the difference of the run to it."""
    sign = sign_of(difference)
    if not sign:
        return "is statistically indistinguishable from"
    return f"ended {_points(difference)} {'below' if sign > 0 else 'above'}"


def _points(difference: Difference) -> str:
    """Returns a difference that leaves out 0, without its sign.

    >>> _points(Difference(-1.06, -2.13, -0.0031, 3))
    '1.060 points [0.003, 2.130]'
    """
    low, mean, high = (f"{value:.{digits_of(difference)}f}" for value in sorted(map(abs, difference[:3])))
    return f"{mean} points [{low}, {high}]"


def _of_idle(idle: Sequence[Entry]) -> list[str]:
    """Returns that methods left nothing out."""
    return [
        f"{entry.method} at {percent(entry.ratio)} left nothing out: it trained as many samples as full data, so it "
        "shows nothing about pruning."
        for entry in idle
    ]


def _limits(results: Results) -> list[str]:
    """Returns what the results do not show."""
    limits = limits_of_search(results)
    searched, seeds = bool(limits), len(results.seeds)
    if not searched and seeds < FEWEST_SEEDS:
        have = "there is 1" if seeds == 1 else f"there are {seeds}"
        limits.append(f"A conclusion about accuracy needs at least {FEWEST_SEEDS} seeds; {have}.")
    elif not searched and seeds < 2 * FEWEST_SEEDS:
        limits.append(
            f"With {seeds} seeds the intervals are wide. “Statistically indistinguishable” does not mean equal."
        )
    entries = results.entries.values()
    missing = sum(len(entry.missing) for entry in entries)
    if missing:
        planned = missing + sum(len(entry.results) for entry in entries)
        limits.append(f"{missing} of {planned} planned runs {'is' if missing == 1 else 'are'} missing.")
    if results.mixed_note:
        limits.append(f"{results.mixed_note} That may add to their difference in accuracy, and more so in seconds.")
    found = [
        each
        for entry in ([] if searched else pruned_entries(results))
        for each in (results.against_full(entry), results.against_short(entry))
    ]
    intervals = sum(each is not None and each.seeds >= FEWEST_SEEDS for each in found)
    if intervals >= _MANY:
        by_chance = (1 - CONFIDENCE) * intervals
        limits.append(
            f"There are {intervals} intervals. Without true differences, about {by_chance:.0f} would still exclude 0."
        )
    tuned = results.planned.table.get("tuned", {})
    if ends := at_an_end(tuned, results.planned.table.get("max_lrs", [])):
        limits.append(
            f"For {len(ends)} of {len(tuned)} runs the best learning rate is the lowest or highest of those tried. One "
            "beyond it may be better."
        )
    recipe = results.recipe
    limits.append(
        f"All runs train {recipe['model']} on {recipe['dataset']} with one schedule. "
        "Other data, models and schedules may give other results."
    )
    return limits
