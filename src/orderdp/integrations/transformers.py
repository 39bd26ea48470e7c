"""The Trainer of Hugging Face Transformers, with each epoch trained on the samples that a pruner selects.

The Trainer counts the steps of an epoch once, and finds its place in a resumed run by division. Neither is right where
the size of an epoch varies. So this class says the size of each epoch as it begins, and asks the pruner for the place.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

try:
    import accelerate  # noqa: F401 (the Trainer asks for it later)
    from transformers import PreTrainedModel, Trainer, __version__
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
except ModuleNotFoundError as error:
    if error.name not in ("accelerate", "transformers"):
        raise
    what = "PrunedTrainer needs transformers and accelerate: pip install 'transformers>=5.24' 'accelerate>=1.1'"
    raise ImportError(what) from None
if not hasattr(Trainer, "loss_is_scaled_for_ga"):
    raise ImportError(
        f"PrunedTrainer needs transformers 5.24 or later, got {__version__}: pip install 'transformers>=5.24'"
    )

from orderdp.integrations.transformers_parts import (
    IDS,
    BatchesWithIds,
    Place,
    checked_loader,
    compare_with_own,
    losses_of,
    pair_of,
    read_state,
    refuse_arguments,
    refuse_stream,
    write_state,
)
from orderdp.loader import PrunedLoader
from orderdp.pruner import Pruner
from orderdp.schedule import strategy_of
from orderdp.states import resumed_by
from orderdp.strategies import Strategy

STATE_FILE = "pruner.pt"  # in each checkpoint folder


class PrunedTrainer(Trainer):
    """A Trainer that trains each epoch on the samples that a pruner selects.

    It makes the steps of a plain loop over `pruner.loader`, and a resumed run goes on exactly where it was. Each
    checkpoint folder holds the state of the pruner. To prune in another Trainer, name both, this class first:
    `class PrunedSeq2SeqTrainer(PrunedTrainer, Seq2SeqTrainer): pass`.

    Args:
        arguments: as for `transformers.Trainer`.
        pruner: selects the samples; of the size of `train_dataset`.
        strategy: makes a new pruner in each call of `train`, with the seed of the arguments, instead of `pruner`.
        keywords: as for `transformers.Trainer`.

    Raises:
        TypeError: an iterable-style training set; in `train`, another loader than that of `get_train_dataloader`.
        ValueError: both or neither of `pruner` and `strategy`; in `train`, arguments that do not go with pruning, or a
            checkpoint without the state of the pruner.
    """

    def __init__(
        self, *arguments: Any, pruner: Pruner | None = None, strategy: Strategy | None = None, **keywords: Any
    ) -> None:
        if (pruner is None) == (strategy is None):
            raise ValueError(
                f"one of pruner and strategy must be given, got {pruner!r} and {strategy!r}; "
                "write strategy=OrderDP(prune_ratio=0.5)"
            )
        if not isinstance(pruner, (Pruner, type(None))):
            raise TypeError(f"pruner must be a Pruner, got {type(pruner).__name__}; write orderdp.Pruner(strategy, n)")
        refuse_stream(keywords.get("train_dataset", next(iter(arguments[3:]), None)))
        super().__init__(*arguments, **keywords)
        self.strategy, self._pruner = strategy, pruner
        self._between_steps = True
        self._loader: PrunedLoader | None = None  # of the run
        self._length = self._done = 0  # batches of the running epoch on this rank, and how many are trained
        self._epoch = 0
        self._open_ended = False  # whether the number of steps of the run depends on the losses
        self._seen = 0  # samples of the batch of which `compute_loss` told the pruner
        self._trained = 0  # samples of this call of `train` on this rank
        self._compared = False  # with the loss of the model
        self.callback_handler.callbacks.insert(0, Place(self))

    @property
    def pruner(self) -> Pruner:
        """The pruner of the run, or of the next one."""
        if self._pruner is None:
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            assert self.strategy is not None
            self._pruner = Pruner(self.strategy, len(self.train_dataset), seed=seed)
        return self._pruner

    @property
    def place(self) -> float:
        """Epochs trained so far, with the part of the running one."""
        return self._epoch + self._done / max(self._length, 1)

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """Trains as `transformers.Trainer.train` does; `resume_from_checkpoint` resumes the pruner too."""
        refuse_stream(self.train_dataset)
        refuse_arguments(self)
        if self.strategy is not None:
            self._pruner = None
        self._compared, self._trained, self._between_steps = False, 0, True
        return super().train(*arguments, **keywords)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Returns a loader of the samples that the pruner selects, in batches as the Trainer makes them."""
        plain = super().get_train_dataloader()
        if self.pruner.ranks()[1] != self.accelerator.num_processes:
            raise ValueError(
                f"the pruner must share the data among all {self.accelerator.num_processes} processes, got a "
                f"process_group of {self.pruner.ranks()[1]}; leave out process_group"
            )
        cut = {"batch_size": self._train_batch_size, "drop_last": self.args.dataloader_drop_last}
        prepared: DataLoader[Any] = self.accelerator.prepare(BatchesWithIds(self.pruner, plain, **cut))
        return prepared

    # How many steps there are

    def _steps(self, batches: int) -> int:
        """Returns the optimiser steps that are made of some batches of one epoch."""
        k: int = self.args.gradient_accumulation_steps
        return -(-batches // k)

    def _batches(self, epoch: int) -> tuple[int, bool]:
        """Returns the batches of an epoch on each rank, and whether that is certain or the most there can be."""
        assert self._loader is not None
        pruner, cut = self.pruner, self._loader.batch_sampler.batching
        size = strategy_of(pruner.schedule, pruner.strategy, epoch).num_selected(pruner.num_samples, epoch)
        known = size is not None
        most = pruner.num_samples if size is None else size
        return len(cut.steps(most, num_ranks=pruner.ranks()[1], exact=known)), known

    def _planned(self, epoch: int, batches: int) -> int:
        """Returns the optimiser steps of an epoch, of which `num_train_epochs` may want a part only."""
        wanted: float = self.args.num_train_epochs - epoch
        return math.ceil(min(1.0, wanted) * self._steps(batches))

    def set_initial_training_values(self, args: Any, dataloader: Any) -> tuple[Any, ...]:
        """Returns what the Trainer plans, with the steps of all epochs counted one by one.

        If the size of an epoch depends on the losses, the number of steps is the most there can be, until the last
        epoch begins.
        """
        self._loader = dataloader = checked_loader(dataloader)
        _, first, _, _, batch, length, _ = super().set_initial_training_values(args, dataloader)
        max_steps, epochs, self._open_ended = args.max_steps, math.ceil(args.num_train_epochs), False
        if max_steps > 0:
            steps = epochs = 0
            while steps < max_steps:
                batches, known = self._batches(epochs)
                steps, epochs = steps + (self._steps(batches) if known else 1), epochs + 1
        else:
            sizes = [self._batches(epoch) for epoch in range(epochs)]
            max_steps = sum(self._planned(epoch, batches) for epoch, (batches, _) in enumerate(sizes))
            self._open_ended = not all(known for _, known in sizes)
            if not self._open_ended:
                dataloader.total_steps(epochs)  # warns of a strategy that prunes in none of them
        return epochs, first, self.pruner.num_samples, max_steps * batch, batch, length, max_steps

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Makes the learning-rate schedule. If the number of steps depends on the losses, it follows the epochs."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if self._created_lr_scheduler and isinstance(scheduler, LambdaLR) and self._open_ended:
            scheduler.lr_lambdas = [self._of_share(rate, num_training_steps) for rate in scheduler.lr_lambdas]
        return scheduler

    def _of_share(self, rate: Any, num_training_steps: int) -> Any:
        """Returns a schedule that reads its step from the share of the run that is done when a step is made."""

        def of_share(_: int) -> float:
            done = self._epoch + self._steps(self._done) / max(self._steps(self._length), 1)
            return float(rate(min(1.0, done / self.args.num_train_epochs) * num_training_steps))

        return of_share

    def _run_epoch(self, **given: Any) -> None:
        """Trains an epoch, or what a checkpoint left of it, with the number of batches that it has."""
        pruner, epoch, loader = self.pruner, given["epoch"], given["train_dataloader"]
        if pruner.next_epoch != epoch:
            raise ValueError(
                f"the pruner must be at epoch {epoch}, where the Trainer is, got {pruner.next_epoch}; make a new "
                f"Pruner or give a strategy, or write pruner.set_epoch({epoch}) to keep what it remembers"
            )
        batches, known = self._batches(epoch)
        if not known:
            pruner.synchronize()
            cut = loader.batch_sampler.batching
            batches = len(pruner.steps_of(cut, len(pruner.preview(cut.batch_size, drop_last=cut.drop_last).indices)))
        left = loader.remaining if pruner.resuming else batches
        self._epoch, self._length, self._done = epoch, batches, batches - left
        if self._open_ended:
            later = range(epoch + 1, math.ceil(self.args.num_train_epochs))
            steps = self._planned(epoch, batches) - self._steps(self._done)
            steps += sum(self._planned(number, self._batches(number)[0]) for number in later)
            self.state.max_steps = self.state.global_step + steps
        given |= {
            "steps_in_epoch": left,
            "num_update_steps_per_epoch": self._steps(left),
            "steps_trained_in_current_epoch": 0,  # the loader skips them
        }
        super()._run_epoch(**given)
        if not self._between_steps:
            stopped = "the run stopped inside an optimiser step and saved nothing there; stop it in on_step_end"
            warnings.warn(stopped, RuntimeWarning, stacklevel=2)

    def _finalize_training(self, trial: Any, num_train_samples: float, start_time: float) -> Any:
        trained = self.accelerator.reduce(torch.tensor(self._trained, device=self.accelerator.device), "sum").item()
        steps = self.state.global_step - self._initial_global_step
        # The Trainer takes of this number the share that the steps of this call have of all.
        return super()._finalize_training(trial, trained * max(self.state.max_steps, 1) / max(steps, 1), start_time)

    # The loss

    def training_step(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Trains a batch, and checks that the pruner knows its losses."""
        self._seen = 0
        loss: Tensor = super().training_step(*arguments, **keywords)
        if not self._seen:
            raise RuntimeError(
                "compute_loss must tell the pruner the losses of a batch, got one that did not; override "
                "per_sample_losses(outputs, inputs) instead, or call super().compute_loss"
            )
        self._done, self._trained, self._between_steps = self._done + 1, self._trained + self._seen, False
        return loss

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,  # noqa: FBT001, FBT002
        num_items_in_batch: Any = None,
        **keywords: Any,
    ) -> Any:
        """Returns the loss to back-propagate, and tells the pruner the losses of the samples.

        A batch without ids, as in an evaluation, has the Trainer's own loss.
        """
        if IDS not in inputs:
            if self.is_in_train and model.training:
                raise RuntimeError(
                    f"each batch must hold {IDS!r}, got {sorted(inputs)}; take the batches from "
                    "PrunedTrainer.get_train_dataloader and keep this entry"
                )
            keywords |= {"return_outputs": return_outputs, "num_items_in_batch": num_items_in_batch}
            return super().compute_loss(model, inputs, **keywords)
        inputs = dict(inputs)
        index = torch.from_numpy(inputs.pop(IDS))
        outputs = self._outputs(model, inputs, num_items_in_batch, keywords)
        losses, counts = pair_of(self.per_sample_losses(outputs, inputs))
        if losses.shape != index.shape:
            raise ValueError(
                f"per_sample_losses must return ({len(index)},) losses, one for each sample of the batch, got shape "
                f"{tuple(losses.shape)}; a data_collator that puts samples in one row is not supported"
            )
        self._compare(outputs, losses, counts, num_items_in_batch)
        loss = self._reduced(index, losses, counts, num_items_in_batch)
        self.loss_is_scaled_for_ga = num_items_in_batch is not None
        self._seen = len(index)
        return (loss, outputs) if return_outputs else loss

    def _outputs(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any, keywords: dict[str, Any]) -> Any:
        """Returns what the model returns. Its own loss is left out where nothing needs it."""
        following = super().compute_loss
        if following.__func__ is not Trainer.compute_loss:  # another Trainer does more there than the loss
            keywords |= {"return_outputs": True, "num_items_in_batch": num_items_in_batch}
            return following(model, dict(inputs), **keywords)[1]
        alone = isinstance(self.model, PreTrainedModel) and self._compared
        decodes = getattr(getattr(self.model, "config", None), "is_encoder_decoder", False)
        if alone and not (decodes and "decoder_input_ids" not in inputs):
            return model(**{name: value for name, value in inputs.items() if name != "labels"})
        return model(**inputs)

    def _reduced(self, index: Tensor, losses: Tensor, counts: Tensor | None, num_items_in_batch: Any) -> Tensor:
        """Returns the part of a batch in the mean of its optimiser step.

        With `num_items_in_batch` this is the mean over all items of the step, and otherwise that of the batch, which
        the Trainer divides by the number of batches.
        """
        weights = None if counts is None else counts.to(losses.dtype)
        if num_items_in_batch is None:
            return self.pruner.update(index, losses, weights=weights)
        if weights is None:
            return self.pruner.update(index, losses) / float(self.current_gradient_accumulation_steps)
        if self.pruner.chooses_in_batch:  # the mean of the samples kept, which counts as that of the batch
            total = self.pruner.update(index, losses, weights=weights) * weights.sum()
        else:
            total = self.pruner.update(index, losses, weights=weights, reduction="none").sum()
        averaged: Any = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return torch.mul(total, averaged / num_items_in_batch)

    def per_sample_losses(self, outputs: Any, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Returns the loss of each sample of a batch, and how much each counts; override it for another loss.

        Knows language models and other token losses with the mean over the tokens of a sequence, classification with
        one or several labels, and regression. `label_smoothing_factor` applies where there is one label.

        Args:
            outputs: what the model returned; `outputs["logits"]` are floating.
            inputs: the batch, with `labels`; -100 marks labels that do not count.

        Returns:
            (b,) floating losses with gradient, and (b,) numbers of items of each sample, such as tokens, whose sum is
            the Trainer's `num_items_in_batch`; None if every sample counts the same.

        Raises:
            ValueError: outputs or labels of another kind.
        """
        return losses_of(
            outputs,
            inputs,
            getattr(self.model, "config", None),
            shift=self._loss_shifts_labels,
            label_smoothing=self.args.label_smoothing_factor,
        )

    def _compare(self, outputs: Any, losses: Tensor, counts: Tensor | None, num_items_in_batch: Any) -> None:
        """Raises ValueError unless the losses are those of the model; looks at the first batch of a run."""
        own = None if self._compared or not isinstance(outputs, Mapping) else outputs.get("loss")
        chosen = type(self).per_sample_losses is not PrunedTrainer.per_sample_losses or self.label_smoother is not None
        if own is not None and not chosen:
            compare_with_own(own, outputs["logits"].dtype, losses, counts, num_items_in_batch)
        self._compared = True

    # Checkpoints

    def _cut(self) -> dict[str, int]:
        """Returns what must be the same when a run resumes, so that its steps are counted alike."""
        return {
            "samples of a batch on all processes": self._train_batch_size * self.pruner.ranks()[1],
            "gradient_accumulation_steps": self.args.gradient_accumulation_steps,
            "step": self.state.global_step,
        }

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not self._between_steps:  # a callback saves before the optimiser applies what was trained: save after it
            self.control.should_save = True
            return
        assert self._loader is not None
        state = {"loader": self._loader.whole_state(), "cut": self._cut()}
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            write_state(folder / STATE_FILE, state)
        super()._save_checkpoint(model, trial)

    def _init_training_state(
        self, max_steps: Any, first_steps: Any, num_train_epochs: Any, resume_from_checkpoint: Any, trial: Any
    ) -> tuple[int, int]:
        super()._init_training_state(max_steps, first_steps, num_train_epochs, resume_from_checkpoint, trial)
        if resume_from_checkpoint is None:
            return 0, 0
        file = Path(resume_from_checkpoint) / STATE_FILE
        if not file.is_file():
            return self._between_epochs(file), 0
        saved = read_state(file)
        if saved["cut"] != self._cut():
            raise ValueError(
                f"a run resumes with the steps that it was saved with, {saved['cut']}, got {self._cut()}; write those"
            )
        assert self._loader is not None
        with resumed_by(
            "give PrunedTrainer the data and the strategy or pruner of the saved run, and call "
            "trainer.train(resume_from_checkpoint=...); or leave resume_from_checkpoint out to begin a new run"
        ):
            self._loader.load_state_dict(saved["loader"])
        left = self._loader.remaining
        return self.pruner.next_epoch, len(self._loader) - left if left else 0

    def _between_epochs(self, file: Path) -> int:
        """Returns the epoch that a checkpoint without a pruner begins; raises ValueError if that is not known."""
        epoch, steps, certain = 0, self.state.global_step, True
        while steps > 0:
            batches, known = self._batches(epoch)
            steps, epoch, certain = steps - self._steps(batches), epoch + 1, certain and known
        if steps or not certain or self.pruner.next_epoch != epoch:
            between = "" if steps or not certain else f", or write pruner.set_epoch({epoch}) to begin without memory"
            raise ValueError(
                f"a checkpoint must hold the state of the pruner, got none at {file}; resume from one that "
                f"PrunedTrainer saved{between}"
            )
        return epoch
