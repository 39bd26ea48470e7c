"""What re-estimating batch normalisation on all data costs after OrderDP, with and without weight averaging.

    python benchmarks/batch_norm.py [--data-root DIR] [--seeds 5] [--json results/benchmarks/batch_norm.json]

The data are the first 10,000 training images of Fashion-MNIST and its 10,000 test images. It looks for the files where
Debian's package dataset-fashion-mnist puts them, and in `--data-root`. The network is `small_cnn`, which has batch
normalisation after each convolution. It trains for 10 epochs with 70 % pruned, by OrderDP and by a uniform draw, on one
thread. An average of the weights, exponential with decay 0.95, is kept from step to step.

It prints the test accuracy, and what is added to it, in points, by:

- all: `update_bn` over a DataLoader of all training data, which replaces the statistics of training;
- average: the averaged weights, with averaged statistics (`use_buffers=True`);
- average, all: the averaged weights, with `update_bn` over all training data;
- average, last: the averaged weights, with `update_bn` over the samples of the last epoch.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import parser, summary, write
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.data import DataLoader, Subset, TensorDataset

from orderdp import DynamicRandom, OrderDP, Pruner, Strategy
from orderdp.data.fashion_mnist import load_fashion_mnist
from orderdp.training.models import build_model

NUM_TRAIN = 10_000
EPOCHS = 10
BATCH_SIZE = 128
MAX_LR = 0.1
DECAY = 0.95
STRATEGIES = {"OrderDP": OrderDP(prune_ratio=0.7), "uniform draw": DynamicRandom(prune_ratio=0.7)}
WAYS = ("all", "average", "average, all", "average, last")


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--data-root", type=Path, metavar="DIR", help="where the files of Fashion-MNIST are")
    options.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    given = options.parse_args()
    torch.set_num_threads(1)
    train_set, test = images(given.data_root)
    print(f"{'seed':>4} {'method':>12} {'accuracy':>8} " + " ".join(f"{way:>13}" for way in WAYS))
    rows = []
    for seed in range(given.seeds):
        for method, strategy in STRATEGIES.items():
            row = {"seed": seed, "method": method, **measure(strategy, seed, train_set, test)}
            rows.append(row)
            cells = [row[way] - row["accuracy"] for way in WAYS]
            print(
                f"{seed:>4} {method:>12} {row['accuracy']:>8.1f} " + " ".join(f"{cell:>+13.1f}" for cell in cells),
                flush=True,
            )
    means = {
        method: {way: summary([row[way] - row["accuracy"] for row in rows if row["method"] == method]) for way in WAYS}
        for method in STRATEGIES
    }
    for method, ways in means.items():
        print(
            f"{method}, median over seeds: "
            + ", ".join(
                f"{way} {found['median']:+.1f} [{found['min']:+.1f}, {found['max']:+.1f}]"
                for way, found in ways.items()
            )
        )
    write(given.json, torch.device("cpu"), {"benchmark": "batch_norm", "unit": "percent", "rows": rows, "added": means})


def images(data_root: Path | None) -> tuple[TensorDataset, tuple[Tensor, Tensor]]:
    """Returns normalised training images, and test images with their labels."""
    data = load_fashion_mnist(data_root=data_root, download=False)
    scaled = [part.images.float() / 255 for part in (data.train, data.test)]
    mean, std = scaled[0].mean(), scaled[0].std()
    x, x_test = ((part - mean) / std for part in scaled)
    return TensorDataset(x[:NUM_TRAIN], data.train.labels[:NUM_TRAIN]), (x_test, data.test.labels)


def measure(strategy: Strategy, seed: int, train_set: TensorDataset, test: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Trains once and returns the accuracies in percent."""
    torch.default_generator.manual_seed(seed)  # of the first weights
    model = build_model("small_cnn", num_classes=10, in_channels=1, image_size=28)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=MAX_LR, momentum=0.9, weight_decay=5e-4)
    pruner = Pruner(strategy, len(train_set), seed=seed)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)
    total_steps = pruner.total_steps(EPOCHS, BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=total_steps)
    for _ in range(EPOCHS):
        for index, (x, y) in loader:
            loss = pruner.update(index, F.cross_entropy(model(x), y, reduction="none"))
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            average.update_parameters(model)
    assert pruner.selection is not None
    last = Subset(train_set, pruner.selection.indices.tolist())
    return {
        "accuracy": accuracy(model, test),
        "all": accuracy(renewed(model, train_set), test),
        "average": accuracy(average, test),
        "average, all": accuracy(renewed(average, train_set), test),
        "average, last": accuracy(renewed(average, last), test),
    }


def renewed(model: nn.Module, samples: TensorDataset | Subset) -> nn.Module:
    """Returns a copy of the network with the statistics of these samples."""
    other = copy.deepcopy(model)
    update_bn(DataLoader(samples, batch_size=500), other)
    return other


def accuracy(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    """Returns accuracy in percent."""
    model.eval()
    x, y = test
    with torch.no_grad():
        correct = sum(int((model(x[part]).argmax(1) == y[part]).sum()) for part in torch.arange(len(x)).split(1000))
    return 100 * correct / len(x)


if __name__ == "__main__":
    main()
