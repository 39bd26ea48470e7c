"""The results of a comparison's runs, read from its folder or its archive.

Reading needs no data set and no model, builds no strategy and imports no user code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from orderdp.comparison.grid import FULL, with_augment
from orderdp.comparison.planned import Planned, Sizes
from orderdp.comparison.records import Missing, Records, read_folder
from orderdp.comparison.verdicts import Difference, paired_difference
from orderdp.training.provenance import apart
from orderdp.training.run_folder import spent_s


class Seconds(NamedTuple):
    """How the time of runs is measured, without evaluation.

    Args:
        name: "processor seconds", which are those of all threads of a run, or "seconds" of the clock.
        of: a result, or the line of an epoch, to its seconds.
    """

    name: str
    of: Callable[[Mapping[str, Any]], float]


def seconds_of(found: Iterable[Mapping[str, Any]]) -> Seconds:
    """Returns the time of runs: of the processor if all measured it, which other work disturbs less than the clock.

    Args:
        found: the results of the runs that are compared.
    """
    measured = [result.get("processor_s") for result in found]
    if not measured or None in measured:
        return Seconds("seconds", spent_s)
    return Seconds("processor seconds", lambda record: float(record["processor_s"]))


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: the runs that differ only in their seed.

    Args:
        label: its name in tables.
        method: the label without the prune ratio under which it is shown.
        ratio: the prune ratio under which it is shown; None for full data.
        reference: whether it is full data, for the whole schedule or a shorter one.
        short: label of full data with as many steps; None for references, or if that is not planned.
        strategy: the table that describes its strategy in a recipe.
        results: seed to the result of the run.
        metrics: seed to a row for each epoch; without seeds whose epochs an archive leaves out.
        last: seed to the row of the last epoch.
        missing: seed to the reason why there is no result.
        augment: augmentation of a shorter schedule; None for that of the recipe.
    """

    label: str
    method: str
    ratio: float | None
    reference: bool
    short: str | None
    strategy: Mapping[str, Any]
    results: dict[int, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    last: dict[int, dict[str, Any]] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    augment: str | None = None

    @property
    def mark(self) -> str:
        """Text such as " (1 of 3)" to put behind the label if runs are missing; else nothing."""
        planned = len(self.results) + len(self.missing)
        return f" ({len(self.results)} of {planned})" if self.missing else ""

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

    def seconds_to(self, accuracy: float, seconds: Seconds) -> dict[int, float | None]:
        """Returns the seconds until an epoch first reached an accuracy in percent, by seed; None if none did."""
        found = {seed: _until(rows, accuracy) for seed, rows in self.metrics.items()}
        return {seed: None if rows is None else sum(map(seconds.of, rows)) for seed, rows in found.items()}

    def samples_to(self, accuracy: float) -> dict[int, float | None]:
        """Returns the training samples until an epoch first reached an accuracy, as `seconds_to` does."""
        found = {seed: _until(rows, accuracy) for seed, rows in self.metrics.items()}
        return {seed: None if rows is None else rows[-1]["samples_forward"] for seed, rows in found.items()}


@dataclass(frozen=True)
class Results:
    """The results of one comparison.

    Args:
        planned: which runs were planned.
        entries: label to its runs, in the planned order.
        unplanned: names of runs in the folder that are not planned.
    """

    planned: Planned
    entries: dict[str, Entry]
    unplanned: tuple[str, ...] = ()

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as a plain table."""
        return self.planned.recipe

    @property
    def recipe_text(self) -> str:
        """The recipe as TOML."""
        return self.planned.recipe_text

    @property
    def sizes(self) -> Sizes:
        """The sizes of the data."""
        return self.planned.sizes

    @property
    def seeds(self) -> tuple[int, ...]:
        """The planned seeds."""
        return self.planned.seeds

    @property
    def has_epochs(self) -> bool:
        """Whether all epochs of any run are here: an archive may leave out those before the last."""
        return any(entry.metrics for entry in self.entries.values())

    @property
    def seconds(self) -> Seconds:
        """The time of its runs, as `seconds_of`."""
        return seconds_of(result for entry in self.entries.values() for result in entry.results.values())

    @property
    def schedules(self) -> list[Entry]:
        """Full data and its other schedules that have results, all with the augmentation of the recipe."""
        references = [entry for entry in self.entries.values() if entry.reference and entry.results]
        return [entry for entry in references if entry.augment is None]

    @property
    def references(self) -> tuple[str, ...]:
        """The planned references: "full", "short", both or none."""
        return self.planned.against

    def against(self, entry: Entry, other: Entry | None, name: str = "accuracy_last") -> Difference | None:
        """Returns an accuracy minus that of another entry, paired by seed; None without a seed in common."""
        if other is None or other is entry or not set(entry.results) & set(other.results):
            return None
        return paired_difference(entry.values(name), other.values(name), test_size=self.sizes.num_test_samples)

    def against_full(self, entry: Entry) -> Difference | None:
        """Returns accuracy minus that of full data, paired by seed; None without a seed in common."""
        return self.against(entry, self.entries.get(FULL))

    def against_short(self, entry: Entry, name: str = "accuracy_last") -> Difference | None:
        """Returns an accuracy minus that of full data with as many steps, paired by seed."""
        return self.against(entry, self.short_of(entry), name)

    def against_control(self, entry: Entry) -> Difference | None:
        """Returns accuracy minus that of full data with as many steps and another augmentation, paired by seed."""
        return self.against(entry, self.control_of(entry))

    def control_of(self, entry: Entry) -> Entry | None:
        """Returns full data with as many steps and another augmentation; None if that is not planned."""
        beside = (each for each in self.entries.values() if each.reference and each.augment is not None)
        return next((each for each in beside if each.label == with_augment(str(entry.short), str(each.augment))), None)

    def short_of(self, entry: Entry) -> Entry | None:
        """Returns full data with as many steps; None if that is not planned."""
        return None if entry.short is None else self.entries.get(entry.short)

    @cached_property
    def mixed_pairs(self) -> tuple[int, int]:
        """The number of paired differences between runs of different commits or processors, and of all pairs."""
        return _mixed_of(self._compared())

    def _compared(self) -> Iterator[tuple[Entry, Entry]]:
        """Yields what `against_full` and `against_short` of the pruned runs compare."""
        for entry in self.entries.values():
            for other in () if entry.reference else (self.entries.get(FULL), self.short_of(entry)):
                if other is not None:
                    yield entry, other

    @property
    def mixed_note(self) -> str:
        """A sentence on `mixed_pairs` for a note or a summary; empty if all pairs are of one commit and processor.

        Arithmetic may differ slightly between processors, and seconds may differ a lot.
        """
        return self.mixed_note_of(self._compared())

    def mixed_note_of(self, compared: Iterable[tuple[Entry, Entry]]) -> str:
        """As `mixed_note`, of other comparisons."""
        mixed, total = _mixed_of(compared)
        if not mixed:
            return ""
        join = "joins" if mixed == 1 else "join"
        return f"{mixed} of {total} pairs {join} runs of different commits or processors."


def _mixed_of(compared: Iterable[tuple[Entry, Entry]]) -> tuple[int, int]:
    """Returns how many pairs of the same seed are of several commits or processors, and how many pairs there are.

    A run that went on under another commit makes its pairs so, whatever the other run is of.
    """
    mixed = total = 0
    for entry, other in compared:
        for seed in entry.results.keys() & other.results.keys():
            runs = entry.results[seed], other.results[seed]
            total += 1
            mixed += any(len({each for run in runs for each in apart(run[of])}) > 1 for of in ("commit", "device"))
    return mixed, total


def read_results(path: Path, *, together: float | None = None) -> Results:
    """Reads the folder of a comparison.

    A run counts as missing if it failed, is not finished, is damaged, or has no finite accuracy.

    Args:
        path: the folder.
        together: prune ratio under which all methods are shown; None shows each under its own.

    Raises:
        ValueError: the folder holds no comparison, or it holds a run of another recipe than planned.
    """
    return results_of(read_folder(path), together=together)


def results_of(records: Records, *, together: float | None = None) -> Results:
    """Returns the results made of the records of the runs; `together` as in `read_results`."""
    entries: dict[str, Entry] = {}
    for run in records.planned.runs:
        ratio = run.ratio if together is None or run.ratio is None else together
        method = run.method if ratio == run.ratio else run.label
        new = Entry(run.label, method, ratio, run.reference, run.short, run.strategy, augment=run.augment)
        entry = entries.setdefault(run.label, new)
        found = records.runs[run.name]
        if isinstance(found, Missing):
            entry.missing[run.seed] = found.reason
        else:
            entry.results[run.seed], entry.last[run.seed] = found.result, found.epochs[-1]
            if len(found.epochs) >= found.result["epochs"]:  # an archive may leave out those before the last
                entry.metrics[run.seed] = found.epochs
    return Results(records.planned, entries, records.unplanned)


def _until(rows: list[dict[str, Any]], accuracy: float) -> list[dict[str, Any]] | None:
    """Returns the epochs up to the first that reached the accuracy; None if none did."""
    reached = (row["accuracy"] is not None and row["accuracy"] >= accuracy for row in rows)  # None: not evaluated
    return next((rows[:number] for number, there in enumerate(reached, 1) if there), None)
