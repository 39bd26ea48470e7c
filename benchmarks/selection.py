"""The time to select an epoch: the target is at most 0.05 s at 1,281,167 samples on one core, proportional to n.

    python benchmarks/selection.py [--large] [--json results/benchmarks/selection.json]

OrderDP has s = n/2 and q = 0.6 s, at n = 50,000, 1,281,167 (ImageNet) and 10,000,000 (--large: 100,000,000 too). It
runs on the host with one thread. For each n there are three states of the scores:

- first: all are +inf, so that all tie;
- mixed: a random half seen, the other half still +inf, as in the second epoch;
- distinct: all seen.

Prints milliseconds, medians over interleaved rounds. The first columns are the parts of the selection: draw s of n,
gather their scores, find the top q, shuffle them. The next are the whole as `OrderDP.select`, the smallest of its
rounds, and nanoseconds a sample of the median. Then follow `Pruner.begin_epoch`, which also records what was seen, and
the plain `torch.randperm` and `topk` of a handwritten loop. The last column is select over plain, the median of the
ratios of the rounds. Before timing, the parts are checked to select the same indices as `select`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from timing import interleaved, parser, ratio, summary, write

from orderdp import Memory, OrderDP, Pruner
from orderdp.strategies.order import draw, largest

STRATEGY = OrderDP(explore=0.5, exploit=0.6)
PARTS = ("draw", "gather", "top-q", "shuffle")
ROUNDS = {50_000: 101, 1_281_167: 21, 10_000_000: 7, 100_000_000: 3}
TARGET_S = {1_281_167: 0.05}


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--large", action="store_true", help="also 100,000,000 samples; needs 8 GB")
    given = options.parse_args()
    torch.set_num_threads(1)
    columns = (*PARTS, "select", "min", "ns/sample", "begin_epoch", "plain", "select/plain")
    print(f"{'n':>11} {'scores':>8} " + " ".join(f"{name:>12}" for name in columns))
    rows = []
    for n in ROUNDS:
        if n > 10_000_000 and not given.large:
            continue
        for state in ("first", "mixed", "distinct"):
            row = measure(n, state)
            rows.append(row)
            milliseconds = [1e3 * row[name]["median"] for name in (*PARTS, "select")] + [1e3 * row["select"]["min"]]
            others = [1e3 * row[name]["median"] for name in ("begin_epoch", "plain")]
            cells = [*milliseconds, row["ns_per_sample"], *others, row["select_over_plain"]["median"]]
            print(f"{n:>11,} {state:>8} " + " ".join(f"{cell:>12.3f}" for cell in cells), flush=True)
    for n, target_s in TARGET_S.items():
        for row in rows:
            if row["n"] == n:
                reached = "reached" if row["select"]["median"] <= target_s else "MISSED"
                print(f"n = {n:,}, {row['scores']}: {row['select']['median']:.4f} s, target {target_s} s: {reached}")
    write(given.json, torch.device("cpu"), {"benchmark": "selection", "unit": "s", "rows": rows})


def measure(n: int, state: str) -> dict:
    """Returns the times of one size and one state of the scores."""
    scores = scores_of(n, state)
    memory = Memory(n, 0, {"score": scores})
    s, q = STRATEGY.sizes(n)
    assert np.array_equal(timed_parts(scores, s, q, rng(0))[1], STRATEGY.select(memory, rng(0)).indices)
    pruner = Pruner(STRATEGY, n, seed=0)
    saved = pruner.state_dict()
    saved["table"]["columns"]["score"] = torch.from_numpy(scores)
    pruner.load_state_dict(saved)
    parts: list[dict[str, float]] = []
    on_torch = torch.from_numpy(scores)
    chance = torch.Generator().manual_seed(0)
    number = iter(range(1, 1_000_000))
    calls: dict[str, Callable[[], object]] = {
        "parts": lambda: parts.append(timed_parts(scores, s, q, rng(next(number)))[0]),
        "select": lambda: STRATEGY.select(memory, rng(next(number))),
        "begin_epoch": pruner.begin_epoch,
        "plain": lambda: plain(on_torch, s, q, chance),
    }
    seconds = interleaved(calls, rounds=ROUNDS[n])
    return {
        "n": n,
        "scores": state,
        "rounds": ROUNDS[n],
        **{name: summary([times[name] for times in parts[1:]]) for name in PARTS},
        **{name: summary(seconds[name]) for name in ("select", "begin_epoch", "plain")},
        "ns_per_sample": 1e9 * summary(seconds["select"])["median"] / n,
        "select_over_plain": ratio(seconds["select"], seconds["plain"]),
    }


def scores_of(n: int, state: str) -> npt.NDArray[np.float32]:
    """Returns (n,) float32 scores, with the spread of losses, in one of the three states."""
    chance = rng(n)
    if state == "first":
        return np.full(n, math.inf, dtype=np.float32)
    scores = chance.standard_exponential(n, dtype=np.float32)
    if state == "mixed":
        scores[chance.random(n) < 0.5] = math.inf
    return scores


def rng(seed: int) -> np.random.Generator:
    """Returns a generator."""
    return np.random.Generator(np.random.PCG64(seed))


def timed_parts(
    scores: npt.NDArray[np.float32], s: int, q: int, chance: np.random.Generator
) -> tuple[dict[str, float], npt.NDArray[np.int64]]:
    """Returns the seconds of each part of the selection, and the selection."""
    stamps = [time.perf_counter()]
    drawn = draw(len(scores), s, chance)
    stamps.append(time.perf_counter())
    gathered = scores[drawn]
    stamps.append(time.perf_counter())
    kept = drawn[largest(gathered, q, chance)]
    stamps.append(time.perf_counter())
    chance.shuffle(kept)
    stamps.append(time.perf_counter())
    return dict(zip(PARTS, np.diff(stamps).tolist(), strict=True)), kept


def plain(scores: torch.Tensor, s: int, q: int, chance: torch.Generator) -> torch.Tensor:
    """Returns the selection of a handwritten loop: top q of s drawn, shuffled."""
    drawn = torch.randperm(len(scores), generator=chance)[:s]
    kept = drawn[scores[drawn].topk(q, sorted=False).indices]
    return kept[torch.randperm(q, generator=chance)]


if __name__ == "__main__":
    main()
