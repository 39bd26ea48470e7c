"""`orderdp report`: a page of tables and charts of finished runs, and archives of them."""

from __future__ import annotations

import argparse

from orderdp.cli.settings import one_of_several, some_path

SUMMARY = "a page of tables and charts of finished runs"
DESCRIPTION = """\
Writes report/report.html, which needs no network, into the folder of a comparison or a study. The tables are also
written there as Markdown, CSV and LaTeX. With --archive it writes one compressed file of all results instead, without
checkpoints. An archive gives the same report as the folder."""
EXAMPLES = """\
examples:
  orderdp report runs/mine
  orderdp report runs/mine --archive mine.jsonl.xz
  orderdp report mine.jsonl.xz --tables tables.md"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `orderdp report`."""
    parser.add_argument(
        "source",
        metavar="DIR",
        type=some_path,
        help="folder of 'orderdp compare', 'study' or 'train', or an archive of one",
    )
    parser.add_argument(
        "--archive", metavar="FILE", type=some_path, help="write an archive of the runs instead of a page"
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
    """Writes the page of a folder of runs, or what was asked for instead, and prints where it is."""
    from orderdp.comparison.archive import write_archive
    from orderdp.output.files import write_whole
    from orderdp.report.outline import collect
    from orderdp.report.page import read_parts, write_report
    from orderdp.report.tables_file import as_one_file

    source, accuracies = options.source, tuple(options.accuracy)
    if options.archive is not None:
        write_archive(options.archive, collect(source))
        print(options.archive)
    if options.tables is not None:
        write_whole(options.tables, as_one_file(*read_parts(source, accuracies=accuracies)).encode())
        print(options.tables)
    if options.archive is None and options.tables is None:
        print(write_report(source, accuracies=accuracies))
    return 0


def _percent(text: str) -> float:
    value = one_of_several(text)
    if isinstance(value, str) or not 1 < value <= 100:
        share = not isinstance(value, str) and 0 < value <= 1
        meant = f"for {100 * float(value):g} % write {100 * float(value):g}" if share else "write 90"
        raise argparse.ArgumentTypeError(f"an accuracy is a percentage in (1, 100], got {text}; {meant}")
    return value
