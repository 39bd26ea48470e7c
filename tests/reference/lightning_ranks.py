"""Trains on two processes as torchrun starts them, and returns what each rank saw."""

import functools
import os
import warnings

import torch

from orderdp import UCB, InfoBatch, Pruner
from reference.lightning_runs import QUIET, Validated, built, fit, lightning, losses_of, network, optimizer_of

TWO = {"devices": 2, "strategy": "ddp", "model": Validated}
SHRINKING = UCB(prune_ratio=0.5)  # 5, 3, 3, 3 batches on each of two ranks
INFOBATCH = InfoBatch(prune_probability=0.9, delta=0.75, epochs=4)


def trainers(folder):
    """Whole runs and resumed ones."""
    kept = {"filename": "{epoch}-{step}", "save_top_k": -1}
    inside = lightning.callbacks.ModelCheckpoint(folder / "inside", every_n_train_steps=2, **kept)
    ends = lightning.callbacks.ModelCheckpoint(folder / "ends", save_on_train_epoch_end=True, **kept)
    yield "shrinking", fit(SHRINKING, 4, callbacks=[inside, ends], enable_checkpointing=True, **TWO)
    for name, path in (("2", "inside/epoch=0-step=2"), ("6", "inside/epoch=1-step=6"), ("8", "ends/epoch=1-step=8")):
        yield f"resumed at {name}", fit(SHRINKING, 4, checkpoint=folder / f"{path}.ckpt", **TWO)
    yield "limited", fit(SHRINKING, 4, limit_train_batches=0.5, accumulate_grad_batches=2, **TWO)
    yield "InfoBatch", fit(INFOBATCH, 4, **TWO)


def refused():
    """What a Trainer says to the loader itself."""
    pruner, loader = built(SHRINKING)
    try:
        lightning.Trainer(max_epochs=1, devices=2, strategy="ddp", **QUIET).fit(Validated(pruner), loader)
    except TypeError as error:
        return str(error)
    return "nothing"


def refused_group():
    """What a Trainer says to a pruner that leaves all data to each process."""
    own = [torch.distributed.new_group([rank]) for rank in range(2)][torch.distributed.get_rank()]
    try:
        fit(SHRINKING, 1, loader={"pruner_class": functools.partial(Pruner, process_group=own)}, **TWO)
    except RuntimeError as error:
        return str(error)
    return "nothing"


def train_rank(rank, folder):
    """What a rank of an existing group saw."""
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
    os.environ.update({"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "1"})
    warnings.simplefilter("ignore")
    seen = {}
    for name, model in trainers(folder):
        seen[name] = {"ids": model.trace.ids, "losses": model.trace.losses, "rates": model.trace.rates}
        seen[name]["steps"] = model.trace.steps
    seen["refused"], seen["refused group"] = refused(), refused_group()
    seen["Fabric"], seen["Fabric refused"] = fabric(folder)
    return seen


def fabric(folder):
    """A loop with Fabric, broken inside its second epoch and gone on with."""
    from lightning.fabric import Fabric

    runtime = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    runtime.launch()
    ids, losses = [], []

    def run(stop, path=None):
        pruner, loader = built(SHRINKING)
        model = network()
        optimizer, scheduler = optimizer_of(model)
        model, optimizer = runtime.setup(model, optimizer)
        batches = runtime.setup_dataloaders(loader, use_distributed_sampler=False)
        state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
        if path is not None:
            runtime.load(path, state)
        for _ in range(pruner.next_epoch, 3):
            for index, (x, y) in batches:
                loss = pruner.update(index, losses_of(model, x, y))
                ids.append(index.tolist())
                losses.append(loss.item())
                runtime.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
                if len(ids) == stop:
                    return runtime.save(folder / "fabric.ckpt", state)
        return None

    run(7)
    run(None, folder / "fabric.ckpt")
    try:
        runtime.setup_dataloaders(built(SHRINKING)[1])
    except TypeError as error:
        return {"ids": ids, "losses": losses}, str(error)
    return {"ids": ids, "losses": losses}, "nothing"
