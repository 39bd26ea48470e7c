"""What accelerate must know of a loader. Does nothing unless the program has loaded accelerate itself."""

from __future__ import annotations

import io
import os
import sys
import warnings
import weakref
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from orderdp.output.files import write_whole
from orderdp.states import resumed_by

FILE = "pruned_loader.bin"  # in the folder of a checkpoint; a second pruner's is pruned_loader_1.bin
_NOT_SAVED = (
    "save_state holds nothing of the pruner, so a run that loads this checkpoint would begin with the pruner's epoch "
    "0; write loader = accelerator.prepare(pruner.loader(...)), or for a DataLoader of your own "
    "accelerator.register_for_checkpointing(sampler)"
)
_RESUME = (
    "make the pruner and its loader as for the run that wrote the checkpoint; or call accelerator.load_state before "
    "accelerator.prepare(loader) to begin pruning anew"
)
_REFUSED = {
    "split_batches": "each rank takes its own part of batch_size samples; leave split_batches out, and give the loader "
    "the batch size of one process",
    "dispatch_batches": "each rank reads its own part, and none reads for the others; leave dispatch_batches out",
}


class GradientStateMember:
    """A loader's place in accelerate's GradientState, which decides when accumulated gradients are applied.

    accelerate reads `end_of_dataloader` and `remainder` of the loader that was begun last and has not ended. For
    accelerate 1.15, a loop that is left by `break` never ends, so the loader takes its place again with each batch.

    Args:
        loader: the loader, on which both attributes are set.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        loader.end_of_dataloader, loader.remainder = False, 0  # no sample is added to fill the last batch
        accelerate = sys.modules.get("accelerate.state")
        self.state: Any = None if accelerate is None else accelerate.GradientState()
        if self.state is not None:
            self.state._add_dataloader(loader)

    def yields(self, *, last: bool) -> None:
        """Says that a batch comes, and whether it is the last of the pass; the loader is now the one that is asked."""
        self.loader.end_of_dataloader = last
        if self.state is not None and self.state.initialized and self.state.active_dataloader is not self.loader:
            self.state.dataloader_references = [*self._others(), self.loader]

    def leave(self) -> None:
        """Leaves the state when the pass ends. accelerate 1.15 itself would remove a newer pass of the loader too."""
        if self.state is not None and self.state.initialized:
            self.state.dataloader_references = self._others()
        self.state = None

    def _others(self) -> list[Any]:
        """Returns what the state lists beside this pass: None, and each loader under way."""
        members = [member for member in self.state.dataloader_references if member is not None]
        if self.loader in members:
            members.remove(self.loader)
        return [None, *members]


class Preparation:
    """What `accelerator.prepare` changes for a pruned loader: where its batches go, and who saves its state."""

    def __init__(self) -> None:
        self.at_end = False  # what accelerate reads as `end_of_dataloader`
        self.watched = False  # the Accelerator that trains with the loader warns of a save without it
        self._device: Any = None  # of the batches; None leaves them where they are
        self._non_blocking = False

    def asked(self, loader: Any, caller: FrameType) -> None:
        """Joins the Accelerator that asks whether the loader is prepared. Does nothing if someone else asks.

        Raises:
            ValueError: an Accelerator that would split or dispatch the batches, or with other ranks than the pruner.
            RuntimeError: a release of accelerate that asks in another way.
        """
        if not str(caller.f_globals.get("__name__")).startswith("accelerate."):
            return
        accelerator: Any = caller.f_locals.get("self")
        if not hasattr(accelerator, "register_save_state_pre_hook"):
            raise RuntimeError(
                "a pruned loader must be prepared by an Accelerator, got a call from "
                f"{caller.f_code.co_name} of {caller.f_globals['__name__']}; write accelerator.prepare(loader)"
            )
        for name, reason in _REFUSED.items():
            if getattr(accelerator, name, None):
                raise ValueError(f"{name} must not be set for a pruned loader, got an Accelerator with True; {reason}")
        _check_ranks(accelerator, loader.batch_sampler.pruner.ranks()[1])
        checkpoints_of(accelerator)
        self._device = None
        placement = caller.f_locals.get("device_placement")
        if accelerator.device_placement if placement is None else placement:
            self._device, self._non_blocking = accelerator.device, accelerator.non_blocking

    def placed(self, batch: Any) -> Any:
        """Returns a batch on the Accelerator's device."""
        if self._device is None:
            return batch
        return sys.modules["accelerate.utils"].send_to_device(batch, self._device, non_blocking=self._non_blocking)


