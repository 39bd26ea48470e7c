"""A function on each rank of a group of processes, and what helper processes run."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def run_ranks(num_ranks: int, work: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What `work(rank, *arguments)` returns on each rank of a gloo group, or the text of what it raises or warns of."""
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_run_rank, args=(rank, num_ranks, work, folder, arguments)) for rank in range(num_ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * num_ranks
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(num_ranks)]


def _run_rank(rank: int, num_ranks: int, work: Callable[..., Any], folder: Path, arguments: tuple[Any, ...]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # accelerate would set it, and warn
    store = dist.FileStore(str(folder / "store"), num_ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=num_ranks)
    try:
        result = work(rank, *arguments)
    except (RuntimeError, ValueError, Warning) as error:
        result = f"{type(error).__name__}: {error}"
    torch.save(result, folder / f"{rank}.pt")
    # The forked process ends without destroying the group, which can deadlock in older releases of torch. The
    # destructor waits for a thread that waits for the GIL (fixed by pytorch/pytorch#154976).
    dist.barrier()


def end_when_all_are_told(folder: Path) -> None:
    """Ends by SIGTERM once the other helper was sent one too, as a helper that still writes a checkpoint takes time."""

    def told(*_: Any) -> None:
        (folder / f"told{os.getpid()}").touch()
        end = time.monotonic() + 10
        while len(list(folder.glob("told*"))) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        os._exit(0 if len(list(folder.glob("told*"))) == 2 else 1)

    signal.signal(signal.SIGTERM, told)
    (folder / f"begun{os.getpid()}").touch()
    time.sleep(120)
