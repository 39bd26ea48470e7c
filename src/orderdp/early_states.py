"""States that another library's loader would take of a sampler before `update` has seen the batches."""

from __future__ import annotations

from types import FrameType

_DEPTH = 12  # frames between the loader and the sampler: eight with accelerate over torchdata
# Module and function that take a state while they read ahead, and who that is.
_EARLY = {
    ("torchdata.stateful_dataloader.stateful_dataloader", "_get_main_state"): "a StatefulDataLoader with workers",
    ("torchdata.nodes._populate_queue", "_populate_queue"): "a torchdata node that reads ahead in a thread",
    ("accelerate.data_loader", "__init__"): "accelerate over a StatefulDataLoader",
    ("accelerate.data_loader", "_update_state_dict"): "accelerate over a StatefulDataLoader",
}
_CURE = (
    "write pruner.loader(dataset, batch_size=..., num_workers=...), whose state is exact with any number of workers, "
    "and which accelerate prepares"
)


def refuse_early_state(caller: FrameType | None) -> None:
    """Raises RuntimeError if the state is taken by a loader that reads ahead.

    The pruner counts what `update` has seen. Such a loader keeps the state of an earlier moment, and a resumed run
    would train batches twice and forget their losses.

    Args:
        caller: the frame that asks for the state.
    """
    for _ in range(_DEPTH):
        if caller is None:
            return
        who = _EARLY.get((str(caller.f_globals.get("__name__")), caller.f_code.co_name))
        if who is not None:
            raise RuntimeError(f"the state of a sampler must be taken after update, got one from {who}; {_CURE}")
        caller = caller.f_back


def refuse_stateless_sampler(caller: FrameType | None) -> None:
    """Raises RuntimeError if torchdata iterates a sampler of single ids, which has no state that it could save.

    Args:
        caller: the frame that asks for the ids.
    """
    if caller is not None and str(caller.f_globals.get("__name__")).startswith("torchdata."):
        raise RuntimeError(
            "torchdata must get batches of ids, which it can resume, got pruner.sampler() without batch_size; write "
            "batch_sampler=pruner.sampler(batch_size)"
        )
