"""The outline of a report: its title, its sections, and the paper's tables to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orderdp.comparison.archive import Archive, read_archive
from orderdp.comparison.planned import FILE, FILE_0_1
from orderdp.comparison.records import read_folder
from orderdp.output.suggestions import did_you_mean
from orderdp.output.toml import read_toml
from orderdp.report.section import EDGES
from orderdp.report.sections import SECTIONS


@dataclass(frozen=True)
class Published:
    """A table as the paper prints it.

    Args:
        title: what it is.
        columns: headings, the first of them over the labels.
        rows: label to its cells.
        section: the section that shows it.
        measure: what its numbers are, as in `orderdp.report.beside_print`; "" for what its section shows first.
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[str]]
    section: str = "accuracy"
    measure: str = ""

    def lines(self) -> list[list[str]]:
        """Returns header and rows."""
        return [[*self.columns], *([label, *cells] for label, cells in self.rows.items())]


@dataclass(frozen=True)
class Outline:
    """What a report is to show, and how.

    Args:
        title: heading of the report.
        about: a paragraph on its question.
        sections: names of `SECTIONS`, in order.
        edges: borders of the parts of a run that tables take means over, as shares of the run.
        published: tables of the paper.
        together: one prune ratio under which tables show all methods. Use it if methods have different ratios but prune
            the same share. A table gives one for each part that it names. None shows each method under its own.
        across: rows of the tables over all parts of a study, each with the names of its method in the parts.
        hours: whether the cost has a table in hours, as the paper has.
    """

    title: str
    about: str = ""
    sections: tuple[str, ...] = tuple(SECTIONS)
    edges: tuple[float, ...] = EDGES
    published: tuple[Published, ...] = ()
    together: float | Mapping[str, float] | None = None
    across: Mapping[str, Sequence[str]] = field(default_factory=dict)
    hours: bool = False

    def __post_init__(self) -> None:
        for name in self.sections:
            if name not in SECTIONS:
                hint = did_you_mean(name, SECTIONS) or f"; choose from {', '.join(SECTIONS)}"
                raise ValueError(f"no section named {name!r}{hint}")
        for table in self.published:
            if table.section not in self.sections:
                raise ValueError(
                    f"a published table needs a section that the report shows, got {table.section!r} for "
                    f"{table.title!r}; choose from {', '.join(self.sections)}"
                )

    def together_in(self, part: str) -> float | None:
        """Returns the prune ratio under which the tables of a part show all methods; None for that of each."""
        return self.together.get(part) if isinstance(self.together, Mapping) else self.together


def load_outline(folder: Path) -> tuple[Outline, dict[str, Path]]:
    """Returns what to show of a folder of comparisons, or of a single one, and the comparisons' folders by name.

    Raises:
        ValueError: no such folder.
    """
    if _is_comparison(folder):
        return _outline_of_one(folder.resolve().name), {"": folder}
    table = _study_table(folder)
    return outline_of(table), {name: folder / name for name in table["parts"]}


def collect(source: Path) -> Archive:
    """Returns everything that a report needs from a folder of runs or from an archive.

    Raises:
        ValueError: it is neither, or it holds a run of another recipe than planned.
    """
    if source.is_file():
        return read_archive(source)
    if _is_comparison(source):
        return Archive(source.resolve().name, None, {"": read_folder(source)})
    table = _study_table(source)
    return Archive(table["title"], table, {name: read_folder(source / name) for name in table["parts"]})


def outline_of_archive(archive: Archive) -> Outline:
    """Returns what to show of the runs in an archive."""
    return _outline_of_one(archive.title) if archive.study is None else outline_of(archive.study)


def _outline_of_one(name: str) -> Outline:
    return Outline(f"Comparison: {name}")


def _is_comparison(folder: Path) -> bool:
    return (folder / FILE).exists() or (folder / FILE_0_1).exists()


def _study_table(folder: Path) -> dict[str, Any]:
    """Returns the content of a folder's `study.toml`, which describes an outline and names the parts."""
    why = "" if folder.exists() else ", which does not exist"
    if (folder / "study.toml").exists():
        try:
            table = read_toml(folder / "study.toml", "a study", example='title = "What it shows"')
            outline_of(table)
            if not all(isinstance(name, str) for name in table["parts"]):
                raise TypeError("parts must be names")
            return table
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f" ({error})"
    raise ValueError(
        f"a folder of runs must hold {FILE} or study.toml, got {folder}{why}; "
        "write the folder of an earlier 'orderdp compare', 'orderdp train' or 'orderdp study'"
    )


def outline_of(table: Mapping[str, Any]) -> Outline:
    """Returns the outline that the table of a study's file describes."""
    published = tuple(
        Published(
            given["title"],
            tuple(given["columns"]),
            given["rows"],
            given.get("section", "accuracy"),
            given.get("measure", ""),
        )
        for given in table.get("published", ())
    )
    given: dict[str, Any] = {"edges": tuple(table["edges"])} if "edges" in table else {}
    return Outline(
        table["title"],
        table.get("about", ""),
        tuple(table.get("show", SECTIONS)),
        published=published,
        together=table.get("together"),
        across=table.get("across", {}),
        hours=table.get("hours", False),
        **given,
    )
