"""All tables of a report in one Markdown file, which is stored beside an archive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from orderdp.output.text_table import Table
from orderdp.report.outline import Outline
from orderdp.report.page import Part


def as_one_file(outline: Outline, parts: Sequence[Part]) -> str:
    """Returns all tables of a report as one text of Markdown, each with an anchor of its name.

    A link to `tables.md#accuracy` leads to the table named accuracy; in a study the name begins with its part, as in
    `tables.md#cifar10-accuracy`. `table_in` finds the table.
    """
    return "\n\n".join(_paragraphs(outline, parts)) + "\n"


def _paragraphs(outline: Outline, parts: Sequence[Part]) -> Iterator[str]:
    yield f"# {outline.title}"
    if outline.about:
        yield outline.about
    for part in parts:
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
