"""The pruner's report in TensorBoard, once an epoch.

Claim: `pruner.report().as_dict()` is the report as plain numbers, each of which becomes a curve; any other logger takes
it too. The report waits for the device; take it once an epoch rather than once a step. What to watch:

- visits grows by num_selected in each epoch. If it stays at 0, the loop does not call `pruner.update`;
- never_seen is the number of samples that were never trained, and max_age the longest wait of a sample in epochs;
- non_finite counts losses that were NaN or infinite, and failed the samples without one. Both should stay at 0.

    pip install tensorboard
    python examples/tensorboard_log.py [FOLDER]        (needs scikit-learn; 4 s on one CPU core)
    tensorboard --logdir FOLDER

Prints, with torch 2.13 and TensorBoard 2.21 on a CPU:

    wrote 13 curves of 10 epochs to runs/tensorboard_log
    never trained: 899 of 1797 samples after the first epoch, 0 after the last
"""

import sys

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

import orderdp

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:
    raise SystemExit("this example needs TensorBoard: pip install tensorboard") from None

BATCH_SIZE = 32
MAX_LR = 0.3


def main(folder: str, epochs: int = 10, seed: int = 0) -> None:
    """Trains on half of the digits and writes the curves to `folder`."""
    torch.manual_seed(seed)
    pixels, labels = load_digits(return_X_y=True)
    train_set = TensorDataset(torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels))
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=MAX_LR)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(train_set), seed=seed)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)
    total_steps = pruner.total_steps(epochs, BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=total_steps)

    never_seen = []
    with SummaryWriter(folder) as writer:
        for epoch in range(epochs):
            for index, (x, y) in loader:
                loss = pruner.update(index, F.cross_entropy(model(x), y, reduction="none"))
                loss.backward()
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            report = pruner.report().as_dict()
            for name, value in report.items():
                writer.add_scalar(f"pruner/{name}", value, epoch)
            never_seen.append(report["never_seen"])

    print(f"wrote {len(report)} curves of {epochs} epochs to {folder}")
    first, last = never_seen[0], never_seen[-1]
    print(f"never trained: {first} of {len(train_set)} samples after the first epoch, {last} after the last")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/tensorboard_log")
