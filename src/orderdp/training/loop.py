"""The training loop: one recipe, one run, resumable at any step."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast
from torch import Tensor

from orderdp.data.base import DataSets
from orderdp.data.samples import Samples
from orderdp.diagnostics import gradient_norm
from orderdp.diagnostics.moment import Moment, When, due, evenly
from orderdp.diagnostics.registry import measure
from orderdp.pruner import Pruner
from orderdp.stopping import Stopped, StopRequest
from orderdp.training.check import check_recipe
from orderdp.training.data_path import DataPath
from orderdp.training.learning import averaging, learning
from orderdp.training.masked import MaskedAutoencoder
from orderdp.training.objective import EVALUATED, OF_CLASSES
from orderdp.training.optim import optimization
from orderdp.training.passes import first_pass, measure_passes, warm_up
from orderdp.training.progress import Progress
from orderdp.training.recipe import Recipe
from orderdp.training.result import result_of
from orderdp.training.run_folder import RunFolder
from orderdp.training.saved import restore, state_of
from orderdp.training.shown import Shown
from orderdp.training.steps import most_steps, num_epochs, total_steps
from orderdp.training.trackers import tracking


class Run:
    """One training run of a recipe in its folder; resumes from the folder's checkpoint if there is one.

    Args:
        recipe: the settings.
        data: the data set that the recipe names.
        folder: where the run is written.
        start: weights to begin with, of some of the model's; None for fresh ones.
        show: show progress bars, or a line an epoch if standard error is no terminal.
        trackers: names of the trackers that get a row an epoch.

    Raises:
        ValueError: a setting that does not fit the data or the machine.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: DataSets,
        folder: RunFolder,
        *,
        start: Mapping[str, Tensor] | None = None,
        show: bool = True,
        trackers: Sequence[str] = (),
    ) -> None:
        sizes = len(data.train), PartialState(cpu=recipe.device == "cpu").num_processes
        check_recipe(recipe, *sizes, data=data)
        self.recipe = recipe
        self.folder = folder
        self.accelerator = Accelerator(cpu=recipe.device == "cpu")
        self.device = self.accelerator.device
        if recipe.num_threads is not None:
            torch.set_num_threads(recipe.num_threads)
        self._show = show and self.accelerator.is_main_process
        self._trackers = trackers if self.accelerator.is_main_process else ()
        # The weights and dropout draw from the global generators.
        torch.manual_seed(recipe.seed)  # noqa: TID251
        self.model, self.objective, self.view, self.plain_view = learning(recipe, data)
        if start is not None:
            self.model.load_state_dict({**self.model.state_dict(), **start})
        if recipe.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Without `device_placement`, accelerate imports all of DTensor to decide.
        self.net: Any = self.accelerator.prepare_model(self.model, device_placement=True)
        if recipe.compile:
            self.net = torch.compile(self.net)
        self.average: Any = averaging(self.model, recipe.ema) if recipe.ema else None  # the model is on its device
        # The ranks have no gradients of a first pass to exchange.
        alone = self.accelerator.num_processes == 1
        self.chooser: Any = self.net if alone else torch.compile(self.model) if recipe.compile else self.model
        self.num_steps = total_steps(recipe, *sizes)
        # If the number of steps depends on the losses, the rate follows the share of the run, in these steps.
        self.schedule_steps = self.num_steps or most_steps(recipe, *sizes)
        self.optimizer, self.schedule = optimization(self.model, recipe, total_steps=self.schedule_steps)
        labelled = data.num_classes and recipe.finetune is None
        strategy = recipe.strategy.for_labels(data.train.labels if labelled else None)
        self.pruner = Pruner(strategy, len(data.train), seed=recipe.seed)
        self.data_path = DataPath(recipe, data, self.device)
        self.train_set = self.data_path.samples(data.train, recipe.augment)
        self.test_set = self.data_path.samples(data.test, "none")
        self.num_epochs = num_epochs(recipe, *sizes)
        self.loader = self.pruner.loader(
            self.train_set,
            batch_size=recipe.batch_size,
            drop_last=recipe.drop_last,
            **self.data_path.loading(self.train_set),
        )
        self.progress = Progress()
        self.stop = StopRequest()

    def train(self) -> dict[str, Any]:
        """Trains to the end, writes metrics, checkpoints and result, and returns the result.

        SIGTERM stops it at the next step of all ranks, with a checkpoint.

        Raises:
            Stopped: after SIGTERM.
            FloatingPointError: the training loss of an epoch is not finite, or the test loss after it.
            ValueError: the folder's checkpoint does not fit. OSError: the folder cannot be written.
        """
        self._resume()
        self.progress.goes_on_in(self.device)
        if self.progress.step == 0:
            self._measure_passes()
        with self.stop:
            self._train_epochs()
            result = result_of(self)
            if self.accelerator.is_main_process:
                self.folder.write_gradient_norms(self.progress.gradient_norms)
                self.folder.write_result(result)
            if self.stop.agreed(now=True):  # the runs after it do not begin
                raise Stopped(self.progress.step)
        return result

    def _train_epochs(self) -> None:
        progress = self.progress
        shown = Shown(self.folder.name, self.num_steps, self.num_epochs, step=progress.step, show=self._show)
        with shown, tracking(self._trackers, self.folder.path, self.recipe) as log:
            log(progress.history)  # what the logs of a resumed run lack
            while not self._finished():
                self._close_epoch(lr=self._train_epoch(shown))
                shown.epoch(progress.history)
                log(progress.history)
                if not self._finished() and self.stop.agreed():
                    raise Stopped(progress.step)

    def _measure_passes(self) -> None:
        """Measures what the passes of a step cost on this machine: the mean over the ranks. Warms up before."""
        data, steps = self.data_path.data, self.schedule_steps
        warm_up(self.model, self.recipe, data, self._losses_of_made_up)
        found = measure_passes(self.model, self.recipe, data, self._losses_of_made_up, steps=steps)
        if found is not None:
            mine = torch.tensor([*found.values()], dtype=torch.float64, device=self.device)
            self.progress.pass_s = dict(zip(found, self.accelerator.reduce(mine, "mean").tolist(), strict=True))

    def _finished(self) -> bool:
        if self.num_steps is not None:
            return self.progress.step == self.num_steps
        return len(self.progress.history) == self.recipe.epochs

    def _step_schedule(self, epoch: int) -> None:
        """Sets the learning rate of the next step, by its number or by the finished share of the run."""
        if self.num_steps is None:
            done = self.progress.epoch_step / len(self.loader)
            step = round((epoch + done) / self.recipe.epochs * self.schedule_steps)
            self.schedule.last_epoch = min(step, self.schedule_steps - 1) - 1  # its own step adds one
        self.schedule.step()

    def _train_epoch(self, shown: Shown) -> float:
        """Trains to the end of the epoch and returns the learning rate of its last step."""
        progress, lr = self.progress, math.nan
        epoch = len(progress.history)
        self.pruner.set_epoch(epoch)
        self.train_set.set_epoch(epoch)
        self.net.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        norms: list[Tensor] = []
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        now_s, processor_s = time.perf_counter(), time.process_time()
        for index, batch in shown.batches(self.loader, epoch + 1):
            progress.waited_s += time.perf_counter() - now_s
            losses, loss = self._forward(index, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            norms.append(gradient_norm(parameters))
            if self.recipe.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, self.recipe.clip_norm)
            lr = self.optimizer.param_groups[0]["lr"]
            self.optimizer.step()
            progress.epoch_step += 1
            self._step_schedule(epoch)
            self.optimizer.zero_grad()
            loss_sum += losses.detach().sum()
            progress.loss_count += len(losses)
            progress.step += 1
            if self.average is not None:
                self.average.update(self.model, step=progress.step)
            shown.step()
            before_s, now_s = now_s, time.perf_counter()
            progress.training_s += now_s - before_s
            if progress.step == self.num_steps:
                break
            stop, every = self.stop.agreed(), self.recipe.checkpoint_steps
            if (stop or (every and progress.step % every == 0)) and progress.epoch_step < len(self.loader):
                progress.loss_sum += float(loss_sum)  # waits for the device
                loss_sum.zero_()
                self._keep(norms)
                progress.training_s += time.perf_counter() - now_s
                progress.processor_s += time.process_time() - processor_s
                self._mean_loss()
                self._write_checkpoint(self.loader.state_dict())
                if stop:
                    raise Stopped(progress.step)
                now_s, processor_s = time.perf_counter(), time.process_time()
        progress.loss_sum += float(loss_sum)  # waits for the device
        self._keep(norms)
        progress.training_s += time.perf_counter() - now_s
        progress.processor_s += time.process_time() - processor_s
        return lr

    def _forward(self, index: Tensor, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the losses of the samples that a step trains, and the scalar to back-propagate."""
        inputs, labels = (each.to(self.device, non_blocking=True) for each in batch)
        inputs, targets = self.view(index, (inputs, labels), self.train_set.epoch)
        if self.pruner.chooses_in_batch:
            self.progress.first_count += len(index)
            index = index.to(self.device, non_blocking=True)
            with first_pass(self.model):
                first = self._losses((inputs, targets), self.chooser)
            kept = self.pruner.choose(index, first)
            if not len(kept):  # none of the losses is finite
                self.progress.check_finite(float(first.sum()), "training loss", "in", self.recipe.max_lr)
            index, inputs, labels, targets = (each[kept] for each in (index, inputs, labels, targets))
        outputs = self._outputs((inputs, targets))
        losses = self.objective.losses(outputs, targets)
        scores = self.view.scores(outputs.detach(), labels, targets)
        return losses, self.pruner.update(index, losses, scores=scores)

    def _keep(self, norms: list[Tensor]) -> None:
        """Moves the gradient norms of the last steps to the host."""
        if norms:
            self.progress.gradient_norms = torch.cat([self.progress.gradient_norms, torch.stack(norms).cpu().float()])
            norms.clear()

    def _mean_loss(self) -> tuple[float, int]:
        """Returns the mean loss of the running epoch so far and its samples in forward passes, over all ranks.

        Raises:
            FloatingPointError: it is not finite.
        """
        mine = [self.progress.loss_sum, self.progress.loss_count, self.progress.first_count]
        sums = torch.tensor(mine, dtype=torch.float64, device=self.device)
        loss_sum, loss_count, first_count = self.accelerator.reduce(sums).tolist()
        self.progress.check_finite(loss_sum, "training loss", "in", self.recipe.max_lr)
        return loss_sum / loss_count, int(first_count + loss_count)

    def _close_epoch(self, *, lr: float) -> None:
        """Evaluates, and writes the epoch's line of metrics and a checkpoint."""
        progress, history = self.progress, self.progress.history
        loss, samples = self._mean_loss()
        assert self.pruner.selection is not None
        indices = self.pruner.selection.indices.astype(np.int64)
        chosen = hashlib.sha256(progress.choices.encode() + indices.tobytes())
        epoch = len(history) + 1
        began_s = time.perf_counter()
        asked = self.recipe.evaluations
        evaluated = not asked or epoch in evenly(asked, self.num_epochs)
        found = self._evaluate() if evaluated else dict.fromkeys(EVALUATED)
        if self.recipe.finetune is not None and epoch == self.num_epochs:
            found |= self._fine_tune()
        evaluation_s = time.perf_counter() - began_s
        loader_state = self.loader.state_dict()  # exchanges what the ranks have seen, so before the report
        kinds = due(epoch, self.num_epochs, asked=self.recipe.alignment)
        moment = self.moment(epoch, before=progress.trained, checkpoint=progress.checkpoint)
        selection_s = moment.report.selection_s - sum(line["selection_s"] for line in history)
        progress.samples_forward += samples
        history.append(
            {
                "epoch": epoch,
                "step": progress.step,
                "samples_forward": progress.samples_forward,
                "samples_backward": moment.report.visits,
                "loss": loss,
                **found,
                "lr": lr,
                **measure(moment, kinds),
                "training_s": progress.training_s - progress.waited_s,
                "selection_s": selection_s,
                "data_s": progress.waited_s - selection_s,
                "evaluation_s": evaluation_s,
                "processor_s": progress.processor_s,
            }
        )
        if self.accelerator.is_main_process:
            progress.warn_of_ratio(1 - moment.report.num_selected / moment.report.num_samples, self.num_epochs)
        progress.choices = chosen.hexdigest()
        progress.trained = moment.trained
        progress.checkpoint = moment.trained if When.CHECKPOINT in kinds else progress.checkpoint
        progress.loss_sum, progress.loss_count, progress.first_count = 0.0, 0, 0
        progress.training_s, progress.waited_s, progress.processor_s = 0.0, 0.0, 0.0
        progress.epoch_step = 0
        self._write_checkpoint(loader_state)
        self._write_metrics()

    def moment(self, epochs: int, *, before: Tensor | None = None, checkpoint: Tensor | None = None) -> Moment:
        """Returns the state of the run after this many epochs, for the diagnostics."""
        self.net.eval()
        history = self.progress.history
        return Moment(
            epochs=epochs,
            first_step=history[epochs - 2]["step"] if epochs > 1 else 0,
            gradient_norms=self.progress.gradient_norms,
            trained=self.pruner.trained().cpu(),
            trained_before=before,
            trained_at_checkpoint=checkpoint,
            labels=self.data_path.data.train.labels if self.data_path.data.num_classes else None,
            pruner=self.pruner,
            report=self.pruner.report(mastered_at=self.objective.mastered_at),
            preview=lambda: self.pruner.preview(self.recipe.batch_size, drop_last=self.recipe.drop_last),
            model=self.model,
            losses_of=lambda _, batch: self._losses(batch),
            batches=lambda: self.data_path.in_order(self.plain_train_set),
        )

    @cached_property
    def plain_train_set(self) -> Samples:
        """The training samples without augmentation, built when a diagnostic first asks for them."""
        return self.data_path.samples(self.data_path.data.train, "none")

    def _losses(self, batch: tuple[Tensor, Tensor], net: Any = None) -> Tensor:
        """Returns (b,) losses with gradient of inputs and targets, as they are trained; `net` as in `_outputs`."""
        return self.objective.losses(self._outputs(batch, net), batch[1].to(self.device, non_blocking=True))

    def _losses_of_made_up(self, batch: tuple[Tensor, Tensor], net: Any) -> Tensor:
        """Returns the losses of a batch of samples that are not in the data set."""
        return self._losses(self.plain_view(torch.arange(len(batch[1])), batch, 0), net)

    def _fine_tune(self) -> dict[str, float | None]:
        """Returns the accuracies of the model after its second stage, which is a run in a folder of its own.

        A run that is killed meanwhile repeats its own last epoch, and resumes the second stage.
        """
        assert isinstance(self.model, MaskedAutoencoder)
        recipe, folder = self.recipe.finetuning(), self.folder.second_stage()
        if self.accelerator.is_main_process:
            folder.begin(recipe)
        self.accelerator.wait_for_everyone()
        stage = Run(recipe, self.data_path.data, folder, start=self.model.encoder(), show=self._show)
        stage.stop = self.stop  # a signal may have come since the last step
        result = stage.train()
        return {"accuracy": result["accuracy_last"], **{name: result[name] for name in OF_CLASSES}}

    def _evaluate(self) -> dict[str, float | None]:
        """Returns `EVALUATED` on the test set, by the averaged weights if there are any."""
        evaluated = self.model if self.average is None else self.average.module
        if self.accelerator.num_processes > 1:
            nets = dict.fromkeys((self.model, evaluated))
            broadcast([each for net in nets for each in net.buffers()])  # running means differ; rank 0's are saved
        self.net.eval()
        rank, num_ranks = self.accelerator.process_index, self.accelerator.num_processes
        batches = self.data_path.in_order(self.test_set, rank=rank, num_ranks=num_ranks)
        sums = torch.zeros(self.objective.num_sums, dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for index, batch in batches:
                batch = self.plain_view(index, batch, 0)
                outputs = self._outputs(batch, evaluated)
                sums += self.objective.sums(outputs, batch[1].to(self.device, non_blocking=True))
        found: list[float] = self.accelerator.reduce(sums).tolist()
        self.progress.check_finite(found[0], "test loss", "after", self.recipe.max_lr)
        return self.objective.evaluation(found)

    def _outputs(self, batch: tuple[Tensor, Tensor], net: Any = None) -> Tensor:
        """Returns (b, outputs) float32, by `net`; by default the one to train, and the bare model in evaluation."""
        inputs, targets = batch
        if net is None:
            net = self.net if self.net.training else self.model
        layout = torch.channels_last if self.recipe.channels_last else torch.preserve_format
        inputs = inputs.to(self.device, non_blocking=True, memory_format=layout)
        masks = () if self.recipe.finetune is None else (targets.to(self.device, non_blocking=True),)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            outputs: Tensor = net(inputs, *masks)
        return outputs.float()

    def _write_checkpoint(self, loader_state: dict[str, Any]) -> None:
        self.progress.unreadable = sorted({*self.progress.unreadable, *self.data_path.unreadable()})
        state = state_of(self, loader_state)
        if self.accelerator.is_main_process:
            self.folder.write_checkpoint(self.progress.step, self.model.state_dict(), state)
        self.accelerator.wait_for_everyone()

    def _write_metrics(self) -> None:
        if self.accelerator.is_main_process:
            self.folder.write_metrics(self.progress.history)

    def _resume(self) -> None:
        saved = self.folder.load_checkpoint(warn=self.accelerator.is_main_process)
        if saved is None:
            return
        restore(self, *saved)
        self._write_metrics()  # the run may have been killed between a checkpoint and its line of metrics
