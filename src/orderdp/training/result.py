"""What a finished run hands out of all its epochs."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from orderdp.diagnostics.registry import measure_at_end
from orderdp.training.objective import OF_CLASSES
from orderdp.training.progress import SECONDS
from orderdp.training.provenance import digest, joined


def result_of(run: Any) -> dict[str, Any]:
    """Returns the result of a `Run` that has made its epochs."""
    history = run.progress.history
    last = history[-1]
    return {
        "name": run.folder.name,
        "accuracy_last": last["accuracy"],
        **{name: last[name] for name in OF_CLASSES},
        "test_loss_last": last["test_loss"],
        "accuracy_best": max(line["accuracy"] for line in history if line["accuracy"] is not None),
        "epochs": len(history),
        "steps": last["step"],
        "samples_forward": last["samples_forward"],
        "samples_backward": last["samples_backward"],
        "samples_before": run.recipe.strategy.samples_before,
        "pass_s": run.progress.pass_s,
        **{name: sum(line[name] for line in history) for name in SECONDS},
        "processor_s": _processor_s(run),
        **measure_at_end(run.moment(len(history))),
        "num_classes": run.data_path.data.num_classes,
        "predicted": run.data_path.data.predicted,
        "unreadable": run.progress.unreadable,
        "seed": run.recipe.seed,
        "digests": _digests(run),
        "ranks": run.accelerator.num_processes,
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **joined(run.progress.environments),
    }


def _digests(run: Any) -> dict[str, Any]:
    """Returns the digests of what was trained: with averaged weights theirs too, and those of a fine-tuning."""
    found = {
        "model": digest(run.model.state_dict()),
        "scores": digest(run.pruner.scores()),
        "choices": run.progress.choices,
    }
    if run.average is not None:
        found["average"] = digest(run.average.module.state_dict())
    if run.recipe.finetune is not None:
        found["finetune"] = run.folder.second_stage().result()["digests"]
    return found


def _processor_s(run: Any) -> float | None:
    """Returns processor seconds without evaluation; None if not all was computed, or measured, in this process.

    Workers, other ranks and the compiler of a compiled model are other processes.
    """
    found: list[Any] = [line.get("processor_s") for line in run.progress.history]
    recipe = run.recipe
    others = run.device.type != "cpu" or recipe.num_workers or recipe.compile or run.accelerator.num_processes > 1
    return None if others or None in found else sum(found)
