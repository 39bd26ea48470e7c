"""What a worker on another machine is sent, and how it makes sure that it shares the folder with the others.

The process that starts workers holds a lock in the folder as long as they run. A worker must see its file, and must
not get the lock: locks are what keeps two machines from training the same run.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orderdp.comparison.engines.base import Log
from orderdp.output.custom import reason_of
from orderdp.training.run_folder import claimed

FOLDER = "workers"  # in the first folder; holds what workers log


@contextmanager
def meeting_place(folder: Path, engine: str) -> Iterator[Path]:
    """Yields a lock file in a folder, and holds its lock; what workers log stands beside it."""
    (folder / FOLDER).mkdir(exist_ok=True)
    place = folder / FOLDER / f"{engine}-{secrets.token_hex(4)}.lock"
    try:
        with claimed(place):
            place.touch()
            yield place
    finally:
        place.unlink(missing_ok=True)


@dataclass(frozen=True)
class Assignment:
    """What a worker does. Calling it works, and returns why the worker ended early; None if it did all that it could.

    Args:
        worker: does what is left in the folders, and tells each line of its log.
        folders: absolute.
        place: the lock file that the process which starts workers holds.
        home: the folder to work in, to which paths in recipes are relative.
    """

    worker: Callable[[Sequence[Path], Log], None]
    folders: tuple[Path, ...]
    place: Path
    home: Path

    def __call__(self) -> str | None:
        """Works; an error is returned, since another system may not bring its text back whole."""
        try:
            self._check()
            os.chdir(self.home)
            with self._logged() as log:
                self.worker(self.folders, log)
        except Exception as error:
            return reason_of(error)
        return None

    def checkpoint(self) -> Any:
        """Returns what submitit starts again after a time limit or a preemption: the same; checkpoints lie in runs."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _check(self) -> None:
        """Raises unless this machine shares the folders, and locks in them, with the one that starts workers."""
        host = socket.gethostname()
        for path in (self.place, *self.folders, self.home):
            if not path.exists():
                what = "the working folder" if path == self.home else "the folder of the runs"
                path = self.folders[0] if path == self.place else path
                raise ValueError(
                    f"{what} must be on a disk that all machines share, got {path}, which {host} does not see as the "
                    "machine does that started the workers; write a folder on a shared disk"
                )
        with claimed(self.place) as mine:
            if mine:
                raise ValueError(
                    f"locks must hold between machines, got one in {self.place.parent} that {host} could take from the "
                    "process that started the workers; resume if that process has ended, or else mount the disk with "
                    "shared locks"
                )

    @contextmanager
    def _logged(self) -> Iterator[Log]:
        """Yields a function that writes a line into the worker's own file, and writes warnings there too."""
        name = f"{self.place.stem}-{socket.gethostname()}-{os.getpid()}.log"
        with (self.place.parent / name).open("a", encoding="utf-8", buffering=1) as file:

            def log(line: str) -> None:
                file.write(f"{line}\n")

            handler = _Into(log)
            logging.getLogger("orderdp").addHandler(handler)
            try:
                yield log
            finally:
                logging.getLogger("orderdp").removeHandler(handler)

    def follower(self, log: Log) -> Callable[[], None]:
        """Returns a function that tells the whole lines that workers have logged since it was called last."""
        told: dict[Path, int] = {}

        def tell() -> None:
            for file in sorted(self.place.parent.glob(f"{self.place.stem}-*.log")):
                with file.open("rb") as content:
                    content.seek(told.get(file, 0))
                    whole, newline, _ = content.read().rpartition(b"\n")
                told[file] = told.get(file, 0) + len(whole + newline)
                for line in whole.decode().splitlines():
                    log(line)

        return tell


class _Into(logging.Handler):
    """Writes what the library warns of into the log of a worker."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line."""
        self._log(f"orderdp: {record.getMessage()}")
