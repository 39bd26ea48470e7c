"""A training script with accelerate, and the lines that prune it: prepare the loader, and accelerate does the rest.

Claim: with the loader prepared, gradients accumulate over two batches, the learning rate ends at its last step, and
`save_state` and `load_state` hold the pruner. A run that stops and is started again ends with the same weights, bit for
bit. Each line that orderdp adds ends in a comment that says so, and the plain line that it replaces stands above it.

The scheduler is stepped once an optimiser step, also on several processes: `step_scheduler_with_optimizer=False`.

    python examples/accelerate_loop.py        (5 s on one CPU core)
    torchrun --nproc-per-node 2 examples/accelerate_loop.py

Prints, with torch 2.13 on a CPU:

    epochs 0 to 6: 96 of 96 steps, learning rate 0
    epochs 0 to 3: 48 of 96 steps, learning rate 0.01
    epochs 3 to 6: 96 of 96 steps, learning rate 0
    all weights equal, bit for bit: True
    accuracy 85.8 %
"""

import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

# plain: from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import TensorDataset  # orderdp

import orderdp  # orderdp

EPOCHS = 6
BATCH_SIZE = 32
ACCUMULATE = 2
FOLDER = Path("runs") / "accelerate_loop"


def main() -> None:
    """Trains without a pause, then with a stop after half the epochs, and compares the weights."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    expected = train(FOLDER / "whole", EPOCHS)
    train(FOLDER / "stopped", EPOCHS // 2)
    weights = train(FOLDER / "stopped", EPOCHS)
    equal = all(torch.equal(weights[name], expected[name]) for name in expected)
    printed = Accelerator(cpu=True).print
    printed(f"all weights equal, bit for bit: {equal}")
    x, y = data()
    model = network()
    model.load_state_dict(weights)
    printed(f"accuracy {100 * (model(x).argmax(1) == y).float().mean():.1f} %")


def data() -> tuple[Tensor, Tensor]:
    """Returns 2,000 points in 20 dimensions, and on which side of a blurred plane they lie."""
    x, blur = torch.randn(2000, 21, generator=torch.Generator().manual_seed(0)).split([20, 1], dim=1)
    return x, (x[:, :5].sum(1) + blur[:, 0] > 0).long()


def network() -> nn.Module:
    """Returns the network, always with the same weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))


def train(folder: Path, until: int) -> dict[str, Tensor]:
    """Trains up to an epoch, from the newest checkpoint if there is one; returns the weights."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE, step_scheduler_with_optimizer=False)
    train_set = TensorDataset(*data())
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    # plain: loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    pruner = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(train_set), seed=0)  # orderdp
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)  # orderdp
    # plain: batches = -(-len(loader) // accelerator.num_processes)
    batches = pruner.steps_per_epoch(BATCH_SIZE)  # orderdp
    total_steps = EPOCHS * -(-batches // ACCUMULATE)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=total_steps)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    begin = len(list(folder.glob("epoch*")))
    if begin:
        accelerator.load_state(folder / f"epoch{begin - 1}")
    for epoch in range(begin, until):
        # plain: for x, y in loader:
        for index, (x, y) in loader:  # orderdp
            with accelerator.accumulate(model):
                # plain: loss = F.cross_entropy(model(x), y)
                loss = pruner.update(index, F.cross_entropy(model(x), y, reduction="none"))  # orderdp
                accelerator.backward(loss)
                optimizer.step()
                if accelerator.sync_gradients:
                    scheduler.step()
                optimizer.zero_grad()
        accelerator.save_state(folder / f"epoch{epoch}")
        accelerator.wait_for_everyone()
    steps, (rate,) = scheduler.scheduler.last_epoch, scheduler.get_last_lr()
    accelerator.print(f"epochs {begin} to {until}: {steps} of {total_steps} steps, learning rate {rate:.3g}")
    return accelerator.unwrap_model(model).state_dict()


if __name__ == "__main__":
    main()
