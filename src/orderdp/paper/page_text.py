"""The page of the paper as Markdown and as HTML."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path

from orderdp.output.text_table import Table
from orderdp.paper.page import OF_ALL, Exhibit, Page, data_of
from orderdp.paper.study_file import SIZES
from orderdp.report.beside_print import MARKS
from orderdp.report.rendering import rendered

_OPENING = (
    "Each table and figure of the OrderDP paper, in its order, with what was measured beside what is printed.",
    "Small networks say nothing about the printed accuracies of ResNets. What may be compared is who is better than "
    "whom. The shorter schedule is full data for as many steps; the paper does not have it.",
    "The states: “run”, all runs are there; “partly run”, some are; “measured”, by a program of its own instead of "
    "such runs; “exact”, from formulas; “not run”, no results at this size.",
)
_SMOKE = (
    f"At size {SIZES[0]}, all that trains does so on scikit-learn's handwritten digits, whatever data its heading "
    "names. Such a page shows that the commands work, and nothing about the paper."
)

OF_OPEN = (
    "The paper names these settings in its Appendices B and F and leaves them open, but for tables of numbers, which "
    "it does not name. Each study compares OrderDP with full data, with a shorter schedule and with a random choice."
)


def title_of(page: Page) -> str:
    """Returns the heading of the page."""
    return f"The paper at size {page.size}{data_of(page.size)}"


def _opening(page: Page) -> tuple[str, ...]:
    return (*_OPENING[:1], _SMOKE, *_OPENING[1:]) if page.size == SIZES[0] else _OPENING


def as_markdown(page: Page, folder: Path) -> str:
    """Returns the page as Markdown.

    Args:
        page: the page.
        folder: where it will lie, which its links start from.
    """
    return "\n\n".join(_paragraphs(page, folder)) + "\n"


def _paragraphs(page: Page, folder: Path) -> Iterator[str]:
    yield f"# {title_of(page)}"
    yield from _opening(page)
    yield "\n".join(["| mark | meaning |", "| --- | --- |", *(f"| {mark} | {mark.meaning} |" for mark in MARKS)])
    yield _of_table(page.overview())
    yield "Deviations in every study:"
    yield _as_list(OF_ALL)
    for exhibit in page.exhibits:
        yield f"## {exhibit.title}"
        yield from _of_exhibit(exhibit, folder)
    if page.left_open:
        yield "## What the paper leaves open"
        yield OF_OPEN
        yield _of_table(page.overview_of_open())
    for exhibit in page.left_open:
        yield f"### {exhibit.title}"
        yield from _of_exhibit(exhibit, folder)
    if page.others:
        yield "## Studies that are not in the paper"
        yield _as_list(page.others)


def _of_exhibit(exhibit: Exhibit, folder: Path) -> Iterator[str]:
    reports = [f"[{part}]({_link(path, folder)})" for part, path in exhibit.reports.items()]
    lines = [f"**State:** {exhibit.state}."]
    lines += [f"**The paper reads:** {exhibit.claim}"] if exhibit.claim else []
    lines += exhibit.seen
    lines += [f"**Deviation:** {sentence}" for sentence in exhibit.deviations]
    lines += [f"**All tables:** {', '.join(reports)}."] if reports else []
    if exhibit.asks:
        yield exhibit.asks
    yield _as_list(lines)
    for table in exhibit.tables:
        yield _of_table(table)
    for picture in exhibit.pictures:
        yield f"![{exhibit.title}]({_link(picture, folder)})"


def _of_table(table: Table) -> str:
    return f"**{table.title}**\n\n{table.as_markdown().strip()}"


def _as_list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _link(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def as_html(page: Page) -> str:
    """Returns the page as HTML that needs no other file.

    Raises:
        OSError: a picture cannot be read. ImportError: an extra is missing.
    """
    pictures = {
        each.name: [b64encode(path.read_bytes()).decode() for path in each.pictures]
        for each in (*page.exhibits, *page.left_open)
    }
    return rendered(
        "paper.html.j2",
        title=title_of(page),
        opening=_opening(page),
        marks=MARKS,
        of_all=OF_ALL,
        of_open=OF_OPEN,
        page=page,
        pictures=pictures,
    )
