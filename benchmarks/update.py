"""The time of one `Pruner.update`: on a CPU no longer than the update of two published codes, on a GPU four kernels.

    git clone https://github.com/shengze-xu/OrderDP peers/OrderDP
    git -C peers/OrderDP checkout b48eaccef9ed4390919a7370b4862fcf8abbc86d
    git clone https://github.com/NUS-HPC-AI-Lab/InfoBatch peers/InfoBatch
    git -C peers/InfoBatch checkout 8bbb012c256c9eb4de3bb209f8a5e73899de8d02
    python benchmarks/update.py [--peers peers] [--device cuda] [--json results/benchmarks/update.json]

Batches hold 32, 128, 1,024 and 8,192 of 50,000 and of 1,281,167 samples, on one thread. Ids come from `pruner.loader`,
and each batch of an epoch is recorded once, as in training. It prints the microseconds of a call of
`pruner.update(index, losses)` and of `losses.mean()`, which every loop calls anyway and which update contains. Calls
are timed one by one. Each number is the median of a round's calls, so that other programs do not affect it. It prints
median and smallest over the rounds, and update over mean, the median of the ratios of the rounds.

With `--peers`, OrderDP is timed against the OrderDP release and InfoBatch against InfoBatch's release, at batch 128 on
a CPU. Both sides get the same ids and losses, and both return the scalar to back-propagate. Ours is `update`. Theirs is
`set_active_indices`, which their DataLoader calls for each batch, and `update`. Blocks of up to 200 calls take turns.
InfoBatch is timed in an epoch with weights. Both codes replace the `__next__` of every DataLoader while they are
imported. This script puts it back right after, so that neither affects our loader.

On a GPU it does so with ids on the host and with ids on the device, where update only queues its work. It also prints
the time of that work on the device, with all of it queued behind a wait, and counts kernels and copies of a call. A
pass under `torch.cuda.set_sync_debug_mode("error")` stops at the first call that waits for the device.

Targets: at batch 128 on a CPU, at most 1.0 times each peer and 100 µs; on a GPU, at most four kernels and no wait.
"""

from __future__ import annotations

import importlib.util
import itertools
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from timing import commit_of, parser, ratio, summary, verdict, write
from torch import Tensor
from torch.utils.data.dataloader import _BaseDataLoaderIter

from orderdp import InfoBatch, OrderDP, Pruner, Strategy

SIZES = (50_000, 1_281_167)
BATCHES = (32, 128, 1024, 8192)
ROUNDS = 31
CALLS = 200
CALLS_IN_QUEUE = 20  # of about ten kernels each: a GPU's queue holds a thousand
TARGET_S = 100e-6
TARGET_KERNELS = 4
TARGET_PEER = 1.0
PEERS: dict[str, tuple[str, Strategy]] = {
    "OrderDP": ("OrderDP/cifar/orderDP/orderDP.py", OrderDP(prune_ratio=0.5)),
    "InfoBatch": ("InfoBatch/infobatch/infobatch.py", InfoBatch(prune_probability=0.5)),
}
Call = Callable[[Tensor, Tensor], object]


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    options.add_argument("--peers", type=Path, metavar="DIR", help="where the published codes were cloned")
    given = options.parse_args()
    device = torch.device(given.device)
    torch.set_num_threads(1)
    peers = [] if given.peers is None else compare(given.peers)
    print(
        f"{'n':>10} {'batch':>6} {'ids on':>6} {'update µs':>10} {'min':>8} {'mean µs':>8} {'min':>8} "
        f"{'update/mean':>12} {'device µs':>10} {'kernels':>8} {'copies':>7}"
    )
    rows = []
    for n, batch_size, ids_on in itertools.product(SIZES, BATCHES, dict.fromkeys(("cpu", device.type))):
        rows.append(measure(n, batch_size, device, ids_on))
        show(rows[-1])
    for row in rows:
        if device.type == "cuda":
            print(
                verdict(f"kernels, batch {row['batch_size']}, ids on {row['ids_on']}", row["kernels"], TARGET_KERNELS)
            )
        elif row["batch_size"] == 128:
            print(verdict(f"seconds at n = {row['n']:,}, batch 128", row["update"]["median"], TARGET_S))
    if device.type == "cuda":
        print("no call waited for the device")
    write(given.json, device, {"benchmark": "update", "unit": "s", "rows": rows, "peers": peers})


