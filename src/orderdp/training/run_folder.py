"""The folder of one run: its recipe, metrics, checkpoint and result, each file always complete.

Every file is written under another name, flushed and renamed. A killed run or a full disk leaves the last complete
file.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from torch import Tensor

from orderdp.output import files
from orderdp.training.checkpoints import Checkpoints, remove_older
from orderdp.training.recipe import Recipe, load_recipe

CORESET_PLAN = "coreset.toml"  # beside recipe.toml: a plan of static methods, which is no run
_RESULT = {"accuracy_last", "epochs", "steps", "samples_forward", "samples_backward"}  # what every result has


def alone_in(path: Path) -> FileLock:
    """Returns a lock to hold while writing about all runs of a folder, since other runs may end meanwhile."""
    return FileLock(path / "lock")


@contextlib.contextmanager
def claimed(file: Path, *, wait_s: float = 0) -> Iterator[bool]:
    """Holds a lock file; yields False, without the lock, if another process holds it for longer than `wait_s`."""
    lock = FileLock(file, timeout=wait_s)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def spent_s(record: Mapping[str, Any]) -> float:
    """Returns the seconds without evaluation, of a run from its result, or of an epoch from its line of metrics."""
    return float(record["training_s"] + record["selection_s"] + record["data_s"])


class RunFolder:
    """One run on disk.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checkpoints = Checkpoints(path / "checkpoint")

    @classmethod
    def create(cls, path: Path, recipe: Recipe) -> RunFolder:
        """Makes the folder and writes the recipe.

        Raises:
            FileExistsError: there is something at `path` already.
            OSError: the folder cannot be written.
        """
        with files.new_folder(path) as folder:
            cls(folder).begin(recipe)
        return cls(path)

    def begin(self, recipe: Recipe) -> None:
        """Writes the recipe if there is none, and creates the folder, which a killed run may have left incomplete.

        Raises:
            OSError: the folder cannot be written.
        """
        if not (self.path / "recipe.toml").exists():
            self.path.mkdir(exist_ok=True)
            files.write_whole(self.path / "recipe.toml", recipe.to_toml().encode())

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    def second_stage(self) -> RunFolder:
        """Returns the folder of the run that fine-tunes this one's model."""
        return RunFolder(self.path / "finetune")

    def recipe(self) -> Recipe:
        """Returns the recipe of the run.

        Raises:
            ValueError: there is none, or it is refused.
        """
        return load_recipe(self.path / "recipe.toml")

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """Writes one line of JSON for each epoch."""
        lines = "".join(json.dumps(line) + "\n" for line in history)
        files.write_whole(self.path / "metrics.jsonl", lines.encode())

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the epochs written so far.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        # A run without a result resumes from its last checkpoint and writes this file again.
        return [_parsed(line, path, "delete result.json beside it") for line in path.read_text().splitlines()]

    def write_gradient_norms(self, norms: Tensor) -> None:
        """Writes (steps,) float32, the gradient norm of every step, as NumPy's .npy."""
        buffer = io.BytesIO()
        np.save(buffer, norms.numpy())
        files.write_whole(self.path / "gradient_norms.npy", buffer.getvalue())

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes the result, by which the run counts as finished. Of its checkpoints, only the last one stays."""
        files.write_whole(self.path / "result.json", (json.dumps(result, indent=2) + "\n").encode())
        remove_older(self.path / "checkpoint")
        (self.path / "failure.txt").unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Locks the run for this process. Yields False, without a lock, if another process holds it.

        The system frees a lock when its process ends, however it ends.
        """
        self.path.mkdir(exist_ok=True)
        # Waits a moment, since another process may hold it briefly, to see whether the run is in training.
        with claimed(self.path / "lock", wait_s=0.2) as mine:
            yield mine

    def is_held(self) -> bool:
        """Returns whether another process is training the run."""
        with self.locked() as mine:
            return not mine

    def write_failure(self, reason: str) -> None:
        """Writes why the run failed; the reason counts until the run is finished."""
        files.write_whole(self.path / "failure.txt", f"{reason}\n".encode())

    def failure(self) -> str | None:
        """Returns why the run failed in its last try; None if it did not."""
        try:
            return (self.path / "failure.txt").read_text().strip()
        except FileNotFoundError:  # another process may just have removed it
            return None

    def is_open(self) -> bool:
        """Returns whether the run still has to be trained: neither finished nor failed."""
        return self.result() is None and self.failure() is None

    def result(self) -> dict[str, Any] | None:
        """Returns the result, or None while the run is not finished.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.path / "result.json"
        if not path.exists():
            return None
        result = _parsed(path.read_text(), path)
        if not isinstance(result, dict) or not set(result) >= _RESULT:
            raise ValueError(f"{path} must hold the result of a run, got another; delete it and resume with --resume")
        return result

    def record(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """Returns result and metrics of the finished run, None while it is not finished.

        Raises:
            ValueError: a file is damaged or lacks epochs, or the accuracy is not finite; its message says what to do.
        """
        result = self.result()
        if result is None:
            return None
        metrics = self.metrics()
        again = f"delete {self.path / 'result.json'} and resume with --resume"
        if len(metrics) < result["epochs"]:
            raise ValueError(f"metrics.jsonl lacks epochs: {len(metrics)} of {result['epochs']}; {again}")
        if not math.isfinite(result["accuracy_last"]):
            raise ValueError(f"accuracy_last must be finite, got {result['accuracy_last']}; {again}")
        return result, metrics

    def write_checkpoint(self, step: int, model: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Writes a checkpoint and keeps the one before it; `Checkpoints.write` explains the arguments.

        Raises:
            OSError: it could not be written; those before it are still there.
        """
        self._checkpoints.write(self.recipe(), step, model, state)

    def load_checkpoint(self, *, warn: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Returns the model's state dict and the rest of the newest checkpoint that fits; None if there is none.

        Args:
            warn: of one that is passed over, since it is damaged or foreign.

        Raises:
            ValueError: no checkpoint fits; the message says why.
        """
        return self._checkpoints.load(self.recipe(), warn=warn)

    def last_checkpoint(self) -> str:
        """Returns the name of the newest checkpoint, by which progress shows; "" if there is none."""
        return self._checkpoints.newest()


def _parsed(text: str, path: Path, first: str = "delete it") -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} must hold JSON, got {error}; {first} and resume with --resume") from None
