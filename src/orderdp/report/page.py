"""Builds a report, and writes its page and its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from orderdp.comparison.archive import Archive
from orderdp.comparison.results import Results, results_of
from orderdp.output.files import write_whole
from orderdp.output.text_table import Table
from orderdp.report.across import ACROSS, Across, across
from orderdp.report.origins import values_of
from orderdp.report.outline import Outline, collect, outline_of_archive
from orderdp.report.overview import overview
from orderdp.report.published_order import order_table
from orderdp.report.rendering import rendered
from orderdp.report.section import Choices, Section
from orderdp.report.sections import SECTIONS
from orderdp.report.summary import Summary, summary_of
from orderdp.training.run_folder import alone_in

_PUBLISHED = "As printed in the paper, for its own networks, data and schedules. Only size “paper” repeats those."
_FOLDED = 12  # rows from which the overview is folded


class Report(NamedTuple):
    """All that a report shows.

    Args:
        outline: its title and sections.
        parts: its comparisons.
        across: what all of them show together.
    """

    outline: Outline
    parts: Sequence[Part]
    across: Across


class Part(NamedTuple):
    """One comparison in the report.

    Args:
        name: of its folder; "" if the report is of one comparison.
        title: data set and model.
        summary: what a reader should know first.
        overview: the table that `orderdp train` prints.
        sections: its sections.
        missing: the reasons why runs are missing, each with its runs.
        settings: what it ran on.
        recipe: the recipe as TOML.
        unplanned: runs in its folder that are not planned.
    """

    name: str
    title: str
    summary: Summary
    overview: Table
    sections: Sequence[Section]
    missing: Mapping[str, Sequence[str]]
    settings: Mapping[str, str]
    recipe: str
    unplanned: Sequence[str]

    def tables(self) -> list[Table]:
        """Returns all its tables."""
        return [self.overview, *(table for section in self.sections for table in section.tables)]


def write_report(source: Path, *, accuracies: Sequence[float] = (), archive: Archive | None = None) -> Path:
    """Writes `report/report.html` and `report/tables/` into the folder of a comparison or a study.

    Args:
        source: folder of `orderdp compare`, `orderdp study` or `orderdp train`, or an archive of one. The report of an
            archive is written beside it.
        accuracies: in percent; tables show the seconds and samples until each. Empty for three just below full data.
        archive: what `source` holds, if it was read before.

    Returns:
        The page.

    Raises:
        ValueError: there is no such folder or archive, runs have another recipe than planned, or none is finished.
        OSError: a file cannot be written. ImportError: an extra is missing.
    """
    report = read_report(source, accuracies=accuracies, archive=archive)
    folder = source.parent if source.is_file() else source
    page = folder / "report" / "report.html"
    with nullcontext() if source.is_file() else alone_in(folder):
        _write(page, report)
    return page


def read_report(source: Path, *, accuracies: Sequence[float] = (), archive: Archive | None = None) -> Report:
    """Returns what a report shows of a folder or an archive; arguments and errors as of `write_report`."""
    archive = collect(source) if archive is None else archive
    outline = outline_of_archive(archive)
    results = {name: results_of(records, together=outline.together_in(name)) for name, records in archive.parts.items()}
    if not any(entry.results for each in results.values() for entry in each.entries.values()):
        raise ValueError(
            f"a report needs a finished run, got none in {source}; resume with "
            f"orderdp train, compare or study, whichever began it, and --resume {source}"
        )
    choices = Choices(outline.edges, accuracies, outline.hours)
    parts = [_part(name, each, outline, choices) for name, each in results.items()]
    return Report(outline, parts, across(results, outline.across))


def _write(page: Path, report: Report) -> None:
    folder = page.parent / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    named = [(f"{ACROSS}-{table.name}", table) for table in report.across.tables]
    for part in report.parts:
        prefix = f"{part.name}-" if part.name else ""
        named += [(f"{prefix}{table.name}", table) for table in part.tables()]
    for name, table in named:
        texts = {"md": table.as_markdown(), "csv": table.as_csv(), "tex": table.as_latex()}
        for ending, text in texts.items():
            write_whole(folder / f"{name}.{ending}", text.encode())
    write_whole(page, rendered("report.html.j2", folded=_FOLDED, **report._asdict()).encode())


def _part(name: str, results: Results, outline: Outline, choices: Choices) -> Part:
    recipe, sizes = results.recipe, results.sizes
    size = f"{sizes.num_samples:,} training and {sizes.num_test_samples:,} test samples"
    missing: dict[str, list[str]] = {}
    for entry in results.entries.values():
        for seed, why in entry.missing.items():
            missing.setdefault(why, []).append(f"{entry.label}, seed {seed}")
    settings = {what: "; ".join(values) for what, values in values_of(results).items()}
    return Part(
        name=name,
        title=f"{recipe['dataset']} ({size}), {recipe['model']}, {recipe['epochs']} epochs",
        summary=summary_of(results),
        overview=overview(results),
        sections=_sections(results, outline, choices),
        missing=missing,
        settings={**settings, "seeds": ", ".join(map(str, results.seeds))},
        recipe=_settings_of(results),
        unplanned=results.unplanned,
    )


def _settings_of(results: Results) -> str:
    """Returns the recipe as TOML, with a word where runs have learning rates of their own instead."""
    if not results.planned.table.get("tuned"):
        return results.recipe_text
    word = r"\1  # replaced in each run by the rate chosen for it: see “Learning rates chosen”"
    return re.sub(r"^(max_lr = .*)$", word, results.recipe_text, flags=re.MULTILINE)


def _sections(results: Results, outline: Outline, choices: Choices) -> list[Section]:
    """Returns the sections that the outline asks for and that have something to show, with the paper's tables."""
    sections = []
    for name in outline.sections:
        section = SECTIONS[name](results, choices)
        if section is not None:
            printed = [table for table in outline.published if table.section == name]
            beside = [
                Table(f"paper-{number}", f"In the paper: {table.title}", table.lines(), _PUBLISHED)
                for number, table in enumerate(outline.published, 1)
                if table in printed
            ]
            order = order_table(results, printed) if name == "accuracy" else []
            sections.append(section._replace(tables=[*section.tables, *beside, *order]))
    return sections
