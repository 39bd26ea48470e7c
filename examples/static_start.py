"""Begin from static scores: the first epoch of a dynamic method already knows which samples are hard.

Claim: without scores, the first epoch is a uniform draw. With the scores of a proxy recorded before it, the first epoch
prefers the samples that a static method would keep. After that, fresh losses replace the scores.

The scores are EL2N, of a model trained for two epochs. They share a column with the losses, so they are put on the
scale of losses: the sample with the k-th highest score begins with the k-th highest loss of the proxy.

    python examples/static_start.py        (needs scikit-learn; 3 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    with scores:    71.6 % of the first epoch ranks in the upper half of EL2N, 62.5 % of the last
    without scores: 50.0 % of the first epoch ranks in the upper half of EL2N, 64.9 % of the last
    test accuracy: 97.2 % with scores, 97.5 % without scores
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import orderdp
from orderdp.coresets import EL2N, Evidence

BATCH_SIZE = 32
MAX_LR = 0.3
NUM_TRAIN = 1437


def main(epochs: int = 10, seed: int = 0) -> None:
    """Trains on half of the digits in each epoch, with static scores and without, and prints what was trained."""
    train_set, test_set = digits()
    proxy = orderdp.Pruner(orderdp.FullData(), NUM_TRAIN, seed=seed)
    logits = train(proxy, train_set, epochs=2, seed=seed)(train_set.tensors[0]).detach()
    labels = train_set.tensors[1]
    scores = torch.from_numpy(EL2N().score(Evidence(labels=labels, probabilities=logits.softmax(1))))
    hard = scores >= scores.median()

    accuracy = {}
    for name in ("with scores", "without scores"):
        pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), NUM_TRAIN, seed=seed)
        if name == "with scores":
            losses = F.cross_entropy(logits, labels, reduction="none")
            pruner.record(torch.arange(NUM_TRAIN), on_the_scale_of(losses, scores))
        chosen: list[Tensor] = []
        accuracy[name] = accuracy_of(train(pruner, train_set, epochs=epochs, seed=seed, chosen=chosen), test_set)
        first, last = (100 * hard[samples].double().mean().item() for samples in (chosen[0], chosen[-1]))
        what = f"{first:.1f} % of the first epoch ranks in the upper half of EL2N, {last:.1f} % of the last"
        print(f"{name + ':':15} {what}")
    print("test accuracy: " + ", ".join(f"{value:.1f} % {name}" for name, value in accuracy.items()))


def on_the_scale_of(losses: Tensor, scores: Tensor) -> Tensor:
    """Returns (n,) the losses in the order of the scores: the highest loss where the score is highest."""
    ranks = scores.argsort(stable=True).argsort(stable=True)
    return losses.sort().values[ranks]


def train(
    pruner: orderdp.Pruner, train_set: TensorDataset, *, epochs: int, seed: int, chosen: list[Tensor] | None = None
) -> nn.Module:
    """Trains a network on what the pruner chooses; appends the samples of each epoch to `chosen`."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=MAX_LR)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=loader.total_steps(epochs))
    for _ in range(epochs):
        trained = []
        for index, (x, y) in loader:
            loss = pruner.update(index, F.cross_entropy(model(x), y, reduction="none"))
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            trained.append(index)
        if chosen is not None:
            chosen.append(torch.cat(trained))
    return model


def accuracy_of(model: nn.Module, test_set: TensorDataset) -> float:
    """Returns the accuracy on a data set in percent."""
    with torch.no_grad():
        x, y = test_set.tensors
        return 100 * (model(x).argmax(1) == y).double().mean().item()


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Returns scikit-learn's handwritten digits, 8 x 8 pixels in [0, 1], as training and test set."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:NUM_TRAIN], order[NUM_TRAIN:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[test], y[test])


if __name__ == "__main__":
    main()
