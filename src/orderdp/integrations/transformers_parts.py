"""Parts of `PrunedTrainer`: its loader, the arguments that do not go with it, and its state in a file."""

from __future__ import annotations

import io
import pickle
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import TrainerCallback

from orderdp.integrations.sample_losses import sample_losses
from orderdp.loader import FOR_A_STREAM, PrunedLoader
from orderdp.output.files import write_whole
from orderdp.pruner import Pruner

IDS = "orderdp_ids"  # the entry of a batch that holds the ids of its samples
_CARRIED = (  # what the Trainer decides of its own DataLoader, beside the data set, the order and the batches
    "collate_fn",
    *("num_workers", "pin_memory", "persistent_workers", "multiprocessing_context", "prefetch_factor", "in_order"),
    *("worker_init_fn", "timeout"),
)


class BatchesWithIds(PrunedLoader):
    """A pruned loader of the Trainer's batches, each with the ids of its samples.

    Args:
        pruner: selects the samples.
        plain: the DataLoader that the Trainer would have used.
        batch_size: samples of a batch.
        drop_last: full batches only.

    Raises:
        TypeError: while it is iterated, a batch that is no dictionary.
    """

    def __init__(self, pruner: Pruner, plain: Any, *, batch_size: int, drop_last: bool) -> None:
        carried = {name: getattr(plain, name) for name in _CARRIED}
        super().__init__(pruner, plain.dataset, batch_size=batch_size, drop_last=drop_last, **carried)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return map(self._with_ids, super().__iter__())

    def _with_ids(self, pair: tuple[Tensor, Any]) -> Any:
        index, batch = pair
        if not isinstance(batch, Mapping) or IDS in batch:
            raise TypeError(
                f"data_collator must return a dictionary without {IDS!r}, got {type(batch).__name__}; "
                "return {'input_ids': ..., 'labels': ...}"
            )
        # No tensor, so that the ids stay on the host, where wrong ones are found at once.
        return {**batch, IDS: index.numpy()}


