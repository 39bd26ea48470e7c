"""The memory to choose an epoch and to remember, in bytes a sample.

    git worktree add --detach ../old d7287e3
    python benchmarks/memory.py [--old ../old] [--json results/benchmarks/memory.json]

Half of 20,000,000 samples are chosen, after an epoch that was recorded. Each pruner runs in a process of its own
([worker.py](worker.py) has the details). The bytes are those that the process has beyond what it had before the pruner
was built, as the kernel counts them. With `--old` the same is measured of version d7287e3. It needs 6 GB.

For each method, and for OrderDP on two ranks (of one rank, the larger), it prints:

- peak: the most that is held while an epoch is chosen, table and selections included; the larger of two epochs;
- after all: the same for the epoch that follows one of all samples, whose selection is twice as long;
- resting: what is held between epochs, without the selection.

Targets, in bytes a sample: a peak of 20 for OrderDP and ε-greedy, 24 for InfoBatch, 28 on two ranks; 12 resting. A last
line has the peak of OrderDP at 100,000,000 samples, with a target of 2 GB.
"""

from __future__ import annotations

from pathlib import Path

import torch
from timing import parser, verdict, write
from worker import Worker

HERE = Path(__file__).resolve().parents[1]
NUM_SAMPLES = 20_000_000
LARGEST = 100_000_000
EPOCHS = 2
RESTING = 12
PEAKS = {("OrderDP", 1): 20, ("ε-greedy", 1): 20, ("InfoBatch", 1): 24, ("OrderDP", 2): 28}
PEAK_GB = 2.0


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--old", type=Path, metavar="DIR", help="a checkout of the version to compare with")
    given = options.parse_args()
    torch.set_num_threads(1)
    versions = {"this": HERE} if given.old is None else {"old": given.old, "this": HERE}
    print(f"{'n':>11} {'method':>9} {'ranks':>5} {'version':>7} {'peak':>6} {'after all':>9} {'resting':>7} bytes")
    rows = []
    for (method, num_ranks), target in PEAKS.items():
        for version, checkout in versions.items():
            rows.append({"version": version, **measure(checkout, method, NUM_SAMPLES, num_ranks)})
            show(rows[-1])
        print(verdict("peak", rows[-1]["peak"], target))
        print(verdict("resting", rows[-1]["resting"], RESTING))
    for version, checkout in versions.items():
        rows.append({"version": version, **measure(checkout, "OrderDP", LARGEST, 1)})
        show(rows[-1])
    print(verdict(f"peak of {LARGEST:,} in GB", rows[-1]["peak"] * LARGEST / 1e9, PEAK_GB))
    write(
        given.json, torch.device("cpu"), {"benchmark": "memory", "unit": "bytes a sample", "rows": rows}, old=given.old
    )


def measure(checkout: Path, method: str, n: int, num_ranks: int) -> dict:
    """Returns the bytes a sample of one version, method, size and number of ranks."""
    with Worker(checkout, method, n, num_ranks=num_ranks, exact_memory=True) as worker:
        first, *others = (worker.choose() for _ in range(1 + EPOCHS))
    return {
        "n": n,
        "method": method,
        "ranks": num_ranks,
        "epochs": EPOCHS,
        "peak": max(epoch["peak_bytes"] for epoch in others) / n,
        "after_all": first["peak_bytes"] / n,
        "resting": max(epoch["resting_bytes"] for epoch in others) / n,
    }


def show(row: dict) -> None:
    """Prints a row."""
    print(
        f"{row['n']:>11,} {row['method']:>9} {row['ranks']:>5} {row['version']:>7} {row['peak']:>6.1f} "
        f"{row['after_all']:>9.1f} {row['resting']:>7.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
