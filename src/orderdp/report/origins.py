"""The origin of runs: device, versions, commit, and when they finished."""

from __future__ import annotations

from orderdp.comparison.results import Results
from orderdp.training.provenance import apart


def values_of(results: Results) -> dict[str, list[str]]:
    """Returns the distinct values of what the finished runs were made with: device, versions, commit."""
    found: dict[str, set[str]] = {}
    for entry in results.entries.values():
        for run in entry.results.values():
            versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
            for what, value in (
                ("device", f"{run['device']}, {run['threads']} thread(s), {run['ranks']} rank(s)"),
                ("versions", versions),
                ("commit", str(run["commit"])),
            ):
                found.setdefault(what, set()).add(value)
    return {what: sorted(values) for what, values in found.items()}


def made_with(results: Results) -> str:
    """Returns version, commits and processors in one line, such as "orderdp 0.1.0; commit 2354ad928440; AMD EPYC"."""
    runs = [run for entry in results.entries.values() for run in entry.results.values()]
    versions = sorted({f"orderdp {each}" for run in runs for each in apart(run["versions"]["orderdp"])})
    commits = sorted({each for run in runs for each in apart(run["commit"])})
    devices = sorted({each for run in runs for each in apart(run["device"])})
    return "; ".join([*versions, f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}", *devices])


def dates_of(results: Results) -> list[str]:
    """Returns the distinct days on which runs finished, ascending; empty if no run recorded it."""
    runs = (run for entry in results.entries.values() for run in entry.results.values())
    return sorted({run["finished"][:10] for run in runs if "finished" in run})