class Place(TrainerCallback):
    """Tells the Trainer how much of the running epoch is trained; a resumed epoch does not begin at 0."""

    def __init__(self, trainer: Any) -> None:
        self.trainer: Any = weakref.proxy(trainer)  # which holds the loader and its workers

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Notes that the optimiser has applied all that was trained."""
        self.trainer._between_steps = True
        state.epoch = self.trainer.place


def refuse_stream(train_set: Any) -> None:
    """Raises TypeError for a training set that cannot be asked for chosen samples."""
    if isinstance(train_set, IterableDataset) or not (train_set is None or hasattr(train_set, "__len__")):
        raise TypeError(
            f"train_dataset must be map-style, with a length, got {type(train_set).__name__}, which cannot be asked "
            f"for chosen samples; in a loop of your own {FOR_A_STREAM}"
        )


def checked_loader(given: Any) -> BatchesWithIds:
    """Returns the loader that a Trainer is to train with; raises TypeError if it is not that of `PrunedTrainer`."""
    if not isinstance(given, BatchesWithIds):
        raise TypeError(
            f"get_train_dataloader must return the loader of PrunedTrainer, got {type(given).__name__}; leave it out, "
            "or return super().get_train_dataloader(), and give train_dataset, data_collator and arguments"
        )
    return given


def refuse_arguments(trainer: Any) -> None:
    """Raises ValueError for arguments of a Trainer that do not go with pruning."""
    args, config = trainer.args, trainer.args.accelerator_config
    shared = trainer.get_tp_size() * trainer.get_cp_size() * trainer.get_sp_size()
    rules = (
        (
            args.train_sampling_strategy != "random",
            f"train_sampling_strategy must be 'random', got {args.train_sampling_strategy!r}; the pruner chooses the "
            "samples and their order",
        ),
        (
            config.split_batches,
            "split_batches must be False, got True; the pruner gives each process its own part of a step",
        ),
        (
            config.dispatch_batches,
            "dispatch_batches must be False, got True; each process reads the samples that its pruner selects",
        ),
        (
            args.auto_find_batch_size,
            "auto_find_batch_size must be False, got True; its second try would begin the run with a model that the "
            "first one has trained, so write a smaller per_device_train_batch_size",
        ),
        (
            args.n_gpu > 1,
            f"each GPU needs a process of its own, got one process for {args.n_gpu}; launch the script with torchrun",
        ),
        (
            shared > 1,
            f"every process must have a part of the data, got parallelism_config with groups of {shared} that share "
            "one; use data parallelism alone",
        ),
        (
            trainer.compute_loss_func is not None,
            "compute_loss_func must be left out, got one; it returns one number for a batch, so override "
            "per_sample_losses(outputs, inputs), which returns the losses, one for each sample",
        ),
    )
    for broken, message in rules:
        if broken:
            raise ValueError(message)


def pair_of(found: Any) -> tuple[Tensor, Tensor | None]:
    """Returns what `per_sample_losses` returned as (losses, counts); losses alone count the same for each sample.

    Raises:
        ValueError: neither of the two.
    """
    if isinstance(found, Tensor):
        return found, None
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor)):
        raise ValueError(
            f"per_sample_losses must return (losses, counts) or the losses, one for each sample, got "
            f"{type(found).__name__}; write return losses, None"
        )
    return found


def losses_of(
    outputs: Any, inputs: Mapping[str, Any], config: Any, *, shift: bool, label_smoothing: float
) -> tuple[Tensor, Tensor | None]:
    """Returns what `PrunedTrainer.per_sample_losses` does.

    Args:
        outputs: what the model returned.
        inputs: the batch, with `labels`.
        config: of the model; None if it has none.
        shift: each token predicts the next label, unless the batch has labels that are shifted.
        label_smoothing: share of a label that is spread over all classes.

    Raises:
        ValueError: outputs or labels of another kind.
    """
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else None
    labels = inputs.get("labels")
    if logits is None or labels is None:
        raise ValueError(
            f"per_sample_losses needs outputs['logits'] and inputs['labels'], got {type(outputs).__name__} and "
            f"{sorted(inputs)}; override per_sample_losses(outputs, inputs)"
        )
    if outputs.get("aux_loss") is not None:
        raise ValueError(
            "per_sample_losses leaves out the loss of a router, got outputs with aux_loss; write "
            "output_router_logits=False in the model's configuration, or override per_sample_losses"
        )
    problem = getattr(config, "problem_type", None)
    shifted = inputs.get("shift_labels")
    found = sample_losses(
        logits,
        labels if shifted is None else shifted,
        shift=shift and shifted is None,
        several=None if problem is None else problem == "multi_label_classification",
        label_smoothing=label_smoothing,
    )
    if found is None:
        raise ValueError(
            f"per_sample_losses knows one label a sample, several, or one a token, got logits of shape "
            f"{tuple(logits.shape)} and labels of shape {tuple(labels.shape)}; override per_sample_losses"
        )
    return found


def compare_with_own(
    own: Tensor, dtype: torch.dtype, losses: Tensor, counts: Tensor | None, num_items_in_batch: Any
) -> None:
    """Raises ValueError unless the loss of a model is the mean of the losses of its samples; waits for the device.

    Args:
        own: () floating, what the model returned.
        dtype: of its logits.
        losses: (b,) floating.
        counts: (b,) items of each sample; None for one each.
        num_items_in_batch: another number by which the model may have divided; None if there is none.
    """
    seen, own = losses.detach(), own.detach().float()
    weights = torch.ones_like(seen) if counts is None else counts
    items = [weights.sum()] if num_items_in_batch is None else [weights.sum(), num_items_in_batch]
    means = [(seen * weights).sum() / number for number in items]
    tolerance = 1e-3 if dtype == torch.float32 else 2e-2
    if not any(torch.allclose(own, mean, rtol=tolerance, atol=1e-4, equal_nan=True) for mean in means):
        raise ValueError(
            f"per_sample_losses must have the model's own loss as its mean, got {means[0]:.4g} and {own:.4g}; "
            "override per_sample_losses(outputs, inputs) for this model"
        )


def write_state(file: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values to a file that is whole or not there; makes its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    torch.save(state, stream)
    write_whole(file, stream.getvalue())


def read_state(file: Path) -> dict[str, Any]:
    """Returns what `write_state` wrote; raises ValueError if it cannot be read."""
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"the state of the pruner must be whole, got {file}, which cannot be read; resume from the checkpoint "
            "before it"
        ) from error
    return state
