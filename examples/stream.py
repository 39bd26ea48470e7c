"""A stream without random access: half of each window goes backward, chosen by a forward pass or by remembered losses.

Claim: `StreamPruner` needs nothing but batches in a row. With `score`, it runs the samples that it drew forward without
gradient and keeps the highest losses. With `key`, it remembers the last loss of each key, and no sample is scored. Both
keep exactly half of what came, window by window.

    python examples/stream.py        (needs scikit-learn; 5 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    full data        900 steps, 28740 samples forward and backward, 0 scored, accuracy 97.2 %
    fresh scores     460 steps, 14370 samples forward and backward, 20322 scored, accuracy 96.9 %
    remembered       460 steps, 14370 samples forward and backward, 0 scored, accuracy 96.9 %
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

import orderdp
from orderdp.stream import StreamPruner

BATCH_SIZE = 32
MAX_LR = 0.1
NUM_TRAIN = 1437


class Digits(IterableDataset[tuple[str, Tensor, int]]):
    """scikit-learn's handwritten digits as a source that can only be read from its beginning."""

    def __iter__(self) -> Iterator[tuple[str, Tensor, int]]:
        x, y = digits()
        for i in range(NUM_TRAIN):
            yield f"digit{i}", x[i], int(y[i])


def main(passes: int = 20, seed: int = 0) -> None:
    """Trains three times and prints what went through the model."""
    for name, how in (("full data", {}), ("fresh scores", {"score": True}), ("remembered", {"key": True})):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        strategy = orderdp.OrderDP(prune_ratio=0.5 if how else 0.0)
        chosen: dict[str, Any] = {"key": lambda batch: batch[0]}
        if "score" in how:
            chosen = {"score": lambda batch, model=model: losses_of(model, batch)}
        source = DataLoader(Digits(), batch_size=BATCH_SIZE)
        stream = StreamPruner(source, strategy, batch_size=BATCH_SIZE, window=8, seed=seed, **chosen)
        steps = stream.total_steps(passes, NUM_TRAIN, BATCH_SIZE)
        optimizer = torch.optim.SGD(model.parameters(), lr=MAX_LR, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=steps)
        for _ in range(passes):
            for index, batch in stream:
                loss = stream.update(index, losses_of(model, batch))
                loss.backward()
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        report = stream.report()
        print(
            f"{name:<14} {scheduler.last_epoch:>5} steps, {report.trained} samples forward and backward, "
            f"{report.scored} scored, accuracy {100 * accuracy(model):.1f} %"
        )


def losses_of(model: nn.Module, batch: tuple[list[str], Tensor, Tensor]) -> Tensor:
    """Returns (b,) losses."""
    _, x, y = batch
    return F.cross_entropy(model(x), y, reduction="none")


def accuracy(model: nn.Module) -> float:
    """Returns the share of the test samples that are right."""
    x, y = digits()
    with torch.no_grad():
        return (model(x[NUM_TRAIN:]).argmax(1) == y[NUM_TRAIN:]).double().mean().item()


def digits() -> tuple[Tensor, Tensor]:
    """Returns the pixels in [0, 1] and the labels, in random order."""
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]


if __name__ == "__main__":
    main()
