"""Local processes: this one works, and starts others that help it."""

from __future__ import annotations

import os

from orderdp.comparison.engines.base import Engine, Log, Work
from orderdp.comparison.processes import joined_by, say


class LocalProcesses(Engine):
    """Processes on this machine, which end with this one."""

    name = "local"

    def check(self, num_ranks: int) -> None:
        """Accepts all: any machine has processes."""

    def num_threads(self, processes: int) -> int | None:
        """Returns an equal share of the machine's threads; None for a single process."""
        return None if processes == 1 else max(1, (os.cpu_count() or 1) // processes)

    def share(self, work: Work, processes: int, log: Log) -> None:
        """Works here too, and does what a helper that was killed has left. `log` is that of `work.here`."""
        with joined_by(processes - 1, work.worker, work.folders, say):
            work.here(alone=processes == 1)
        if processes > 1:
            work.here(alone=True)


LOCAL = LocalProcesses()
