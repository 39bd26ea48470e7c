"""The pictures and tables of a study, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from orderdp.output.drawing import save
from orderdp.output.files import write_whole
from orderdp.output.text_table import as_csv, as_markdown, markdown_cells

Table: TypeAlias = tuple[Sequence[str], Sequence[Sequence[Any]]]


class Shown(NamedTuple):
    """What a study shows.

    Args:
        pictures: name to matplotlib figure; written as SVG and PNG.
        tables: name to (header, rows): every number drawn; written as CSV.
        summary: (header, rows) of text, the first column a label; written as Markdown. None if the picture is enough.
        note: what a reader should see in the summary, written below it.
    """

    pictures: Mapping[str, Any]
    tables: Mapping[str, Table]
    summary: Table | None = None
    note: str = ""

    def write(self, name: str, folder: Path) -> list[Path]:
        """Writes all of it, the summary under the name of the study, and returns the files: the same bytes each time.

        Raises:
            OSError: a file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = [
            save(self.pictures[key], folder / f"{key}.{ending}") for key in self.pictures for ending in ("svg", "png")
        ]
        texts = {f"{key}.csv": as_csv(*table) for key, table in self.tables.items()}
        if self.summary is not None:
            below = f"\n{self.note}\n" if self.note else ""
            texts[f"{name}.md"] = as_markdown([self.summary[0], *self.summary[1]]) + below
        for file, text in texts.items():
            write_whole(folder / file, text.encode())
            written.append(folder / file)
        return written


def read_summary(file: Path) -> tuple[list[list[str]], str]:
    """Returns header and rows of a summary that was written, and its note; no rows if there is no such file.

    Negative numbers get the minus sign of all tables.
    """
    if not file.exists():
        return [], ""
    lines = file.read_text(encoding="utf-8").splitlines()
    cells = [markdown_cells(line) for line in lines if line.startswith("|")]
    table = [[re.sub(r"^-(?=\d)", "−", cell) for cell in line] for number, line in enumerate(cells) if number != 1]
    return table, "\n".join(line for line in lines if line and not line.startswith("|"))
