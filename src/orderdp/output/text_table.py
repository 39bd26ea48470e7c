"""A table of text, for a terminal, a page and a document. The first column is a label, the others are numbers."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

_TEXT_WIDTH = 100  # letters of a line of the note, in a terminal


class Table(NamedTuple):
    """A table of text with its title and what a reader must know about it.

    Args:
        name: name of its files, without ending.
        title: heading.
        lines: header and rows; the first column is a label.
        note: explanation below it.

    >>> table = Table("steps", "Steps per run", [("run", "steps"), ("full data", "1,000")], "One seed.")
    >>> print(table.as_text())
    run        steps
    full data  1,000
    <BLANKLINE>
    One seed.
    >>> print(table.as_csv())
    run,steps
    full data,"1,000"
    <BLANKLINE>
    """

    name: str
    title: str
    lines: Sequence[Sequence[str]]
    note: str = ""

    def as_text(self) -> str:
        """Returns the lines in aligned columns, with the note as a paragraph below."""
        return as_text(self.lines) + (f"\n\n{textwrap.fill(self.note, _TEXT_WIDTH)}" if self.note else "")

    def as_markdown(self) -> str:
        """Returns the lines as a Markdown table, with the note as a paragraph below."""
        return as_markdown(self.lines) + (f"\n{self.note}\n" if self.note else "")

    def as_csv(self) -> str:
        """Returns the lines as CSV."""
        header, *rows = self.lines
        return as_csv(header, rows)

    def as_latex(self) -> str:
        """Returns the lines as a LaTeX tabular with the rules of booktabs."""
        return as_latex(self.lines)


def as_text(lines: Sequence[Sequence[str]], *, words: bool = False) -> str:
    """Returns the lines, the first of them the header, in aligned columns: numbers to the right, words to the left.

    >>> print(as_text([("run", "steps"), ("full", "1,000")]))
    run   steps
    full  1,000
    """
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    pad = [str.ljust] + [str.ljust if words else str.rjust] * (len(widths) - 1)
    padded = (
        "  ".join(align(cell, width) for align, cell, width in zip(pad, line, widths, strict=True)) for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """Returns the lines, the first of them the header, as Markdown; `markdown_cells` reads a line back."""
    header, *rows = lines
    rule = ("---", *["---:"] * (len(header) - 1))
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in (header, rule, *rows))
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def markdown_cells(line: str) -> list[str]:
    r"""Returns the cells of a line of a Markdown table.

    >>> markdown_cells(r"| a\|b | 1 |")
    ['a|b', '1']
    """
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]


_LATEX = {letter: rf"\{letter}" for letter in "%_&#${}"}
_LATEX |= {"±": r"$\pm$", "−": "$-$", "ε": r"$\varepsilon$", "<": "$<$", ">": "$>$", "|": "$|$"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def as_latex(lines: Sequence[Sequence[str]]) -> str:
    """Returns the lines, the first of them the header, as a LaTeX tabular with the rules of booktabs."""

    def row(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(letter, letter) for letter in cell) for cell in cells) + r" \\"

    header, *rows = lines
    columns = "l" + "r" * (len(header) - 1)
    parts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", row(header), r"\midrule", *map(row, rows)]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"]) + "\n"


def number_or_text(text: str) -> int | float | str:
    """Returns the number that a text is, or the text. A whole number beyond the floats is infinite."""
    with contextlib.suppress(ValueError):
        number = int(text)
        return number if abs(number) < sys.float_info.max else float(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return text


def as_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns the rows as CSV, each float in the fewest digits that restore it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([float(cell) if isinstance(cell, np.floating) else cell for cell in row] for row in rows)
    return text.getvalue()
