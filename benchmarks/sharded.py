"""The table shared out over the ranks: memory, messages and seconds of a rank, beside the table that each rank holds.

    python benchmarks/sharded.py [--samples 100000000] [--ranks 4] [--json results/benchmarks/sharded.json]

Half of 100,000,000 samples are chosen by OrderDP on 4 processes of one machine, for three epochs. Each process records
its part in batches of 4,096 with random losses. `ShardedPruner` and `Pruner` run one after the other, in processes of
their own. It needs 14 GB and some minutes.

For each form it prints the largest of the ranks:

- peak: bytes that a process has beyond what it had before the pruner was built, at most, as the kernel counts them;
- resting: the same between two epochs, selection included;
- collectives: how many an epoch makes, and how many bytes a rank hands to them;
- seconds of `begin_epoch`.

Targets: the peak of a rank at most 1/3 of the other form's; at most 20 collectives an epoch. The last line extrapolates
the peak to 10,000,000,000 samples, by the bytes a sample of this rank.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from timing import parser, verdict, write
from worker import forget_peak, free_port, resident_bytes

BATCH_SIZE, EPOCHS = 4096, 3
TARGET_RATIO, TARGET_COLLECTIVES = 1 / 3, 20
LARGEST, MOST_RANKS = 10_000_000_000, 256


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--samples", type=int, default=100_000_000, metavar="N", help="size of the data set")
    options.add_argument("--ranks", type=int, default=4, metavar="K", help="processes")
    given = options.parse_args()
    rows = {form: measure(form, given.samples, given.ranks) for form in ("Pruner", "ShardedPruner")}
    print(f"{'form':>13} {'peak, MB':>9} {'resting, MB':>11} {'collectives':>11} {'MB sent':>8} {'seconds':>7}")
    for form, row in rows.items():
        print(
            f"{form:>13} {row['peak_bytes'] / 1e6:>9,.0f} {row['resting_bytes'] / 1e6:>11,.0f} "
            f"{row['collectives']:>11} {row['sent_bytes'] / 1e6:>8,.0f} {row['begin_s']:>7.1f}"
        )
    sharded = rows["ShardedPruner"]
    print(verdict("peak beside Pruner's", sharded["peak_bytes"] / rows["Pruner"]["peak_bytes"], TARGET_RATIO))
    print(verdict("collectives an epoch", sharded["collectives"], TARGET_COLLECTIVES))
    own = sharded["peak_bytes"] / (given.samples / given.ranks)
    print(
        f"    {own:.1f} bytes for each sample of a rank: {LARGEST:,} samples would need about "
        f"{own * LARGEST / MOST_RANKS / 1e9:.1f} GB a rank on {MOST_RANKS} ranks"
    )
    numbers = {"benchmark": "sharded", "samples": given.samples, "ranks": given.ranks, "rows": rows}
    write(given.json, torch.device("cpu"), numbers)


def measure(form: str, num_samples: int, num_ranks: int) -> dict[str, float]:
    """Returns the largest numbers of all ranks."""
    context, port = multiprocessing.get_context("spawn"), free_port()
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**20)  # freed arrays go back at once, so that they do not count
    answers = context.Queue()
    processes = [
        context.Process(target=serve, args=(form, num_samples, rank, num_ranks, port, answers))
        for rank in range(num_ranks)
    ]
    for process in processes:
        process.start()
    found = [json.loads(answers.get()) for _ in processes]
    for process in processes:
        process.join()
    return {name: max(answer[name] for answer in found) for name in found[0]}


def serve(form: str, num_samples: int, rank: int, num_ranks: int, port: int, answers: Any) -> None:
    """Trains some epochs on one rank and puts what it took into the queue."""
    import orderdp
    from orderdp.sharded import ShardedPruner

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=num_ranks)
    make = ShardedPruner if form == "ShardedPruner" else orderdp.Pruner
    losses = torch.Generator().manual_seed(rank)
    warm = make(orderdp.OrderDP(prune_ratio=0.5), 10_000)  # loads and allocates what every later call uses
    for _ in range(2):
        train(warm, losses)
    forget_peak()
    base = resident_bytes("VmRSS")
    pruner, peaks, rests, seconds, counts = make(orderdp.OrderDP(prune_ratio=0.5), num_samples), [], [], [], []
    for _ in range(EPOCHS):
        with Counted() as sent:
            seconds.append(train(pruner, losses))
        peaks.append(resident_bytes("VmHWM") - base)
        rests.append(resident_bytes("VmRSS") - base)
        counts.append((sent.calls, sent.bytes))
    found = {
        "peak_bytes": max(peaks),
        "resting_bytes": max(rests),
        "collectives": max(calls for calls, _ in counts),
        "sent_bytes": max(size for _, size in counts),
        "begin_s": statistics.median(seconds[1:]),  # the first has nothing to exchange
    }
    answers.put(json.dumps(found))
    dist.barrier()


def train(pruner: Any, losses: torch.Generator) -> float:
    """Begins an epoch and records this rank's part of it; returns the seconds of `begin_epoch`."""
    began_s = time.perf_counter()
    loader = pruner.loader(range(pruner.num_samples), batch_size=BATCH_SIZE)
    batches = iter(loader.batch_sampler)
    ids = next(batches)
    began_s = time.perf_counter() - began_s
    while ids is not None:
        pruner.update(torch.tensor(ids), torch.empty(len(ids)).exponential_(generator=losses).requires_grad_())
        ids = next(batches, None)
    return began_s


class Counted:
    """Counts the collectives that a process makes, and the bytes that it hands to them."""

    NAMES = ("all_reduce", "broadcast", "all_to_all_single", "all_gather")

    def __enter__(self) -> Counted:
        self.calls = self.bytes = 0
        self.plain = {name: getattr(dist, name) for name in self.NAMES}
        for name, call in self.plain.items():
            setattr(dist, name, self.counting(name, call))
        return self

    def __exit__(self, *_: object) -> None:
        for name, call in self.plain.items():
            setattr(dist, name, call)

    def counting(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the call that counts itself."""

        def counted(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            handed = arguments[1 if name == "all_to_all_single" else 0]
            self.bytes += handed.numel() * handed.element_size()
            return call(*arguments, **more)

        return counted


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    main()
