"""Updates the tables and conclusions of results in the documents, below the comments that name them.

    python tools/embed_tables.py

A comment `<!-- results/compare/cifar10/tables.md#accuracy -->` names a table of a file of tables, and `#conclusion` the
first sentence that the file draws from them; in a study, `#cifar10-conclusion` is that of a part.
`<!-- results/theory/theorem1.md -->` names a file with one table.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/choose.md", "docs/theory.md", "docs/findings.md", "docs/table1.md", "docs/worth.md")
EMBEDDED = re.compile(r"^<!-- (results/\S+?\.md)(?:#(\S+))? -->\n\n((?:[|>].*\n)*)", flags=re.MULTILINE)


def with_tables(text: str) -> str:
    """Returns a document with the tables of the results below the comments that name them.

    Raises:
        OSError, KeyError: there is no such file or table.
    """

    def embedded(found: re.Match[str]) -> str:
        behind = "" if found[3] else "\n"  # a table that is new has no empty line behind it
        return found[0].removesuffix(found[3]) + table(found[1], found[2]) + behind

    return EMBEDDED.sub(embedded, text)


def table(path: str, name: str | None) -> str:
    """Returns the Markdown of a table in a file, by its name if there are several, or of its first conclusion."""
    from orderdp.report.tables_file import table_in

    text = (ROOT / path).read_text(encoding="utf-8")
    if name is not None and name.endswith("conclusion"):
        before = text.partition(f'<a id="{name.removesuffix("conclusion")}overview">')[0]
        conclusions = (before.rpartition if "-" in name else text.partition)("**What may be concluded**")[2]
        return f"> {conclusions.partition('- ')[2].partition(chr(10))[0]}\n"
    return (_only_table(text) if name is None else table_in(text, name)).strip() + "\n"


def _only_table(text: str) -> str:
    """Returns the table of a file that holds one, without the note below it."""
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


def main() -> None:
    """Updates the documents."""
    for document in DOCUMENTS:
        path = ROOT / document
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
