"""The cost of a run's diagnostics: the target is at most 2 % of the run's time for those that are always on.

    python benchmarks/diagnostics.py [--device cuda] [--json results/benchmarks/diagnostics.json]

A run always measures the gradient norm of every step. Once an epoch it measures the norm's mean and deviation and the
similarity of two epochs. Once a run it measures the coverage. There are two settings, each with OrderDP at half of the
data and one thread on a CPU:

- fashion_mnist: `small_cnn` with the recipe's settings, 20,000 random grey images of 28 x 28 resident on the device;
- digits: `small_resnet` with the recipe's settings on the 1,437 images, in steps of 32.

An epoch is the trainer's own. It begins with the selection and ends with the line of metrics, after the evaluation on
the test set (512 images, and 360 of digits). Files are not written. The epochs of one run take turns: one is unchanged,
and in the other the measuring calls do nothing. Which comes first changes from round to round. Prints medians over the
rounds: the seconds of an epoch with and without measuring, and their ratio by the clock and by processor time, which
excludes other programs. It also prints the ratio of the smallest times, and the share of the epoch's seconds inside the
measuring calls. The share varies least, so the target applies to it.

Then it prints, at n = 1,281,167, the milliseconds of an epoch's similarity (and of `diagnostics.jaccard`, which sorts
ids) and of a run's coverage. It also prints their share of a run of 90 epochs of n/2 images, each as fast as the small
ones above. Models for larger images take longer, so the share is smaller.

Last, it prints the time of one alignment, which runs only on request, in units of an epoch of full data: the median of
the ratios of the rounds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from epoch import random_images, timed_epoch
from timing import interleaved, parser, ratio, summary, write
from tqdm import tqdm

from orderdp import FullData, OrderDP, Pruner
from orderdp.data.base import DataSets
from orderdp.data.registry import load_dataset
from orderdp.diagnostics import coverage, jaccard
from orderdp.diagnostics.alignment import selection_alignment
from orderdp.diagnostics.stability import similarity
from orderdp.training import loop
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe, find_recipe, load_recipe
from orderdp.training.run_folder import RunFolder

TARGET = 0.02
ROUNDS = {"fashion_mnist": 25, "digits": 151}
ALIGNMENT_ROUNDS = {"fashion_mnist": 5, "digits": 15}
N, EPOCHS = 1_281_167, 90
# The measuring calls of an epoch, and what replaces each; None: it stays, and moves only zeros.
MEASURING: list[tuple[Any, str, Callable[..., Any] | None]] = [
    (loop, "gradient_norm", lambda parameters: torch.zeros(())),
    (Run, "_keep", None),
    (loop, "measure", lambda moment, kinds: {}),
]


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    given = options.parse_args()
    torch.set_num_threads(1)
    data = {"fashion_mnist": random_images(), "digits": load_dataset("digits")}
    with tempfile.TemporaryDirectory() as folder:
        make = Maker(Path(folder), given.device)
        device = make("digits", data["digits"]).device
        print(f"{'':>14} {'with s':>8} {'without':>8} {'ratio':>7} {'processor':>9} {'smallest':>8} {'share':>7}")
        rows = [measure(name, data[name], make) for name in data]
        alignments = [price_of_alignment(name, data[name], make) for name in data]
    images = round(len(data["fashion_mnist"].train) / 2)
    scale = at_scale(rows[0]["without_s"]["median"] / images)
    numbers = {"target": TARGET, "rows": rows, "at_scale": scale, "alignment": alignments}
    write(given.json, device, {"benchmark": "diagnostics", **numbers})


class Maker:
    """Makes runs of a shipped recipe, each in its own folder.

    Args:
        folder: folder of all runs.
        device: where they are trained.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device, self.numbers = folder, device, count()

    def __call__(self, name: str, data: DataSets, **settings: Any) -> Run:
        """Returns a run of the recipe of that name, long enough to be timed."""
        path = find_recipe(name)
        assert path is not None
        recipe: Recipe = load_recipe(path, epochs=2 * ROUNDS[name] + 2, device=self.device, **settings)
        return Run(recipe, data, RunFolder(self.folder / str(next(self.numbers))), show=False)


