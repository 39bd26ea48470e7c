"""Experiment trackers: a row an epoch of each run, through accelerate's trackers.

The folder of the runs names the trackers, so a run that is resumed goes on in the same logs. The folder of each run
holds what it takes to find its log again, and how many epochs are in it. What a log lacks is added on resuming.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

from orderdp.output.files import write_whole
from orderdp.output.suggestions import did_you_mean
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import spent_s

NAMES = ("tensorboard", "wandb", "mlflow")  # each is also the package to install
FILE = "trackers.json"  # in the folder of the runs, the names; in that of a run, what is needed to go on

History = Sequence[Mapping[str, Any]]


def check_trackers(names: Sequence[str]) -> None:
    """Checks that the trackers are known and installed.

    Raises:
        ValueError: an unknown name. ImportError: a package is missing.
    """
    for name in names:
        if name not in NAMES:
            hint = did_you_mean(name, NAMES) or f"; choose from {', '.join(NAMES)}"
            raise ValueError(f"no tracker named {name!r}{hint}")
        if find_spec(name) is None:
            raise ImportError(f"--log {name} needs {name}: pip install {name}")


def write_trackers(path: Path, names: Sequence[str]) -> None:
    """Writes the names of the trackers into a folder of runs; none leaves it as it is."""
    if names:
        write_whole(path / FILE, (json.dumps(list(dict.fromkeys(names))) + "\n").encode())


def read_trackers(path: Path) -> tuple[str, ...]:
    """Returns the names of the trackers of a folder of runs.

    Raises:
        ValueError: the file is damaged.
    """
    file = path / FILE
    return tuple(_parsed(file, list)) if file.exists() else ()


@contextmanager
def tracking(names: Sequence[str], path: Path, recipe: Recipe) -> Iterator[Callable[[History], None]]:
    """Yields a function that logs the epochs of a run that its trackers lack.

    Its argument is the history of the run, a line of metrics for each epoch. If a tracker fails, the run goes on: the
    first time is warned of, and the epoch is logged with the next one.

    Args:
        names: of the trackers.
        path: folder of the run.
        recipe: of the run; it is the configuration that the trackers show.
    """
    trackers: list[_Tracked] = []

    def log(history: History) -> None:
        for each in trackers:
            each.log(history)

    try:
        trackers.extend(_Tracked(name, path, recipe) for name in names)
        yield log
    finally:
        for each in trackers:
            each.tracker.finish()


def row_of(history: History, number: int) -> dict[str, float]:
    """Returns what is logged of an epoch; what was not measured is left out.

    Args:
        history: a line of metrics for each epoch.
        number: of the epoch, from 0.

    >>> line = {"loss": 0.5, "accuracy": None, "lr": 0.1, "samples_backward": 100, "never_seen": 9, "mastered": 0.25}
    >>> row_of([{**line, "training_s": 1.5, "selection_s": 0.25, "data_s": 0.25}], 0)
    {'loss': 0.5, 'lr': 0.1, 'kept': 100, 'never_seen': 9, 'mastered': 0.25, 'seconds': 2.0}
    """
    line = history[number]
    before = history[number - 1]["samples_backward"] if number else 0
    names = ("loss", "accuracy", "lr", "kept", "never_seen", "mastered", "seconds")
    found = {**line, "kept": line["samples_backward"] - before, "seconds": spent_s(line)}
    return {name: found[name] for name in names if found.get(name) is not None}


class _Tracked:
    """The log of one run in one tracker."""

    def __init__(self, name: str, path: Path, recipe: Recipe) -> None:
        self._name, self._file, self._failed = name, path / FILE, False
        state = self._read().get(name)
        self.tracker, self._id = _STARTED[name](path, None if state is None else state["id"])
        self._logged = 0 if state is None else state["epochs"]
        if state is None:
            self.tracker.store_init_configuration(_flat({"run": path.name, **recipe.model_dump(exclude_none=True)}))
            self._write()

    def log(self, history: History) -> None:
        """Logs the epochs that are not logged yet."""
        try:
            for number in range(self._logged, len(history)):
                self.tracker.log(row_of(history, number), step=history[number]["epoch"])
        except Exception as error:  # of a server, the network, a disk: the run is worth more than its log
            if not self._failed:
                logging.getLogger("orderdp").warning(f"{self._name} could not be logged to ({error}); the run goes on")
            self._failed = True
        else:
            self._logged = len(history)
            self._write()

    def _read(self) -> dict[str, Any]:
        return dict(_parsed(self._file, dict)) if self._file.exists() else {}

    def _write(self) -> None:
        state = {**self._read(), self._name: {"id": self._id, "epochs": self._logged}}
        write_whole(self._file, (json.dumps(state) + "\n").encode())


def _tensorboard(path: Path, known: str | None) -> tuple[Any, str]:
    """Starts TensorBoard's files in a folder beside the runs, so that it names each run."""
    return _begun(TensorBoardTracker(path.name, path.parent / "tensorboard")), path.name


def _wandb(path: Path, known: str | None) -> tuple[Any, str]:
    """Starts or goes on with a run of Weights & Biases, in a project named after the folder of the runs."""
    name = known or secrets.token_hex(4)
    place = path.parent.resolve()
    tracker = WandBTracker(place.name, name=path.name, id=name, resume="allow", dir=str(place))
    return _begun(tracker), name


def _mlflow(path: Path, known: str | None) -> tuple[Any, str]:
    """Starts or goes on with a run of MLflow, in an experiment named after the folder of the runs."""
    tracker = _begun(MLflowTracker(path.parent.resolve().name, run_id=known, run_name=path.name))
    return tracker, str(tracker.tracker.info.run_id)


def _begun(tracker: Any) -> Any:
    if hasattr(tracker, "start"):  # earlier releases of accelerate start as they are made
        tracker.start()
    return tracker


_STARTED: dict[str, Callable[[Path, str | None], tuple[Any, str]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def _flat(table: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Returns a table of tables as one, with names such as "strategy.name"."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{within}{key}."))
        else:
            found[within + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def _parsed(file: Path, kind: type) -> Any:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, kind):
        raise ValueError(f"{file} must hold what 'orderdp train --log' wrote, got another; delete it to log anew")
    return found
