"""The checkpoints of one run: the last and the one before it, each complete or not there.

A checkpoint is a folder named after its step. It is written under another name, flushed and renamed, so a kill leaves
no half of one. What a disk damages later, its checksums tell. The one before then takes its place.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from orderdp.output import files
from orderdp.output.toml import parse_toml
from orderdp.training.recipe import Recipe, gathered

VERSION = 3  # 1 held a recipe with the method in flat keys; 2 counted batches instead of updates
_CHECKED = ("model.safetensors", "state.pt")  # the files whose checksums the manifest holds


class Checkpoints:
    """The checkpoints in a folder.

    Args:
        path: the folder; the first checkpoint makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._passed_over: list[Path] = []  # by the last `load`

    def write(self, recipe: Recipe, step: int, model: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Writes a checkpoint and removes all others but the one before it, also those that `load` passed over.

        Args:
            recipe: of the run.
            step: optimiser steps made.
            model: the model's state dict, kept as safetensors.
            state: anything else, of tensors and plain values.

        Raises:
            OSError: it could not be written; the checkpoints before it are still there.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.items()}
        contents = dict(zip(_CHECKED, (save_tensors(tensors), buffer.getvalue()), strict=True))
        manifest = {
            "version": VERSION,
            "recipe": recipe.to_toml(),
            "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
        }
        contents["manifest.json"] = json.dumps(manifest).encode()
        unfinished, finished = self.path / "unfinished", self.path / f"{step:09d}"
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            for name, data in contents.items():
                files.write_flushed(unfinished / name, data)
            files.flush_folder(unfinished)
            for other in self._passed_over:
                shutil.rmtree(other, ignore_errors=True)
            unfinished.rename(finished)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise files.cannot_write(self.path, error) from error
        files.flush_folder(self.path)
        self._passed_over = []
        remove_older(self.path, keep=2)

    def load(self, recipe: Recipe, *, warn: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Returns the model's state dict and the rest of the newest checkpoint that fits; None if there is none.

        Args:
            recipe: of the run, which the checkpoint must have.
            warn: of one that is passed over.

        Raises:
            ValueError: each checkpoint is damaged, of another version or of another recipe.
        """
        found = all_in(self.path)[::-1]
        refused: list[str] = []
        for path in found:
            try:
                loaded = _read(path, recipe)
            except ValueError as error:
                refused.append(str(error))
                continue
            if refused and warn:
                logging.getLogger("orderdp").warning(f"{'; and '.join(refused)}; the one before is used, {path}")
            self._passed_over = found[: len(refused)]
            return loaded
        if refused:
            named = " and ".join(str(path) for path in found)
            raise ValueError(f"{'; and '.join(refused)}; {_cure(refused)}remove {named} to start this run again")
        return None

    def newest(self) -> str:
        """Returns the name of the newest checkpoint; "" if there is none."""
        return next((path.name for path in reversed(all_in(self.path))), "")


def _cure(refused: list[str]) -> str:
    """Returns what may help where no checkpoint fits."""
    if all(" of version " in reason for reason in refused):
        return "resume with the release of orderdp that wrote it, or "
    return "put recipe.toml back as it was, or " if all(" own recipe" in reason for reason in refused) else ""


def _read(path: Path, recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns what a checkpoint holds; raises ValueError if it is damaged or foreign."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        version, text, sha256 = (manifest[key] for key in ("version", "recipe", "sha256"))
        if unchecked := [name for name in _CHECKED if not sha256.get(name)]:
            raise ValueError(f"no checksum of {' and '.join(unchecked)} in manifest.json")
        contents = {name: (path / name).read_bytes() for name in _CHECKED}
        saved = Recipe(**gathered(parse_toml(text)))  # not as text: an earlier release wrote fewer keys
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a checkpoint must be complete, got {path} ({error})") from None
    if version != VERSION:
        raise ValueError(f"a checkpoint must be of version {VERSION}, got {version} in {path}")
    for name, data in contents.items():
        if hashlib.sha256(data).hexdigest() != sha256[name]:
            raise ValueError(f"a checkpoint must be complete, got {path / name} cut short or changed")
    if saved != recipe:
        raise ValueError(f"a checkpoint must be of the run's own recipe, got {path} of another")
    try:
        state = torch.load(io.BytesIO(contents["state.pt"]), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(f"a checkpoint must hold tensors and plain values, got others in {path}") from None
    return load_tensors(contents["model.safetensors"]), state


def all_in(path: Path) -> list[Path]:
    """Returns the checkpoints in a folder by their steps, the newest last."""
    return sorted(found for found in path.glob("[0-9]*") if found.is_dir())


def remove_older(path: Path, *, keep: int = 1) -> None:
    """Removes all but the newest checkpoints of a folder."""
    for older in all_in(path)[:-keep]:
        shutil.rmtree(older)
