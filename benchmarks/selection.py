"""The time to choose an epoch: at most half of version d7287e3, and proportional to n.

    git worktree add --detach ../old d7287e3
    python benchmarks/selection.py --old ../old [--large] [--json results/benchmarks/selection.json]

Four methods choose half of 1,281,167 samples (ImageNet) and of 10,000,000, on one thread. `--large` adds OrderDP at
100,000,000, which needs 12 GB. All scores are known. What is timed is `Pruner.begin_epoch` after an epoch that was
recorded: closing that epoch, the selection, and all checks. The old and this version run in processes of their own,
which take turns ([worker.py](worker.py) has the details). The handwritten loop is `torch.randperm` and `topk` on the
same n.

For each n and method it prints medians over the rounds:

- old ms, ms: milliseconds of both versions;
- ratio: of this version to the old one within a round, and by processor time, which other programs change less;
- with updates: the same, with the updates of an epoch in batches of 4,096 added on both sides. This version moves the
  columns of a method, such as UCB's averages, when an epoch is closed; the old one did so in each update;
- CPU s, ns/sample: processor seconds and nanoseconds a sample of this version;
- /plain: for OrderDP, the ratio to the handwritten loop.

Without `--old` the ratios are left out. Then follow the seconds of `pruner.total_steps(epochs, 16)` at 10,000,000
samples.

Targets: a ratio by processor time of at most 0.5. OrderDP within 0.05 s at 1,281,167 samples and within 4 processor
seconds at 100,000,000. `total_steps` within 1 ms for any number of epochs.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from pathlib import Path

import torch
from timing import parser, ratio, summary, verdict, write
from worker import METHODS, Worker

import orderdp

HERE = Path(__file__).resolve().parents[1]
ROUNDS = {1_281_167: 15, 10_000_000: 7, 100_000_000: 7}
LARGEST = 100_000_000
RATIO = 0.5
WALL_S = {("OrderDP", 1_281_167): 0.05}
PROCESSOR_S = {("OrderDP", LARGEST): 4.0}
TOTAL_STEPS_S = 1e-3
COUNTED = {
    "OrderDP": orderdp.OrderDP(prune_ratio=0.5),
    "OrderDP by the step": orderdp.OrderDP(prune_ratio=0.5, per="iteration"),
    "UCB": orderdp.UCB(prune_ratio=0.5),
    "repeated random": orderdp.RepeatedRandom(prune_ratio=0.5),
}


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--old", type=Path, metavar="DIR", help="a checkout of the version to compare with")
    options.add_argument("--large", action="store_true", help="also OrderDP at 100,000,000 samples; needs 12 GB")
    given = options.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'n':>11} {'method':>10} {'old ms':>9} {'ms':>9} {'ratio':>6} {'by CPU':>6} {'with updates':>12} "
        f"{'CPU s':>7} {'ns/sample':>9} {'/plain':>7}"
    )
    rows = []
    for n, rounds in ROUNDS.items():
        for method in METHODS:
            if n == LARGEST and not (given.large and method == "OrderDP"):
                continue
            rows.append(measure(n, method, rounds, given.old))
            show(rows[-1])
    counts = [row for name in COUNTED for row in count(name)]
    write(
        given.json,
        torch.device("cpu"),
        {"benchmark": "selection", "unit": "s", "rows": rows, "total_steps": counts},
        old=given.old,
    )


def measure(n: int, method: str, rounds: int, old: Path | None) -> dict:
    """Returns the times of one size and one method."""
    versions = {"this": HERE} if old is None else {"old": old, "this": HERE}
    wall: dict[str, list[float]] = {name: [] for name in (*versions, "plain")}
    processor, whole = ({name: [] for name in versions} for _ in range(2))
    scores, draws = torch.rand(n), torch.Generator().manual_seed(0)
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(path, method, n)) for name, path in versions.items()}
        for number in range(rounds + 1):
            for name, worker in workers.items():
                took = worker.choose()
                if number:  # the first warms up
                    wall[name].append(took["wall_s"])
                    processor[name].append(took["processor_s"])
                    whole[name].append(took["processor_s"] + took["update_s"])
            if number:
                wall["plain"].append(seconds_of_plain(scores, draws))
    row = {
        "n": n,
        "method": method,
        "rounds": rounds,
        **{name: summary(times) for name, times in wall.items()},
        "processor": {name: summary(times) for name, times in processor.items()},
        "ns_per_sample": 1e9 * summary(wall["this"])["median"] / n,
        "this_over_plain": ratio(wall["this"], wall["plain"]),
    }
    if old is not None:
        row["this_over_old"] = ratio(wall["this"], wall["old"])
        row["this_over_old_processor"] = ratio(processor["this"], processor["old"])
        row["this_over_old_with_updates"] = ratio(whole["this"], whole["old"])
    return row


def seconds_of_plain(scores: torch.Tensor, draws: torch.Generator) -> float:
    """Returns the seconds of the selection of a handwritten loop: the top q of s drawn, shuffled."""
    n = len(scores)
    began_s = time.perf_counter()
    drawn = torch.randperm(n, generator=draws)[: round(n * math.sqrt(0.5))]
    kept = drawn[scores[drawn].topk(n // 2, sorted=False).indices]
    kept[torch.randperm(len(kept), generator=draws)]
    return time.perf_counter() - began_s


def show(row: dict) -> None:
    """Prints a row and what it says of its targets."""
    n, method = row["n"], row["method"]
    old = f"{1e3 * row['old']['median']:>9.1f}" if "old" in row else f"{'':>9}"
    names = ("this_over_old", "this_over_old_processor", "this_over_old_with_updates")
    ratios = " ".join(
        f"{row[name]['median']:>{width}.2f}" if name in row else " " * width
        for name, width in zip(names, (6, 6, 12), strict=True)
    )
    plain = f"{row['this_over_plain']['median']:>7.2f}" if method == "OrderDP" else ""
    cpu_s = row["processor"]["this"]["median"]
    print(
        f"{n:>11,} {method:>10} {old} {1e3 * row['this']['median']:>9.1f} {ratios} {cpu_s:>7.3f} "
        f"{row['ns_per_sample']:>9.1f} {plain}",
        flush=True,
    )
    if "old" in row and n < LARGEST:
        print(verdict("this / old by processor time", row["this_over_old_processor"]["median"], RATIO))
    if (method, n) in WALL_S:
        print(verdict("seconds", row["this"]["median"], WALL_S[method, n]))
    if (method, n) in PROCESSOR_S:
        print(verdict("processor seconds", cpu_s, PROCESSOR_S[method, n]))


def count(name: str) -> list[dict]:
    """Returns the seconds of `total_steps`, median of seven calls; of one call if that took a second."""
    pruner = orderdp.Pruner(COUNTED[name], 10_000_000)
    rows = []
    for epochs in (100, 100_000_000):
        if rows and rows[0]["median"] > 0.1:
            print(f"    total_steps({epochs:,}, 16) of {name}: not tried, since 100 epochs took so long")
            break
        seconds: list[float] = []
        while len(seconds) < 7 and (not seconds or seconds[0] < 1):
            began_s = time.perf_counter()
            pruner.total_steps(epochs, 16)
            seconds.append(time.perf_counter() - began_s)
        took = summary(seconds)
        print(verdict(f"seconds of total_steps({epochs:,}, 16) of {name}", took["median"], TOTAL_STEPS_S), flush=True)
        rows.append({"method": name, "epochs": epochs, "calls": len(seconds), **took})
    return rows


if __name__ == "__main__":
    main()
