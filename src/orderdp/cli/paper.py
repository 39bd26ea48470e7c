"""`orderdp paper`: all tables and figures of the paper at one size, and one page of them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from orderdp.cli.messages import tell, teller
from orderdp.cli.settings import not_empty, some_path
from orderdp.output.text_table import number_or_text

if TYPE_CHECKING:
    from orderdp.paper.sources import Found

SUMMARY = "all tables and figures of the paper, and one page of them"
DESCRIPTION = """\
Runs what is missing of the paper's studies at one size, within the hours given, and writes one page in the paper's
order, with the published numbers beside the new ones. A second call continues. Without --hours, it trains nothing and
writes the page of what there is. Every study gets its first seed before any gets a second one, the cheap ones first."""
EXAMPLES = """\
examples:
  orderdp paper --size cpu --hours 10 --processes 2 --data-root DIR
  orderdp paper --size cpu                                  # the page again, with what was run since
  orderdp paper --size cpu --archives results --page docs/paper.md"""

_FORMS = (".md", ".html")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `orderdp paper`."""
    parser.add_argument(
        "--size",
        default="cpu",
        metavar="NAME",
        help="of all studies: smoke, cpu, gpu or paper; default cpu ('orderdp study --help' explains)",
    )
    parser.add_argument(
        "--studies", nargs="+", metavar="NAME", help="which to run, such as table2 figure9; default all of them"
    )
    parser.add_argument(
        "--hours",
        type=number_or_text,
        metavar="H",
        help="wall time; no run begins that is not expected to end in it; default: train nothing",
    )
    parser.add_argument(
        "--run", metavar="DIR", type=some_path, help="folder with a folder for each study; default runs/paper-SIZE"
    )
    parser.add_argument(
        "--archives",
        nargs="+",
        metavar="PATH",
        type=some_path,
        default=(),
        help="archives of 'orderdp report', or folders that hold some: their runs are not made again, and the page "
        "shows them too",
    )
    parser.add_argument(
        "--page",
        nargs="+",
        metavar="FILE",
        type=some_path,
        help="pages to write, .md or .html; default paper.md and paper.html in the folder",
    )
    parser.add_argument(
        "--processes", type=number_or_text, default=1, metavar="N", help="runs to train at the same time; default 1"
    )
    parser.add_argument("--data-root", metavar="DIR", type=not_empty, help="folder that holds the data sets")
    parser.add_argument("--download", action="store_const", const=True, help="download missing data sets")
    parser.add_argument("--device", metavar="NAME", help="where to train: auto, cpu or cuda; default the recipe's")


def run(options: argparse.Namespace) -> int:
    """Runs what is missing, writes the page and prints where it is; returns 1 if a run failed."""
    from orderdp.paper.blocks import check_hours, check_size
    from orderdp.paper.sources import find
    from orderdp.paper.studies import find_study

    _refuse_ranks()
    check_size(options.size)
    for name in options.studies or ():
        find_study(name)
    if options.hours is not None:
        check_hours(options.hours)
    elif options.studies is not None:
        raise ValueError(
            f"studies says what to train, got {' '.join(options.studies)} without --hours; write --hours 10 "
            "too, or leave --studies out"
        )
    folder = options.run or Path("runs") / f"paper-{options.size}"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"run must be a folder, new or of an earlier call, got the file {folder}; write another --run")
    pages = options.page or [folder / f"paper{form}" for form in _FORMS]
    for page in pages:
        if page.suffix not in _FORMS:
            raise ValueError(f"page must end in {' or '.join(_FORMS)}, got {page}; write {page.stem}.html")
    wrong: dict[str, str] = {}
    if options.hours is not None:
        wrong = _train(options, folder, find(options.size, None, options.archives))
    for name, why in wrong.items():  # before the page, which may lack any run to show
        tell(f"orderdp: {name} failed: {why}")
    found = find(options.size, folder, options.archives)
    if not (found.tasks or found.computed):
        places = " and ".join(map(str, [folder, *options.archives]))
        raise ValueError(
            f"the page needs results of size {options.size}, got none in {places}; write "
            f"{'--hours 10 to train' if options.hours is None else 'more --hours'}, or "
            f"{'other --archives' if options.archives else '--archives PATH'}"
        )
    _write(options.size, found, pages)
    return 1 if wrong else 0


def _refuse_ranks() -> None:
    """Raises ValueError in one of several processes: their engines and blocks would not agree on the time left."""
    launched = os.environ.get("WORLD_SIZE", "1")
    if launched != "1":
        raise ValueError(
            f"the paper is run by one process, got {launched} by WORLD_SIZE; start it without a launcher, with "
            "--processes 2, or write 'orderdp study NAME'"
        )


def _train(options: argparse.Namespace, folder: Path, archived: Found) -> dict[str, str]:
    from accelerate import PartialState

    from orderdp.comparison.checks import check_processes
    from orderdp.data.registry import check_data_root
    from orderdp.paper import blocks

    if options.data_root is not None:  # before the studies, of which some would never look
        check_data_root(Path(options.data_root), download=bool(options.download))
        # Runs are shared by their settings, and the same call may continue from elsewhere.
        options.data_root = str(Path(options.data_root).resolve())
    check_processes(options.processes, PartialState(cpu=options.device == "cpu"))
    options.again = "the same call continues"
    changes = {name: value for name in ("data_root", "download", "device") if (value := getattr(options, name))}
    all_blocks = blocks.blocks_of(options.size, folder, studies=options.studies, **changes)
    wrong = blocks.run(
        all_blocks,
        folder,
        hours=options.hours,
        processes=options.processes,
        archived=archived,
        log=teller(options),
    )
    done = sum(blocks.state_of(block, archived).done for block in all_blocks)
    tell(f"{done} of {len(all_blocks)} blocks are finished: a block is all runs of one task and one seed")
    return wrong


def _write(size: str, found: Found, pages: list[Path]) -> None:
    from orderdp.output.files import write_whole
    from orderdp.paper.page import page_of
    from orderdp.paper.page_text import as_html, as_markdown

    page = page_of(size, found, charts=any(path.suffix == ".html" for path in pages))
    for path in pages:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = as_html(page) if path.suffix == ".html" else as_markdown(page, path.parent)
        write_whole(path, text.encode())
        print(path)
