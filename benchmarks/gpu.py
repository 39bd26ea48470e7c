"""What only a GPU can show, in a quarter of an hour: five parts with a limit of time each, and one file of numbers.

    PYTHONPATH=src python benchmarks/gpu.py [--data-root DIR] [--minutes 12] [--parts PART ...] [--json FILE]
    PYTHONPATH=src python benchmarks/gpu.py --device cpu --smoke        (its smallest form, a minute on one core)

1. tests: the tests that need a GPU.
2. update: `Pruner.update` under `torch.cuda.set_sync_debug_mode("error")`, which stops at the first wait for the
   device, and its kernels, copies and times. Target: at most 4 kernels, and no wait. Then the waits of a whole pruned
   epoch of the trainer, and where they are. Target: at most 10, none of them in each step.
3. ratio: time of a pruned epoch over that of a full one, for q/n = 0.3, 0.5, 0.7. The model is ResNet-18 in bf16 with
   channels last, compiled, with the batch of the recipe cifar10_resnet18. The images are noise of CIFAR-10's shape,
   50,000 of them, resident on the device, flipped and cropped. Each number is the median over rounds in which the
   epochs take turns. Target: at most q/n + 0.01.
4. images: images a second of the same data path alone, and of full epochs without and with torch.compile, in turns.
5. accuracy: CIFAR-10 with the same model: OrderDP at 50 %, full data and the shorter schedule. It takes the rest of the
   time. Its file, gpu_accuracy.py, says how it chooses epochs, seeds and models at once. It needs the published files:
   without `--data-root` it is left out.

The package need not be installed, but the packages of `orderdp[train]`, pytest, pytest-timeout and hypothesis must be.
Each part runs in a process of its own, so an error of the device ends that part alone. A part that fails is recorded
with its error. One that would go beyond the total time is skipped. `--parts ratio images` measures these alone and adds
them to the file: where a command may not take so long, or a part failed. The file has device, versions and commit, and
is whole at any moment; name the commit with `--commit` where the script runs in a copy without its history.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_parts import Keep, Settings, accuracy, epoch_ratio, gpu_tests, images_per_second, update_costs
from timing import parser, save

from orderdp.data.registry import load_dataset
from orderdp.training.provenance import environment

IN_MEMORY = Path("/dev/shm")
ENDING_S = 10.0
CHECKPOINT_BYTES = 4 * 2**30  # of all models that are trained at once, generously
# What the parts import, and which package brings it.
NEEDED = {
    **dict.fromkeys(("accelerate", "filelock", "hypothesis", "matplotlib", "numpy", "pyarrow", "pydantic", "pytest")),
    **dict.fromkeys(("safetensors", "scipy", "timm", "torchvision", "tqdm")),
    "pytest_timeout": "pytest-timeout",
    "sklearn": "scikit-learn",
    "tomli_w": "tomli-w",
}
SHOWN = ("torchvision", "timm", "lightning", "transformers", "triton")  # versions beside those of every benchmark


class Part(NamedTuple):
    """A part of the measurement.

    Args:
        measure: gives what it has found so far to the function that keeps it, again after each result.
        budget_s: seconds that it may take, and without which it does not begin.
        takes_rest: whether it may take all the time that is left.
    """

    measure: Callable[[Settings, Keep], None]
    budget_s: float
    takes_rest: bool = False


def main() -> None:
    """Measures part by part, and writes after each result."""
    given = options()
    began_s = time.monotonic()
    ends_s = began_s + 60 * given.minutes
    # The environment is asked for once: after a part that broke the device, it may not answer.
    record = {**environment(torch.device(given.device)), "benchmark": "gpu", "minutes": given.minutes}
    record |= {"smoke": given.smoke, **about(given.commit)}
    record["parts"] = earlier_parts(given.json, record) if given.parts else {}

    def keep() -> None:
        record["seconds"] = round(time.monotonic() - began_s, 1)
        save(given.json, record)

    keep()
    if given.smoke:
        print("the smallest form shows that each part runs; its numbers mean nothing")
    for name in given.parts or PARTS:
        part, compiles = PARTS[name], not given.smoke and is_compiled(record["parts"])
        left_s = ends_s - time.monotonic()
        limit_s = left_s if part.takes_rest else part.budget_s
        row = record["parts"][name] = {"budget_s": round(limit_s)}
        why = reason_to_skip(name, part, given, left_s)
        if why:
            row |= {"state": "skipped", "why": why}
        else:
            with run_folder() as folder:
                deadline = time.monotonic() + limit_s
                settings = Settings(given.device, given.smoke, compiles, given.data_root, folder, deadline)
                run_part(part, settings, row, keep)
        print(f"{name}: {row['state']}" + (f", {row['why']}" if "why" in row else ""), flush=True)
        keep()
    print(f"{record['seconds']:.0f} s; the numbers are in {given.json}")


def options() -> argparse.Namespace:
    """Returns the checked arguments; ends with one line if they cannot be met."""
    options = parser(__doc__ or "")
    options.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options.add_argument("--smoke", action="store_true", help="the smallest form of each part, to try the script")
    options.add_argument("--minutes", type=float, default=12.0, help="of all parts together")
    options.add_argument("--data-root", metavar="DIR", help="holds cifar-10-batches-py; without it part 5 is left out")
    options.add_argument(
        "--parts", nargs="+", choices=PARTS, metavar="PART", help="only these; the other parts in the file stay"
    )
    options.add_argument("--commit", help="what to write as the commit, where there is no history to ask")
    options.set_defaults(json=Path("runs/gpu.json"))
    given = options.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu.py needs a CUDA device, and torch sees none; to try it, write --device cpu --smoke")
    if given.device == "cpu" and not given.smoke:
        raise SystemExit("gpu.py measures a GPU, got --device cpu; write --device cpu --smoke for its smallest form")
    if not 0 < given.minutes < float("inf"):
        raise SystemExit(f"--minutes must be above 0, got {given.minutes:g}; write 12")
    if given.data_root is not None:
        try:
            load_dataset("cifar10", data_root=Path(given.data_root))
        except (OSError, ValueError) as error:
            raise SystemExit(f"--data-root: {error}") from None
    return given


def about(commit: str | None) -> dict[str, Any]:
    """Returns what the file says of the machine beside what every benchmark says; prints what is not installed."""
    found = {"more_versions": {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}}
    for name in SHOWN:
        with suppress(PackageNotFoundError):
            found["more_versions"][name] = version(name)
    lacking = [package or name for name, package in NEEDED.items() if importlib.util.find_spec(name) is None]
    if lacking:
        print(f"not installed: {', '.join(lacking)}; parts that need them will fail", flush=True)
    return {**found, "not_installed": lacking} | ({} if commit is None else {"commit": commit})


def earlier_parts(file: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Returns the parts that a file of the same script, device and commit holds; none if there is no file.

    Ends with one line if it is another file, so that no number is lost or mixed.
    """
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text())
        differ = [key for key in ("benchmark", "device", "commit", "smoke") if found[key] != record[key]]
        parts: dict[str, Any] = found["parts"]
    except (ValueError, KeyError, TypeError):
        raise SystemExit(f"--json must be a file that gpu.py wrote, got {file}; write another name") from None
    if differ:
        raise SystemExit(f"--parts adds to a file of the same {differ[0]}, got {file} of another; write another --json")
    return parts


