"""The trainer on one core, beside an earlier version: images a second of its data path, and `orderdp train` end to end.

    git worktree add --detach ../old d7287e3
    python benchmarks/trainer.py --old ../old [--json results/benchmarks/trainer.json]

Both versions run in processes of their own, in turns, on one thread.

- images: batches of 128 random images that are resident in memory, flipped, cropped and normalised: 32 x 32 in colour
  with the channels last and first, and 28 x 28 in grey. The target is 1.5 times the old rate.
- train: `orderdp train` without options, which trains three runs on handwritten digits, from the start of the
  interpreter to its end. The target is 0.8 of the old seconds. The seconds of the processor leave out other programs.

Prints the median of the ratios within the rounds: 5 of images, 3 of train (`--rounds`).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import parser, ratio, summary, write

ROUNDS = {"images": 5, "train": 3}
TARGETS = {"images": 1.5, "train": 0.8}
SETTINGS = {"32 x 32, channels last": (3, 32, True), "32 x 32": (3, 32, False), "28 x 28, grey": (1, 28, False)}
IMAGES = """
import sys, time, torch
torch.set_num_threads(1)
try:
    from orderdp.data.base import ImageArrays
    from orderdp.data.images import ResidentImages
except ImportError:  # the old version
    from orderdp.training.data import ImageArrays
    from orderdp.training.images import ResidentImages
channels, size, last = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
generator = torch.Generator().manual_seed(0)
images = torch.randint(0, 256, (20000, channels, size, size), dtype=torch.uint8, generator=generator)
source = ImageArrays(images, torch.zeros(20000, dtype=torch.int64))
normal = {"mean": [0.5] * channels, "std": [0.25] * channels}
samples = ResidentImages(source, augment="flip_crop", channels_last=last, **normal)
batches = torch.randperm(20000, generator=generator)[:19968].view(-1, 128).tolist()
for batch in batches:
    samples.__getitems__(batch)
began_s = time.process_time()
for batch in batches:
    samples.__getitems__(batch)
print(19968 / (time.process_time() - began_s))
"""


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--old", type=Path, required=True, metavar="DIR", help="a checkout of the earlier version")
    options.add_argument("--rounds", type=int, metavar="N", help="rounds of both parts")
    given = options.parse_args()
    sources = {"old": given.old / "src", "new": Path(__file__).parents[1] / "src"}
    for source in sources.values():
        if not (source / "orderdp").is_dir():
            options.error(f"a checkout must hold src/orderdp, got {source.parent}; write --old DIR")
    rounds = {part: given.rounds or number for part, number in ROUNDS.items()}
    numbers = {"images": measure_images(sources, rounds["images"]), "train": measure_train(sources, rounds["train"])}
    write(given.json, torch.device("cpu"), {"benchmark": "trainer", "rounds": rounds, **numbers}, old=given.old)


def measure_images(sources: dict[str, Path], rounds: int) -> dict:
    """Prints and returns images a second of each version, and their ratio."""
    numbers = {}
    for name, setting in SETTINGS.items():
        rates: dict[str, list[float]] = {version: [] for version in sources}
        for _ in range(rounds):
            for version, source in sources.items():
                output = run([sys.executable, "-c", IMAGES, *map(str, setting)], source)
                rates[version].append(float(output))
        gain = ratio(rates["new"], rates["old"])
        numbers[name] = {**{version: summary(values) for version, values in rates.items()}, "ratio": gain}
        old, new = (statistics["median"] for statistics in (numbers[name]["old"], numbers[name]["new"]))
        print(f"{name}: {new:,.0f} images a second, {old:,.0f} in the old version")
        reached = "reached" if gain["median"] >= TARGETS["images"] else "MISSED"
        print(f"    ratio: {gain['median']:.3g}, target at least {TARGETS['images']:g}: {reached}", flush=True)
    return numbers


def measure_train(sources: dict[str, Path], rounds: int) -> dict:
    """Prints and returns the seconds of `orderdp train` of each version, and their ratios."""
    seconds: dict[str, dict[str, list[float]]] = {
        clock: {version: [] for version in sources} for clock in ("wall_s", "processor_s")
    }
    for _ in range(rounds):
        for version, source in sources.items():
            with tempfile.TemporaryDirectory() as folder:
                began_s, used_s = time.perf_counter(), processor_s()
                run([sys.executable, "-m", "orderdp", "train", "--run", str(Path(folder) / "run")], source)
                seconds["wall_s"][version].append(time.perf_counter() - began_s)
                seconds["processor_s"][version].append(processor_s() - used_s)
    numbers: dict = {}
    for clock, each in seconds.items():
        share = ratio(each["new"], each["old"])
        numbers[clock] = {**{version: summary(values) for version, values in each.items()}, "ratio": share}
        old, new = (numbers[clock][version]["median"] for version in ("old", "new"))
        print(f"orderdp train, {clock.replace('_s', ' seconds')}: {new:.1f}, {old:.1f} in the old version")
        reached = "reached" if share["median"] <= TARGETS["train"] else "MISSED"
        print(f"    ratio: {share['median']:.3g}, target at most {TARGETS['train']:g}: {reached}", flush=True)
    return numbers


def processor_s() -> float:
    """Returns the processor seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(command: list[str], source: Path) -> str:
    """Returns what a command prints on one thread, with the orderdp of a source folder."""
    environment = {**os.environ, "PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


if __name__ == "__main__":
    main()
