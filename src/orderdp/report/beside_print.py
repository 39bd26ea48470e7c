"""What was measured, held against what the paper prints: differences between methods, and numbers where they compare.

An accuracy on a small network says nothing about a printed accuracy of a ResNet. A difference between two methods has a
sign, which may be the printed one, and a size, which is another on other data. So signs are compared everywhere, and
numbers only for the same task and schedule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from orderdp.comparison.grid import FULL
from orderdp.comparison.records import value_in
from orderdp.comparison.results import Entry, Results
from orderdp.comparison.verdicts import FEWEST_SEEDS, Difference, paired_difference
from orderdp.diagnostics.registry import in_table
from orderdp.output.text_table import Table
from orderdp.report.curves import part_means
from orderdp.report.outline import Published
from orderdp.report.placement import full_data, percent, pruned_entries, ratios_of
from orderdp.report.tables import CLOSE, digits_of, sign_of, signed

OWN = "OrderDP"  # the paper's method, which its others are subtracted from
_LAST = ("last epoch", "final")
_IMAGENET = 1_281_167  # training images of ImageNet-1K
_SET = "saved"  # a measure that follows from the prune ratios asked for, so its order shows nothing
_BY_SEED: TypeAlias = Mapping[int, float]


class Mark(NamedTuple):
    """How a measured number agrees with a printed one.

    Args:
        word: said beside it.
        sign: before the word.
        color: name of its colour: agrees, contradicts, open or not-comparable.
        meaning: for the legend.
    """

    word: str
    sign: str
    color: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.sign} {self.word}"


SAME = Mark(
    "order and size",
    "✓",
    "agrees",
    "The whole 95 % interval of the difference lies on the printed side of 0, and holds the printed difference, up "
    "to its rounding. With few seeds an interval holds many sizes.",
)
ORDER = Mark(
    "order only",
    "◐",
    "agrees-in-order",
    "The whole interval lies on the printed side of 0, but the printed difference lies outside it: the order is the "
    "printed one, the size is another, as other data and networks may have it.",
)
OTHER = Mark(
    "other order",
    "✗",
    "contradicts",
    "The whole interval lies on the other side of 0; where a tie is printed, further from 0 than rounding hides.",
)
WITHIN = Mark("within", "✓", "agrees", "The printed number lies in the 95 % interval of the mean, or is exact.")
OUTSIDE = Mark("outside", "✗", "contradicts", "The printed number lies outside the 95 % interval, or is not exact.")
OPEN = Mark(
    "open",
    "○",
    "open",
    f"The interval holds 0, or comes as near as the rounding of a printed tie, or there are fewer than {FEWEST_SEEDS} "
    "seeds.",
)
NOT_COMPARABLE = Mark(
    "not comparable",
    "–",
    "not-comparable",
    "Another data set, network or schedule, methods that prune unequal shares, a picture without numbers, or a number "
    "that the study sets: no colour.",
)
MARKS = (SAME, ORDER, OTHER, WITHIN, OUTSIDE, OPEN, NOT_COMPARABLE)


def mark_in(cell: str) -> Mark | None:
    """Returns the mark at the end of a cell; None if there is none.

    >>> mark_in("+0.35 [+0.10, +0.60] ✓ order and size").color
    'agrees'
    """
    return next((mark for mark in MARKS if cell.endswith(str(mark))), None)


class Held(NamedTuple):
    """A comparison held against one table of the paper.

    Args:
        table: the printed numbers beside the measured ones.
        marks: how often each mark stands in it.
    """

    table: Table
    marks: Counter[Mark]


class _Column(NamedTuple):
    """A column of a printed table, found in what was measured.

    Args:
        place: of the column in the printed rows.
        heading: of the column.
        ratio: prune ratio of its runs; None if the rows name it.
        of: the number of a run by seed.
    """

    place: int
    heading: str
    ratio: float | None
    of: Callable[[Entry], _BY_SEED]


def is_same_task(results: Results, table: Published) -> bool:
    """Returns whether the title of a printed table names the data set and the network of a comparison."""
    return {_data_of(results), results.recipe["model"]} <= _words(table.title)


def fitting(results: Results, published: Sequence[Published]) -> list[Published]:
    """Returns the printed tables to hold a comparison against: those of its data set, else the first of a measure."""
    near = [table for table in published if _data_of(results) in _words(table.title)]
    first: dict[tuple[str, str], Published] = {}
    for table in published:
        first.setdefault((table.section, table.measure), table)
    return near or list(first.values())


def _data_of(results: Results) -> str:
    """Returns the data set of a comparison; a folder with as many images as ImageNet-1K is taken for that."""
    dataset = str(results.recipe["dataset"])
    return "imagenet1k" if dataset == "folder" and results.sizes.num_samples == _IMAGENET else dataset


def _words(title: str) -> set[str]:
    """Returns the words of a title as recipes write data sets and networks.

    >>> sorted(_words("CIFAR-10, ResNet-18: accuracy, %"))
    ['accuracy', 'cifar10', 'resnet18']
    """
    return set(re.findall(r"[a-z0-9_]+", title.lower().replace("-", "")))


def differences(results: Results, table: Published, edges: Sequence[float]) -> Held | None:
    """Returns the paper's method minus each other one, as printed and as measured; None if nothing is in both.

    Args:
        results: what was measured.
        table: a table of the paper.
        edges: borders of the parts of a run, as shares of it.
    """
    columns, digits = _columns(results, table, edges), _digits(table)
    marks: Counter[Mark] = Counter()
    rows = []
    for label in table.rows:
        found = [_gap(results, table, label, column) for column in columns]
        if not any(found):
            continue
        cells = []
        for each in found:
            if each is None:
                cells += ["", ""]
                continue
            printed, difference, equal = each
            mark = _mark_of(printed, difference, digits) if equal and table.measure != _SET else NOT_COMPARABLE
            if mark is not NOT_COMPARABLE:
                marks[mark] += 1
            cells += [signed(f"{printed:+.{digits}f}"), f"{_interval(difference, digits)} {mark}"]
        rows.append([label, *cells])
    if not rows:
        return None
    headings = [f"{column.heading}, {which}" for column in columns for which in ("printed", "here")]
    note = f"{OWN} minus the method of the row. Brackets: 95 % intervals over the seeds, paired by seed."
    pairs = [(own, label) for label, *_ in rows if (own := _own_row(label)) is not None]
    note += _pruned_otherwise(
        results, [_entry(results, name, each.ratio) for each in columns for pair in pairs for name in pair]
    )
    return Held(Table("order", table.title, [[f"{OWN} minus", *headings], *rows], note), marks)


def _pruned_otherwise(results: Results, entries: Sequence[Entry | None]) -> str:
    """Returns which methods prune more or less than their column says, after a space; nothing if none does."""
    found = {}
    for entry in entries:
        really = None if entry is None else _pruned(results, entry)
        if entry is not None and entry.ratio is not None and really is not None and abs(really - entry.ratio) > CLOSE:
            found[entry.label] = f"{entry.method} ({100 * really:.0f} % instead of {percent(entry.ratio)})"
    return f" Pruned otherwise than asked: {'; '.join(sorted(found.values()))}." if found else ""


def _pruned(results: Results, entry: Entry) -> float | None:
    """Returns the share of full data's samples that runs left out; None without finished runs.

    Without finished runs of full data, these are the training set in each epoch.
    """
    if not entry.results:
        return None
    full = full_data(results)
    in_each_epoch = results.sizes.num_samples * value_in(results.recipe, "epochs")
    whole = in_each_epoch if full is None else full.mean("samples_backward")
    return float(1 - entry.mean("samples_backward") / whole)


def _gap(results: Results, table: Published, label: str, column: _Column) -> tuple[float, Difference, bool] | None:
    """Returns the paper's method minus that of a row, as printed and as measured; None if it is not in both.

    The last value says whether the two prune the same share. All methods may be compared with full data.
    """
    own = _own_row(label)
    if own is None or own not in table.rows:
        return None
    theirs, ours = (_printed(table, name, column.place) for name in (label, own))
    entries = [_entry(results, name, column.ratio) for name in (own, label)]
    first, second = ({} if entry is None else column.of(entry) for entry in entries)
    if not theirs or not ours or not set(first) & set(second):
        return None
    difference = paired_difference(first, second, test_size=_test_size(results, table))
    found = [_pruned(results, entry) for entry in entries if entry is not None and entry.ratio is not None]
    shares = [share for share in found if share is not None]
    equal = len(shares) < 2 or abs(shares[0] - shares[1]) <= CLOSE
    return _number(ours) - _number(theirs), difference, equal


def numbers(results: Results, table: Published, edges: Sequence[float]) -> Held | None:
    """Returns measured numbers with the printed ones, for the same task and schedule; None if nothing is in both."""
    columns, digits = _columns(results, table, edges), _digits(table)
    marks: Counter[Mark] = Counter()
    rows = []
    for label in table.rows:
        cells = []
        for column in columns:
            entry, text = _entry(results, label, column.ratio), _printed(table, label, column.place)
            values = {} if entry is None or not text else column.of(entry)
            if not values:
                cells += [text, ""]
                continue
            mean = paired_difference(values, dict.fromkeys(values, 0.0), test_size=_test_size(results, table))
            half = 0.5 * 10.0**-digits  # the printed number is rounded
            inside = mean.low - half <= _number(text) <= mean.high + half
            mark = OPEN if mean.seeds < FEWEST_SEEDS else WITHIN if inside else OUTSIDE
            marks[mark] += 1
            cells += [text, f"{_interval(mean, digits, sign='')} {mark}"]
        rows.append([label, *cells])
    if not marks:
        return None
    headings = [f"{column.heading}, {which}" for column in columns for which in ("printed", "here")]
    note = "Brackets: 95 % interval of the mean over the seeds. The printed number has its own spread, often not given."
    return Held(Table("numbers", table.title, [["method", *headings], *rows], note), marks)


def _printed(table: Published, label: str, place: int) -> str:
    """Returns a cell of a printed table; full data is printed once for all prune ratios."""
    row = table.rows[label]
    if label == FULL and not any(row[1:]):
        return row[0]
    return row[place]


def _columns(results: Results, table: Published, edges: Sequence[float]) -> list[_Column]:
    """Returns the columns of a printed table that were measured: by prune ratio, part of the run, or optimiser."""
    return list(_found_columns(results, table, edges))


def _found_columns(results: Results, table: Published, edges: Sequence[float]) -> Iterator[_Column]:
    ratios = {percent(ratio): ratio for ratio in ratios_of(results)}
    only = next(iter(ratios.values())) if len(ratios) == 1 else None
    parts = {f"{100 * low:g}–{100 * high:g} %": place for place, (low, high) in enumerate(pairwise(edges))}
    parts |= dict.fromkeys(_LAST, len(parts))
    by_part = any(heading in parts for heading in table.columns[1:])
    for place, heading in enumerate(table.columns[1:]):
        if heading in parts and (of_line := _of_line(table)) is not None:
            yield _Column(place, heading, only, _mean_of_part(edges, of_line, parts[heading]))
        elif not by_part and (of := _of_run(results, table)) is not None:
            if heading in ratios:
                yield _Column(place, heading, ratios[heading], of)
            elif only is not None and _is_here(results, heading):
                yield _Column(place, heading, only, of)


def _is_here(results: Results, heading: str) -> bool:
    """Returns whether a column that names no prune ratio is of these runs: of their optimiser, or of all."""
    word = heading.lower()
    return word.startswith("acc") or results.recipe.get("optimizer") in (word, f"{word}_release")


def _of_line(table: Published) -> Callable[[Mapping[str, Any]], float | None] | None:
    """Returns the number of an epoch that a printed table shows by part of the run; None if no run measures it."""
    views = {view.name: view.of for view in in_table(table.section)}
    if table.measure == "accuracy":
        return itemgetter("accuracy")
    return views.get(table.measure or next(iter(views), ""))


def _of_run(results: Results, table: Published) -> Callable[[Entry], _BY_SEED] | None:
    """Returns the number of a whole run that a printed table shows; None if it is none of those known."""
    if table.measure == _SET:
        full = full_data(results)
        whole = {} if full is None else full.values("samples_backward")
        return lambda entry: {
            seed: 100 * (1 - value / whole[seed])
            for seed, value in entry.values("samples_backward").items()
            if seed in whole
        }
    if table.section == "accuracy" and table.measure in ("", "accuracy"):
        return lambda entry: entry.values("accuracy_last")
    return None


def _mean_of_part(
    edges: Sequence[float], value: Callable[[Mapping[str, Any]], float | None], place: int
) -> Callable[[Entry], _BY_SEED]:
    def of(entry: Entry) -> _BY_SEED:
        means = {seed: part_means(run, edges, value)[place] for seed, run in entry.metrics.items()}
        return {seed: mean for seed, mean in means.items() if mean is not None}

    return of


def _own_row(label: str) -> str | None:
    """Returns the row of the paper's method that a row is subtracted from; None if it is that row.

    >>> _own_row("InfoBatch 42.6 %"), _own_row("InfoBatch"), _own_row("OrderDP 40 %")
    ('OrderDP 42.6 %', 'OrderDP', None)
    """
    method, ratio = _split(label)
    return None if method == OWN else f"{OWN} {ratio}".strip()


def _split(label: str) -> tuple[str, str]:
    """Returns the method and the prune ratio of a row; "" for the ratio if the row names none."""
    found = re.fullmatch(r"(.+) ([\d.]+ %)", label)
    return (found[1], found[2]) if found else (label, "")


def _entry(results: Results, label: str, ratio: float | None) -> Entry | None:
    """Returns the runs of a printed row; of several whose settings it does not name, none."""
    method, named = _split(label)
    if method == FULL:
        return full_data(results)
    ratios = {percent(each): each for each in ratios_of(results)}
    ratio = ratios.get(named) if named else ratio
    there = [entry for entry in pruned_entries(results) if entry.ratio == ratio]
    exact = [entry for entry in there if entry.method == method]
    with_settings = [entry for entry in there if entry.method.startswith(f"{method} ")]
    found = exact or with_settings
    return found[0] if len(found) == 1 else None


def _test_size(results: Results, table: Published) -> int | None:
    is_accuracy = table.measure == "accuracy" or (table.section == "accuracy" and not table.measure)
    return results.sizes.num_test_samples if is_accuracy else None


def _mark_of(gap: float, difference: Difference, digits: int) -> Mark:
    sign, rounding = sign_of(difference), 10.0**-digits  # what two numbers that are printed alike may differ by
    if not sign or (gap == 0 and difference.low <= rounding and difference.high >= -rounding):
        return OPEN
    if sign * gap <= 0:
        return OTHER
    return SAME if difference.low - rounding <= gap <= difference.high + rounding else ORDER


def _interval(difference: Difference, digits: int, *, sign: str = "+") -> str:
    form = f"{sign}.{max(digits, digits_of(difference))}f"
    text = format(difference.mean, form)
    if difference.seeds > 1:
        text += f" [{difference.low:{form}}, {difference.high:{form}}]"
    return signed(text)


def _number(cell: str) -> float:
    return float(cell.split()[0].replace("−", "-"))


def _digits(table: Published) -> int:
    """Returns how many decimals a printed table has."""
    cells = [cell.split()[0] for row in table.rows.values() for cell in row if cell]
    return max((len(cell.partition(".")[2]) for cell in cells), default=0)
