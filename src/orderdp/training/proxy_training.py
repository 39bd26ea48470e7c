"""The training of a proxy, epoch by epoch; what it leaves in its folder is all that is known of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from orderdp.pruner import Pruner
from orderdp.training.data_path import DataPath
from orderdp.training.models import model_for
from orderdp.training.optim import optimization
from orderdp.training.proxy_folder import ProxyFolder
from orderdp.training.steps import most_steps


def train_proxy(data_path: DataPath, folder: ProxyFolder, *, show: bool = True) -> None:
    """Trains the epochs that the folder does not hold; the global generators are put back.

    Args:
        data_path: recipe, data set and device. All samples of its training part are trained.
        folder: where weights, presentations and state are written after each epoch.
        show: show a progress bar, if standard error is a terminal.

    Raises:
        FloatingPointError: the loss of an epoch is not finite. OSError: a file cannot be written.
    """
    state = folder.state()
    epochs, seed = data_path.recipe.epochs, data_path.recipe.seed
    finished = 0 if state is None else len(state["history"])
    if finished == epochs:
        return
    quiet = None if show else True  # None: tqdm looks for a terminal
    device = data_path.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        training = _Training(data_path, folder, state)
        bar = tqdm(range(finished, epochs), f"proxy, seed {seed}", initial=finished, total=epochs, disable=quiet)
        for epoch in bar:
            training.train_epoch(epoch)
            bar.set_postfix_str(f"loss {training.history[-1]['loss']:.3f}")


def proxy_model(data_path: DataPath) -> torch.nn.Module:
    """Returns the freshly initialised model of a proxy; its weights come from torch's global generator."""
    recipe, data = data_path.recipe, data_path.data
    model = model_for(recipe.model, data, initialization=recipe.initialization).to(data_path.device)
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


class _Training:
    """Model, optimiser and loader, as they are after the last finished epoch."""

    def __init__(self, data_path: DataPath, folder: ProxyFolder, state: dict[str, Any] | None) -> None:
        recipe, data = data_path.recipe, data_path.data
        self.data_path, self.recipe, self.folder, self.device = data_path, recipe, folder, data_path.device
        # The weights and dropout draw from the global generators.
        torch.manual_seed(recipe.seed)  # noqa: TID251
        self.model = proxy_model(data_path)
        self.net: Any = torch.compile(self.model) if recipe.compile else self.model
        self.optimizer, self.schedule = optimization(
            self.model, recipe, total_steps=most_steps(recipe, len(data.train))
        )
        self.train_set = data_path.samples(data.train, recipe.augment)
        self.pruner = Pruner(recipe.strategy, len(data.train), seed=recipe.seed)
        self.loader = self.pruner.loader(
            self.train_set, batch_size=recipe.batch_size, **data_path.loading(self.train_set)
        )
        self.history: list[dict[str, float]] = []
        if state is None:
            folder.write_weights(0, self.model.state_dict())
        else:
            self._resume(state)

    def train_epoch(self, epoch: int) -> None:
        """Trains an epoch and writes what it leaves."""
        self.pruner.set_epoch(epoch)
        self.train_set.set_epoch(epoch)
        self.net.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        right = torch.zeros(len(self.train_set), dtype=torch.bool, device=self.device)
        lr = math.nan
        for index, (images, labels) in self.loader:
            labels = labels.to(self.device, non_blocking=True)
            logits = self._logits(images)
            losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.recipe.label_smoothing)
            self.pruner.update(index, losses).backward()  # type: ignore[no-untyped-call]
            lr = self.optimizer.param_groups[0]["lr"]
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
            loss_sum += losses.detach().sum()
            right[index.to(self.device)] = logits.detach().argmax(1) == labels
        loss = float(loss_sum) / len(right)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of a proxy must stay finite, got {loss} in epoch {epoch + 1}; "
                f"write a smaller max_lr than {self.recipe.max_lr:g}"
            )
        self.history.append({"loss": loss, "right": float(right.float().mean()), "lr": lr})
        self._write(epoch + 1, right)

    def _logits(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if self.recipe.channels_last else torch.preserve_format
        images = images.to(self.device, non_blocking=True, memory_format=layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            logits: Tensor = self.net(images)
        return logits.float()

    def _write(self, epoch: int, right: Tensor) -> None:
        self.folder.write_weights(epoch, self.model.state_dict())
        self.folder.write_array(f"presented-{epoch:04d}", np.asarray(right.cpu().numpy()))
        self.folder.write_state(  # last, since it says that the epoch is finished
            {
                "history": self.history,
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            }
        )

    def _resume(self, state: dict[str, Any]) -> None:
        self.history = state["history"]
        self.model.load_state_dict(self.folder.weights(len(self.history)))
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
