"""A proxy: a model that is trained once, to tell static methods about the data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from tqdm import tqdm

from orderdp.coresets import Evidence
from orderdp.data.base import DataSets
from orderdp.data.samples import Samples
from orderdp.data.subsets import stratified_order
from orderdp.strategies import FullData
from orderdp.theory.sizes import check_fraction
from orderdp.training.check import check_recipe
from orderdp.training.data_path import DataPath
from orderdp.training.proxy_folder import ProxyFolder
from orderdp.training.proxy_outputs import ALONG, AT_AN_EPOCH, OF_HELD_OUT, Batches, measure
from orderdp.training.proxy_training import proxy_model, train_proxy
from orderdp.training.recipe import Recipe

# DeepCore's settings of the model that scores, the same for all methods.
SETTINGS: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 128,
    "optimizer": "sgd",
    "max_lr": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "schedule": "constant",
    "label_smoothing": 0.0,
    "augment": "none",
}
_NOT_OF_A_PROXY: dict[str, Any] = {
    "strategy": FullData(),
    "drop_last": False,
    "max_steps": None,
    "checkpoint_steps": None,
    "alignment": 0,
    "evaluations": 0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "clip_norm": None,
    "ema": 0.0,
    "drop_path": 0.0,
    "finetune": None,
}
_KNOWN = {"labels", "validation", "presented", "learning_rates", *ALONG, *AT_AN_EPOCH}
_OF_IMAGES = {"perturbations", "alignments"}  # other models have no gradient by input and no forward mode here
_OVER_TIME = {"presented", "learning_rates", *ALONG}


def proxy_recipe(recipe: Recipe, **changes: Any) -> Recipe:
    """Returns the recipe of a proxy: data, model and machine of a recipe, trained by `SETTINGS` on all samples.

    Args:
        recipe: the other settings are ignored.
        **changes: keys that replace those of `SETTINGS` or of the recipe.

    Raises:
        ValueError: a key that the recipe refuses.

    Source: Guo et al., "DeepCore: a comprehensive library for coreset selection", DEXA 2022, for the settings.
    """
    return recipe.model_copy(update={**SETTINGS, **changes, **_NOT_OF_A_PROXY})


class Proxy:
    """A model trained once, and what static methods may learn from it.

    It is trained as `orderdp train` trains full data. The weights after each epoch are kept on disk, which takes epochs
    times the size of the model. So evidence at any epoch is computed when a method first asks, and then kept too.

    Equal recipes, data and held-out shares have one folder, so a second call trains nothing. A killed proxy resumes
    after its last finished epoch. The test part of the data is never read.

    Args:
        recipe: its settings, as `proxy_recipe` returns them.
        data: the data set that the recipe names.
        home: folder of all proxies.
        validation: share of the training samples to hold out, in [0, 1), the same samples for every seed. The proxy
            does not train on them, and static methods cannot keep them.
        show: show progress bars, if standard error is a terminal.
        wait: wait for another process that is at work on the same proxy.

    Raises:
        ValueError: a recipe that does not fit the data or the machine, a share that leaves nothing, or several ranks.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: DataSets,
        home: Path,
        *,
        validation: float = 0.0,
        show: bool = True,
        wait: bool = True,
    ) -> None:
        self.recipe, self.show, self._wait = recipe, show, wait
        num_held_out = _check_share(validation, len(data.train))
        state = PartialState(cpu=recipe.device == "cpu")
        if state.num_processes > 1:
            raise ValueError(f"a proxy is trained by one process, got {state.num_processes}; start it without ranks")
        if other := [name for name, value in _NOT_OF_A_PROXY.items() if getattr(recipe, name) != value]:
            raise ValueError(f"a proxy trains all samples, got a recipe with {other[0]}; write proxy_recipe(recipe)")
        if not data.num_classes:
            raise ValueError(
                f"static methods need labels that are classes, got {data.predicted}; choose another data set"
            )
        order = stratified_order(data.train.labels)
        self.held_out = np.sort(order[:num_held_out])
        self.ids = np.sort(order[num_held_out:])
        """(n,) int64, positions in the training data of the samples in the evidence."""
        check_recipe(recipe, len(self.ids), data=data)
        self._data = data
        trained = data.train.subset(self.ids) if num_held_out else data.train
        self._data_path = DataPath(recipe, replace(data, train=trained), state.device)
        self._folder = ProxyFolder(home, recipe, data, self.held_out)

    @property
    def path(self) -> Path:
        """Returns the folder of this proxy."""
        return self._folder.path

    @property
    def device(self) -> torch.device:
        """Returns where the proxy computes."""
        return self._data_path.device

    def train(self) -> bool:
        """Trains the proxy if it is not trained; returns whether it was not.

        Raises:
            FloatingPointError, OSError, Timeout: as `evidence`.
        """
        if len(self.history) == self.recipe.epochs:
            return False
        if self.recipe.num_threads is not None:
            torch.set_num_threads(self.recipe.num_threads)
        with self._folder.begin(wait=self._wait):
            train_proxy(self._data_path, self._folder, show=self.show)
        return True

    def evidence(self, needs: Iterable[str] = (), *, epoch: int | None = None) -> Evidence:
        """Returns what is known of the training samples `ids`: their labels, and what is named.

        Trains the proxy if it is not trained. Only what is named is computed, in evaluation mode, without augmentation
        and in float32. `presented` alone comes from training.

        Args:
            needs: fields of `Evidence`, such as the `needs` of a static method.
            epoch: after how many epochs the proxy is asked, in 0 .. epochs; None is the last. What covers a time, such
                as `trajectory`, ends there.

        Raises:
            ValueError: an epoch out of range, a field that no proxy knows, or validation without samples held out.
            FloatingPointError: the loss is not finite. OSError: a file cannot be written.
            Timeout: another process is at work on this proxy, and `wait` is False.
        """
        needs = set(needs)
        epoch = self.check(needs, epoch)
        if self.recipe.num_threads is not None:
            torch.set_num_threads(self.recipe.num_threads)
        with self._folder.begin(wait=self._wait):
            train_proxy(self._data_path, self._folder, show=self.show)
            found: dict[str, Any] = {"labels": self._data_path.data.train.labels}
            found |= self._at(needs & set(AT_AN_EPOCH), epoch, self._trained_part)
            found |= {name: self._along(name, epoch) for name in ALONG if name in needs}
            if "presented" in needs:
                found["presented"] = np.stack([self._array(f"presented-{each:04d}") for each in range(1, epoch + 1)])
            if "learning_rates" in needs:
                found["learning_rates"] = np.array([line["lr"] for line in self.history[:epoch]])
            if "validation" in needs:
                found["validation"] = self._validation(needs, epoch)
        return Evidence(**found)

    def check(self, needs: set[str], epoch: int | None) -> int:
        """Returns the epoch to ask at, without training anything.

        Raises:
            ValueError: as `evidence`.
        """
        last = self.recipe.epochs
        if epoch is not None and (isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch <= last):
            raise ValueError(f"epoch must lie in 0 .. {last}, the epochs of the proxy, got {epoch}; write more epochs")
        if unknown := sorted(needs - _KNOWN):
            raise ValueError(f"a proxy does not know {', '.join(unknown)}; add it to the evidence yourself")
        if self._data.kind != "images" and (images := sorted(needs & _OF_IMAGES)):
            raise ValueError(f"{images[0]} are of images, got {self._data.kind}; choose another static method")
        if epoch == 0 and needs & _OVER_TIME:
            raise ValueError(f"{min(needs & _OVER_TIME)} needs at least one epoch, got epoch 0; write epoch 1 or later")
        if "validation" in needs and not len(self.held_out):
            raise ValueError("validation needs a share that is held out, got none; write validation = 0.1")
        return last if epoch is None else epoch

    @property
    def history(self) -> list[dict[str, float]]:
        """Returns loss, share predicted right, and last learning rate of each finished epoch."""
        state = self._folder.state()
        return [] if state is None else state["history"]

    def _validation(self, needs: set[str], epoch: int) -> Evidence:
        labels = self._data.train.labels[torch.from_numpy(self.held_out)]
        outputs = self._at(needs & set(OF_HELD_OUT), epoch, self._validation_part, prefix="validation-")
        return Evidence(labels=labels, **outputs)

    def _at(self, names: set[str], epoch: int, part: Samples, *, prefix: str = "") -> dict[str, Any]:
        """Returns outputs of the model after an epoch; those that are not on disk are computed together."""
        files = {name: f"{prefix}{name}-{epoch:04d}" for name in sorted(names)}
        missing = [name for name, file in files.items() if self._folder.array(file) is None]
        if missing:
            for name, array in self._measured(missing, epoch, part).items():
                self._folder.write_array(files[name], array)
        return {name: self._array(file) for name, file in files.items()}

    def _along(self, name: str, epoch: int) -> npt.NDArray[Any]:
        """Returns (epoch, n, ...) what a field holds after each epoch; what is on disk is not computed again."""
        whole = self._folder.array(name)
        known = 0 if whole is None else len(whole)
        if known < epoch:
            files = {each: f"{name}-{each:04d}" for each in range(known + 1, epoch + 1)}
            for each, file in tqdm(files.items(), name, disable=self._quiet):
                if self._folder.array(file) is None:
                    self._folder.write_array(file, self._measured([name], each, self._trained_part)[name])
            whole = self._folder.append(name, list(files.values()))
        assert whole is not None
        return whole[:epoch]

    def _measured(self, names: list[str], epoch: int, part: Samples) -> dict[str, npt.NDArray[Any]]:
        with torch.random.fork_rng(devices=[]):  # its first weights are replaced
            model = proxy_model(self._data_path)
        model.load_state_dict(self._folder.weights(epoch))

        def progress(batches: Iterable[Any], number: int) -> Iterable[Any]:
            shown: Iterable[Any] = tqdm(
                batches, f"{', '.join(names)} after epoch {epoch}", total=number, leave=False, disable=self._quiet
            )
            return shown

        batches = Batches(self._data_path, part, progress)
        return measure(names, model.eval(), batches, num_classes=self._data.num_classes)

    def _array(self, name: str) -> npt.NDArray[Any]:
        array = self._folder.array(name)
        assert array is not None
        return array

    @property
    def _quiet(self) -> bool | None:
        return None if self.show else True  # None: tqdm looks for a terminal

    @cached_property
    def _trained_part(self) -> Samples:
        return self._data_path.samples(self._data_path.data.train, "none")

    @cached_property
    def _validation_part(self) -> Samples:
        return self._data_path.samples(self._data.train.subset(self.held_out), "none")


def _check_share(validation: float, num_samples: int) -> int:
    """Returns how many of n samples a share holds out.

    Raises:
        ValueError: the share is out of range, or holds out none or all. TypeError: it is no number.
    """
    check_fraction("validation", validation, low_open=False, high_open=True)
    held_out = round(validation * num_samples)
    if validation and not 1 <= held_out < num_samples:
        raise ValueError(
            f"validation must hold out at least one of the {num_samples} samples and not all, got {validation}; "
            "write a share such as 0.1"
        )
    return held_out
