"""Checks that no published number changed: compares the tables of an earlier commit with those made from the archives.

    python tools/same_numbers.py [--commit d7287e3]

Every Markdown table under results/ at that commit is compared with the table made now from the archive of the same
runs. Numbers count in cells, row labels and column heads. Words may differ, numbers may not. It lists numbers that
differ, and missing rows and tables; the status is then 1.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARCHIVE = "runs.jsonl.xz"
NUMBER = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
Lines = list[list[str]]


def git(*arguments: str) -> str:
    """Returns what git prints."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout.decode()


def lines_of(markdown: str) -> Lines:
    """Returns the cells of a Markdown table, without the rule below its head."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")] for line in lines]
    return [cells[0], *cells[2:]]


def numbers_in(cell: str) -> list[str]:
    """Returns the numbers in a text, each with its digits as they are written."""
    return [number.replace(",", "").replace("−", "-") for number in NUMBER.findall(cell)]


def old_tables(commit: str) -> Iterator[tuple[str, str, str]]:
    """Yields of each Markdown table at a commit: its path, the folder of its archive now, and its name there."""
    for path in git("ls-tree", "-r", "--name-only", commit, "results/").splitlines():
        if not path.endswith(".md") or path.startswith(("results/theory/", "results/figure4/")):  # measured again
            continue
        folder, _, file = path.rpartition("/")
        if folder.endswith("/report/tables"):
            yield path, folder.removesuffix("/report/tables"), file.removesuffix(".md")
        elif file == "table.md":  # of one comparison, which may be a part of a study
            study, _, part = folder.rpartition("/")
            whole = (ROOT / folder / ARCHIVE).exists()
            yield path, folder if whole else study, "overview" if whole else f"{part}-overview"
        else:
            yield path, folder, file


def tables_from(archive: Path) -> dict[str, Lines]:
    """Returns the tables that a report of an archive shows, by name."""
    from orderdp.report.page import read_report

    found: dict[str, Lines] = {}
    for part in read_report(archive).parts:
        prefix = f"{part.name}-" if part.name else ""
        for table in part.tables():
            found[f"{prefix}{table.name}"] = [list(line) for line in table.lines]
    return found


def differences(old: Lines, new: Lines) -> Iterator[str]:
    """Yields a line for each row whose numbers differ.

    Columns with the same head are compared wherever they stand. The others are compared in their order, and a cell of
    two numbers may have become two cells.
    """
    if len(old) != len(new):
        yield f"{len(old)} lines before, {len(new)} now"
        return
    same = [(old[0].index(head), new[0].index(head)) for head in old[0] if head in new[0]]
    befores, afters = ([pair[side] for pair in same] for side in (0, 1))
    for before, after in zip(old, new, strict=True):
        mine, other = (list(map(numbers_in, line)) for line in (before, after))
        moved = [mine[k] for k in befores] == [other[k] for k in afters]
        rest = (
            list(chain(*(cell for k, cell in enumerate(line) if k not in known)))
            for line, known in ((mine, befores), (other, afters))
        )
        if not (moved and next(rest) == next(rest)):
            yield f"{' | '.join(before)}  →  {' | '.join(after)}"


def main() -> int:
    """Compares all tables, prints what differs and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="d7287e3", help="the earlier commit; default %(default)s")
    options = parser.parse_args()
    made: dict[str, dict[str, Lines]] = {}
    tables = cells = wrong = reworded = 0
    for path, folder, name in old_tables(options.commit):
        archive = ROOT / folder / ARCHIVE
        if archive.exists() and folder not in made:
            made[folder] = tables_from(archive)
        kept = ROOT / folder / name
        old = lines_of(git("show", f"{options.commit}:{path}"))
        new = made[folder].get(name) if folder in made else lines_of(kept.read_text("utf-8")) if kept.exists() else None
        tables += 1
        found = ["there is no such table now"] if new is None else list(differences(old, new))
        wrong += len(found)
        cells += sum(map(len, old))
        if new is not None:
            reworded += sum(before != after for before, after in zip(old, new, strict=False))
        for line in found:
            print(f"{path}: {line}")
    print(f"{tables} tables, {cells:,} cells: {wrong} differences of numbers, {reworded} lines in other words")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
