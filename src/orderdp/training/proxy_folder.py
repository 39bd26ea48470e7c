"""The folder of one proxy: its weights after each epoch, and what was measured with them.

The name of the folder holds a digest of the recipe, the data and the samples held out. Every file is written whole, so
a killed proxy resumes after its last finished epoch, and what was measured is not measured again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from orderdp.data.base import DataSets
from orderdp.output.files import write_whole
from orderdp.training.recipe import Recipe

_VERSION = 1
_ELSEWHERE = {"data_root", "download"}  # the place of the data may change
# What is held out or left out and wrong labels show in the data, and a proxy is never evaluated.
_NOT_TRAINED_BY = {"held_out", "imbalance", "label_noise", "evaluations"}


class ProxyFolder:
    """One proxy on disk.

    Args:
        home: folder of all proxies; created if it does not exist.
        recipe: settings of the proxy.
        data: the data set.
        held_out: (v,) positions of the training samples that it does not train on.
    """

    def __init__(self, home: Path, recipe: Recipe, data: DataSets, held_out: npt.NDArray[np.int64]) -> None:
        settings = recipe.model_dump(exclude=_ELSEWHERE | _NOT_TRAINED_BY, exclude_none=True)
        content = json.dumps([_VERSION, settings], sort_keys=True).encode() + held_out.tobytes()
        digest = hashlib.sha256(content + data.sha256.encode()).hexdigest()
        dataset = recipe.dataset.replace(":", "-")
        self.path = home / f"{dataset}-{recipe.model}-{digest[:12]}-seed{recipe.seed}"
        self._recipe = recipe

    def begin(self, *, wait: bool = True) -> FileLock:
        """Creates the folder with its recipe, and returns a lock to hold while working in it.

        Args:
            wait: wait for another process that holds it; else taking the lock raises `filelock.Timeout`.

        Raises:
            OSError: the folder cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "recipe.toml").exists():
            write_whole(self.path / "recipe.toml", self._recipe.to_toml().encode())
        return FileLock(self.path / "lock", timeout=-1 if wait else 0)

    def write_weights(self, epoch: int, model: Mapping[str, Tensor]) -> None:
        """Writes the model's state dict after an epoch; epoch 0 is before the first."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.items()}
        write_whole(self._weights(epoch), save_tensors(tensors))

    def weights(self, epoch: int) -> dict[str, Tensor]:
        """Returns the model's state dict after an epoch."""
        tensors: dict[str, Tensor] = load_file(self._weights(epoch))
        return tensors

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Writes what the next epoch needs beside the weights. The weights must be written before."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_whole(self.path / "state.pt", buffer.getvalue())

    def state(self) -> dict[str, Any] | None:
        """Returns what `write_state` wrote after the last finished epoch; None before the first."""
        path = self.path / "state.pt"
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def write_array(self, name: str, array: npt.NDArray[Any]) -> None:
        """Writes an array as NumPy's .npy."""
        buffer = io.BytesIO()
        np.save(buffer, array)
        write_whole(self._array(name), buffer.getvalue())

    def array(self, name: str) -> npt.NDArray[Any] | None:
        """Returns an array, memory-mapped; None if it was not written."""
        path = self._array(name)
        if not path.exists():
            return None
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
        return array

    def append(self, name: str, parts: list[str]) -> npt.NDArray[Any]:
        """Appends arrays of one shape to an array along its first axis, and returns the whole, memory-mapped.

        The whole is never in memory. The parts are removed.
        """
        path, unfinished = self._array(name), self.path / f"{name}.unfinished"
        before = self.array(name)
        known = 0 if before is None else len(before)
        arrays = [np.load(self._array(part), mmap_mode="r") for part in parts]
        shape = (known + len(parts), *arrays[0].shape)
        whole = np.lib.format.open_memmap(unfinished, mode="w+", dtype=arrays[0].dtype, shape=shape)
        if before is not None:
            whole[:known] = before
        for number, array in enumerate(arrays, known):
            whole[number] = array
        whole.flush()
        del whole, before
        unfinished.replace(path)
        for part in parts:
            self._array(part).unlink(missing_ok=True)
        joined: npt.NDArray[Any] = np.load(path, mmap_mode="r")
        return joined

    def _weights(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:04d}.safetensors"

    def _array(self, name: str) -> Path:
        return self.path / f"{name}.npy"
