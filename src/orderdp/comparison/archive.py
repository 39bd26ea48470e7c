"""One compressed file with everything that a report needs of a comparison, or of all parts of a study.

The file is JSON Lines, compressed by xz. A header holds the recipe and the planned runs of each part. Then each run has
a line with its result and its epochs by column. Equal runs give equal bytes. Numbers are written in full, so the file
and the folder give the same report, but for the place of the data in its recipe and for folders in the message of a
failed run. These, checkpoints and the gradient norm of every step are left out. The epochs before the last may be left
out too, which makes a file of many runs several times smaller. Its report lacks what needs them.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orderdp.comparison.planned import planned_of
from orderdp.comparison.records import Missing, Record, Records
from orderdp.output.files import write_whole

FORMAT = "orderdp runs"
VERSION = 1
_OF_A_USER = 2  # parts of a path before the name of a user, as in /home/NAME


class Archive(NamedTuple):
    """What an archive holds.

    Args:
        title: the name of the comparison's folder, or the study's title.
        study: the content of the study's `study.toml`; None for a single comparison.
        parts: the records of each comparison, by the name of its part; "" for a single one.
    """

    title: str
    study: dict[str, Any] | None
    parts: dict[str, Records]


def write_archive(path: Path, archive: Archive, *, epochs: bool = True) -> None:
    """Writes an archive.

    Args:
        path: the file.
        archive: what it is to hold.
        epochs: whether it holds all epochs of the runs, or the last only.

    Raises:
        OSError: the file cannot be written.
    """
    text = "".join(
        f"{json.dumps(line, ensure_ascii=False, separators=(',', ':'))}\n" for line in _lines(archive, epochs=epochs)
    )
    write_whole(path, lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def _lines(archive: Archive, *, epochs: bool) -> Iterator[dict[str, Any]]:
    yield {
        "format": FORMAT,
        "version": VERSION,
        "title": archive.title,
        "study": archive.study,
        "parts": {
            name: {
                "recipe": _without_place(records.planned.recipe_text),
                "comparison": records.planned.table,
                "unplanned": list(records.unplanned),
            }
            for name, records in archive.parts.items()
        },
    }
    for name, records in archive.parts.items():
        for run, found in records.runs.items():
            if isinstance(found, Missing):
                yield {"part": name, "run": run, "missing": [found.kind, without_folders(found.reason)]}
            else:
                yield {
                    "part": name,
                    "run": run,
                    "result": found.result,
                    "epochs": _columns(found.epochs if epochs else found.epochs[-1:]),
                }


def _without_place(recipe: str) -> str:
    """Returns a recipe without the folder of one machine; a strategy may have a setting of that name, which stays."""
    keys, table, settings = recipe.partition("\n[")
    return re.sub(r"^data_root *=.*\n?", "", keys, flags=re.MULTILINE) + table + settings


# An absolute path of two names or more, in quotes or without blanks: on Windows, elsewhere, or below the home folder.
_PATH = re.compile(
    r"""(?P<quote>['"])(?P<quoted>(?:[A-Za-z]:|~)?[\\/][^'"]+[\\/][^'"]+)(?P=quote)"""
    r"""|(?<![\w.~/\\-])(?P<bare>(?:file://)?(?:[A-Za-z]:|~)?[\\/][^\s'",;:()\\/]+[\\/][^\s'",;:()]+)"""
)


def without_folders(reason: str) -> str:
    """Returns why a run failed without the folders of one machine: of a path, the last name, unless it may be a user's.

    >>> without_folders("no file '/home/me/my data/train/x.png', nor /home/me: see https://pytorch.org/docs/stable")
    "no file '.../x.png', nor ...: see https://pytorch.org/docs/stable"
    """

    def shorter(match: re.Match[str]) -> str:
        *folders, name = re.split(r"[\\/]", match["quoted"] or match["bare"])
        quote = match["quote"] or ""
        return f"{quote}...{f'/{name}' if len(folders) > _OF_A_USER and name else ''}{quote}"

    return _PATH.sub(shorter, reason)


def _columns(epochs: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Returns the epochs by column, which compresses better; an epoch without a value has None."""
    names = dict.fromkeys(name for epoch in epochs for name in epoch)
    return {name: [epoch.get(name) for epoch in epochs] for name in names}


def read_archive(path: Path) -> Archive:
    """Reads an archive. Builds no strategy and imports no user code.

    Raises:
        ValueError: it is no archive, or it is damaged or of a later version.
    """
    try:
        header, *lines = (json.loads(line) for line in lzma.decompress(path.read_bytes()).decode().splitlines())
        if header["format"] != FORMAT or header["version"] != VERSION:
            raise ValueError(f"{header['format']}, version {header['version']}")
        runs: dict[str, dict[str, Record | Missing]] = {name: {} for name in header["parts"]}
        for line in lines:
            runs[line["part"]][line["run"]] = _found(line)
        parts = {
            name: Records(planned_of(part["recipe"], part["comparison"]), runs[name], tuple(part["unplanned"]))
            for name, part in header["parts"].items()
        }
        for records in parts.values():
            if set(records.runs) != {run.name for run in records.planned.runs}:
                raise ValueError("runs are missing")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, lzma.LZMAError, EOFError) as error:
        raise ValueError(
            f"an archive must be a complete file that 'orderdp report --archive' wrote, got {path} ({error}); "
            "write it again from the folder of the runs"
        ) from None
    return Archive(header["title"], header["study"], parts)


def study_in(path: Path) -> dict[str, Any] | None:
    """Returns the content of the study's `study.toml` in an archive, without reading its runs; None for no study.

    Raises:
        ValueError: it is no archive.
    """
    try:
        with lzma.open(path) as file:
            header = json.loads(file.readline())
        return dict(header["study"]) if header["study"] is not None else None
    except (OSError, ValueError, KeyError, TypeError, lzma.LZMAError, EOFError):
        read_archive(path)  # which says what is wrong
        raise


def _found(line: Mapping[str, Any]) -> Record | Missing:
    if "missing" in line:
        return Missing(*line["missing"])
    columns = line["epochs"]
    epochs = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return Record(line["result"], epochs)
