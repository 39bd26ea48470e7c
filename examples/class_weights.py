"""Class weights: weight the loss that is trained, and decide separately what is remembered.

Claim: `pruner.update(index, losses, weights=class_weights[y])` trains what torch's `weight=` with `reduction="mean"`
trains, the sum of the weighted losses over the sum of the weights. The ranking is by the losses without weights.

The drop-in `F.cross_entropy(..., weight=class_weights, reduction="none")` is not the same. The mean of its losses
divides by the number of samples, so the loss and the step grow with the weights. The first line shows it. It also ranks
by the weighted losses. To do that on purpose, pass `scores=(class_weights[y] * losses).detach()`. Rare classes are
then kept more often and also count for more. Either may be what you want; the script shows both.

    python examples/class_weights.py        (needs scikit-learn; 5 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    mean of the drop-in losses 2.599, torch's mean 0.742, update with weights 0.742
    the rare class is 5.4 % of the data
    no class weights                  rare class: 7.7 % of the trained samples, recall 53 %, precision 82 %
    class weights, plain scores       rare class: 5.5 % of the trained samples, recall 77 %, precision 38 %
    class weights, weighted scores    rare class: 7.1 % of the trained samples, recall 77 %, precision 34 %
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import make_classification
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import orderdp

BATCH_SIZE = 50
MAX_LR = 0.01
NUM_TRAIN = 2000
RARE = 1  # class


def main(epochs: int = 15, seed: int = 0) -> None:
    """Trains in three ways on half of the samples and prints how the rare class fares."""
    torch.manual_seed(seed)
    inputs, labels = make_classification(
        n_samples=2 * NUM_TRAIN, n_features=20, n_informative=8, weights=[0.95], class_sep=0.8, random_state=seed
    )
    x, y = torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels)
    train_set, test_set = TensorDataset(x[:NUM_TRAIN], y[:NUM_TRAIN]), TensorDataset(x[NUM_TRAIN:], y[NUM_TRAIN:])
    counts = torch.bincount(y[:NUM_TRAIN])
    inverse = NUM_TRAIN / counts  # rare classes count for more; the scale does not matter
    show_means(x[:NUM_TRAIN], y[:NUM_TRAIN], inverse)
    print(f"the rare class is {100 * counts[RARE] / NUM_TRAIN:.1f} % of the data")
    for name, class_weights, weigh_scores in (
        ("no class weights", torch.ones(2), False),
        ("class weights, plain scores", inverse, False),
        ("class weights, weighted scores", inverse, True),
    ):
        share, recall, precision = train(train_set, test_set, class_weights, epochs, seed, weigh_scores=weigh_scores)
        print(
            f"{name:32}  rare class: {100 * share:.1f} % of the trained samples, "
            f"recall {100 * recall:2.0f} %, precision {100 * precision:2.0f} %"
        )


def show_means(x: Tensor, y: Tensor, class_weights: Tensor) -> None:
    """Prints the loss of one batch of an untrained model in three ways."""
    pruner = orderdp.Pruner(orderdp.FullData(), len(y), seed=0)
    index, _ = next(iter(pruner.loader(y, batch_size=BATCH_SIZE)))
    model, y = nn.Linear(20, 2), y[index]
    logits = model(x[index])
    drop_in = F.cross_entropy(logits, y, weight=class_weights, reduction="none").mean()
    torchs = F.cross_entropy(logits, y, weight=class_weights)
    ours = pruner.update(index, F.cross_entropy(logits, y, reduction="none"), weights=class_weights[y])
    print(f"mean of the drop-in losses {drop_in:.3f}, torch's mean {torchs:.3f}, update with weights {ours:.3f}")


def train(
    train_set: TensorDataset,
    test_set: TensorDataset,
    class_weights: Tensor,
    epochs: int,
    seed: int,
    *,
    weigh_scores: bool,
) -> tuple[float, float, float]:
    """Returns the rare class's share of the samples trained, its recall and its precision on the test set."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=MAX_LR)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(train_set), seed=seed)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)
    total_steps = pruner.total_steps(epochs, BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=MAX_LR, total_steps=total_steps)

    for _ in range(epochs):
        for index, (x, y) in loader:
            losses = F.cross_entropy(model(x), y, reduction="none")
            scores = (class_weights[y] * losses).detach() if weigh_scores else None
            loss = pruner.update(index, losses, weights=class_weights[y], scores=scores)
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

    visits = pruner.visits()
    share = (visits[train_set.tensors[1] == RARE].sum() / visits.sum()).item()
    with torch.no_grad():
        x, y = test_set.tensors
        found = model(x).argmax(1) == RARE
        right = (found & (y == RARE)).sum()
        return share, (right / (y == RARE).sum()).item(), (right / found.sum()).item()


if __name__ == "__main__":
    main()
