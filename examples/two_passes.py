"""SAM, with two passes a batch: record the first pass, and reduce the second pass in the same way.

Claim: each batch is recorded once, with the losses of the first pass, and both passes train the same weighted mean.
`pruner.update` returns a linear function of the losses, sum(c * losses). Its gradient with respect to the losses is c,
which holds the weights of the strategy and what it leaves out of the batch. `record` below computes c once, and each
later pass takes the sum itself. A closure that LBFGS calls several times can use c in the same way.

A second `pruner.update` of the batch would replace the first. The pruner would then remember the losses of the second
pass, which SAM takes at perturbed weights. To train only a part of each batch, see choose_in_batch.py.

    python examples/two_passes.py        (needs scikit-learn; 5 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    14360 visits in 20 epochs of 718 samples
    remembered losses are those of the first pass: True
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
RADIUS = 0.05  # of SAM's step to where the loss is higher
NUM_TRAIN = 1437


def record(pruner: orderdp.Pruner, index: Tensor, losses: Tensor) -> Tensor:
    """Records the losses of a batch and returns (b,) coefficients: what to train is their sum with the losses."""
    leaf = losses.detach().requires_grad_()
    (coefficients,) = torch.autograd.grad(pruner.update(index, leaf), leaf)
    return coefficients


def main(epochs: int = 20, seed: int = 0) -> None:
    """Trains with SAM on half of the digits and prints what was recorded."""
    torch.manual_seed(seed)
    train_set, test_set = digits()
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=MAX_LR)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(train_set), seed=seed)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)
    total_steps = pruner.total_steps(epochs, BATCH_SIZE)  # a step is a batch, however many passes it takes
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=total_steps)
    first_pass = torch.full((len(train_set),), torch.inf)

    for _ in range(epochs):
        for index, (x, y) in loader:
            losses = F.cross_entropy(model(x), y, reduction="none")
            coefficients = record(pruner, index, losses)
            first_pass[index] = losses.detach()
            gradients = torch.autograd.grad((coefficients * losses).sum(), parameters)
            length = torch.stack([gradient.norm() for gradient in gradients]).norm() + 1e-12
            steps = [RADIUS * gradient / length for gradient in gradients]
            move(parameters, steps, 1.0)  # to the perturbed weights
            (coefficients * F.cross_entropy(model(x), y, reduction="none")).sum().backward()
            move(parameters, steps, -1.0)  # and back
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

    report = pruner.report()
    print(f"{report.visits} visits in {epochs} epochs of {report.num_selected} samples")
    print(f"remembered losses are those of the first pass: {torch.equal(pruner.scores()['score'], first_pass)}")
    with torch.no_grad():
        x, y = test_set.tensors
        print(f"test accuracy {100 * (model(x).argmax(1) == y).double().mean().item():.1f} %")


def move(parameters: list[nn.Parameter], steps: list[Tensor], factor: float) -> None:
    """Adds a multiple of the steps to the parameters in place."""
    with torch.no_grad():
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.add_(step, alpha=factor)


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Returns scikit-learn's handwritten digits, 8 x 8 pixels in [0, 1], as training and test set."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:NUM_TRAIN], order[NUM_TRAIN:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[test], y[test])


if __name__ == "__main__":
    main()
