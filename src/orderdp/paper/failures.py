"""What of the paper's studies could not be run, and why: kept beside their folders for the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from orderdp.comparison.archive import without_folders
from orderdp.output.files import write_whole

FILE = "failed.json"


class Failure(NamedTuple):
    """A block of runs, or one run of it, that failed in the last call that tried it.

    Args:
        study: its name.
        task: of the study; "" for a study without tasks.
        block: of which it is.
        what: the block or the run, as messages name it.
        why: in one line.
    """

    study: str
    task: str
    block: str
    what: str
    why: str


def read_failures(folder: Path) -> list[Failure]:
    """Returns the failures that a folder of `orderdp paper` records.

    Raises:
        ValueError: a damaged file.
    """
    file = folder / FILE
    if not file.exists():
        return []
    try:
        return [Failure(*map(str, line)) for line in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise ValueError(f"the failures must be in {file}, got a damaged file ({error}); delete it") from None


def write_failures(folder: Path, failures: Sequence[Failure]) -> None:
    """Records failures in a folder instead of those before.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(folder / FILE, json.dumps(failures, indent=1, ensure_ascii=False).encode())


def sentences(failures: Collection[Failure]) -> list[str]:
    """Returns what to say of the failures of one study: one sentence for each task and reason, without folders.

    >>> sentences([Failure("x", "a", f"x, a, seed {seed}", "", "no data") for seed in (0, 1)])
    ['Could not be run: a (2 times): no data.']
    """
    counts = Counter((each.task, without_folders(each.why)) for each in failures)
    return [
        f"Could not be run: {task or 'all of it'}{f' ({count} times)' if count > 1 else ''}: {why}."
        for (task, why), count in counts.items()
    ]
