"""Multi-label classification: the loss of a sample is the mean over its labels.

Claim: `binary_cross_entropy_with_logits(..., reduction="none")` returns (b, labels). Its mean over the labels has shape
(b,), as `pruner.update` expects, and the batch mean is the loss of an ordinary loop. OrderDP ranks a sample by its loss
over all labels. To rank it by its worst label and still train on the mean, write

    pruner.update(index, losses.mean(1), scores=losses.detach().amax(1))

    python examples/multi_label.py        (needs scikit-learn; 3 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    750 of 1500 samples in each epoch
    test F1 0.59 over all labels, 0.40 if every label is always predicted
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import make_multilabel_classification
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import orderdp

BATCH_SIZE = 50
MAX_LR = 0.01


def main(epochs: int = 15, seed: int = 0) -> None:
    """Trains on half of the samples and prints the F1 score on the test set."""
    torch.manual_seed(seed)
    counts, labels = make_multilabel_classification(n_samples=2000, n_features=40, n_classes=8, random_state=seed)
    x, y = torch.tensor(counts, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)
    x = (x - x[:1500].mean(0)) / x[:1500].std(0)
    train_set = TensorDataset(x[:1500], y[:1500])

    model = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=MAX_LR)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(train_set), seed=seed)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)
    total_steps = pruner.total_steps(epochs, BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=total_steps)

    for _ in range(epochs):
        for index, (inputs, targets) in loader:
            losses = F.binary_cross_entropy_with_logits(model(inputs), targets, reduction="none")  # (b, 8)
            loss = pruner.update(index, losses.mean(1))  # (b,)
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

    report = pruner.report()
    print(f"{report.num_selected} of {report.num_samples} samples in each epoch")
    with torch.no_grad():
        score = f1(model(x[1500:]) > 0, y[1500:] > 0)
    always = f1(torch.ones(500, 8, dtype=torch.bool), y[1500:] > 0)
    print(f"test F1 {score:.2f} over all labels, {always:.2f} if every label is always predicted")


def f1(predicted: Tensor, true: Tensor) -> float:
    """Returns 2·TP / (2·TP + FP + FN) over all samples and labels."""
    return (2 * (predicted & true).sum() / (predicted.sum() + true.sum())).item()


if __name__ == "__main__":
    main()