class Checkpoints:
    """Saves and loads the pruned loaders of an Accelerator, in its `save_state` and `load_state`.

    Each rank takes part in the save, since the ranks exchange what they have seen; one process of a node writes. The
    file is written whole under another name and then renamed, so nobody reads half of it.

    Args:
        accelerator: the Accelerator.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = weakref.ref(accelerator)
        self.watched: weakref.WeakSet[Any] = weakref.WeakSet()  # loaders and samplers that it uses
        self._warned = False
        accelerator.register_save_state_pre_hook(self.save)
        accelerator.register_load_state_pre_hook(self.load)

    def save(self, models: Any, weights: Any, folder: str) -> None:
        """Writes the state of each pruner of the prepared loaders into the folder of a checkpoint."""
        accelerator: Any = self._accelerator()
        loaders = self._loaders()
        for number, loader in enumerate(loaders):
            state, stream = loader.whole_state(), io.BytesIO()  # of every rank, since the ranks exchange what they saw
            if accelerator.is_local_main_process:
                torch.save(state, stream)
                write_whole(Path(folder) / _file(number), stream.getvalue())
        if accelerator.is_local_main_process:  # of an earlier save with more pruners, which `load` would refuse
            (Path(folder) / _file(len(loaders))).unlink(missing_ok=True)
        self._warn_of_others(loaders)

    def _warn_of_others(self, saved: list[Any]) -> None:
        """Warns once if the Accelerator trains with a pruner that no part of the checkpoint holds."""
        held = [*saved, *getattr(self._accelerator(), "_custom_objects", [])]
        pruners = [*map(_pruner_of, held), *held]
        if not self._warned and any(all(_pruner_of(each) is not one for one in pruners) for each in self.watched):
            self._warned = True
            warnings.warn(_NOT_SAVED, RuntimeWarning, stacklevel=4)

    def load(self, models: Any, folder: str) -> None:
        """Loads what `save` wrote.

        Raises:
            FileNotFoundError: the checkpoint is of a run without this pruner. ValueError: a state that does not fit, or
                states of more pruners.
        """
        loaders = self._loaders()
        further = Path(folder) / _file(len(loaders))
        if loaders and further.exists():
            raise ValueError(
                f"the checkpoint must hold the states of the prepared pruners alone, {len(loaders)}, got {folder} with "
                f"{further.name} too; prepare a loader of each pruner in the order of the saved run. A pruner that was "
                "made anew, as in a notebook, is saved beside the old one unless accelerator.free_memory() came before"
            )
        for number, loader in enumerate(loaders):
            path = Path(folder) / _file(number)
            if not path.exists():
                raise FileNotFoundError(
                    f"the checkpoint must hold the pruned loader's state, got {folder} without {path.name}; load a "
                    "checkpoint that was saved with the prepared loader. To begin pruning with this one, call "
                    "accelerator.load_state before accelerator.prepare(loader)"
                )
            with resumed_by(_RESUME):
                loader.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def _loaders(self) -> list[Any]:
        """Returns the pruned loaders that were prepared, of each pruner the newest."""
        accelerator: Any = self._accelerator()
        loaders = [loader for loader in accelerator._dataloaders if isinstance(_preparation_of(loader), Preparation)]
        newest = {id(_pruner_of(loader)): loader for loader in loaders}
        for registered in getattr(accelerator, "_custom_objects", []):
            if id(registered) in newest:
                raise ValueError(
                    "the pruner must be saved once, got register_for_checkpointing(pruner) beside a prepared loader, "
                    "whose position in the epoch it would overwrite; leave register_for_checkpointing out"
                )
        return list(newest.values())


_OF_ACCELERATOR: weakref.WeakKeyDictionary[Any, Checkpoints] = weakref.WeakKeyDictionary()


def checkpoints_of(accelerator: Any) -> Checkpoints:
    """Returns the Checkpoints of an Accelerator, made and registered once."""
    found = _OF_ACCELERATOR.get(accelerator)
    if found is None:
        found = _OF_ACCELERATOR[accelerator] = Checkpoints(accelerator)
    return found


def watch(part: Any, caller: FrameType | None) -> bool:
    """Lets the Accelerator that asks for something of a part warn of a `save_state` that does not hold its pruner.

    Args:
        part: a pruned loader or batch sampler.
        caller: the frame that asks; those of accelerate are followed up to an Accelerator.

    Returns:
        Whether an Accelerator asks.
    """
    while caller is not None and str(caller.f_globals.get("__name__")).startswith("accelerate."):
        accelerator = caller.f_locals.get("self")
        if hasattr(accelerator, "register_save_state_pre_hook"):
            checkpoints_of(accelerator).watched.add(part)
            return True
        caller = caller.f_back
    return False


def _file(number: int) -> str:
    return FILE if number == 0 else FILE.replace(".", f"_{number}.")


def _pruner_of(held: Any) -> Any:
    """Returns the pruner of a loader or of a batch sampler."""
    return getattr(getattr(held, "batch_sampler", held), "pruner", None)


def _preparation_of(loader: Any) -> Any:
    return getattr(loader, "_preparation", None)


def _check_ranks(accelerator: Any, num_ranks: int) -> None:
    """Raises ValueError unless the pruner shares the data among the processes that accelerate feeds."""
    launched = os.environ.get("WORLD_SIZE", "1")
    if accelerator.num_processes == 1 and launched not in ("", "1"):
        raise ValueError(
            f"accelerate must feed the {launched} processes that were launched, got an Accelerator that runs alone, so "
            "that each process would train on all data; on a CPU write Accelerator(cpu=True)"
        )
    config = getattr(accelerator, "parallelism_config", None)
    same_batch = getattr(config, "non_data_parallel_size", 1)
    expected = accelerator.num_processes // same_batch
    if num_ranks != expected:
        raise ValueError(
            f"the pruner must share the data among {expected} ranks, as accelerate does, got {num_ranks}; give "
            "Pruner(process_group=...) the ranks that see other batches"
        )


def refuse_second_split(caller: FrameType | None, num_ranks: int) -> None:
    """Raises RuntimeError if accelerate is about to split batches that are already one rank's part.

    Args:
        caller: the frame that asks for the batches.
        num_ranks: number of ranks.
    """
    if num_ranks < 2 or caller is None or caller.f_globals.get("__name__") != "accelerate.data_loader":
        return
    if caller.f_code.co_name in ("_iter_with_split", "_iter_with_no_split"):  # of BatchSamplerShard
        raise RuntimeError(
            "the batches are already this rank's part, got an accelerate.prepare that splits them again; "
            "do not prepare this DataLoader, or use pruner.loader, which accelerate leaves as it is"
        )


def skipped_by(caller: FrameType | None) -> int:
    """Returns how many batches accelerate's `skip_first_batches` is about to drop of a pass; 0 if it does not ask.

    Args:
        caller: the frame that asks for the batches.

    Raises:
        RuntimeError: gradients are accumulated up to the end of a loader. The loader that `skip_first_batches` makes
            does not say where it ends.
    """
    if caller is None or caller.f_globals.get("__name__") != "accelerate.data_loader":
        return 0
    skipped = int(getattr(caller.f_locals.get("self"), "skip_batches", 0))
    state = sys.modules["accelerate.state"].GradientState()
    if skipped and state.num_steps > 1 and state.sync_with_dataloader:
        raise RuntimeError(
            f"skip_first_batches must be left out with gradient_accumulation_steps={state.num_steps}, got {skipped} "
            "batches; its loader does not say where the epoch ends, and the pruned loader resumes by itself"
        )
    return skipped


def check_skip(skipped: int, done: npt.NDArray[np.bool_] | None) -> None:
    """Checks that the batches that accelerate drops are those that a resumed epoch has trained.

    Args:
        skipped: how many it drops, at least 1.
        done: which steps of the epoch `update` has seen; None if the epoch is not resumed.

    Raises:
        RuntimeError: it would drop batches that were not trained.
    """
    if done is None:
        warnings.warn(
            f"skip_first_batches leaves out {skipped} batches that update has not seen, since no state of the pruner "
            "was loaded inside this epoch; load it, and leave skip_first_batches out",
            RuntimeWarning,
            stacklevel=4,
        )
    elif not (done[:skipped].all() and not done[skipped:].any()):
        raise RuntimeError(
            f"skip_first_batches must drop the batches that update has seen, {int(done.sum())} of {len(done)}, got "
            f"{skipped}; leave it out, the pruned loader resumes by itself"
        )
