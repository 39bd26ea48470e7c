"""The training loop: one recipe, one run, resumable at any step."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast, gather_object
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from orderdp.data.augment import Augment
from orderdp.data.datasets import DataSets, ImageArrays, ImageFiles
from orderdp.data.images import AugmentedImages, FileImages, ResidentImages, SampleImages
from orderdp.diagnostics import coverage, gradient_norm
from orderdp.pruner import Pruner
from orderdp.training.alignment import CHECKPOINTS, InOrder, alignment_of, epochs_measured, norms_of, similarity
from orderdp.training.check import check_recipe
from orderdp.training.models import build_model
from orderdp.training.optim import build_optimizer, build_schedule
from orderdp.training.provenance import environment
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder
from orderdp.training.steps import most_steps, num_epochs, total_steps


@dataclass
class Progress:
    """How far a run has come; what is summed up over an epoch is kept, so that it can be left and taken up again.

    Args:
        step: optimiser steps made.
        samples_forward: samples that went through the model in training, on all ranks.
        loss_sum: of the running epoch's losses on this rank.
        loss_count: losses in `loss_sum`.
        training_s: seconds of the running epoch in training, data and selection included.
        waited_s: seconds of the running epoch in waiting for batches, selection included.
        choices: digest of every choice so far.
        trained: (n,) bool, the samples trained in the epoch before; None in the first.
        checkpoint: (n,) bool, those of the last of the `CHECKPOINTS` epochs passed; None before the first.
        gradient_norms: (step,) float32, norm of the gradient of every step so far.
        history: a line of metrics for each finished epoch.
    """

    step: int = 0
    samples_forward: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    training_s: float = 0.0
    waited_s: float = 0.0
    choices: str = ""
    trained: Tensor | None = None
    checkpoint: Tensor | None = None
    gradient_norms: Tensor = field(default_factory=lambda: torch.empty(0))
    history: list[dict[str, Any]] = field(default_factory=list)


SECONDS = ("training_s", "selection_s", "data_s", "evaluation_s")


class Run:
    """One training run of a recipe in its folder; goes on from the folder's checkpoint where there is one.

    Args:
        recipe: the settings.
        data: the data set that the recipe names.
        folder: where the run is written.
        show: show progress bars, where standard error is a terminal.

    Raises:
        ValueError: a setting that does not fit the data or the machine.
    """

    def __init__(self, recipe: Recipe, data: DataSets, folder: RunFolder, *, show: bool = True) -> None:
        sizes = len(data.train), PartialState(cpu=recipe.device == "cpu").num_processes
        check_recipe(recipe, *sizes, in_files=isinstance(data.train, ImageFiles))
        self.recipe = recipe
        self.folder = folder
        self.accelerator = Accelerator(cpu=recipe.device == "cpu")
        self.device = self.accelerator.device
        if recipe.num_threads is not None:
            torch.set_num_threads(recipe.num_threads)
        # None: tqdm looks whether there is a terminal.
        self._quiet = None if show and self.accelerator.is_main_process else True
        # Weights, and dropout and the like, draw from the global generators.
        torch.manual_seed(recipe.seed)  # noqa: TID251
        self.model = build_model(
            recipe.model, num_classes=data.num_classes, in_channels=data.in_channels, image_size=data.image_size
        )
        if recipe.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.net: Any = self.accelerator.prepare_model(self.model)
        if recipe.compile:
            self.net = torch.compile(self.net)
        self.num_steps = total_steps(recipe, *sizes)
        # Where the steps depend on the losses, the rate follows the share of the run that is done, in these steps.
        self.schedule_steps = self.num_steps or most_steps(recipe, *sizes)
        self.optimizer = build_optimizer(
            self.model, name=recipe.optimizer, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.schedule = build_schedule(
            self.optimizer,
            total_steps=self.schedule_steps,
            max_lr=recipe.max_lr,
            pct_start=recipe.pct_start,
            div_factor=recipe.div_factor,
            final_div_factor=recipe.final_div_factor,
            name=recipe.schedule,
        )
        self.pruner = Pruner(recipe.strategy, len(data.train), seed=recipe.seed)
        self.train_set = self._images(data.train, data, recipe.augment)
        self.test_set = self._images(data.test, data, "none")
        self.plain_train_set = self._images(data.train, data, "none") if recipe.alignment else None
        epochs = num_epochs(recipe, *sizes)
        self.alignment_epochs = epochs_measured(recipe.alignment, epochs)
        self.checkpoint_epochs = epochs_measured(CHECKPOINTS, epochs)
        self.labels = data.train.labels
        self.loader = self.pruner.loader(
            self.train_set,
            batch_size=recipe.batch_size,
            drop_last=recipe.drop_last,
            **self._loading(self.train_set),
        )
        self.progress = Progress()

    def train(self) -> dict[str, Any]:
        """Trains to the end, writing metrics and checkpoints, and returns the result that it writes.

        Raises:
            FloatingPointError: the training loss of an epoch is not finite, or the test loss after it.
            ValueError: the folder's checkpoint does not fit. OSError: the folder cannot be written.
        """
        self._resume()
        progress = self.progress
        bar = tqdm(
            total=self.num_steps, initial=progress.step, desc=self.folder.name, unit=" steps", disable=self._quiet
        )
        with bar:
            while not self._finished():
                self._close_epoch(lr=self._train_epoch(bar))
                last = progress.history[-1]
                bar.set_postfix_str(f"loss {last['loss']:.3f}, accuracy {last['accuracy']:.2f} %")
        result = self._result()
        if self.accelerator.is_main_process:
            self.folder.write_gradient_norms(self.progress.gradient_norms)
            self.folder.write_result(result)
        return result

    def _finished(self) -> bool:
        if self.num_steps is not None:
            return self.progress.step == self.num_steps
        return len(self.progress.history) == self.recipe.epochs

    def _step_schedule(self, epoch: int) -> None:
        """Sets the learning rate of the next step: by its number, or by the share of the run that is done."""
        if self.num_steps is None:
            batches = self.loader.batch_sampler
            done = batches.delivered / (batches.delivered + batches.remaining)
            step = round((epoch + done) / self.recipe.epochs * self.schedule_steps)
            self.schedule.last_epoch = min(step, self.schedule_steps - 1) - 1  # which its own step adds one to
        self.schedule.step()

    def _train_epoch(self, bar: Any) -> float:
        """Trains to the end of the epoch and returns the learning rate of its last step."""
        progress, lr = self.progress, math.nan
        epoch = len(progress.history)
        self.pruner.set_epoch(epoch)
        self.train_set.set_epoch(epoch)
        self.net.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        norms: list[Tensor] = []
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        now_s = time.perf_counter()
        for index, batch in tqdm(self.loader, f"epoch {epoch + 1}", leave=False, disable=self._quiet):
            progress.waited_s += time.perf_counter() - now_s
            losses = self._losses(batch)
            self.pruner.update(index, losses).backward()  # type: ignore[no-untyped-call]
            norms.append(gradient_norm(parameters))
            lr = self.optimizer.param_groups[0]["lr"]
            self.optimizer.step()
            self._step_schedule(epoch)
            self.optimizer.zero_grad()
            loss_sum += losses.detach().sum()
            progress.loss_count += len(index)
            progress.step += 1
            bar.update()
            before_s, now_s = now_s, time.perf_counter()
            progress.training_s += now_s - before_s
            if progress.step == self.num_steps:
                break
            every = self.recipe.checkpoint_steps
            if every and progress.step % every == 0 and self.loader.batch_sampler.remaining:
                progress.loss_sum += float(loss_sum)  # waits for the device
                loss_sum.zero_()
                self._keep(norms)
                progress.training_s += time.perf_counter() - now_s
                self._mean_loss()
                self._write_checkpoint(self.loader.state_dict())
                now_s = time.perf_counter()
        progress.loss_sum += float(loss_sum)  # waits for the device
        self._keep(norms)
        progress.training_s += time.perf_counter() - now_s
        return lr

    def _keep(self, norms: list[Tensor]) -> None:
        """Moves the gradient norms of the last steps to the host."""
        if norms:
            self.progress.gradient_norms = torch.cat([self.progress.gradient_norms, torch.stack(norms).cpu().float()])
            norms.clear()

    def _mean_loss(self) -> tuple[float, int]:
        """Returns the mean loss of the running epoch so far, and of how many samples, over all ranks.

        Raises:
            FloatingPointError: it is not finite.
        """
        sums = torch.tensor([self.progress.loss_sum, self.progress.loss_count], dtype=torch.float64, device=self.device)
        loss_sum, loss_count = self.accelerator.reduce(sums).tolist()
        if not math.isfinite(loss_sum):
            raise FloatingPointError(
                f"the training loss must stay finite, got {loss_sum} in epoch {len(self.progress.history) + 1}; "
                f"write a smaller max_lr than {self.recipe.max_lr:g}"
            )
        return loss_sum / loss_count, int(loss_count)

    def _close_epoch(self, *, lr: float) -> None:
        """Evaluates, and writes the epoch's line of metrics and a checkpoint."""
        progress, history = self.progress, self.progress.history
        loss, loss_count = self._mean_loss()
        assert self.pruner.selection is not None
        chosen = hashlib.sha256(progress.choices.encode() + self.pruner.selection.indices.tobytes())
        began_s = time.perf_counter()
        test_loss, accuracy = self._evaluate()
        evaluation_s = time.perf_counter() - began_s
        loader_state = self.loader.state_dict()  # exchanges what the ranks have seen: before the report
        report = self.pruner.report()
        selection_s = report.selection_s - sum(line["selection_s"] for line in history)
        trained = self.pruner.trained().cpu()
        began = history[-1]["step"] if history else 0
        at_checkpoint = len(history) + 1 in self.checkpoint_epochs
        progress.samples_forward += loss_count
        history.append(
            {
                "epoch": len(history) + 1,
                "step": progress.step,
                "samples_forward": progress.samples_forward,
                "samples_backward": report.visits,
                "loss": loss,
                "test_loss": test_loss,
                "accuracy": accuracy,
                "lr": lr,
                **norms_of(progress.gradient_norms, began),
                "jaccard": similarity(progress.trained, trained),
                "jaccard_checkpoint": similarity(progress.checkpoint, trained) if at_checkpoint else None,
                "alignment": self._alignment(),
                "never_seen": report.never_seen,
                "mean_age": report.mean_age,
                "max_age": report.max_age,
                "training_s": progress.training_s - progress.waited_s,
                "selection_s": selection_s,
                "data_s": progress.waited_s - selection_s,
                "evaluation_s": evaluation_s,
            }
        )
        progress.choices = chosen.hexdigest()
        progress.trained = trained
        progress.checkpoint = trained if at_checkpoint else progress.checkpoint
        progress.loss_sum, progress.loss_count, progress.training_s, progress.waited_s = 0.0, 0, 0.0, 0.0
        self._write_checkpoint(loader_state)
        self._write_metrics()

    def _alignment(self) -> dict[str, dict[str, float]] | None:
        """Returns where the gradient of the next epoch's choice points, at the epochs that the recipe asks for."""
        if self.plain_train_set is None or len(self.progress.history) + 1 not in self.alignment_epochs:
            return None
        size = self.recipe.eval_batch_size
        batches = InOrder(self.plain_train_set, size, self._loading(self.plain_train_set))
        self.model.eval()
        selection = self.pruner.preview(self.recipe.batch_size * self.accelerator.num_processes)
        return alignment_of(self.pruner.strategy, selection, self.model, self._losses, batches)

    def _losses(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Returns (b,) losses with gradient, in nats, as they are back-propagated."""
        images, labels = batch
        return F.cross_entropy(
            self._logits(images),
            labels.to(self.device, non_blocking=True),
            reduction="none",
            label_smoothing=self.recipe.label_smoothing,
        )

    def _coverage(self) -> dict[str, Any]:
        """Returns how the training was spread over the samples, in plain values."""
        visits = self.pruner.visits()
        found = coverage(visits, labels=self.labels, epochs=len(self.progress.history), ages=self.pruner.ages())
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found._asdict().items()
        }

    def _evaluate(self) -> tuple[float, float]:
        """Returns mean loss in nats and accuracy in percent on the test set, without label smoothing."""
        if self.accelerator.num_processes > 1:
            broadcast(list(self.model.buffers()))  # running means differ between ranks; rank 0's are saved
        self.net.eval()
        rank, num_ranks = self.accelerator.process_index, self.accelerator.num_processes
        ids = range(rank, len(self.test_set), num_ranks)
        size = self.recipe.eval_batch_size
        batches = [list(ids[begin : begin + size]) for begin in range(0, len(ids), size)]
        loader: Any = DataLoader(
            self.test_set, batch_sampler=batches, generator=torch.Generator(), **self._loading(self.test_set)
        )
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for images, labels in loader:
                logits, target = self._logits(images), labels.to(self.device, non_blocking=True)
                sums[0] += F.cross_entropy(logits, target, reduction="sum")
                sums[1] += (logits.argmax(1) == target).sum()
                sums[2] += len(target)
        loss_sum, correct, count = self.accelerator.reduce(sums).tolist()
        if not math.isfinite(loss_sum):
            raise FloatingPointError(
                f"the test loss must stay finite, got {loss_sum} after epoch {len(self.progress.history) + 1}; "
                f"write a smaller max_lr than {self.recipe.max_lr:g}"
            )
        return loss_sum / count, 100 * correct / count

    def _logits(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if self.recipe.channels_last else torch.preserve_format
        images = images.to(self.device, non_blocking=True, memory_format=layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            logits: Tensor = (self.net if self.net.training else self.model)(images)
        return logits.float()

    def _images(self, source: ImageArrays | ImageFiles, data: DataSets, augment: Augment) -> AugmentedImages:
        """Returns the data path that the recipe asks for."""
        common: dict[str, Any] = {"mean": data.mean, "std": data.std, "augment": augment, "seed": self.recipe.seed}
        if isinstance(source, ImageFiles):
            return FileImages(source, image_size=data.image_size, **common)
        if self.recipe.data_path == "loader":
            return SampleImages(source, **common)
        return ResidentImages(source, device=self.device, channels_last=self.recipe.channels_last, **common)

    def _loading(self, images: AugmentedImages) -> dict[str, Any]:
        """Returns the DataLoader's arguments for a data path."""
        if isinstance(images, ResidentImages):
            return {"collate_fn": _as_it_is}
        return {"num_workers": self.recipe.num_workers, "pin_memory": self.device.type == "cuda"}

    def _write_checkpoint(self, loader_state: dict[str, Any]) -> None:
        mine = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
            "loss_sum": self.progress.loss_sum,
            "loss_count": self.progress.loss_count,
        }
        state = {
            "loader": loader_state,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "ranks": gather_object([mine]),
            "progress": asdict(self.progress),
        }
        if self.accelerator.is_main_process:
            self.folder.write_checkpoint(self.progress.step, self.model.state_dict(), state)
        self.accelerator.wait_for_everyone()

    def _write_metrics(self) -> None:
        if self.accelerator.is_main_process:
            self.folder.write_metrics(self.progress.history)

    def _resume(self) -> None:
        saved = self.folder.load_checkpoint()
        if saved is None:
            return
        model, state = saved
        saved_ranks = state["ranks"]
        if len(saved_ranks) != self.accelerator.num_processes:
            raise ValueError(
                f"a run must be resumed on the {len(saved_ranks)} ranks that it had, "
                f"got {self.accelerator.num_processes}; start as many processes"
            )
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.loader.load_state_dict(state["loader"])
        mine = saved_ranks[self.accelerator.process_index]
        torch.set_rng_state(mine["cpu"])
        torch.cuda.set_rng_state_all(mine["cuda"])
        sums = {name: mine[name] for name in ("loss_sum", "loss_count")}
        self.progress = Progress(**{**state["progress"], **sums})
        self._write_metrics()  # the run may have been killed between a checkpoint and its line of metrics

    def _result(self) -> dict[str, Any]:
        history = self.progress.history
        last = history[-1]
        return {
            "name": self.folder.name,
            "accuracy_last": last["accuracy"],
            "accuracy_best": max(line["accuracy"] for line in history),
            "epochs": len(history),
            "steps": last["step"],
            "samples_forward": last["samples_forward"],
            "samples_backward": last["samples_backward"],
            **{name: sum(line[name] for line in history) for name in SECONDS},
            "coverage": self._coverage(),
            "seed": self.recipe.seed,
            "digests": {
                "model": _digest(self.model.state_dict()),
                "scores": _digest(self.pruner.scores()),
                "choices": self.progress.choices,
            },
            "ranks": self.accelerator.num_processes,
            **environment(self.device),
        }


def _as_it_is(batch: Any) -> Any:
    """The collate function of a data set that returns whole batches."""
    return batch


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of names and bits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
