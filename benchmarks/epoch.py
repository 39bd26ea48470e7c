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
from pathlib import Path
from typing import Any

import torch
from timing import parser, ratio, summary, write
from tqdm import tqdm

from orderdp import FullData, OrderDP
from orderdp.data.base import DataSets, ImageArrays
from orderdp.training.loop import Run
from orderdp.training.recipe import Recipe, find_recipe, load_recipe
from orderdp.training.run_folder import RunFolder

KEPT = (0.3, 0.5, 0.7)
MARGIN = 0.03
NUM_TRAIN = 20_000


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    options.add_argument("--rounds", type=int, default=9, help="how often to train each epoch")
    given = options.parse_args()
    torch.set_num_threads(1)
    data = random_images()
    with tempfile.TemporaryDirectory() as folder:
        runs = {kept: make_run(kept, data, given.device, given.rounds, Path(folder)) for kept in (1.0, *KEPT)}
        times = measure(runs, given.rounds)
        device = runs[1.0].device
        share = {
            kept: run.pruner.selection_s / sum(line["wall"] for line in run.progress.history)
            for kept, run in runs.items()
        }
    full = summary(times[1.0]["wall"])
    print(f"full epoch: {full['median']:.3f} s, smallest {full['min']:.3f} s, {given.rounds} rounds")
    print(
        f"{'q/n':>5} {'time ratio':>11} {'smallest':>9} {'largest':>9} {'processor':>10} {'choosing':>9} {'target':>7}"
    )
    rows = []
    for kept in KEPT:
        wall, processor = (ratio(times[kept][clock], times[1.0][clock]) for clock in ("wall", "processor"))
        rows.append(
            {
                "q_over_n": kept,
                "target": kept + MARGIN,
                "time_ratio": wall,
                "processor_ratio": processor,
                "epoch_s": summary(times[kept]["wall"]),
                "choosing_share": share[kept],
            }
        )
        reached = "reached" if wall["median"] <= kept + MARGIN else "MISSED"
        print(
            f"{kept:>5} {wall['median']:>10.4f} {wall['min']:>10.4f} {wall['max']:>10.4f} {processor['median']:>10.4f} "
            f"{share[kept]:>10.4%} {kept + MARGIN:>10.2f} {reached}"
        )
    numbers = {"num_train": NUM_TRAIN, "rounds": given.rounds, "full_epoch_s": full, "rows": rows}
    write(given.json, device, {"benchmark": "epoch", **numbers})


def random_images() -> DataSets:
    """Returns grey noise in the shape of Fashion-MNIST."""
    chance = torch.Generator().manual_seed(0)

    def arrays(size: int) -> ImageArrays:
        images = torch.randint(256, (size, 1, 28, 28), dtype=torch.uint8, generator=chance)
        return ImageArrays(images, torch.randint(10, (size,), generator=chance))

    return DataSets(
        train=arrays(NUM_TRAIN),
        test=arrays(512),
        num_classes=10,
        in_channels=1,
        image_size=28,
        mean=(0.5,),
        std=(0.29,),
    )


def make_run(kept: float, data: DataSets, device: str, rounds: int, folder: Path) -> Run:
    """Returns a run that keeps this fraction of each epoch; 1.0 trains on full data."""
    path = find_recipe("fashion_mnist")
    assert path is not None
    strategy = FullData() if kept == 1.0 else OrderDP(prune_ratio=1 - kept)
    settings: dict[str, Any] = {"epochs": 2 * rounds + 2, "device": device, "strategy": strategy}
    recipe: Recipe = load_recipe(path, **settings)
    return Run(recipe, data, RunFolder(folder / str(kept)), show=False)


def measure(runs: dict[float, Run], rounds: int) -> dict[float, dict[str, list[float]]]:
    """Returns seconds and processor seconds of an epoch of each run, one number a round."""
    times: dict[float, dict[str, list[float]]] = {kept: {"wall": [], "processor": []} for kept in runs}
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
    return times


def timed_epoch(run: Run) -> dict[str, float]:
    """Trains one epoch of a run and returns its seconds."""
    wall_s, processor_s = time.perf_counter(), time.process_time()
    with tqdm(disable=True) as bar:
        run._train_epoch(bar)  # ends by reading the sum of the losses, which waits for the device
    times = {"wall": time.perf_counter() - wall_s, "processor": time.process_time() - processor_s}
    run.progress.history.append(times)  # its length is the number of the next epoch
    run.progress.loss_sum, run.progress.loss_count, run.progress.training_s = 0.0, 0, 0.0
    return times


if __name__ == "__main__":
    main()
