"""The outcome of a comparison: which runs finished, failed or are open, and the summary in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from accelerate import PartialState

from orderdp.comparison.records import Missing, read_folder
from orderdp.comparison.results import Results, results_of
from orderdp.output.files import write_whole
from orderdp.training.run_folder import RunFolder, alone_in


class Outcome(NamedTuple):
    """Which runs of a comparison finished, failed or are open.

    Args:
        path: its folder.
        results: results of its finished runs.
        failed: label and seed of each run that failed, and the reason.
        damaged: label and seed of each finished run whose files are damaged, and what to do.
        open: label and seed of each run that is neither finished nor failed: another process trains it, or it waits for
            the number of steps of another run.
        at_work: those of them that another process is training.
    """

    path: Path
    results: Results
    failed: dict[str, str]
    damaged: dict[str, str]
    open: list[str]
    at_work: list[str]

    @property
    def finished(self) -> dict[str, list[RunFolder]]:
        """The folders of the finished runs, by label."""
        found: dict[str, list[RunFolder]] = {}
        for run in self.results.planned.runs:
            if run.seed in self.results.entries[run.label].results:
                found.setdefault(run.label, []).append(RunFolder(self.path / run.name))
        return found


def outcome(path: Path) -> Outcome:
    """Returns the outcome of the comparison in a folder.

    Raises:
        ValueError: the folder holds no comparison, or it holds a run of another recipe than planned.
    """
    records = read_folder(path)
    reasons: dict[str, dict[str, str]] = {"failed": {}, "damaged": {}, "open": {}}
    at_work = []
    for run in records.planned.runs:
        found, name = records.runs[run.name], f"{run.label}, seed {run.seed}"
        if isinstance(found, Missing):
            reasons[found.kind][name] = found.reason
            folder = RunFolder(path / run.name)
            if found.kind == "open" and folder.path.exists() and folder.is_held():
                at_work.append(name)
    return Outcome(path, results_of(records), reasons["failed"], reasons["damaged"], list(reasons["open"]), at_work)


def summarize(path: Path) -> Outcome:
    """Writes the summary of a comparison into its folder, and returns the outcome.

    `result.json` holds the result of each finished run, and why runs failed.

    Raises:
        OSError: a file cannot be written. ValueError: as `outcome`.
    """
    state = PartialState()
    state.wait_for_everyone()  # the main process writes the results
    if state.is_main_process:
        with alone_in(path):  # the folder is read under the lock: who reads last writes last
            found = outcome(path)
            runs = [run for entry in found.results.entries.values() for run in entry.results.values()]
            if runs:
                summary = {"runs": runs, "failed": found.failed}
                write_whole(path / "result.json", (json.dumps(summary, indent=2) + "\n").encode())
    state.wait_for_everyone()
    return outcome(path)
