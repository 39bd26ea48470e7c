"""What a checkpoint holds of a run, and a run that resumes from it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from orderdp.training.progress import OF_A_RANK, Progress


def state_of(run: Any, loader_state: dict[str, Any]) -> dict[str, Any]:
    """Returns all but the model, as tensors and plain values; every rank must call it.

    Args:
        run: a `Run` on this rank.
        loader_state: of its loader.
    """
    mine = {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        **{name: getattr(run.progress, name) for name in OF_A_RANK},
    }
    return {
        "loader": loader_state,
        "optimizer": run.optimizer.state_dict(),
        **({} if run.average is None else {"average": run.average.module.state_dict()}),
        "schedule": run.schedule.state_dict(),
        "ranks": gather_object([mine]),
        # Written at once, so nothing is copied: the history grows with every epoch.
        "progress": {each.name: getattr(run.progress, each.name) for each in fields(run.progress)},
    }


def restore(run: Any, model: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Puts a run where a checkpoint was written; every rank must call it.

    Raises:
        ValueError: the run had another number of ranks. RuntimeError: the ranks read different checkpoints.
    """
    saved_ranks, num_ranks = state["ranks"], run.accelerator.num_processes
    if len(saved_ranks) != num_ranks:
        raise ValueError(
            f"a run must be resumed on the {len(saved_ranks)} ranks that it had, got {num_ranks}; "
            "start as many processes"
        )
    steps = gather_object([state["progress"]["step"]])
    if len(set(steps)) > 1:
        raise RuntimeError(
            f"every rank must resume from the same checkpoint, got those of steps {steps} by rank; "
            "write the run to a folder that all machines share"
        )
    run.model.load_state_dict(model)
    run.optimizer.load_state_dict(state["optimizer"])
    run.schedule.load_state_dict(state["schedule"])
    if run.average is not None:
        run.average.module.load_state_dict(state["average"])
    run.loader.load_state_dict(state["loader"])
    mine = saved_ranks[run.accelerator.process_index]
    torch.set_rng_state(mine["cpu"])
    torch.cuda.set_rng_state_all(mine["cuda"])
    saved = {"environments": [{}], **state["progress"]}  # an earlier release did not record where it had begun
    run.progress = Progress(**{**saved, **{name: mine[name] for name in OF_A_RANK}})
