"""A training script with timm, and the lines that prune it: one call over the loader, one over the loss.

Claim: the loader of `create_loader` keeps its workers, transforms, Mixup and prefetching, and yields the ids of the
samples besides. With Mixup, a sample's score is the loss of its mixed picture against both targets. Mixup is off in the
last two epochs. Each line that orderdp adds ends in a comment that says so, and the plain line that it replaces stands
above it.

    python examples/timm_train.py        (10 s on one CPU core)

Prints, with torch 2.13 and timm 1.0.31 on a CPU:

    144 batches of 16 in 12 epochs, of which 24 without Mixup
    accuracy 100.0 %
"""

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import FastCollateMixup, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.utils.data import Dataset

import orderdp  # orderdp
from orderdp.integrations.timm import per_sample, pruned  # orderdp

EPOCHS = 12
BATCH_SIZE = 16


class Squares(Dataset[tuple[Tensor, int]]):
    """400 pictures of 32 x 32 noisy pixels, with a bright square in one of the four corners."""

    transform = None

    def __init__(self) -> None:
        draws = np.random.default_rng(0)
        self.labels = draws.integers(0, 4, 400)
        self.pixels = draws.integers(0, 100, (400, 32, 32, 3), dtype=np.uint8)
        for pixels, label in zip(self.pixels, self.labels, strict=True):
            row, column = 16 * (label // 2), 16 * (label % 2)
            pixels[row + 4 : row + 12, column + 4 : column + 12] += 150

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def main() -> None:
    """Trains, and prints the batches and the accuracy on the training data."""
    np.random.seed(0)  # noqa: NPY002 timm's Mixup draws from it
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mixup = FastCollateMixup(num_classes=4, label_smoothing=0.0)
    settings = {"input_size": (3, 32, 32), "batch_size": BATCH_SIZE, "no_aug": True, "device": device}
    train_loader = create_loader(Squares(), is_training=True, collate_fn=mixup, num_workers=0, **settings)
    test_loader = create_loader(Squares(), num_workers=0, **settings)
    model = timm.create_model("test_resnet.r160_in1k", num_classes=4).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    criterion = SoftTargetCrossEntropy()
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(train_loader.dataset), seed=0)  # orderdp
    train_loader = pruned(train_loader, pruner)  # orderdp
    criterion = per_sample(criterion)  # orderdp
    scheduler = CosineLRScheduler(optimizer, t_initial=EPOCHS * len(train_loader), t_in_epochs=False)

    batches = unmixed = 0
    for epoch in range(EPOCHS):
        train_loader.mixup_enabled = epoch < EPOCHS - 2
        model.train()
        # plain: for x, target in train_loader:
        for index, (x, target) in train_loader:  # orderdp
            loss = criterion(model(x), target)
            loss = pruner.update(index, loss)  # orderdp
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            batches += 1
            unmixed += int(target.max(1).values.min() == 1)
            scheduler.step_update(batches)
    print(f"{batches} batches of {BATCH_SIZE} in {EPOCHS} epochs, of which {unmixed} without Mixup")
    print(f"accuracy {accuracy(model, test_loader):.1f} %")


@torch.no_grad()
def accuracy(model: nn.Module, loader: object) -> float:
    """Returns the accuracy in percent."""
    model.eval()
    right = [(model(x).argmax(1) == y).float() for x, y in loader]
    return 100 * torch.cat(right).mean().item()


if __name__ == "__main__":
    main()
