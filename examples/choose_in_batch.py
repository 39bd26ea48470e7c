"""A choice within the batch: the losses of a first pass choose, and a second pass trains the samples kept.

Claim: the backward pass runs over half of each batch, the half with the highest losses. `pruner.choose` returns its
positions from the losses of a forward pass without gradient. With `pruner.update` alone, the loss of the others would
only be masked, and the backward pass would still run over all of them.

The first pass must not move the running statistics of batch normalisation, so they are put back.

    python examples/choose_in_batch.py        (needs scikit-learn; 5 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    900 steps, 28740 samples in first passes, 14400 in second ones
    14400 visits, as many as samples in second passes: True
    test accuracy 97.8 %
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import orderdp

BATCH_SIZE = 32
MAX_LR = 0.2
NUM_TRAIN = 1437


def main(epochs: int = 20, seed: int = 0) -> None:
    """Trains on the harder half of every batch and prints what passed through the model."""
    torch.manual_seed(seed)
    train_set, test_set = digits()
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=MAX_LR, momentum=0.9)
    pruner = orderdp.Pruner(orderdp.OrderedSGD(keep=0.5), len(train_set), seed=seed)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)
    total_steps = pruner.total_steps(epochs, BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=total_steps)

    steps = first = second = 0
    for _ in range(epochs):
        for index, (x, y) in loader:
            kept = pruner.choose(index, losses_to_choose_by(model, x, y))
            losses = F.cross_entropy(model(x[kept]), y[kept], reduction="none")
            pruner.update(index[kept], losses).backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            steps, first, second = steps + 1, first + len(index), second + len(kept)

    print(f"{steps} steps, {first} samples in first passes, {second} in second ones")
    print(f"{pruner.report().visits} visits, as many as samples in second passes: {pruner.report().visits == second}")
    model.eval()
    with torch.no_grad():
        x, y = test_set.tensors
        print(f"test accuracy {100 * (model(x).argmax(1) == y).double().mean().item():.1f} %")


def losses_to_choose_by(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Returns (b,) losses without gradient, and leaves the buffers of the model as they were."""
    before = [buffer.clone() for buffer in model.buffers()]
    with torch.no_grad():
        losses = F.cross_entropy(model(x), y, reduction="none")
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
    return losses


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Returns scikit-learn's handwritten digits, 8 x 8 pixels in [0, 1], as training and test set."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:NUM_TRAIN], order[NUM_TRAIN:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[test], y[test])


if __name__ == "__main__":
    main()
