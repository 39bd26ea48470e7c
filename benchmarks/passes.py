"""What a choice within the batch costs: two passes, beside a full training step and beside a masked loss.

    python benchmarks/passes.py [--device cuda] [--case digits cnn] [--json results/benchmarks/passes.json]

Each case is a model of the library with the batch and the optimiser of its recipe, on random images of the recipe's
data set. `cnn` has no recipe: its batch of 128 images of 32 x 32 is that of the findings. On a CPU, resnet50 and the
ImageNet recipes are measured only if you name them. A CPU uses one thread, whose processor time is measured.

The calls of a round take turns:

    first     a forward pass over the batch without gradient
    full      a training step: forward pass, backward pass and optimiser over the whole batch
    masked    a training step over the whole batch whose loss is masked, as releases up to 0.2 did; half is kept
    two, k    the first pass, the choice of the highest losses, and a training step of the share k of the batch

It prints milliseconds, the median over the rounds, and each call as a share of `full`: the median of the ratios within
the rounds. `update` and the data are left out, since they take the same time either way.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import interleaved, parser, ratio, summary, write
from torch import Tensor

from orderdp import OrderedSGD
from orderdp.data.base import DataSets, ImageArrays
from orderdp.training.loop import Run
from orderdp.training.passes import first_pass
from orderdp.training.recipe import Recipe, find_recipe, load_recipe
from orderdp.training.run_folder import RunFolder

KEPT = (0.3, 0.5, 0.7)
SHAPES = {"digits": (1, 8, 10), "fashion_mnist": (1, 28, 10), "cifar10": (3, 32, 10), "folder": (3, 224, 1000)}
SMALL = ("digits", "fashion_mnist", "cifar10", "cnn", "cifar10_resnet18")
LARGE = ("cifar10_resnet50", "imagenet_resnet18", "imagenet_resnet50")


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    options.add_argument("--rounds", type=int, default=9, help="how often to time each call, at least 7")
    options.add_argument("--case", nargs="+", choices=SMALL + LARGE, help="which cases; all that the device can bear")
    given = options.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    device = torch.device(given.device)
    unit = "s of the processor" if device.type == "cpu" else "s"
    print(f"{'case':>18} {'model':>12} {'batch':>6} {'first':>8} {'full':>8}  ms, then shares of full")
    for case in given.case or (SMALL if device.type == "cpu" else SMALL + LARGE):
        rows.append(measure(case, device, given.rounds))
        print(line(rows[-1]), flush=True)
        write(given.json, device, {"benchmark": "passes", "unit": unit, "rows": rows})  # the next case may take long


def line(row: dict[str, Any]) -> str:
    """Returns the row as it is printed."""
    times = " ".join(f"{1e3 * row['seconds'][name]['median']:>8.2f}" for name in ("first", "full"))
    shares = ", ".join(f"{name} {value['median']:.2f}" for name, value in row["share_of_full"].items())
    return f"{row['case']:>18} {row['model']:>12} {row['batch_size']:>6} {times}  {shares}"


def measure(case: str, device: torch.device, rounds: int) -> dict[str, Any]:
    """Returns the times of one case."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = recipe_of(case, device)
        run = Run(recipe, random_images(recipe), RunFolder(Path(folder)), show=False)
        run.net.train()
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        singles = 5 if case in ("digits", "fashion_mnist") else 1
        seconds = interleaved(calls_of(run), rounds=rounds, singles=singles, clock=clock)
    return {
        "case": case,
        "model": recipe.model,
        "batch_size": recipe.batch_size,
        "rounds": rounds,
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "share_of_full": {name: ratio(values, seconds["full"]) for name, values in seconds.items() if name != "full"},
    }


def calls_of(run: Run) -> dict[str, Callable[[], object]]:
    """Returns what is timed, by name. Each call waits for the device."""
    images, labels = run.train_set.__getitems__(range(run.recipe.batch_size))

    strategy = OrderedSGD(keep=0.5)

    def first() -> Tensor:
        with first_pass(run.model):
            return run._losses((images, labels), run.chooser)

    def train(loss: Tensor) -> None:
        loss.backward()
        run.optimizer.step()
        run.optimizer.zero_grad()
        wait()

    def masked() -> None:
        losses = run._losses((images, labels))
        weights = strategy.batch_weights(losses.detach(), torch.Tensor)
        assert weights is not None
        train((losses * weights).mean())

    def two(share: float) -> Callable[[], None]:
        def call() -> None:
            weights = OrderedSGD(keep=share).batch_weights(first(), torch.Tensor)
            assert weights is not None
            kept = weights.nonzero().flatten()
            train(run._losses((images[kept], labels[kept])).mean())

        return call

    def wait() -> None:
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    def only_first() -> None:
        first()
        wait()

    return {
        "first": only_first,
        "full": lambda: train(run._losses((images, labels)).mean()),
        "masked": masked,
        **{f"two, {share}": two(share) for share in KEPT},
    }


def recipe_of(case: str, device: torch.device) -> Recipe:
    """Returns the recipe of a case, on this device and with a rate at which random labels cannot make it diverge."""
    changes: dict[str, Any] = {"device": device.type, "num_threads": 1, "max_lr": 1e-3, "epochs": 1}
    changes |= {"strategy": OrderedSGD(keep=0.5), "data_path": "resident", "augment": "none", "drop_last": False}
    if case == "cnn":
        return Recipe(dataset="cifar10", model="cnn", batch_size=128, **changes)
    path = find_recipe(case)
    assert path is not None
    recipe: Recipe = load_recipe(path, **changes)
    return recipe


def random_images(recipe: Recipe) -> DataSets:
    """Returns a batch of random images, shaped as the recipe's data set."""
    channels, side, num_classes = SHAPES[recipe.dataset]
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (recipe.batch_size, channels, side, side), generator=rng, dtype=torch.uint8)
    arrays = ImageArrays(images, torch.randint(num_classes, (recipe.batch_size,), generator=rng))
    half = (0.5,) * channels
    return DataSets(
        train=arrays, test=arrays, num_classes=num_classes, in_channels=channels, image_size=side, mean=half, std=half
    )


if __name__ == "__main__":
    main()
