"""A small model that Lightning trains, and the bare loop that it must equal."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from orderdp import Pruner
from reference.torchvision_operators import sitecustomize  # noqa: F401, before anything imports torchvision

lightning = pytest.importorskip("lightning.pytorch")
from orderdp.integrations.lightning import Pruning  # noqa: E402

# Warnings of releases that are no fault of the program.
QUIETLY = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),  # torch 2.13
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path., callbacks used to create the checkpoint"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),  # where there is one
    pytest.mark.filterwarnings("ignore:This property will be removed in 2.0.0. Use .Metric:DeprecationWarning"),
    # Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; DataLoader forks all the same.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
N, BATCH = 40, 4
DATA = [(torch.full((2,), i / N), torch.tensor(3 * i / N - 0.2)) for i in range(N)]
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@dataclass
class Trace:
    """What a run did: ids, mean loss and learning rate of each batch, and how often the optimiser stepped."""

    ids: list = field(default_factory=list)
    losses: list = field(default_factory=list)
    rates: list = field(default_factory=list)
    steps: int = 0

    def add(self, index, loss, optimizer):
        self.ids.append(index.tolist())
        self.losses.append(loss.item())
        self.rates.append(optimizer.param_groups[0]["lr"])

    def equals(self, other):
        assert self.ids == other.ids
        assert self.losses == pytest.approx(other.losses, rel=1e-5)
        assert self.rates == pytest.approx(other.rates, rel=1e-12)
        assert self.steps == other.steps


def network():
    layer = nn.Linear(2, 1)
    nn.init.constant_(layer.weight, 0.5)
    nn.init.zeros_(layer.bias)
    return layer


def optimizer_of(model, total_steps=None):
    """An optimiser, and a schedule of so many steps or of any number."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    if total_steps is not None:
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=total_steps)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))


def losses_of(model, x, y):
    return (model(x).squeeze(1) - y) ** 2


def built(strategy, *, schedule=None, pruner_class=Pruner, **arguments):
    """A pruner and its loader."""
    pruner = pruner_class(strategy, N, seed=3, schedule=schedule)
    return pruner, pruner.loader(DATA, **{"batch_size": BATCH, **arguments})


def bare(strategy, epochs, *, limit=1.0, accumulate=1, max_steps=None, total_steps=None, **arguments):
    """A loop of PyTorch alone."""
    pruner, loader = built(strategy, **arguments)
    model, trace = network(), Trace()
    optimizer, scheduler = optimizer_of(model, total_steps)
    for _ in range(epochs):
        for number, (index, (x, y)) in enumerate(loader, 1):
            length = min(limit, len(loader)) if isinstance(limit, int) else int(len(loader) * limit)
            loss = pruner.update(index, losses_of(model, x, y))
            trace.add(index, loss, optimizer)
            (loss / accumulate).backward()
            if number % accumulate == 0 or number == length:
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
                trace.steps += 1
            if trace.steps == max_steps:
                return trace
            if number == length:
                break
    return trace


class Model(lightning.LightningModule):
    """The network; it notes what it trains in `trace`."""

    def __init__(self, pruner):
        super().__init__()
        self.network, self.pruner, self.trace = network(), pruner, Trace()

    def training_step(self, batch, batch_idx):
        index, (x, y) = batch
        loss = self.pruner.update(index, losses_of(self.network, x, y))
        self.trace.add(index, loss, self.optimizers())
        return loss

    def on_save_checkpoint(self, checkpoint):
        checkpoint["trained"] = len(self.trace.ids)

    def on_train_end(self):
        self.trace.steps = self.trainer.global_step

    def steps(self):
        """Length of the schedule."""

    def configure_optimizers(self):
        self.total_steps = self.steps()
        optimizer, scheduler = optimizer_of(self.network, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Validated(Model):
    """The same with a validation, before whose batches it notes how many it has trained in `validated`."""

    def on_validation_epoch_start(self):
        self.validated = [*getattr(self, "validated", []), len(self.trace.ids)]

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("validation_loss", losses_of(self.network, x, y).mean())

    def val_dataloader(self):
        return DataLoader(DATA[:6], batch_size=3)


def fit(strategy, epochs, /, *, model=Model, schedule=None, loader=None, callbacks=(), checkpoint=None, **arguments):
    """Trains with a Trainer of these arguments; returns the model, which holds its trainer and the callback."""
    pruner, pruned = built(strategy, schedule=schedule, **(loader or {}))
    module = model(pruner)
    module.pruning = Pruning(pruned)
    trainer = lightning.Trainer(max_epochs=epochs, callbacks=[module.pruning, *callbacks], **{**QUIET, **arguments})
    trainer.fit(module, module.pruning.batches, ckpt_path=checkpoint)
    return module
