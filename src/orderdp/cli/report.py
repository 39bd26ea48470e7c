"""`orderdp report`: a page of tables and charts of finished runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from orderdp.output.text_table import number_or_text

SUMMARY = "a page of tables and charts of finished runs"
DESCRIPTION = """\
Writes report/report.html, which needs no network, into the folder of a comparison or a study. The tables are written
beside it as Markdown, CSV and LaTeX."""
EXAMPLES = "example:\n  orderdp report runs/mine"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `orderdp report`."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of 'orderdp compare', 'study' or 'train'")
    parser.add_argument(
        "--accuracy",
        nargs="+",
        type=_percent,
        default=(),
        metavar="A",
        help="accuracies in percent to give the seconds to; default three a little below full data's",
    )


def run(options: argparse.Namespace) -> int:
    """Writes the page of a folder of runs and prints where it is."""
    from orderdp.report.page import write_report

    print(write_report(options.folder, accuracies=tuple(options.accuracy)))
    return 0


def _percent(text: str) -> float:
    value = number_or_text(text)
    if isinstance(value, str) or not 1 < value <= 100:
        share = not isinstance(value, str) and 0 < value <= 1
        meant = f"for {100 * float(value):g} % write {100 * float(value):g}" if share else "write 90"
        raise argparse.ArgumentTypeError(f"an accuracy is a percentage in (1, 100], got {text}; {meant}")
    return value
