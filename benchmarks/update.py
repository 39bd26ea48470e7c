"""The time of one `Pruner.update`: the target is at most 100 µs on a CPU at batch 128, and no wait for a GPU.

    python benchmarks/update.py [--device cuda] [--json results/benchmarks/update.json]

Batches hold 32, 128, 1,024 and 8,192 of 50,000 and of 1,281,167 samples, on one thread. It prints the microseconds of a
call of `pruner.update(index, losses)` and of `losses.mean()`, which every loop calls anyway and which update contains.
Calls are timed one by one, on batch after batch of an epoch. Each number is the median of a round's calls, so that
other programs do not affect it. It prints median and smallest over interleaved rounds, and update over mean, the median
of the ratios of the rounds.

On a GPU it does so with ids on the host and with ids on the device. It prints the same times on the host, where update
only queues its work. It also prints the time of that work on the device, with all of it queued behind a wait. A last
pass under `torch.cuda.set_sync_debug_mode("error")` stops at the first call that waits for the device.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator

import torch
from timing import interleaved, parser, ratio, summary, write
from torch import Tensor

from orderdp import OrderDP, Pruner

SIZES = (50_000, 1_281_167)
BATCHES = (32, 128, 1024, 8192)
ROUNDS = 31
CALLS = 200
CALLS_IN_QUEUE = 20  # of about ten kernels each: a GPU's queue holds a thousand
TARGET_S = 100e-6


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    given = options.parse_args()
    device = torch.device(given.device)
    torch.set_num_threads(1)
    print(
        f"{'n':>10} {'batch':>6} {'ids on':>6} {'update µs':>10} {'min':>8} {'mean µs':>8} {'min':>8} "
        f"{'update/mean':>12} {'device µs':>10}"
    )
    rows = []
    for n, batch_size, ids_on in itertools.product(SIZES, BATCHES, dict.fromkeys(("cpu", device.type))):
        row = measure(n, batch_size, device, ids_on)
        rows.append(row)
        times = [1e6 * row[name][which] for name in ("update", "mean") for which in ("median", "min")]
        on_device = f"{1e6 * row['device']['median']:>10.1f}" if "device" in row else f"{'':>10}"
        print(
            f"{n:>10,} {batch_size:>6,} {ids_on:>6} {times[0]:>10.1f} {times[1]:>8.1f} {times[2]:>8.1f} "
            f"{times[3]:>8.1f} {row['update_over_mean']['median']:>12.2f} {on_device}",
            flush=True,
        )
    if device.type == "cpu":
        for row in rows:
            if row["batch_size"] == 128:
                reached = "reached" if row["update"]["median"] <= TARGET_S else "MISSED"
                print(f"n = {row['n']:,}, batch 128: {1e6 * row['update']['median']:.1f} µs, target 100 µs: {reached}")
    else:
        print("no call waited for the device")
    write(given.json, device, {"benchmark": "update", "unit": "s", "rows": rows})


def measure(n: int, batch_size: int, device: torch.device, ids_on: str) -> dict:
    """Returns the times of one size of the data set and of the batch."""
    pruner = Pruner(OrderDP(prune_ratio=0.5), n, seed=0)
    ids = torch.from_numpy(pruner.begin_epoch().indices.copy()).to(ids_on)
    full = len(ids) // batch_size
    batches = [ids[begin * batch_size : (begin + 1) * batch_size] for begin in range(min(full, CALLS))]
    losses = torch.rand(batch_size, device=device, requires_grad=True)
    turn: Iterator[Tensor] = itertools.cycle(batches)

    def update() -> None:
        pruner.update(next(turn), losses)

    calls: dict[str, Callable[[], object]] = {"update": update, "mean": losses.mean}
    if device.type == "cuda":
        check_waits_for_nothing(update)
        calls["wait"] = torch.cuda.synchronize  # so that the queue never fills up
    seconds = interleaved(calls, rounds=ROUNDS, singles=min(len(batches), CALLS))
    row = {
        "n": n,
        "batch_size": batch_size,
        "ids_on": ids_on,
        "rounds": ROUNDS,
        "calls_a_round": min(len(batches), CALLS),
        **{name: summary(seconds[name]) for name in ("update", "mean")},
        "update_over_mean": ratio(seconds["update"], seconds["mean"]),
    }
    if device.type == "cuda":
        row["device"] = summary([seconds_on_device(update) for _ in range(ROUNDS)])
    return row


def check_waits_for_nothing(call: Callable[[], object]) -> None:
    """Raises if one of 50 calls, the first among them, waits for the device."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(50):
            call()
    finally:
        torch.cuda.set_sync_debug_mode(before)


def seconds_on_device(call: Callable[[], object]) -> float:
    """Returns the device's seconds for a call, without the gaps in which it would wait for the host."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(50_000_000)  # cycles; the host queues everything meanwhile
    began.record()
    for _ in range(CALLS_IN_QUEUE):
        call()
    ended.record()
    torch.cuda.synchronize()
    return began.elapsed_time(ended) / 1e3 / CALLS_IN_QUEUE


if __name__ == "__main__":
    main()
