"""What the benchmarks have in common: interleaved timing, and files of numbers with their environment."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from orderdp.output.files import write_whole
from orderdp.training.provenance import environment


def parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser with the option that all benchmarks have."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--json", type=Path, metavar="FILE", help="write the numbers, device, versions and commit here"
    )
    return options


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    singles: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Returns seconds of each call, one number a round. Each round makes all calls, so a slow minute slows them all.

    Args:
        calls: what to time, by name. One round before the first warms up and is not counted.
        rounds: how often.
        singles: calls in a row, each timed; their median is one number.
        clock: seconds; those of the processor leave out other programs, but not the threads of this one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            median_s = statistics.median([_timed(call, clock) for _ in range(singles)])
            if number:
                seconds[name].append(median_s)
    return seconds


def _timed(call: Callable[[], object], clock: Callable[[], float]) -> float:
    began_s = clock()
    call()
    return clock() - began_s


def summary(values: list[float]) -> dict[str, float]:
    """Returns median, smallest and largest: the smallest is what the machine can do when nothing disturbs it."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(numerators: list[float], denominators: list[float]) -> dict[str, float]:
    """Returns the summary of the ratios within each round."""
    return summary([above / below for above, below in zip(numerators, denominators, strict=True)])


def verdict(what: str, value: float, target: float) -> str:
    """Returns a line that says whether a number is at most its target."""
    return f"    {what}: {value:.3g}, target {target:g}: {'reached' if value <= target else 'MISSED'}"


def commit_of(checkout: Path) -> str:
    """Returns the commit of a checkout, with "-dirty" if its files were changed."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def write(path: Path | None, device: torch.device, numbers: dict[str, Any], **checkouts: Path | None) -> None:
    """Writes the numbers, their environment and the commits that they are compared with as JSON, if `path` is given."""
    if path is not None:
        commits = {
            f"{name}_commit": commit_of(checkout) for name, checkout in checkouts.items() if checkout is not None
        }
        save(path, {**environment(device), **commits, **numbers})


def save(path: Path, numbers: dict[str, Any]) -> None:
    """Writes numbers as JSON; the file is whole at any moment, so a script may write it again after each result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{json.dumps(numbers, indent=2)}\n".encode())
