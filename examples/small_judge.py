"""A small judge chooses within large batches: the large model makes no first pass at all.

Claim: a small network, trained beside the large one on the same batches, can say which samples are hard. The choice is
`pruner.choose` with its losses. The large model then makes both passes over half of each batch only. The judge is
charged: its forward and backward passes are in the processor seconds below. The control is full data for as many
processor seconds, with a learning-rate schedule of its own.

The judge pays where the large model is much larger than it. On these digits both arms end within one or two points of
each other, as the seconds vary: what the example shows is the loop and its price.

    python examples/small_judge.py        (needs scikit-learn; 10 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    a judged step costs 48 % of a full one, of which the judge takes 1 %
    judged: 240 steps, test accuracy 97.8 %
    full data for as many processor seconds: 114 steps, test accuracy 96.9 %
"""

import time

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import orderdp

BATCH_SIZE = 128
MAX_LR = 0.1
NUM_TRAIN = 1437
EPOCHS = 20


def main(seed: int = 0) -> None:
    """Measures the cost of a step, trains judged and for the same seconds on full data, and prints both."""
    train_set, test_set = digits()
    x, y = train_set.tensors
    full_s = step_s(network(1024), x, y)
    half_s = step_s(network(1024), x[: len(x) // 2], y[: len(x) // 2])
    judge_s = step_s(network(32), x, y)
    share = (half_s + judge_s) / full_s
    judge = judge_s / full_s
    print(f"a judged step costs {100 * share:.0f} % of a full one, of which the judge takes {100 * judge:.0f} %")
    steps = EPOCHS * -(-NUM_TRAIN // BATCH_SIZE)
    judged = train(train_set, steps, seed, judge=network(32))
    print(f"judged: {steps} steps, test accuracy {accuracy(judged, test_set):.1f} %")
    fewer = round(share * steps)
    plain = train(train_set, fewer, seed)
    print(f"full data for as many processor seconds: {fewer} steps, test accuracy {accuracy(plain, test_set):.1f} %")


def train(train_set: TensorDataset, total_steps: int, seed: int, judge: nn.Module | None = None) -> nn.Module:
    """Trains the large model for this many steps, on what the judge keeps of each batch if there is one."""
    torch.manual_seed(seed)
    model = network(1024)
    members = [model] if judge is None else [model, judge]
    optimizers = [torch.optim.SGD(each.parameters(), lr=MAX_LR, momentum=0.9) for each in members]
    schedules = [torch.optim.lr_scheduler.OneCycleLR(each, MAX_LR, total_steps=total_steps) for each in optimizers]
    strategy = orderdp.FullData() if judge is None else orderdp.OrderedSGD(keep=0.5)
    pruner = orderdp.Pruner(strategy, len(train_set), seed=seed)
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)
    steps = 0
    while steps < total_steps:
        for index, (x, y) in loader:
            if judge is not None:
                judged = F.cross_entropy(judge(x), y, reduction="none")
                judged.mean().backward()  # it learns from the whole batch
                kept = pruner.choose(index, judged.detach())
                index, x, y = index[kept], x[kept], y[kept]
            losses = F.cross_entropy(model(x), y, reduction="none")
            pruner.update(index, losses).backward()
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            steps += 1
            if steps == total_steps:
                break
    return model


def step_s(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Returns the processor seconds of a training step on these samples, the shortest of several."""
    optimizer, seconds = torch.optim.SGD(model.parameters(), lr=0.0), []
    for _ in range(8):
        began_s = time.process_time()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - began_s)
    return min(seconds)


def network(width: int) -> nn.Module:
    """Returns a network of two hidden layers."""
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def accuracy(model: nn.Module, test_set: TensorDataset) -> float:
    """Returns the share of right predictions, in percent."""
    x, y = test_set.tensors
    with torch.no_grad():
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
