"""Puts a report together and writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import orderdp
from orderdp.comparison.results import Results, results_of
from orderdp.output.files import write_whole
from orderdp.output.text_table import as_latex, as_markdown
from orderdp.report import charts, tables
from orderdp.report.canvas import Section, Table, text_of
from orderdp.report.outline import Outline, collect, outline_of_archive
from orderdp.training.run_folder import alone_in


class Part(NamedTuple):
    """One comparison in the report.

    Args:
        name: of its folder; "" where the report is of one.
        title: data set and model.
        sections: what is shown of it.
        missing: why runs are missing, and which.
        settings: the recipe as TOML, and what it ran on.
        unplanned: runs in its folder that are not planned.
    """

    name: str
    title: str
    sections: Sequence[Section]
    missing: Mapping[str, Sequence[str]]
    settings: Mapping[str, str]
    unplanned: Sequence[str]

    def tables(self) -> list[Table]:
        """Returns all its tables."""
        return [table for section in self.sections for table in section.tables]


def write_report(source: Path, *, accuracies: Sequence[float] = ()) -> Path:
    """Writes `report/report.html` and `report/tables/` into the folder of a comparison or a study.

    Args:
        source: folder of `orderdp compare`, `orderdp study` or `orderdp train`, or an archive of one. The report of an
            archive is written beside it.
        accuracies: in percent, to give the seconds until they were reached; empty for three below full data's.

    Returns:
        The page.

    Raises:
        ValueError: no such folder or archive, runs of another recipe than planned, or no finished run.
        OSError: a file cannot be written. ImportError: an extra is missing.
    """
    outline, parts = read_parts(source, accuracies=accuracies)
    folder = source.parent if source.is_file() else source
    page = folder / "report" / "report.html"
    with nullcontext() if source.is_file() else alone_in(folder):
        _write(page, outline, parts)
    return page


def read_parts(source: Path, *, accuracies: Sequence[float] = ()) -> tuple[Outline, list[Part]]:
    """Returns what a report shows of a folder or an archive; arguments and errors as of `write_report`."""
    archive = collect(source)
    outline = outline_of_archive(archive)
    results = {name: results_of(records, together=outline.together) for name, records in archive.parts.items()}
    if not any(entry.results for each in results.values() for entry in each.entries.values()):
        raise ValueError(
            f"a report needs a finished run, got none in {source}; go on with the command that began it, "
            f"and --resume {source}"
        )
    return outline, [_part(name, each, outline, accuracies) for name, each in results.items()]


def _write(page: Path, outline: Outline, parts: Sequence[Part]) -> None:
    home = page.parent
    (home / "tables").mkdir(parents=True, exist_ok=True)
    for part in parts:
        prefix = f"{part.name}-" if part.name else ""
        for table in (table for section in part.sections for table in section.tables):
            for ending, text in (
                ("md", as_markdown(table.lines)),
                ("csv", text_of(table)),
                ("tex", as_latex(table.lines)),
            ):
                write_whole(home / "tables" / f"{prefix}{table.name}.{ending}", text.encode())
    write_whole(page, _html(outline, parts).encode())


def _part(name: str, results: Results, outline: Outline, accuracies: Sequence[float]) -> Part:
    makers: dict[str, Any] = {
        "accuracy": lambda: tables.accuracy(results),
        "differences": lambda: tables.differences(results) if results.references else None,
        "cost": lambda: tables.cost(results, accuracies),
        "frontier": lambda: charts.frontier(results),
        "curves": lambda: charts.curves(results),
        "decomposition": lambda: charts.decomposition(results),
        "usage": lambda: charts.usage(results),
        "stability": lambda: charts.stability(results, outline.edges),
        "gradients": lambda: charts.gradients(results),
        "alignment": lambda: charts.alignment(results, outline.edges),
        "progress": lambda: charts.progress(results, outline.edges),
    }
    numbered = list(enumerate(outline.published, 1))
    made = [
        section and tables.beside(section, [(k, table) for k, table in numbered if table.section == name])
        for name, section in ((name, makers[name]()) for name in outline.sections)
    ]
    recipe = results.recipe
    size = f"{results.sizes.num_samples:,} training and {results.sizes.num_test_samples:,} test images"
    title = f"{recipe['dataset']} ({size}), {recipe['model']}, {recipe['epochs']} epochs"
    missing: dict[str, list[str]] = {}
    for entry in results.entries.values():
        for seed, why in entry.missing.items():
            missing.setdefault(why, []).append(f"{entry.label}, seed {seed}")
    sections = [section for section in made if section]
    return Part(name, title, sections, missing, _settings(results), results.unplanned)


def _settings(results: Results) -> dict[str, str]:
    runs = [result for entry in results.entries.values() for result in entry.results.values()]
    found: dict[str, set[str]] = {}
    for run in runs:
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        for what, value in (
            ("device", f"{run['device']}, {run['threads']} thread(s), {run['ranks']} rank(s)"),
            ("versions", versions),
            ("commit", str(run["commit"])),
        ):
            found.setdefault(what, set()).add(value)
    lines = {what: "; ".join(sorted(values)) for what, values in found.items()}
    lines["seeds"] = ", ".join(map(str, results.seeds))
    lines["recipe"] = results.recipe_text
    return lines


def _html(outline: Outline, parts: Sequence[Part]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("orderdp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["download"] = _download
    environment.tests["number"] = _is_number
    return environment.get_template("report.html.j2").render(
        outline=outline, parts=parts, version=orderdp.__version__, text_of=text_of, markdown=as_markdown, latex=as_latex
    )


def _download(text: str, kind: str) -> str:
    """Returns a link that holds the text itself."""
    return f"data:{kind};charset=utf-8,{quote(text)}"


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in "+−" or cell in ("", "never", "missing")
