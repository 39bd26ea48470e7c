"""The time to start: orderdp imported within 0.5 s beyond torch, and no wait before a run of 100,000,000 epochs.

    python benchmarks/start.py [--json results/benchmarks/start.json]

Three kinds of fresh interpreters take turns. One imports torch and then orderdp's `Pruner`, which alone is timed. One
imports torch only. One imports `Pruner` only, which imports torch. Prints the median and the smallest of 11 each:
seconds of the import of `Pruner` after torch, and seconds of the whole interpreter with either. It also prints the
median of their difference in each round, the number of modules that the import loads beyond torch's, and how many are
orderdp's own.

Then `orderdp train` starts with 2 epochs and with 100,000,000 epochs, in turns. It is timed from the imports of torch
and the command line to the first optimiser step, or until the command refuses. Prints the median of 7 each, and of
their difference, for which the target is 1 s. After 60 s it gives up.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from timing import interleaved, parser, summary, verdict, write

ROUNDS = 11
TARGET_S = 0.5
AFTER_TORCH = """
import sys, time, torch
before = set(sys.modules)
began_s = time.perf_counter()
from orderdp import Pruner
print(time.perf_counter() - began_s)
loaded = set(sys.modules) - before
print(len(loaded), sum(name.partition(".")[0] == "orderdp" for name in loaded))
"""
TRAIN_ROUNDS = 7
TRAIN_TARGET_S = 1.0
EPOCHS = (2, 100_000_000)
GIVES_UP_S = 60.0
TO_FIRST_STEP = """
import os, sys, time, orderdp.cli
from torch.optim.optimizer import register_optimizer_step_pre_hook
began_s = time.perf_counter()
def end(how):
    print(time.perf_counter() - began_s, how, flush=True)
    os._exit(0)
register_optimizer_step_pre_hook(lambda *_: end("first step"))
status = orderdp.cli.main(["train", "--epochs", sys.argv[1], "--run", sys.argv[2]])
end(f"exit status {status}")
"""


def main() -> None:
    """Measures, prints and writes."""
    given = parser(__doc__ or "").parse_args()
    numbers = {**measure_import(), "train": measure_train()}
    write(given.json, torch.device("cpu"), {"benchmark": "start", "unit": "s", **numbers})


def measure_import() -> dict:
    """Prints and returns what importing orderdp takes."""
    outputs: list[str] = []
    calls = {
        "after torch": lambda: outputs.append(run(AFTER_TORCH)),
        "torch": lambda: run("import torch"),
        "orderdp": lambda: run("from orderdp import Pruner"),
    }
    seconds = interleaved(calls, rounds=ROUNDS)
    alone = summary([float(output.split()[0]) for output in outputs[1:]])
    modules, own = (int(word) for word in outputs[-1].split()[1:])
    whole = {name: summary(seconds[name]) for name in ("torch", "orderdp")}
    differences = [ours - theirs for ours, theirs in zip(seconds["orderdp"], seconds["torch"], strict=True)]
    difference = summary(differences)
    print(f"orderdp.Pruner after torch: {alone['median']:.4f} s, smallest {alone['min']:.4f} s")
    print(verdict("seconds", alone["median"], TARGET_S))
    for name, times in whole.items():
        print(f"interpreter that imports {name}: {times['median']:.3f} s, smallest {times['min']:.3f} s")
    print(f"difference: {difference['median']:.3f} s, from {difference['min']:.3f} to {difference['max']:.3f} s")
    print(f"modules beyond torch's: {modules}, of them orderdp's own: {own}", flush=True)
    numbers = {"after_torch": alone, "interpreter": whole, "difference": difference}
    return {**numbers, "modules": modules, "own_modules": own, "rounds": ROUNDS}


def measure_train() -> dict:
    """Prints and returns how long `orderdp train` takes to its first step."""
    found: dict[int, list[tuple[float, str]]] = {epochs: [] for epochs in EPOCHS}
    for number in range(TRAIN_ROUNDS + 1):
        for epochs in EPOCHS:
            took_s, how = to_first_step(epochs)
            if number:  # the first warms up
                found[epochs].append((took_s, how))
            if how == "gave up":
                print(f"orderdp train --epochs {epochs}: nothing after {GIVES_UP_S:g} s: MISSED")
                return {"epochs": epochs, "gave_up_s": GIVES_UP_S}
    numbers: dict = {"rounds": TRAIN_ROUNDS}
    for epochs, rounds in found.items():
        took = summary([took_s for took_s, _ in rounds])
        ends = sorted({how for _, how in rounds})
        print(f"orderdp train --epochs {epochs}: {took['median']:.2f} s to {' or '.join(ends)}")
        numbers[str(epochs)] = {**took, "ends": ends}
    few, many = ([took_s for took_s, _ in found[epochs]] for epochs in EPOCHS)
    numbers["difference"] = summary([long_s - short_s for long_s, short_s in zip(many, few, strict=True)])
    print(verdict("seconds more", numbers["difference"]["median"], TRAIN_TARGET_S))
    return numbers


def to_first_step(epochs: int) -> tuple[float, str]:
    """Returns the seconds until `orderdp train` makes its first step or ends, and which of them it was."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", TO_FIRST_STEP, str(epochs), str(Path(folder) / "run")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIVES_UP_S)
        except subprocess.TimeoutExpired:
            return GIVES_UP_S, "gave up"
    seconds, _, how = done.stdout.splitlines()[-1].partition(" ")
    return float(seconds), how


def run(code: str) -> str:
    """Returns what the code prints in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
