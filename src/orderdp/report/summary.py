"""The summary at the top of a report: what was compared, and what may or may not be concluded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import CONFIDENCE, FEWEST_SEEDS, TOLERANCE, Difference
from orderdp.comparison.worth import Worth, worth_of
from orderdp.report.origins import dates_of, made_with
from orderdp.report.placement import first_methods, percent, pruned_entries, ratios_of
from orderdp.report.sections.worth import more_steps
from orderdp.report.tables import interval, sign_of

SHORTER = "full data trained for the same number of steps"
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
    ratios = _listed([percent(ratio) for ratio in ratios_of(results)])
    references = {"full": "full data", "short": SHORTER}
    against = _listed([references[name] for name in results.references]) or "nothing"
    data = f"{recipe['dataset']}, {sizes.num_samples:,} training and {sizes.num_test_samples:,} test samples"
    if noise := recipe.get("label_noise"):
        data += f", {percent(noise)} of the training labels wrong"
    seeds = ", ".join(map(str, results.seeds))
    dates = dates_of(results)
    rates = results.planned.table.get("max_lrs", [])
    chosen = f"of {_listed([f'{rate:g}' for rate in rates])}, for each run the best on held-out training samples"
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
    """Returns sentences on accuracy that the results support: first about the method named first, then the others."""
    first = first_methods(results)
    if not first:
        return ["No method prunes here, so nothing may be concluded about pruning."]
    if not any(results.against_full(entry) or results.against_short(entry) for entry in pruned_entries(results)):
        return ["No pair of a pruned run and its reference is finished, so nothing may be concluded about pruning."]
    if len(results.seeds) < FEWEST_SEEDS:
        return [_of_few_seeds(results, first.values())]
    others = [entry for entry in pruned_entries(results) if entry not in first.values()]
    sentences = []
    for against, reference in ((results.against_short, SHORTER), (results.against_full, "full data")):
        outcomes: dict[str, list[str]] = {}
        for entry in first.values():
            if (difference := against(entry)) is not None:
                outcomes.setdefault(entry.method, []).append(f"{_outcome(difference)} at {percent(entry.ratio)}")
        if outcomes:
            phrases = [f"{method} {_listed(each)}" for method, each in outcomes.items()]
            sentences.append(f"Compared with {reference}, {_listed(phrases)}.")
    return [*_worth(results, first.values()), *sentences, *_of_others(results, others)]


def _worth(results: Results, entries: Iterable[Entry]) -> list[str]:
    """Returns what the method named first is worth beside stopping early, at each of its prune ratios."""
    phrases: dict[str, list[str]] = {}
    for entry in entries:
        worth = worth_of(results, entry)
        if worth is not None and worth.seeds >= FEWEST_SEEDS:
            said = phrases.setdefault(entry.method, [])
            unit = "" if said else " steps than stopping early"
            said.append(f"{_amount(worth)}{unit} {more_steps(worth).partition(' % ')[2]} at {percent(entry.ratio)}")
    return [f"{method} is worth {_listed(said)}." for method, said in phrases.items()]


def _amount(worth: Worth) -> str:
    """Returns how many more steps a run is worth, such as "39 % more"."""
    percents = round(100 * (worth.ratio - 1))
    if percents < 0 or (percents == 0 and worth.beyond == "less than"):
        beyond = {"": "", "more than": "at most ", "less than": "at least "}[worth.beyond]
        return f"{beyond}{-percents} % fewer"
    return f"{worth.beyond} {percents} % more".lstrip()


def _outcome(difference: Difference) -> str:
    """Returns what a difference shows, such as "loses 0.78 points [0.42, 1.14]"."""
    if difference.seeds < FEWEST_SEEDS:
        return f"has only {difference.seeds} of the {FEWEST_SEEDS} pairs that a conclusion needs"
    sign, shown = sign_of(difference), interval(difference, difference.seeds)
    if sign:
        low, high = sorted((abs(difference.low), abs(difference.high)))
        verb = "gains" if sign > 0 else "loses"
        within = f", within the tolerance of {TOLERANCE:g}" if sign < 0 and difference.verdict == "lossless" else ""
        return f"{verb} {abs(difference.mean):.2f} points [{low:.2f}, {high:.2f}]{within}"
    if difference.verdict == "lossless":
        return f"loses at most {TOLERANCE:g} points ({shown})"
    return f"is statistically indistinguishable ({shown})"


def _of_few_seeds(results: Results, entries: Iterable[Entry]) -> str:
    """Returns what the runs ended with, and that it may be chance."""
    ended = []
    for entry in entries:
        apart = [
            f"{abs(difference.mean):.2f} points {'above' if difference.mean >= 0 else 'below'} {reference}"
            for difference, reference in (
                (results.against_full(entry), "full data"),
                (results.against_short(entry), SHORTER),
            )
            if difference is not None
        ]
        if apart:
            ended.append(f"{entry.method} at {percent(entry.ratio)} ended {_listed(apart)}")
    count = len(results.seeds)
    seeds = "one seed" if count == 1 else f"{count} seeds"
    return f"{'; '.join(ended)}; with {seeds} this may be chance, so train at least {FEWEST_SEEDS} (--seed 0 1 2)."


def _of_others(results: Results, others: Sequence[Entry]) -> list[str]:
    """Returns how many of the other methods gain and lose, each at each of its prune ratios."""
    against: Callable[[Entry], Difference | None] = results.against_short
    reference = SHORTER
    if not any(against(entry) for entry in others):
        against, reference = results.against_full, "full data"
    judged = [found for entry in others if (found := against(entry)) and found.seeds >= FEWEST_SEEDS]
    if not judged:
        return []
    counts = Counter(map(sign_of, judged))
    verbs = ((1, "gains", "gain"), (-1, "loses", "lose"), (0, "is", "are"))
    outcomes = [f"{counts[sign]} {one if counts[sign] == 1 else more}" for sign, one, more in verbs if counts[sign]]
    if counts[0]:
        outcomes[-1] += " statistically indistinguishable"
    if len(judged) == 1:
        return [f"Compared with {reference}, the one other case {outcomes[0].removeprefix('1 ')}."]
    return [f"Compared with {reference}, of {len(judged)} other cases (a method at a prune ratio) {_listed(outcomes)}."]


def _limits(results: Results) -> list[str]:
    """Returns what the results do not show."""
    limits = []
    seeds = len(results.seeds)
    if seeds < FEWEST_SEEDS:
        have = "there is 1" if seeds == 1 else f"there are {seeds}"
        limits.append(f"A conclusion about accuracy needs at least {FEWEST_SEEDS} seeds; {have}.")
    elif seeds < 2 * FEWEST_SEEDS:
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
        for entry in pruned_entries(results)
        for each in (results.against_full(entry), results.against_short(entry))
    ]
    intervals = sum(each is not None and each.seeds >= FEWEST_SEEDS for each in found)
    if intervals >= _MANY:
        by_chance = (1 - CONFIDENCE) * intervals
        limits.append(
            f"There are {intervals} intervals. Without true differences, about {by_chance:.0f} would still exclude 0."
        )
    recipe = results.recipe
    limits.append(
        f"All runs train {recipe['model']} on {recipe['dataset']} with one schedule. "
        "Other data, models and schedules may give other results."
    )
    return limits


def _listed(parts: Sequence[str]) -> str:
    """Returns the parts in one phrase: "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
