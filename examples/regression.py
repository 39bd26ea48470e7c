"""Regression: any loss with one number per sample works.

Claim: OrderDP on half of the samples learns Friedman's function of ten inputs, five of which matter. The targets have
noise of standard deviation 1, so the best possible R2 is about 0.96. Two things to watch:

- `losses` must have shape (b,). Write `.squeeze(1)` for a model that returns (b, 1). Otherwise the loss broadcasts to
  (b, b), and `pruner.update` refuses it;
- a large loss may mean an outlier rather than a hard sample. The Huber loss limits how far an outlier pulls, but does
  not change the ranking. With many gross outliers, prune little or not at all.

    python examples/regression.py        (needs scikit-learn; 4 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    1000 of 2000 samples in each epoch
    test R2 0.94, predicting the mean has 0
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import make_friedman1
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import orderdp

BATCH_SIZE = 50
MAX_LR = 0.01


def main(epochs: int = 25, seed: int = 0) -> None:
    """Trains on half of the samples and prints R2 on the test set."""
    torch.manual_seed(seed)
    inputs, targets = make_friedman1(n_samples=3000, n_features=10, noise=1.0, random_state=seed)
    x, y = torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32)
    y = (y - y[:2000].mean()) / y[:2000].std()
    train_set = TensorDataset(x[:2000], y[:2000])

    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=MAX_LR)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(train_set), seed=seed)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)
    total_steps = pruner.total_steps(epochs, BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=total_steps)

    for _ in range(epochs):
        for index, (inputs, targets) in loader:
            predictions = model(inputs).squeeze(1)  # (b, 1) to (b,)
            losses = F.huber_loss(predictions, targets, reduction="none")  # (b,)
            loss = pruner.update(index, losses)
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

    report = pruner.report()
    print(f"{report.num_selected} of {report.num_samples} samples in each epoch")
    with torch.no_grad():
        print(f"test R2 {r2(model(x[2000:]).squeeze(1), y[2000:]):.2f}, predicting the mean has 0")


def r2(predictions: Tensor, targets: Tensor) -> float:
    """Returns the share of the targets' variance that the predictions explain."""
    return 1 - ((predictions - targets).square().mean() / targets.var(correction=0)).item()


if __name__ == "__main__":
    main()
