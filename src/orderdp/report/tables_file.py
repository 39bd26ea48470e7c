"""All tables of a report in one Markdown file, which is stored beside an archive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from orderdp.output.text_table import Table
from orderdp.report.across import ACROSS
from orderdp.report.page import Report


def as_one_file(report: Report) -> str:
    """Returns all tables of a report as one text of Markdown, each with an anchor of its name.

    A link to `tables.md#accuracy` leads to the table named accuracy; in a study the name begins with its part, as in
    `tables.md#cifar10-accuracy`, or with "across". `table_in` finds the table.
    """
    return "\n\n".join(_paragraphs(report)) + "\n"


def _paragraphs(report: Report) -> Iterator[str]:
    yield f"# {report.outline.title}"
    if report.outline.about:
        yield report.outline.about
    if report.across.tables:
        yield "## All tasks together"
        if report.across.may:
            yield f"**What may be concluded**\n\n{_as_list(report.across.may)}"
        yield from (_anchored(table, f"{ACROSS}-") for table in report.across.tables)
    for part in report.parts:
        yield f"## {part.title}"
        yield _as_list(f"{what}: {value}" for what, value in part.summary.facts)
        yield from (f"**{heading}**\n\n{_as_list(sentences)}" for heading, sentences in part.summary.conclusions())
        prefix = f"{part.name}-" if part.name else ""
        yield _anchored(part.overview, prefix)
        for section in part.sections:
            if section.tables:
                yield f"### {section.title}"
            yield from (_anchored(table, prefix) for table in section.tables)


def _anchored(table: Table, prefix: str) -> str:
    return f'<a id="{prefix}{table.name}"></a>\n**{table.title}**\n\n{table.as_markdown().strip()}'


def _as_list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def table_in(text: str, name: str) -> str:
    """Returns the Markdown of a table, by its name, in a text that `as_one_file` made.

    Raises:
        KeyError: there is no such table.
    """
    found = re.search(rf'^<a id="{re.escape(name)}"></a>\n.*\n\n((?:\|.*\n)+)', text, flags=re.MULTILINE)
    if found is None:
        raise KeyError(name)
    return found[1].strip()
