"""The time of a pruned epoch: the target is at most q/n + 0.03 of a full epoch, with selection and update included.

    python benchmarks/epoch.py [--device cuda] [--rounds 9] [--json results/benchmarks/epoch.json]

The data are 20,000 random grey images of 28 x 28, shaped as Fashion-MNIST, resident on the device. The model is
`small_cnn` with the settings of the recipe fashion_mnist. The loop is the trainer's: fetch, forward, `Pruner.update`,
backward, optimiser, schedule, and the selection of the epoch. Evaluation and checkpoints are left out, since they take
the same time either way. A CPU uses one thread. Each round trains an epoch of full data, one with each q/n = 0.3, 0.5,
0.7, and again one of full data. The two full epochs around a round are averaged, so that a slow drift of the machine
cancels.

For each q/n it prints the ratio of pruned time to full time: median over the rounds, smallest and largest. It also
prints the ratio of processor times, which exclude other programs, and the share of the time spent on selection.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from timing import parser, ratio, summary, write

from orderdp import FullData, OrderDP
from orderdp.data.base import DataSets, ImageArrays
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe, find_recipe, load_recipe
from orderdp.training.run_folder import RunFolder
from orderdp.training.shown import Shown

KEPT = (0.3, 0.5, 0.7)
MARGIN = 0.03
NUM_TRAIN = 20_000

Times: TypeAlias = dict[float, dict[str, list[float]]]  # of each share of the data: by clock, a number a round


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    options.add_argument("--rounds", type=int, default=9, help="how often to train each epoch")
    given = options.parse_args()
    torch.set_num_threads(1)
    path = find_recipe("fashion_mnist")
    assert path is not None
    recipe = load_recipe(path, device=given.device, epochs=given.rounds + 2)
    with tempfile.TemporaryDirectory() as folder:
        runs = make_runs(recipe, random_images(NUM_TRAIN, channels=1, side=28), Path(folder))
        *_, times = rounds_of(runs, given.rounds)
    full = summary(times[1.0]["wall"])
    rows = rows_of(runs, times, MARGIN)
    print(f"full epoch: {full['median']:.3f} s, smallest {full['min']:.3f} s, {given.rounds} rounds")
    show(rows)
    numbers = {"num_train": NUM_TRAIN, "rounds": given.rounds, "full_epoch_s": full, "rows": rows}
    write(given.json, runs[1.0].device, {"benchmark": "epoch", **numbers})


def show(rows: list[dict[str, Any]]) -> None:
    """Prints the ratios and whether each reached its target."""
    print(
        f"{'q/n':>5} {'time ratio':>11} {'smallest':>9} {'largest':>9} {'processor':>10} {'choosing':>9} {'target':>7}"
    )
    for row in rows:
        wall, processor, target = row["time_ratio"], row["processor_ratio"], row["target"]
        reached = "reached" if wall["median"] <= target else "MISSED"
        print(
            f"{row['q_over_n']:>5} {wall['median']:>10.4f} {wall['min']:>10.4f} {wall['max']:>10.4f} "
            f"{processor['median']:>10.4f} {row['choosing_share']:>10.4%} {target:>10.2f} {reached}"
        )


def rows_of(runs: Mapping[float, Run], times: Times, margin: float) -> list[dict[str, Any]]:
    """Returns what each pruned epoch takes beside a full one, with a target of q/n and a margin."""
    rows = []
    for kept in KEPT:
        wall, processor = (ratio(times[kept][clock], times[1.0][clock]) for clock in ("wall", "processor"))
        run = runs[kept]
        rows.append(
            {
                "q_over_n": kept,
                "target": kept + margin,
                "time_ratio": wall,
                "processor_ratio": processor,
                "epoch_s": summary(times[kept]["wall"]),
                "choosing_share": run.pruner.selection_s / sum(line["wall"] for line in run.progress.history),
            }
        )
    return rows


def random_images(size: int, *, channels: int, side: int) -> DataSets:
    """Returns noise in ten classes."""
    chance = torch.Generator().manual_seed(0)

    def arrays(size: int) -> ImageArrays:
        images = torch.randint(256, (size, channels, side, side), dtype=torch.uint8, generator=chance)
        return ImageArrays(images, torch.randint(10, (size,), generator=chance))

    return DataSets(
        train=arrays(size),
        test=arrays(512),
        num_classes=10,
        in_channels=channels,
        image_size=side,
        mean=(0.5,) * channels,
        std=(0.29,) * channels,
    )


def make_runs(recipe: Recipe, data: DataSets, folder: Path) -> dict[float, Run]:
    """Returns a run for each share of the data that its epochs keep; 1.0 trains on full data."""
    return {kept: make_run(kept, recipe, data, folder) for kept in (1.0, *KEPT)}


def make_run(kept: float, recipe: Recipe, data: DataSets, folder: Path) -> Run:
    """Returns a run of a recipe that keeps this share of the data in each epoch."""
    strategy = FullData() if kept == 1.0 else OrderDP(prune_ratio=1 - kept)
    return Run(recipe.model_copy(update={"strategy": strategy}), data, RunFolder(folder / str(kept)), show=False)


def rounds_of(runs: Mapping[float, Run], rounds: int) -> Iterator[Times]:
    """Yields, after each round, seconds and processor seconds of the epochs so far; makes `rounds` + 2 full epochs."""
    times: Times = {kept: {"wall": [], "processor": []} for kept in runs}
    for run in runs.values():  # warms up
        timed_epoch(run)
    before = timed_epoch(runs[1.0])
    for number in range(rounds):
        order = KEPT[number % len(KEPT) :] + KEPT[: number % len(KEPT)]
        pruned = {kept: timed_epoch(runs[kept]) for kept in order}
        after = timed_epoch(runs[1.0])
        for clock in ("wall", "processor"):
            times[1.0][clock].append((before[clock] + after[clock]) / 2)
            for kept in KEPT:
                times[kept][clock].append(pruned[kept][clock])
        before = after
        yield times


def timed_epoch(run: Run) -> dict[str, float]:
    """Trains one epoch of a run and returns its seconds."""
    wall_s, processor_s = time.perf_counter(), time.process_time()
    with Shown("", run.num_steps, run.num_epochs, step=run.progress.step, show=False) as shown:
        run._train_epoch(shown)  # ends by reading the sum of the losses, which waits for the device
    times = {"wall": time.perf_counter() - wall_s, "processor": time.process_time() - processor_s}
    run.progress.history.append(times)  # its length is the number of the next epoch
    run.progress.loss_sum, run.progress.loss_count, run.progress.training_s = 0.0, 0, 0.0
    run.progress.epoch_step = 0
    return times


if __name__ == "__main__":
    main()
