"""Loops of other libraries that ask of a loader what a pruned one cannot give."""

from __future__ import annotations

from types import FrameType
from typing import Any

_CURE = "write orderdp.integrations.ignite.attach(trainer, loader) before trainer.run(loader)"
_REFUSED = {
    "keras.src.trainers.epoch_iterator": "Keras's fit reads batches and makes iterators that it does not train, got a "
    "loader whose passes are epochs; write a loop of your own, since a Keras model on torch is a torch.nn.Module",
    "transformers.trainer": "a Trainer of transformers counts the steps of all epochs by the first and needs "
    "dictionaries, got a pruned loader; write orderdp.integrations.transformers.PrunedTrainer(model, arguments, "
    "train_dataset=..., strategy=...) without a get_train_dataloader, and evaluate with the plain data set",
    "timm.data.loader": "timm's PrefetchLoader needs batches (input, target), got a pruned loader, whose batches hold "
    "ids too; write orderdp.integrations.timm.pruned(loader, pruner) with the loader of timm's create_loader",
}

_FOR_A_TRAINER = (
    "a Trainer needs the batches of the callback, got the pruned loader itself; write pruning = "
    "orderdp.integrations.lightning.Pruning(loader), Trainer(callbacks=[pruning]) and trainer.fit(model, "
    "pruning.batches), and evaluate with a plain DataLoader"
)
# Modules that must not walk through a pruned loader, and cover an error that `iter` raises with one of their own.
_REFUSED_LATE = {
    "torch.optim.swa_utils": (
        "update_bn takes the first entry of each batch as the input, got a loader that puts ids there and "
        "would begin an epoch; write update_bn(torch.utils.data.DataLoader(dataset, ...), model)"
    ),
    "lightning.pytorch.utilities.combined_loader": _FOR_A_TRAINER,
    "pytorch_lightning.utilities.combined_loader": _FOR_A_TRAINER,
}


def refused_late(caller: FrameType) -> str | None:
    """Returns what to raise at the first batch, if the caller must not walk through a pruned loader.

    Args:
        caller: the frame that asks for an iterator.
    """
    return _REFUSED_LATE.get(str(caller.f_globals.get("__name__")))


def length_expected(caller: FrameType, *, resuming: bool) -> int | None:
    """Returns how many iterations an Ignite Engine makes in an epoch; None if the caller is none.

    Args:
        caller: the frame that asks for an iterator.
        resuming: whether the pass is the rest of an epoch.

    Raises:
        RuntimeError: an Engine that would fill up the rest of an epoch with batches of the next one; a loop that cannot
            train with the loader at all.
    """
    module = caller.f_globals.get("__name__")
    if module in _REFUSED:
        raise RuntimeError(_REFUSED[module])
    if module != "ignite.engine.engine":
        return None
    engine: Any = caller.f_locals.get("self")
    length: int | None = getattr(getattr(engine, "state", None), "epoch_length", None)
    if length is not None and resuming:
        raise RuntimeError(
            f"an Engine resumes inside an epoch only if it is attached, got one of {length} iterations an epoch, which "
            f"would run on into the next epoch; {_CURE}"
        )
    return length


def wrong_length(expected: int, length: int) -> str:
    """Returns what to say of an epoch that is not as long as the Engine expects it.

    Args:
        expected: iterations of each of its epochs.
        length: batches of the epoch that has begun.
    """
    return (
        f"an Engine that is not attached makes as many iterations in every epoch, {expected}, got an epoch of {length} "
        f"batches; {_CURE}"
    )