def show(row: dict) -> None:
    """Prints a row."""
    times = [1e6 * row[name][which] for name in ("update", "mean") for which in ("median", "min")]
    on_device = ""
    if "device" in row:
        on_device = f"{1e6 * row['device']['median']:>10.1f} {row['kernels']:>8g} {row['copies']:>7g}"
    print(
        f"{row['n']:>10,} {row['batch_size']:>6,} {row['ids_on']:>6} {times[0]:>10.1f} {times[1]:>8.1f} "
        f"{times[2]:>8.1f} {times[3]:>8.1f} {row['update_over_mean']['median']:>12.2f} {on_device}",
        flush=True,
    )


def compare(folder: Path) -> list[dict]:
    """Prints and returns the times of our updates and of the peers' at batch 128."""
    rows = []
    for name, (file, strategy) in PEERS.items():
        peer = imported(folder / file, name)
        commit = commit_of((folder / file).parent)
        for n in SIZES:
            pruner = Pruner(strategy, n, seed=0)
            theirs = peer(range(n), num_epochs=100, prune_ratio=0.5)

            def their_update(index: Tensor, losses: Tensor, theirs: Any = theirs) -> object:
                theirs.set_active_indices(index)
                return theirs.update(losses)

            chunks = batches(pruner, 128, "cpu")
            while pruner.epoch in (None, 0):  # InfoBatch has weights from epoch 1 on
                for index in next(chunks):
                    pruner.update(index, fresh_losses(index))
            seconds = interleaved_blocks({"ours": pruner.update, "theirs": their_update}, chunks)
            times = {side: summary(seconds[side]) for side in seconds}
            row = {"peer": name, "commit": commit, "n": n, "batch_size": 128, "rounds": ROUNDS, **times}
            row["ours_over_theirs"] = ratio(seconds["ours"], seconds["theirs"])
            rows.append(row)
            print(
                f"{name} of commit {commit[:12]}, n = {n:,}: ours {1e6 * times['ours']['median']:.1f} µs, "
                f"theirs {1e6 * times['theirs']['median']:.1f} µs, ratios of the rounds "
                f"{row['ours_over_theirs']['min']:.2f} to {row['ours_over_theirs']['max']:.2f}"
            )
            print(verdict("ours / theirs", row["ours_over_theirs"]["median"], TARGET_PEER), flush=True)
    return rows


