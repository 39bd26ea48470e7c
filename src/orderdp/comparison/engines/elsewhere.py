"""Workers that another system starts, on any machines that share the folder.

This process does no work itself. It starts workers, tells what they log, and starts others if some were lost. A lost
worker's run continues from its last checkpoint. It ends when nothing is left, or when workers changed nothing.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from orderdp.comparison.engines.assignment import Assignment, meeting_place
from orderdp.comparison.engines.base import Engine, Log, Work

POLL_S = 0.5
LEASE_S = 120.0  # NFS frees the locks of a machine that is gone after 90 seconds


class Worker(Protocol):
    """A worker that was started."""

    def ended(self) -> bool:
        """Returns whether it has ended."""

    def reason(self) -> str | None:
        """Returns why it ended early; None if it did all that it could."""


class Elsewhere(Engine):
    """An engine that starts workers on other machines.

    Args:
        **options: those of the engine, in its own words.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"

    def check(self, num_ranks: int) -> None:
        """Checks the ranks; a subclass checks its options and its packages."""
        if num_ranks > 1:
            raise ValueError(
                f"an engine must be started by one process, got {num_ranks} ranks and engine={self.name}; "
                "leave the launcher of ranks out, or write --engine local"
            )

    def share(self, work: Work, processes: int, log: Log) -> None:
        """Starts workers until nothing is left or a round of them changes nothing."""
        before = work.left()
        others = before.held
        while before.open:
            started = min(processes, len(before.open))
            reasons = self._round(work, started, log)
            _wait_for_locks(work, others)
            now = work.left()
            if now.open == before.open and len(reasons) == started:
                raise RuntimeError(f"no worker of the engine {self.name} could work: {'; '.join(sorted(set(reasons)))}")
            for reason in reasons:
                log(f"a worker stopped: {reason}")
            if now.open == before.open:
                return
            before = now

    def _round(self, work: Work, count: int, log: Log) -> list[str]:
        """Starts workers, tells what they log until all have ended, and returns why some ended early."""
        folders = tuple(path.resolve() for path in work.folders)
        with meeting_place(folders[0], self.name) as place:
            assignment = Assignment(work.worker, folders, place, Path.cwd())
            with self._started(assignment, count, log) as workers:
                tell = assignment.follower(log)
                while not all(worker.ended() for worker in workers):
                    tell()
                    time.sleep(POLL_S)
                tell()
                return [reason for worker in workers if (reason := worker.reason()) is not None]

    @abstractmethod
    def _started(self, assignment: Assignment, count: int, log: Log) -> AbstractContextManager[Sequence[Worker]]:
        """Yields workers that were started; at the end stops those that still run."""


def _wait_for_locks(work: Work, others: frozenset[str]) -> None:
    """Waits until the locks of ended workers are free. A network file system keeps those of a lost machine a while."""
    end = time.monotonic() + LEASE_S
    while work.left().held - others and time.monotonic() < end:
        time.sleep(POLL_S)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error of another system, without what it says below; or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def needing(package: str, load: Callable[[], Any]) -> Any:
    """Returns what `load` imports.

    Raises:
        ImportError: the package is missing.
    """
    try:
        return load()
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(f"this engine needs {package}: pip install {package}") from None
