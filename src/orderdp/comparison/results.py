"""What the runs of a comparison came to, read from its folder: no data set and no model is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from orderdp.comparison.grid import FULL, Comparison, Sizes, load_comparison
from orderdp.comparison.table import spent_s
from orderdp.comparison.verdicts import Difference, paired_difference
from orderdp.comparison.workers import planned_recipe
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: the runs that differ by nothing but their seed.

    Args:
        label: what tables call it.
        recipe: of its first seed.
        short: label of all the data with as many steps; None for references, or where it is not part of the plan.
        ratio: the prune ratio under which it is shown.
        results: seed to what the run ended with.
        metrics: seed to a line for each epoch.
        holes: seed to the reason why there is no result to use.
    """

    label: str
    recipe: Recipe
    short: str | None
    ratio: float
    results: dict[int, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    holes: dict[int, str] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """A mark such as " (1 of 3)" to stand behind its name where runs of some seeds are missing."""
        planned = len(self.results) + len(self.holes)
        return f" ({len(self.results)} of {planned})" if self.holes else ""

    @property
    def is_reference(self) -> bool:
        """Whether it is all the data, for the whole schedule or a shorter one."""
        return not self.recipe.strategy.prunes

    def values(self, name: str) -> dict[int, float]:
        """Returns a number of the results, such as "accuracy_last", by seed."""
        return {seed: result[name] for seed, result in self.results.items()}

    def mean(self, value: str | Callable[[Mapping[str, Any]], float]) -> float:
        """Returns the mean over the seeds of a number of the results; nan without any."""
        of = value if callable(value) else (lambda result: result[value])
        return fmean(map(of, self.results.values())) if self.results else math.nan

    def deviation(self, name: str) -> float:
        """Returns the standard deviation over the seeds of a number of the results; nan for fewer than two."""
        values = list(self.values(name).values())
        return stdev(values) if len(values) > 1 else math.nan

    def cost_s(self) -> float:
        """Returns the mean seconds of a run, evaluation left out."""
        return self.mean(spent_s)

    def seconds_to(self, accuracy: float) -> dict[int, float | None]:
        """Returns the seconds until an epoch first reached an accuracy in percent, by seed; None where none did."""
        found = {seed: _until(lines, accuracy) for seed, lines in self.metrics.items()}
        return {seed: None if lines is None else sum(map(spent_s, lines)) for seed, lines in found.items()}

    def samples_to(self, accuracy: float) -> dict[int, float | None]:
        """Returns as `seconds_to` the samples that went through the model in training until then."""
        found = {seed: _until(lines, accuracy) for seed, lines in self.metrics.items()}
        return {seed: None if lines is None else lines[-1]["samples_forward"] for seed, lines in found.items()}


@dataclass(frozen=True)
class Results:
    """A comparison's folder.

    Args:
        path: the folder.
        plan: which runs it holds.
        sizes: of its data.
        entries: label to its runs, in the order of the plan.
        strangers: names of runs that lie in the folder and are none of the plan's.
    """

    path: Path
    plan: Comparison
    sizes: Sizes
    entries: dict[str, Entry]
    strangers: tuple[str, ...] = ()

    def against(self, entry: Entry, other: Entry | None) -> Difference | None:
        """Returns accuracy less that of another line, paired by seed; None where there is no seed in common."""
        if other is None or other is entry or not set(entry.results) & set(other.results):
            return None
        mine, theirs = entry.values("accuracy_last"), other.values("accuracy_last")
        return paired_difference(mine, theirs, test_size=self.sizes.num_test_samples)

    def against_full(self, entry: Entry) -> Difference | None:
        """Returns accuracy less that of full data, paired by seed; None where there is no seed in common."""
        return self.against(entry, self.entries.get(FULL))

    def against_short(self, entry: Entry) -> Difference | None:
        """Returns accuracy less that of all the data with as many steps, paired by seed."""
        return None if entry.short is None else self.against(entry, self.entries.get(entry.short))


def read_results(path: Path, *, together: float | None = None) -> Results:
    """Reads a comparison's folder; a run that failed or is not finished, or has no finite accuracy, is a hole.

    Args:
        path: the folder.
        together: prune ratio under which all methods are shown, whatever each is asked for; None for each its own.

    Raises:
        ValueError: no plan, or runs of another recipe than the plan's.
    """
    plan, sizes = load_comparison(path)
    entries: dict[str, Entry] = {}
    members = plan.members(sizes.num_samples, sizes.num_ranks)
    for member in members:
        ratio = (member.recipe.strategy.asked_ratio or 0.0) if together is None else together
        entry = entries.setdefault(member.label, Entry(member.label, member.recipe, member.short, ratio))
        folder, seed = RunFolder(path / member.name), member.recipe.seed
        planned_recipe(member, folder, sizes)
        try:
            record = folder.record()
        except ValueError as error:
            entry.holes[seed] = str(error)
            continue
        if record is None:
            entry.holes[seed] = folder.failure() or "not finished"
        else:
            entry.results[seed], entry.metrics[seed] = record
    planned = {member.name for member in members}
    strangers = sorted({found.parent.name for found in path.glob("*/recipe.toml")} - planned)
    return Results(path, plan, sizes, entries, tuple(strangers))


def _until(lines: list[dict[str, Any]], accuracy: float) -> list[dict[str, Any]] | None:
    """Returns the epochs up to the first that ended at the accuracy; None where none did."""
    return next((lines[:number] for number, line in enumerate(lines, 1) if line["accuracy"] >= accuracy), None)
