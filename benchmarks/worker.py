"""A process that chooses epochs when told to, so that two versions of orderdp can take turns in one benchmark.

A `Worker` starts this file with one version of orderdp. The file uses only names that all versions since 0.1 share.
The first epoch trains all samples, so that every score is known. On each command it records the running epoch in
batches of up to 4,096 with random losses. Then it chooses the next epoch, and only this is timed and measured.

Memory is what the kernel counts as resident: the arrays of NumPy and torch and everything else. It is counted from
before the pruner is built. `MALLOC_MMAP_THRESHOLD_` makes the C library return every freed array of a megabyte or more
at once. Freed memory then does not count, and reused memory does not hide.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

BATCH_SIZE = 4096
# What each method ranks anew in every epoch; a ranking every ten epochs would hide nine tenths of the cost.
METHODS = {
    "OrderDP": ("OrderDP", {"prune_ratio": 0.5}),
    "ε-greedy": ("EpsilonGreedy", {"prune_ratio": 0.5, "every": 1}),
    "InfoBatch": ("InfoBatch", {"prune_probability": 0.5}),
    "UCB": ("UCB", {"prune_ratio": 0.5, "every": 1}),
}


class Worker(AbstractContextManager["Worker"]):
    """One version of orderdp with one pruner, in processes of its own.

    Args:
        checkout: the root of a checkout, whose `src` is imported.
        method: a key of `METHODS`.
        num_samples: size of the data set.
        num_ranks: how many processes share the epochs, by gloo.
        exact_memory: return freed memory at once. Times are then a little longer.
    """

    def __init__(
        self, checkout: Path, method: str, num_samples: int, *, num_ranks: int = 1, exact_memory: bool = False
    ) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout.resolve() / "src"), "OMP_NUM_THREADS": "1"}
        if exact_memory:
            environment["MALLOC_MMAP_THRESHOLD_"] = str(2**20)
        if num_ranks > 1:
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(num_ranks)}
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, method, str(num_samples)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**environment, "RANK": str(rank)},
            )
            for rank in range(num_ranks)
        ]
        for found in self._answers():
            expected = checkout.resolve() / "src" / "orderdp" / "__init__.py"
            assert Path(found["imported"]) == expected, f"imported {found['imported']}, not {expected}"

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def choose(self) -> dict[str, float]:
        """Records the running epoch, chooses the next one and returns what that took; of several ranks, the largest.

        The first call follows the epoch of all samples, whose selection is longer than those after it.

        Returns:
            `wall_s` and `processor_s` of `begin_epoch`; `update_s`, the processor seconds of all updates before it;
            `resting_bytes` between epochs, without the selection;
            `peak_bytes` while the epoch is chosen.
        """
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("choose\n")
            process.stdin.flush()
        answers = self._answers()
        return {name: max(answer[name] for answer in answers) for name in answers[0]}

    def _answers(self) -> list[dict[str, Any]]:
        lines = [process.stdout.readline() for process in self._processes if process.stdout is not None]
        if not all(lines):
            raise RuntimeError("a worker ended early; its error stands above")
        return [json.loads(line) for line in lines]


def free_port() -> int:
    """Returns a port that nothing listens on."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def resident_bytes(field: str) -> int:
    """Returns what the kernel counts as resident now ("VmRSS") or at most since `forget_peak` ("VmHWM")."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"the kernel does not tell {field}; memory is measured on Linux only")


def forget_peak() -> None:
    """Makes the kernel count the peak from now on."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def _serve(method: str, num_samples: int) -> None:
    """Builds the pruner, then chooses an epoch for each line of standard input."""
    import torch
    import torch.distributed as dist

    import orderdp

    torch.set_num_threads(1)
    rank, num_ranks = int(os.environ["RANK"]), int(os.environ.get("WORLD_SIZE", "1"))
    if num_ranks > 1:
        dist.init_process_group("gloo")
    losses = torch.Generator().manual_seed(rank)

    def make_pruner(size: int) -> orderdp.Pruner:
        name, settings = METHODS[method]
        strategy = getattr(orderdp, name)(**settings)
        return orderdp.Pruner(strategy, size, schedule=lambda own, epoch: own if epoch else orderdp.FullData())

    def train(pruner: orderdp.Pruner, batch_size: int) -> tuple[int, float]:
        """Records the running epoch; returns the bytes of its selection and the processor seconds of all updates."""
        selection, update_s = pruner.selection, 0.0
        assert selection is not None
        ids = torch.from_numpy(selection.indices)
        steps = -(-len(ids) // (num_ranks * batch_size))
        for index in ids.tensor_split(num_ranks * steps)[rank::num_ranks]:
            batch = torch.empty(len(index)).exponential_(generator=losses).requires_grad_()
            index, began_s = index.long(), time.process_time()
            pruner.update(index, batch)
            update_s += time.process_time() - began_s
        selection_bytes = selection.indices.nbytes + (0 if selection.weights is None else selection.weights.nbytes)
        return selection_bytes, update_s

    def choose(pruner: orderdp.Pruner, batch_size: int, before: Callable[[], None] = lambda: None) -> dict[str, float]:
        selection_bytes, update_s = train(pruner, batch_size)
        before()
        resting = resident_bytes("VmRSS")
        wall_s, processor_s = time.perf_counter(), time.process_time()
        pruner.begin_epoch()
        wall_s, processor_s = time.perf_counter() - wall_s, time.process_time() - processor_s
        return {
            "wall_s": wall_s,
            "processor_s": processor_s,
            "update_s": update_s,
            "resting_bytes": resting - base - selection_bytes,
            "peak_bytes": resident_bytes("VmHWM") - base,
        }

    base = 0
    small = make_pruner(10_000)  # loads and allocates what every later call uses
    small.begin_epoch()
    for _ in range(3):
        choose(small, 64)
    del small
    forget_peak()
    base = resident_bytes("VmRSS")
    pruner = make_pruner(num_samples)
    pruner.begin_epoch()
    print(json.dumps({"imported": orderdp.__file__}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(choose(pruner, BATCH_SIZE, forget_peak)), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