def imported(path: Path, name: str) -> Any:
    """Returns a class of a published code; what its file changes in torch while it is imported is put back."""
    if not path.is_file():
        raise SystemExit(f"--peers must hold the clones, got no file {path}; 'python benchmarks/update.py -h' has them")
    spec = importlib.util.spec_from_file_location(f"peer_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = _BaseDataLoaderIter.__next__
    try:
        spec.loader.exec_module(module)
    finally:
        _BaseDataLoaderIter.__next__ = before
    return getattr(module, name)


def measure(n: int, batch_size: int, device: torch.device, ids_on: str) -> dict:
    """Returns the times of one size of the data set and of the batch."""
    pruner = Pruner(OrderDP(prune_ratio=0.5), n, seed=0)
    chunks = batches(pruner, batch_size, ids_on)
    counts = {}
    if device.type == "cuda":
        check_waits_for_nothing(pruner, next(chunks), device)
        counts = kernels_and_copies(pruner, next(chunks), device)
    calls = {"update": pruner.update, "mean": lambda index, losses: losses.mean()}
    seconds = interleaved_blocks(calls, chunks, device)
    row = {
        "n": n,
        "batch_size": batch_size,
        "ids_on": ids_on,
        "rounds": ROUNDS,
        **{name: summary(seconds[name]) for name in calls},
        "update_over_mean": ratio(seconds["update"], seconds["mean"]),
        **counts,
    }
    if device.type == "cuda":
        row["device"] = summary([seconds_on_device(pruner, next(chunks), device) for _ in range(ROUNDS)])
    return row


def batches(pruner: Pruner, batch_size: int, ids_on: str) -> Iterator[list[Tensor]]:
    """Yields up to `CALLS` batches of ids in a row, for ever; record them all before you take the next ones."""
    loader = pruner.loader(range(pruner.num_samples), batch_size=batch_size, drop_last=True)
    while True:
        taken, rest = 0, iter(loader)
        for index, _ in rest:  # never beyond the last batch: that ends the epoch, which must be recorded before
            others = itertools.islice(rest, min(CALLS, len(loader) - taken) - 1)
            chunk = [index.to(ids_on), *(index.to(ids_on) for index, _ in others)]
            taken += len(chunk)
            yield chunk


def fresh_losses(index: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Returns (b,) losses with gradient that are no leaf, since one peer multiplies them in place."""
    losses: Tensor = torch.rand(len(index), device=device, requires_grad=True) * 1
    return losses


def interleaved_blocks(
    calls: Mapping[str, Call], chunks: Iterator[list[Tensor]], device: torch.device | str = "cpu"
) -> dict[str, list[float]]:
    """Returns seconds of each call, one number a round: the median over the batches of the round.

    Within a round all calls get the same ids and losses, one call after the other. Their order alternates. The first
    round warms up and is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS + 1):
        chunk = next(chunks)
        values = [fresh_losses(index, device).detach() for index in chunk]
        for name in list(calls)[:: 1 if number % 2 else -1]:
            median_s = statistics.median(
                [
                    timed(calls[name], index, value.requires_grad_() * 1)
                    for index, value in zip(chunk, values, strict=True)
                ]
            )
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # so that the queue never fills up
            if number:
                seconds[name].append(median_s)
    return seconds


def timed(call: Call, index: Tensor, losses: Tensor) -> float:
    """Returns the seconds of a call."""
    began_s = time.perf_counter()
    call(index, losses)
    return time.perf_counter() - began_s


def check_waits_for_nothing(pruner: Pruner, chunk: list[Tensor], device: torch.device) -> None:
    """Raises if a call, the first among them, waits for the device."""
    values = [fresh_losses(index, device) for index in chunk]
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        for index, losses in zip(chunk, values, strict=True):
            pruner.update(index, losses)
    finally:
        torch.cuda.set_sync_debug_mode(before)


def kernels_and_copies(pruner: Pruner, chunk: list[Tensor], device: torch.device) -> dict[str, float]:
    """Returns how many kernels a call runs on the device, how many copies and fills beside them, and its waits."""
    values = [fresh_losses(index, device) for index in chunk]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for index, losses in zip(chunk, values, strict=True):
            pruner.update(index, losses)
        torch.cuda.synchronize()
    events = profile.events()
    names = [event.name for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    copies = sum(name.startswith(("Memcpy", "Memset")) for name in names)
    if len(names) == copies:  # an update has at least the kernels of its mean
        raise RuntimeError("the profiler saw no kernel of update; it must be allowed to trace the device")
    # A second opinion on waits: the debug mode does not know of all of them.
    waits = sum(event.name in ("cudaStreamSynchronize", "cudaEventSynchronize") for event in events)
    counts = {"kernels": len(names) - copies, "copies": copies, "waits_traced": waits}
    return {name: count / len(chunk) for name, count in counts.items()}


def seconds_on_device(pruner: Pruner, chunk: list[Tensor], device: torch.device) -> float:
    """Returns the device's seconds for a call, without the gaps in which it would wait for the host."""
    values = [fresh_losses(index, device) for index in chunk]
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(50_000_000)  # cycles; the host queues everything meanwhile
    began.record()
    for number, (index, losses) in enumerate(zip(chunk, values, strict=True), 1):
        pruner.update(index, losses)
        if number == min(len(chunk), CALLS_IN_QUEUE):
            ended.record()
    torch.cuda.synchronize()
    return began.elapsed_time(ended) / 1e3 / min(len(chunk), CALLS_IN_QUEUE)


if __name__ == "__main__":
    main()
