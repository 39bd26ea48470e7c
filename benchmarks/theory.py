"""The time to compute the law of the selection at scale, and a plan from the command line.

    python benchmarks/theory.py [--json results/benchmarks/theory.json]

The targets: all n weights γ at n = 1,281,167 take at most 0.2 s. A hundred million of them by blocks take a few
megabytes. `orderdp plan` at n = 10 million takes at most 2 s, including the start of Python. Prints the median and the
smallest of 5 interleaved rounds: seconds for the weights and for SciPy's hypergeometric distribution function at every
rank (the other way to get them). It also prints their ratio in each round. Then it prints the blocks and their sum, and
the times of the whole commands.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import torch
from scipy.stats import hypergeom
from timing import interleaved, parser, ratio, summary, write

from orderdp.theory import inclusion_blocks, inclusion_probabilities

ROUNDS = 5
N = 1_281_167
SIZES = {"s = n/2, q = n/4": (N // 2, N // 4), "s = 1,000, q = 300": (1_000, 300)}
MANY = 100_000_000
PLANS = {"--prune-ratio 0.5": "half of the data", "--samples 1000": "one sample in a million"}


def main() -> None:
    """Measures, prints and writes."""
    given = parser(__doc__ or "").parse_args()
    numbers = {"weights": [weights(name, *sizes) for name, sizes in SIZES.items()]}
    blocks = [in_blocks(s, q) for s, q in ((MANY // 2, MANY // 4), (10_000, 3_000))]
    plans = [command(budget, what) for budget, what in PLANS.items()]
    write(given.json, torch.device("cpu"), {"benchmark": "theory", "n": N, **numbers, "blocks": blocks, "plans": plans})


def weights(name: str, s: int, q: int) -> dict[str, object]:
    """Times all weights at the size of ImageNet, and SciPy on every twentieth rank, scaled up."""
    ranks = np.arange(1, N + 1, 20)
    calls = {
        "ours": lambda: inclusion_probabilities(N, s, q),
        "scipy": lambda: s / N * hypergeom.cdf(q - 1, N - 1, ranks - 1, s - 1),
    }
    seconds = interleaved(calls, rounds=ROUNDS)
    seconds["scipy"] = [20 * second for second in seconds["scipy"]]
    ours, factor = summary(seconds["ours"]), ratio(seconds["scipy"], seconds["ours"])
    error = abs(float(inclusion_probabilities(N, s, q).sum()) / q - 1)
    apart = float(np.abs(inclusion_probabilities(N, s, q)[ranks - 1] - calls["scipy"]()).max())
    reached = "reached" if ours["median"] <= 0.2 else "MISSED"
    print(f"n = {N:,}, {name}: {ours['median']:.4f} s, smallest {ours['min']:.4f} s, target 0.2 s: {reached}")
    print(f"  SciPy takes {factor['median']:.0f} times as long; largest difference {apart:.1e}; sum off by {error:.1e}")
    return {"sizes": name, "seconds": ours, "scipy_over_ours": factor, "largest_difference": apart, "sum_off_by": error}


def in_blocks(s: int, q: int) -> dict[str, object]:
    """Sums a hundred million weights by blocks: seconds, peak memory, relative error of the sum."""

    def total() -> float:
        return sum(float(block.sum()) for _, block in inclusion_blocks(MANY, s, q))

    seconds = summary(interleaved({"sum": total}, rounds=3)["sum"])
    tracemalloc.start()
    error = abs(total() / q - 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"n = {MANY:,}, s = {s:,}, q = {q:,} by blocks: {seconds['median']:.2f} s, {peak / 1e6:.1f} MB at most", end=""
    )
    print(f", sum off by {error:.1e}")
    return {"n": MANY, "s": s, "q": q, "seconds": seconds, "peak_bytes": peak, "sum_off_by": error}


def command(budget: str, what: str) -> dict[str, object]:
    """Times `orderdp plan` at ten million samples, from its start to its end."""
    words = ["plan", "--num-samples", "10000000", "--epochs", "100", "--batch-size", "1024", *budget.split()]
    call = [sys.executable, "-m", "orderdp", *words]
    seconds = summary(
        interleaved({"plan": lambda: subprocess.run(call, capture_output=True, check=True)}, rounds=ROUNDS)["plan"]
    )
    reached = "reached" if seconds["median"] <= 2 else "MISSED"
    print(f"orderdp {' '.join(words)} ({what}): {seconds['median']:.2f} s, target 2 s: {reached}")
    return {"command": " ".join(words), "seconds": seconds}


if __name__ == "__main__":
    main()
