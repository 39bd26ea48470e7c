"""A training script with PyTorch-Ignite, and the lines that prune it: one call attaches the loader to the Engine.

Claim: UCB trains its first epoch on all samples and half of them later. An Engine reads the length of the data once, so
without the call it would be refused at its second epoch. Attached, it makes the steps that the schedule of the learning
rate was sized for. Each line that orderdp adds ends in a comment that says so, and the plain line that it replaces
stands above it.

    python examples/ignite_engine.py        (5 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    epoch 1: 63 steps in all
    epoch 2: 95 steps in all
    epoch 3: 127 steps in all
    epoch 4: 159 steps in all
    159 steps planned, learning rate 0 at the end
    accuracy 85.8 %
"""

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import nn

# plain: from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import TensorDataset  # orderdp

import orderdp  # orderdp
from orderdp.integrations import ignite  # orderdp

EPOCHS = 4
BATCH_SIZE = 32


def main() -> None:
    """Trains, and prints the steps and the accuracy on the training data."""
    x, blur = torch.randn(2000, 21, generator=torch.Generator().manual_seed(0)).split([20, 1], dim=1)
    y = (x[:, :5].sum(1) + blur[:, 0] > 0).long()
    train_set = TensorDataset(x, y)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    # plain: loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    pruner = orderdp.Pruner(orderdp.UCB(prune_ratio=0.5), len(train_set), seed=0)  # orderdp
    loader = pruner.loader(train_set, batch_size=BATCH_SIZE)  # orderdp
    # plain: total_steps = EPOCHS * len(loader)
    total_steps = loader.total_steps(EPOCHS)  # orderdp
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=total_steps)

    def step(engine: Engine, batch: object) -> float:
        # plain: x, y = batch
        index, (x, y) = batch  # orderdp
        # plain: loss = F.cross_entropy(model(x), y)
        loss = pruner.update(index, F.cross_entropy(model(x), y, reduction="none"))  # orderdp
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        return loss.item()

    trainer = Engine(step)
    ignite.attach(trainer, loader)  # orderdp

    @trainer.on(Events.EPOCH_COMPLETED)
    def show(engine: Engine) -> None:
        print(f"epoch {engine.state.epoch}: {engine.state.iteration} steps in all")

    trainer.run(loader, max_epochs=EPOCHS)
    print(f"{total_steps} steps planned, learning rate {scheduler.get_last_lr()[0]:.3g} at the end")
    print(f"accuracy {100 * (model(x).argmax(1) == y).float().mean():.1f} %")


if __name__ == "__main__":
    main()