def measure(name: str, data: DataSets, make: Maker) -> dict[str, Any]:
    """Returns what the diagnostics of an epoch cost. The epochs of one run take turns."""
    run = make(name, data)
    times: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
    for number in range(ROUNDS[name] + 1):  # the first warms up
        for which in sorted(times, reverse=bool(number % 2)):
            epoch = whole_epoch(run, measured=which == "with")
            if number:
                times[which].append(epoch)
    column = {
        which: {clock: [epoch[clock] for epoch in epochs] for clock in epochs[0]} for which, epochs in times.items()
    }
    wall, processor = (ratio(column["with"][clock], column["without"][clock]) for clock in ("wall", "processor"))
    share = ratio(column["with"]["measuring"], column["with"]["wall"])
    seconds = {f"{which}_s": summary(clocks["wall"]) for which, clocks in column.items()}
    smallest = seconds["with_s"]["min"] / seconds["without_s"]["min"]
    reached = "reached" if share["median"] <= TARGET else "MISSED"
    print(
        f"{name:>14} {seconds['with_s']['median']:>8.4f} {seconds['without_s']['median']:>8.4f} {wall['median']:>7.4f} "
        f"{processor['median']:>9.4f} {smallest:>8.4f} {share['median']:>7.2%}  target {TARGET:.0%}: {reached}",
        flush=True,
    )
    ratios = {"wall_ratio": wall, "processor_ratio": processor, "ratio_of_smallest": smallest, "share": share}
    return {"name": name, "rounds": ROUNDS[name], **seconds, **ratios}


def whole_epoch(run: Run, *, measured: bool) -> dict[str, float]:
    """Trains an epoch of a run up to its line of metrics. Returns its seconds and those of the measuring calls."""
    spent = [0.0]
    with ExitStack() as stack:
        stack.enter_context(without_files())
        for owner, name, nothing in MEASURING:
            replacement = timed(getattr(owner, name), spent) if measured else nothing
            if replacement is not None:
                stack.enter_context(patch.object(owner, name, replacement))
        wall_s, processor_s = time.perf_counter(), time.process_time()
        with tqdm(disable=True) as bar:
            run._close_epoch(lr=run._train_epoch(bar))
        times = {"wall": time.perf_counter() - wall_s, "processor": time.process_time() - processor_s}
    return {**times, "measuring": spent[0]}


@contextmanager
def without_files() -> Iterator[None]:
    """Leaves out what a disk makes irregular."""
    with patch.multiple(Run, _write_checkpoint=lambda *arguments: None, _write_metrics=lambda *arguments: None):
        yield


def timed(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """Returns the call with its seconds added to `spent`."""

    def replacement(*arguments: Any) -> Any:
        began_s = time.perf_counter()
        result = call(*arguments)
        spent[0] += time.perf_counter() - began_s
        return result

    return replacement


def at_scale(image_s: float) -> dict[str, Any]:
    """Returns the seconds of similarity and coverage at the size of ImageNet, and their share of a run."""
    pruner = Pruner(OrderDP(prune_ratio=0.5), N, seed=0)
    trained = []
    for _ in range(2):
        ids = torch.from_numpy(pruner.begin_epoch().indices.copy())
        pruner.update(ids, torch.rand(len(ids), generator=torch.Generator().manual_seed(0)).requires_grad_())
        trained.append(pruner.trained())
    labels = torch.arange(N) % 1000
    calls: dict[str, Callable[[], object]] = {
        "similarity": lambda: similarity(trained[0], pruner.trained().cpu()),
        "jaccard": lambda: jaccard(*(mask.nonzero().squeeze(1) for mask in trained)),
        "coverage": lambda: coverage(pruner.visits(), labels=labels, epochs=2),
    }
    seconds = {name: summary(times) for name, times in interleaved(calls, rounds=15).items()}
    epoch_s = image_s * (N // 2)
    share = (EPOCHS * seconds["similarity"]["median"] + seconds["coverage"]["median"]) / (EPOCHS * epoch_s)
    parts = ", ".join(f"{name} {1e3 * times['median']:.1f} ms" for name, times in seconds.items())
    reached = "reached" if share <= TARGET else "MISSED"
    print(f"n = {N:,}: {parts}; epoch of n/2 images at {1 / image_s:,.0f} a second: {epoch_s:.0f} s")
    print(f"  similarity of every epoch and coverage: {share:.4%} of {EPOCHS} epochs, target {TARGET:.0%}: {reached}")
    return {
        "n": N,
        "epochs": EPOCHS,
        **{f"{name}_s": times for name, times in seconds.items()},
        "epoch_s": epoch_s,
        "share": share,
    }


def price_of_alignment(name: str, data: DataSets, make: Maker) -> dict[str, Any]:
    """Returns the seconds of one measurement of alignment, and the number of epochs of full data that they equal."""
    full = make(name, data, strategy=FullData())
    run = make(name, data)
    timed_epoch(run)
    moment = run._moment(1)
    calls = {"alignment": lambda: selection_alignment(moment), "epoch": lambda: timed_epoch(full)}
    seconds = interleaved(calls, rounds=ALIGNMENT_ROUNDS[name])
    epochs = ratio(seconds["alignment"], seconds["epoch"])
    print(
        f"{name}: alignment takes {epochs['median']:.2f} epochs of full data, "
        f"from {epochs['min']:.2f} to {epochs['max']:.2f}"
    )
    rounds = ALIGNMENT_ROUNDS[name]
    times = {f"{which}_s": summary(values) for which, values in seconds.items()}
    return {"name": name, "rounds": rounds, **times, "epochs": epochs}


if __name__ == "__main__":
    main()
