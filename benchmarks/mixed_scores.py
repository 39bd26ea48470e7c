"""What the score of a mixed sample should be: OrderDP with Mixup, three ways to score, beside a uniform draw.

    python benchmarks/mixed_scores.py [--data-root DIR] [--seeds 3] [--json results/benchmarks/mixed_scores.json]

The data are the first 10,000 training images of Fashion-MNIST and its 10,000 test images, as in
[batch_norm.py](batch_norm.py). timm's Mixup mixes each batch with its reverse (alpha 0.8, label smoothing 0.1), so each
picture has two targets. `small_cnn` trains for 20 epochs on one thread. Every arm back-propagates the loss against both
targets. They differ in what the pruner remembers of a sample:

- both: that loss, weighted as the pictures are mixed. It depends on the partner too;
- own: the loss of the mixed picture against the sample's own target alone;
- clean: the loss of the picture before it was mixed, by a forward pass of its own, which costs a third of a step more;
- uniform: nothing, a uniform draw of as many samples;
- shorter: full data on a schedule with as many steps.

It prints the test accuracy at a prune ratio of 70 %, and how the scores of the last epoch rank the samples beside the
clean loss of the final network (Spearman's correlation, over the samples trained in that epoch).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from batch_norm import images
from scipy.stats import spearmanr
from timing import parser, summary, write
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from orderdp import DynamicRandom, FullData, OrderDP, Pruner
from orderdp.data.imports import import_image_library
from orderdp.training.models import build_model

import_image_library("timm")
from timm.data.mixup import Mixup  # noqa: E402

EPOCHS, BATCH_SIZE, MAX_LR, RATIO = 20, 128, 0.1, 0.7
ARMS = ("both", "own", "clean", "uniform", "shorter")


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--data-root", type=Path, metavar="DIR", help="where the files of Fashion-MNIST are")
    options.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    given = options.parse_args()
    torch.set_num_threads(1)
    train_set, test = images(given.data_root)
    rows = []
    for seed in range(given.seeds):
        for arm in ARMS:
            rows.append({"seed": seed, "arm": arm, **measure(arm, seed, train_set, test)})
            print(f"seed {seed} {arm:>8} {rows[-1]['accuracy']:6.2f} % {rows[-1]['correlation']:6.2f}", flush=True)
    found: dict[str, Any] = {}
    for arm in ARMS:
        mine = [row for row in rows if row["arm"] == arm]
        found[arm] = {name: summary([row[name] for row in mine]) for name in ("accuracy", "correlation")}
        shorter = [row["accuracy"] for row in rows if row["arm"] == "shorter"]
        gains = [row["accuracy"] - other for row, other in zip(mine, shorter, strict=True)]
        found[arm]["minus_shorter"] = summary(gains)
        accuracy, gain, correlation = (
            found[arm][name]["median"] for name in ("accuracy", "minus_shorter", "correlation")
        )
        print(
            f"{arm:>8}: {accuracy:.2f} %, {gain:+.2f} points beside the shorter schedule, correlation {correlation:.2f}"
        )
    numbers = {"benchmark": "mixed_scores", "unit": "percent", "prune_ratio": RATIO, "rows": rows, "medians": found}
    write(given.json, torch.device("cpu"), numbers)


def measure(arm: str, seed: int, train_set: TensorDataset, test: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Trains one arm and returns its accuracy in per cent, and how its scores rank the samples."""
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        model = build_model("small_cnn", num_classes=10, in_channels=1, image_size=28)
    strategy = {"uniform": DynamicRandom(prune_ratio=RATIO), "shorter": FullData()}.get(arm, OrderDP(prune_ratio=RATIO))
    pruner = Pruner(strategy, len(train_set), seed=seed)
    # Mixup pairs a batch with its reverse, so its size must be even.
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE, stable_shapes=True)
    pruned = Pruner(OrderDP(prune_ratio=RATIO), len(train_set)).total_steps(EPOCHS, BATCH_SIZE, stable_shapes=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=MAX_LR, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=pruned)
    mixup = Mixup(mixup_alpha=0.8, label_smoothing=0.1, num_classes=10)
    np.random.seed(seed)  # noqa: NPY002 TID251 - timm's Mixup draws from NumPy's global generator
    seen: list[Tensor] = []
    ids: list[Tensor] = []
    step = 0
    while step < pruned:
        seen, ids = [], []
        for index, (x, y) in loader:
            mixed, targets = mixup(x.clone(), y)
            log_p = model(mixed).log_softmax(1)
            losses = -(targets * log_p).sum(1)
            scores = losses.detach()
            if arm == "own":
                scores = smoothed(log_p.detach(), y)
            elif arm == "clean":
                scores = clean(model, x, y)
            pruner.update(index, losses, scores=scores).backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            seen.append(scores)
            ids.append(index)
            step += 1
            if step == pruned:
                break
    model.eval()
    with torch.no_grad():
        accuracy = 100 * (model(test[0]).argmax(1) == test[1]).double().mean().item()
    x, y = train_set.tensors
    of = torch.cat(ids)
    final = torch.cat([clean(model, x[part], y[part]) for part in of.split(1000)])
    return {"accuracy": accuracy, "correlation": float(spearmanr(torch.cat(seen), final).statistic)}


def smoothed(log_p: Tensor, y: Tensor) -> Tensor:
    """Returns (b,) losses with label smoothing 0.1."""
    return 0.9 * -log_p.gather(1, y[:, None]).squeeze(1) - 0.1 * log_p.mean(1)


def clean(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Returns (b,) losses of pictures that are not mixed, by a pass in evaluation mode."""
    was = model.training
    model.eval()
    with torch.no_grad():
        losses = smoothed(model(x).log_softmax(1), y)
    model.train(was)
    return losses


if __name__ == "__main__":
    main()
