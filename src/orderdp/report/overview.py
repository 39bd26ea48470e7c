"""The table that `orderdp train` prints: a row for each run, with its accuracy, its cost and what it saved."""

from __future__ import annotations

from pathlib import Path

from orderdp.comparison.prices import cost_of
from orderdp.comparison.results import Entry, Results, read_results
from orderdp.output.files import write_whole
from orderdp.output.text_table import Table
from orderdp.report.placement import full_data
from orderdp.report.tables import (
    SECONDS_COLUMNS,
    Column,
    accuracy,
    accuracy_note,
    by_run,
    mean,
    passes_note,
    proxies_note,
    share,
)
from orderdp.training.run_folder import alone_in


def overview(results: Results) -> Table:
    """Returns the table: means over the seeds, and what was saved in comparison with full data."""
    full = full_data(results)
    saved = _time_saved(results, full)
    lines = by_run(
        results.entries.values(),
        [
            ("accuracy, %", accuracy),
            ("best epoch, %", lambda entry: accuracy(entry, "accuracy_best")),
            ("samples", mean("samples_forward", ",.0f")),
            ("cost saved", share(cost_of, full, left_out=True, own=False)),
            ("steps", mean("steps", ",.0f")),
            *SECONDS_COLUMNS,
            saved,
        ],
        marked=False,
    )
    heading, _ = saved
    threads = "; processor time is that of all threads of a run" if heading.startswith("processor") else ""
    note = (
        "Accuracy: after the last epoch. Samples: those that went through the model in training. Cost: in training "
        f"steps of one sample. Saved: in comparison with full data. Time is without evaluation{threads}."
        f"{accuracy_note(results)}{proxies_note(results)}{passes_note(results)}"
    )
    return Table("overview", "Every run", lines, note)


def _time_saved(results: Results, full: Entry | None) -> Column:
    """Returns the column of time saved: of the processor if all runs measured it."""
    name, of = results.seconds
    return f"{name.replace('seconds', 'time')} saved", share(of, full, left_out=True, own=False)


def write_overview(folder: Path) -> Results:
    """Writes `table.md` into a comparison's folder and returns the results that it shows.

    Raises:
        ValueError: the folder holds no comparison, or runs have another recipe than planned.
        OSError: the file cannot be written.
    """
    with alone_in(folder):  # from reading on: who reads last writes last
        results = read_results(folder)
        write_whole(folder / "table.md", overview(results).as_markdown().encode())
    return results