def is_compiled(parts: dict[str, Any]) -> bool:
    """Returns whether to compile models: yes, unless the part ratio could not."""
    return "ratio" not in parts or "first_epoch_s" in parts["ratio"].get("result", {})


def reason_to_skip(name: str, part: Part, given: argparse.Namespace, left_s: float) -> str | None:
    """Returns why a part does not begin; None if it does."""
    if name == "accuracy" and given.data_root is None:
        return "CIFAR-10 is not here (no --data-root), and made-up images say nothing of accuracy"
    if left_s < part.budget_s:
        return f"{max(left_s, 0):.0f} s are left, and it needs {part.budget_s:g} s"
    return None


def run_part(part: Part, settings: Settings, row: dict[str, Any], keep: Callable[[], None]) -> None:
    """Runs a part in a process of its own until its deadline; fills its row, and keeps it after each result."""
    row["state"] = "running"
    keep()
    began_s = time.monotonic()
    with child_of(part, settings) as (child, answers):
        while row["state"] == "running":
            if not answers.poll(max(0.0, settings.left_s())):
                row |= {"state": "stopped", "why": f"its {time.monotonic() - began_s:.0f} s were over"}
                break
            try:
                row |= answers.recv()
            except EOFError:
                child.join(ENDING_S)
                row |= {"state": "failed", "why": f"its process ended with exit code {child.exitcode}"}
            row["seconds"] = round(time.monotonic() - began_s, 1)
            keep()
        if row["state"] == "done":
            child.join(max(0.0, min(ENDING_S, settings.left_s())))  # it may tidy up


@contextmanager
def run_folder() -> Iterator[Path]:
    """Yields a folder for the files of runs, in memory if that is large enough: each epoch writes a checkpoint."""
    in_memory = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > CHECKPOINT_BYTES
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if in_memory else None, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def child_of(part: Part, settings: Settings) -> Iterator[tuple[Any, connection.Connection]]:
    """Yields a process that runs a part, and its answers; ends it afterwards, with all that it started."""
    context = multiprocessing.get_context("spawn")
    answers, theirs = context.Pipe(duplex=False)
    child = context.Process(target=in_child, args=(part.measure, settings, theirs))
    child.start()
    assert child.pid is not None
    theirs.close()
    try:
        yield child, answers
    finally:
        with suppress(ProcessLookupError):  # it has ended, or has no group of its own yet
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.join(ENDING_S)  # a process that hangs in the driver may not end at all


def in_child(measure: Callable[[Settings, Keep], None], settings: Settings, answers: connection.Connection) -> None:
    """Runs a part, as the first of a new group of processes, and answers with results and how it ended."""
    os.setpgid(0, 0)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        measure(settings, lambda result: answers.send({"result": result}))
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        answers.send({"state": "failed", "why": why[:500], "traceback": traceback.format_exc()[-4000:]})
    else:
        answers.send({"state": "done"})


def end_with_parent() -> None:
    """Ends this group of processes once the process that started it has ended in any way."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)


PARTS = {
    "tests": Part(gpu_tests, 150),
    "update": Part(update_costs, 90),
    "ratio": Part(epoch_ratio, 180),
    "images": Part(images_per_second, 75),
    "accuracy": Part(accuracy, 120, takes_rest=True),
}


if __name__ == "__main__":
    main()
