"""InfoBatch with a learning-rate schedule, although the number of steps depends on the losses.

Claim: the learning rate follows the share of the run that is done, (epoch + step / steps) / epochs. It therefore moves
smoothly and ends at zero, whatever InfoBatch leaves out. `pruner.total_steps` raises an error for InfoBatch. But the
steps of one epoch are known once it has begun: call `pruner.steps_per_epoch(batch_size, epoch=epoch)` in its loop.

InfoBatch leaves out some of the samples below the mean loss and gives the others below it a larger weight, so the
expected gradient does not change. `pruner.update` applies the weights. With `epochs=` InfoBatch anneals: the last
epochs, from `delta` of the run on, are on full data. The number of steps of OrderDP is known, so OrderDP can use any
scheduler (`four_lines.py`).

    python examples/infobatch.py        (needs scikit-learn; 4 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    steps of each epoch: 45 35 37 34 31 29 28 27 27 27 27 27 27 27 45 45
    29 % fewer samples than full data
    learning rate at the last step: 0.000002, largest change in one step: 0.0028
    test accuracy 95.6 %
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

import orderdp

BATCH_SIZE = 32
MAX_LR = 0.3
WARM_UP = 0.2  # share of the run
NUM_TRAIN = 1437


def main(epochs: int = 16, seed: int = 0) -> None:
    """Trains with InfoBatch and annealing, and prints what it saved."""
    torch.manual_seed(seed)
    train_set, test_set = digits()
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=MAX_LR)
    strategy = orderdp.InfoBatch(prune_probability=0.5, epochs=epochs, delta=0.875)
    pruner = orderdp.Pruner(strategy, len(train_set), seed=seed)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)

    steps_of_epochs, rates = [], []
    for epoch in range(epochs):
        for step, (index, (x, y)) in enumerate(loader):
            steps = pruner.steps_per_epoch(BATCH_SIZE, epoch=epoch)  # exact, since this epoch has begun
            rates.append(learning_rate((epoch + step / steps) / epochs))
            for group in optimizer.param_groups:
                group["lr"] = rates[-1]
            losses = F.cross_entropy(model(x), y, reduction="none")
            loss = pruner.update(index, losses)  # mean of weights * losses
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        steps_of_epochs.append(step + 1)

    print("steps of each epoch:", *steps_of_epochs)
    print(f"{100 * (1 - pruner.report().visits / (epochs * len(train_set))):.0f} % fewer samples than full data")
    jump = max(abs(after - before) for before, after in pairwise(rates))
    print(f"learning rate at the last step: {rates[-1]:.6f}, largest change in one step: {jump:.4f}")
    with torch.no_grad():
        x, y = test_set.tensors
        print(f"test accuracy {100 * (model(x).argmax(1) == y).double().mean().item():.1f} %")


def learning_rate(progress: float) -> float:
    """Returns the rate when a share of the run is done, in [0, 1): up in a line, then down to 0 along a cosine."""
    if progress < WARM_UP:
        return MAX_LR * progress / WARM_UP
    return MAX_LR * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Returns scikit-learn's handwritten digits, 8 x 8 pixels in [0, 1], as training and test set."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:NUM_TRAIN], order[NUM_TRAIN:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[test], y[test])


if __name__ == "__main__":
    main()
