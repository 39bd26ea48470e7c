"""All tables of a report in one Markdown file, which stands beside an archive."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from orderdp.output.text_table import as_markdown
from orderdp.report.outline import Outline
from orderdp.report.page import Part


def as_one_file(outline: Outline, parts: Sequence[Part]) -> str:
    """Returns all tables of a report as one text of Markdown, each with an anchor of its name.

    A link to `tables.md#accuracy` leads to the table named accuracy; in a study the name begins with its part, as in
    `tables.md#cifar10-accuracy`. `table_in` finds it again.
    """
    return "\n\n".join(_paragraphs(outline, parts)) + "\n"


def _paragraphs(outline: Outline, parts: Sequence[Part]) -> Iterator[str]:
    yield f"# {outline.title}"
    if outline.about:
        yield outline.about
    for part in parts:
        yield f"## {part.title}"
        yield "\n".join(f"- {what}: {part.settings[what]}" for what in ("device", "versions", "commit", "seeds"))
        prefix = f"{part.name}-" if part.name else ""
        for section in part.sections:
            if section.tables:
                yield f"### {section.title}"
            for table in section.tables:
                yield f'<a id="{prefix}{table.name}"></a>\n**{table.title}**'
                yield as_markdown(table.lines).strip()
                if table.note:
                    yield table.note


def table_in(text: str, name: str) -> str:
    """Returns the Markdown of a table, by its name, in a text that `as_one_file` made.

    Raises:
        KeyError: there is no such table.
    """
    found = re.search(rf'^<a id="{re.escape(name)}"></a>\n.*\n\n((?:\|.*\n)+)', text, flags=re.MULTILINE)
    if found is None:
        raise KeyError(name)
    return found[1].strip()
