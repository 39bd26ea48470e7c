"""PyTorch-Ignite: epochs of an Engine that are the epochs of the pruner, of any length and after a resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

try:
    from ignite.engine import Engine, Events
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "ignite":
        raise
    raise ImportError("ignite.attach needs PyTorch-Ignite: pip install 'pytorch-ignite>=0.5'") from None

from orderdp.loader import PrunedLoader


class _Passes:
    """What the Engine iterates instead of the loader: a pass begins with its first batch, and not with `iter`.

    The Engine asks for iterators that it may not use, at the end of each epoch.
    """

    def __init__(self, loader: PrunedLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        yield from self.loader


def attach(trainer: Engine, loader: PrunedLoader) -> None:
    """Makes each epoch of an Engine one pass over a pruned loader.

    An Engine reads the length of the data once, and makes as many iterations in each epoch. Where a pruned epoch is
    shorter, it would run on into the next one. Attached, it ends an epoch where the loader ends it. A run whose loader
    has loaded a state goes on in the epoch of the state, with or without the state of the Engine.

    A run after an error goes on with the next epoch. With interrupts, a run of Ignite 0.5.5 would train nothing there,
    so they are switched off. A program that calls `engine.interrupt()` sets `trainer.interrupt_resume_enabled = True`.

    `max_epochs` counts the epochs of the whole run. `engine.state.epoch_length` is a number that no epoch reaches.

    Args:
        trainer: the Engine that trains, before its `run(loader, max_epochs=...)`.
        loader: a `pruner.loader`.

    Raises:
        TypeError: another kind of loader. ValueError, when the run starts: another loader, an `epoch_length`, or no
            epoch left.
    """
    if not isinstance(loader, PrunedLoader):
        raise TypeError(f"loader must be a pruned loader, got {type(loader).__name__}; write pruner.loader(dataset)")

    def start(engine: Engine) -> None:
        pruner: Any = loader.batch_sampler.pruner
        unreached = pruner.num_samples + 1
        if engine.state.dataloader is not loader:
            raise ValueError("run must get the loader that was attached, got another one; write trainer.run(loader)")
        if engine.state.epoch_length not in (len(loader), unreached):
            raise ValueError(
                f"epoch_length must be left out, got {engine.state.epoch_length} for {len(loader)} batches; the loader "
                "ends each epoch"
            )
        done, most = pruner.next_epoch, engine.state.max_epochs
        if most is not None and done >= most:
            raise ValueError(
                f"max_epochs must be above {done}, the epochs that the pruner has begun, got {most}; write the epochs "
                "of the whole run"
            )
        engine.state.epoch = done
        engine.state.epoch_length = unreached  # the Engine compares it with the iterations of one epoch and of all

    def begin(engine: Engine) -> None:
        engine.set_data(_Passes(loader))  # after an error that a handler took, the Engine would go on in the old pass

    vars(trainer).setdefault("interrupt_resume_enabled", False)  # unless the program has chosen
    trainer.add_event_handler(Events.STARTED, start)
    trainer.add_event_handler(Events.EPOCH_STARTED, begin)
    trainer.add_event_handler(Events.DATALOADER_STOP_ITERATION, Engine.terminate_epoch)
