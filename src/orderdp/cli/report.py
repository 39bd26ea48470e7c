"""`orderdp report`: a page of tables and charts of finished runs, and archives of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from orderdp.cli.messages import tell
from orderdp.cli.settings import one_of_several, some_path

if TYPE_CHECKING:
    from orderdp.comparison.archive import Archive

_MOST = 10  # runs of a kind that a line names

SUMMARY = "a page of tables and charts of finished runs"
DESCRIPTION = """\
Writes report/report.html, which needs no network, into the folder of a comparison or a study. The tables are also
written there as Markdown, CSV and LaTeX. With --archive it writes one compressed file of all results instead, without
checkpoints. An archive gives the same report as the folder. Several folders or archives of one comparison or study are
joined: their parts and their seeds."""
EXAMPLES = """\
examples:
  orderdp report runs/mine
  orderdp report runs/mine --archive mine.jsonl.xz
  orderdp report mine.jsonl.xz --tables tables.md
  orderdp report mine.jsonl.xz runs/more-seeds --archive all.jsonl.xz"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `orderdp report`."""
    parser.add_argument(
        "sources",
        metavar="DIR",
        nargs="+",
        type=some_path,
        help="folder of 'orderdp compare', 'study' or 'train', or an archive of one; of several, --archive or --tables "
        "is needed",
    )
    parser.add_argument(
        "--archive", metavar="FILE", type=some_path, help="write an archive of the runs instead of a page"
    )
    parser.add_argument(
        "--without-epochs",
        action="store_true",
        help="leave all epochs but the last out of the archive, which makes it several times smaller; its report lacks "
        "the curves",
    )
    parser.add_argument(
        "--tables", metavar="FILE", type=some_path, help="write one Markdown file of all tables, and no page"
    )
    parser.add_argument(
        "--accuracy",
        nargs="+",
        type=_percent,
        default=(),
        metavar="A",
        help="accuracies in percent, for tables of seconds and samples until each; default three just below full data",
    )


def run(options: argparse.Namespace) -> int:
    """Writes the page of a folder of runs, or what was asked for instead, and prints where it is.

    Returns 1, after a line that names them, if files of runs are damaged.
    """
    from orderdp.comparison.archive import write_archive
    from orderdp.comparison.joined import join
    from orderdp.output.files import write_whole
    from orderdp.report.outline import collect
    from orderdp.report.page import read_report, write_report
    from orderdp.report.tables_file import as_one_file

    source, accuracies = options.sources[0], tuple(options.accuracy)
    if len(options.sources) > 1 and options.archive is None and options.tables is None:
        raise ValueError(
            f"the page of a report lies beside one folder or archive, got {len(options.sources)}; "
            "join them with --archive FILE, and report that file"
        )
    archive = join([collect(each) for each in options.sources])
    missing = _missing(archive)
    if missing:
        tell(f"orderdp: some runs are missing, {'; '.join(f'{kind}: {runs}' for kind, runs in missing.items())}")
    if options.without_epochs and options.archive is None:
        raise ValueError("--without-epochs is for an archive, got none; write --archive FILE")
    if options.archive is not None:
        write_archive(options.archive, archive, epochs=not options.without_epochs)
        print(options.archive)
    if options.tables is not None:
        write_whole(options.tables, as_one_file(read_report(source, accuracies=accuracies, archive=archive)).encode())
        print(options.tables)
    if options.archive is None and options.tables is None:
        print(write_report(source, accuracies=accuracies, archive=archive))
    return 1 if "damaged" in missing else 0


def _missing(archive: Archive) -> dict[str, str]:
    """Returns what is wrong with runs, and which runs; of damaged ones also what to do."""
    from orderdp.comparison.records import Missing

    found: dict[str, list[str]] = {}
    for part, records in archive.parts.items():
        for run in records.planned.runs:
            record = records.runs[run.name]
            if isinstance(record, Missing):
                name = f"{f'{part}: ' if part else ''}{run.label}, seed {run.seed}"
                kind = "not finished" if record.kind == "open" else record.kind
                why = f" ({record.reason})" if kind == "damaged" else ""
                found.setdefault(kind, []).append(f"{name}{why}")
    shown = {kind: names if kind == "damaged" else names[:_MOST] for kind, names in sorted(found.items())}
    return {
        kind: "; ".join(names) + (f"; and {more} more" if (more := len(found[kind]) - len(names)) else "")
        for kind, names in shown.items()
    }


def _percent(text: str) -> float:
    value = one_of_several(text)
    if isinstance(value, str) or not 1 < value <= 100:
        share = not isinstance(value, str) and 0 < value <= 1
        meant = f"for {100 * float(value):g} % write {100 * float(value):g}" if share else "write 90"
        raise argparse.ArgumentTypeError(f"an accuracy is a percentage in (1, 100], got {text}; {meant}")
    return value
