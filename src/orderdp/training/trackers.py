"""Experiment trackers: a row an epoch of each run, through accelerate's trackers.

The folder of the runs names the trackers, so a run that is resumed goes on in the same logs. The folder of each run
holds what it takes to find its log again, and how many epochs are in it. What a log lacks is added on resuming. A run
is worth more than its log: if a tracker fails, the run goes on.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

from orderdp.output.custom import reason_of
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
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder of logs is a package of that name to Python
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

    Its argument is the history of the run, a line of metrics for each epoch. The first call starts the trackers. If a
    tracker fails, also as it starts or ends, the run goes on: the first time is warned of, and the epoch is logged with
    the next one. To MLflow and Weights & Biases, a run that an error ends is none that finished.

    Args:
        names: of the trackers.
        path: folder of the run.
        recipe: of the run; it is the configuration that the trackers show.
    """
    trackers = [_Tracked(name, path, recipe) for name in names]
    ended_by: BaseException | None = None

    def log(history: History) -> None:
        for each in trackers:
            each.log(history)

    try:
        yield log
    except BaseException as error:
        ended_by = error
        raise
    finally:
        for each in trackers:
            each.finish(ended_by)


def lacking(names: Sequence[str], path: Path, epochs: int) -> list[str]:
    """Returns the trackers that lack some of the first epochs of a run, by what its folder notes.

    Args:
        names: of the trackers.
        path: folder of the run.
        epochs: how many there are.

    Raises:
        ValueError: the note is damaged.
    """
    known = _noted(path / FILE)
    return [name for name in names if known.get(name, {"epochs": 0})["epochs"] < epochs]


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
        self._name, self._path, self._recipe, self._file = name, path, recipe, path / FILE
        self._tracker: Any = None  # until it is started
        self._id, self._logged, self._described, self._failed = "", 0, False, False

    def log(self, history: History) -> None:
        """Logs the epochs that are not logged yet."""
        with self._failing():
            self._start()
            for number in range(self._logged, len(history)):
                self._tracker.log(row_of(history, number), step=history[number]["epoch"])
            self._logged = len(history)
            self._write()

    def finish(self, ended_by: BaseException | None) -> None:
        """Ends the log, of a run that came to its end or was ended by an error."""
        with self._failing():
            if self._tracker is not None:
                if ended_by is not None and self._name in _UNFINISHED:
                    _UNFINISHED[self._name](self._tracker, ended_by)
                self._tracker.finish()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Warns of the first error, such as that of a server, the network or a disk."""
        try:
            yield
        except Exception as error:
            if not self._failed:
                why = reason_of(error)
                logging.getLogger("orderdp").warning(f"{self._name} could not be logged to ({why}); the run goes on")
            self._failed = True

    def _start(self) -> None:
        """Starts the tracker and gives it the recipe, if that is still to be done."""
        if self._tracker is None:
            state = _noted(self._file).get(self._name)
            self._tracker, self._id = _STARTED[self._name](self._path, None if state is None else state["id"])
            self._logged, self._described = (0, False) if state is None else (state["epochs"], True)
        if not self._described:
            recipe = self._recipe.model_dump(exclude_none=True)
            self._tracker.store_init_configuration(_flat({"run": self._path.name, **recipe}))
            self._described = True
            self._write()

    def _write(self) -> None:
        state = {**_noted(self._file), self._name: {"id": self._id, "epochs": self._logged}}
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


def _unfinished_wandb(tracker: Any, _: BaseException) -> None:
    tracker.tracker.finish(exit_code=1)


def _unfinished_mlflow(_: Any, ended_by: BaseException) -> None:
    import_module("mlflow").end_run("FAILED" if isinstance(ended_by, Exception) else "KILLED")


# How to end the log of a run that failed, or was stopped.
_UNFINISHED: dict[str, Callable[[Any, BaseException], None]] = {
    "wandb": _unfinished_wandb,
    "mlflow": _unfinished_mlflow,
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


def _noted(file: Path) -> dict[str, Any]:
    return dict(_parsed(file, dict)) if file.exists() else {}


def _parsed(file: Path, kind: type) -> Any:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, kind):
        raise ValueError(f"{file} must hold what 'orderdp train --log' wrote, got another; delete it to log anew")
    return found
