"""The time to import orderdp: the target is less than 0.5 s beyond the import of torch.

    python benchmarks/import_time.py [--json results/benchmarks/import_time.json]

Three kinds of fresh interpreters take turns. One imports torch and then orderdp, which alone is timed. One imports
torch only. One imports orderdp only, which imports torch. Prints the median and the smallest of 11 each: seconds of
`import orderdp` after torch, and seconds of the whole interpreter with either. It also prints the median of their
difference in each round, the number of modules that `import orderdp` loads beyond torch's, and how many are its own.
"""

from __future__ import annotations

import subprocess
import sys

import torch
from timing import interleaved, parser, summary, write

ROUNDS = 11
TARGET_S = 0.5
AFTER_TORCH = """
import sys, time, torch
before = set(sys.modules)
began_s = time.perf_counter()
import orderdp
print(time.perf_counter() - began_s)
loaded = set(sys.modules) - before
print(len(loaded), sum(name.partition(".")[0] == "orderdp" for name in loaded))
"""


def main() -> None:
    """Measures, prints and writes."""
    given = parser(__doc__ or "").parse_args()
    outputs: list[str] = []
    calls = {
        "after torch": lambda: outputs.append(run(AFTER_TORCH)),
        "torch": lambda: run("import torch"),
        "orderdp": lambda: run("import orderdp"),
    }
    seconds = interleaved(calls, rounds=ROUNDS)
    alone = summary([float(output.split()[0]) for output in outputs[1:]])
    modules, own = (int(word) for word in outputs[-1].split()[1:])
    whole = {name: summary(seconds[name]) for name in ("torch", "orderdp")}
    differences = [ours - theirs for ours, theirs in zip(seconds["orderdp"], seconds["torch"], strict=True)]
    difference = summary(differences)
    reached = "reached" if alone["median"] < TARGET_S else "MISSED"
    print(
        f"import orderdp after torch: {alone['median']:.4f} s, smallest {alone['min']:.4f} s, target 0.5 s: {reached}"
    )
    for name, times in whole.items():
        print(f"interpreter with import {name}: {times['median']:.3f} s, smallest {times['min']:.3f} s")
    print(f"difference: {difference['median']:.3f} s, from {difference['min']:.3f} to {difference['max']:.3f} s")
    print(f"modules beyond torch's: {modules}, of them orderdp's own: {own}")
    numbers = {"after_torch": alone, "interpreter": whole, "difference": difference}
    counts = {"modules": modules, "own_modules": own, "rounds": ROUNDS}
    write(given.json, torch.device("cpu"), {"benchmark": "import_time", "unit": "s", **numbers, **counts})


def run(code: str) -> str:
    """Returns what the code prints in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
