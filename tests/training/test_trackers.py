"""A row an epoch of each run in experiment trackers, also of a run that was stopped and resumed."""

import json
import logging
import os
import re

import pytest

from orderdp.comparison.grid import Comparison
from orderdp.comparison.workers import resume, start
from orderdp.training import trackers
from orderdp.training.loop import Run
from orderdp.training.run_folder import RunFolder
from orderdp.training.trackers import FILE, check_trackers, read_trackers, tracking, write_trackers

ROW = ["loss", "accuracy", "lr", "kept", "never_seen", "mastered", "seconds"]
NAME = "OrderDP-50-seed0"


class Recorded:
    """Stands for a tracker: notes what it is given. One that is started again notes it in the same place."""

    def __init__(self, notes):
        self.notes = notes

    def store_init_configuration(self, values):
        self.notes.append(("config", values))

    def log(self, values, step):
        if self.notes and self.notes[-1] == "broken":
            raise OSError("no network")
        self.notes.append((step, values))

    def finish(self):
        self.notes.append("finished")


@pytest.fixture
def notes(monkeypatch):
    """Name of each run, and what its tracker was given."""
    found = {}

    def started(path, known):
        assert known in (None, f"id of {path.name}")
        return Recorded(found.setdefault(path.name, [])), f"id of {path.name}"

    monkeypatch.setitem(trackers._STARTED, "tensorboard", started)
    return found


@pytest.fixture
def plan(tiny):
    return Comparison(tiny(prune_ratio=0.5), against=("full",))


def rows(noted):
    return {step: values for step, values in (each for each in noted if isinstance(each, tuple)) if step != "config"}


def test_each_run_has_a_row_an_epoch_and_its_recipe_as_configuration(tmp_path, plan, notes):
    start(plan, tmp_path / "run", trackers=("tensorboard",), show=False)
    assert list(notes) == [NAME, "full-data-seed0"]
    for name, noted in notes.items():
        first, *epochs, last = noted
        history = RunFolder(tmp_path / "run" / name).metrics()
        assert [step for step, _ in epochs] == [1, 2, 3]
        measured = [each for each in ROW if name == NAME or each != "mastered"]  # full data remembers no losses
        assert [list(row) for _, row in epochs] == [measured] * 3
        assert [row["kept"] for _, row in epochs] == [100 if name == NAME else 200] * 3
        for (_, row), line in zip(epochs, history, strict=True):
            assert all(row[key] == line[key] for key in measured if key not in ("kept", "seconds"))
            assert row["seconds"] == line["training_s"] + line["selection_s"] + line["data_s"]
        assert (first[0], last) == ("config", "finished")
        assert {"run": name, "epochs": 3, "dataset": "digits", "seed": 0}.items() <= first[1].items()
        assert all(isinstance(value, bool | int | float | str) for value in first[1].values())
    assert notes[NAME][0][1]["strategy.name"] == "orderdp"
    assert notes[NAME][0][1]["strategy.prune_ratio"] == 0.5


def test_a_run_that_was_stopped_goes_on_in_the_same_log_without_being_told(tmp_path, plan, notes, monkeypatch):
    """It is stopped before its second epoch is logged; that row comes when it resumes."""
    path, close = tmp_path / "run", Run._close_epoch

    def stopping(run, *, lr):
        close(run, lr=lr)
        if len(run.progress.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "_close_epoch", stopping)
    with pytest.raises(KeyboardInterrupt):
        start(plan, path, trackers=("tensorboard",), show=False)
    assert list(rows(notes[NAME])) == [1]
    assert json.loads((path / NAME / FILE).read_text()) == {"tensorboard": {"id": f"id of {NAME}", "epochs": 1}}
    monkeypatch.undo()
    monkeypatch.setitem(trackers._STARTED, "tensorboard", lambda path, known: (Recorded(notes[path.name]), known))
    notes["full-data-seed0"] = []
    resume([path], show=False)
    assert [each if isinstance(each, str) else each[0] for each in notes[NAME]] == [
        *("config", 1, "finished"),
        *(2, 3, "finished"),
    ]
    history = RunFolder(path / NAME).metrics()
    assert [row["loss"] for row in rows(notes[NAME]).values()] == [line["loss"] for line in history]


def test_a_run_goes_on_if_its_tracker_fails_and_catches_up(tmp_path, plan, notes, monkeypatch, caplog):
    log = trackers._Tracked.log

    def fails_at_two(tracked, history):
        if len(history) == 2:
            notes[NAME].append("broken")
        log(tracked, history)
        if len(history) == 2:
            notes[NAME].remove("broken")

    monkeypatch.setattr(trackers._Tracked, "log", fails_at_two)
    plan = Comparison(plan.recipe, against=())
    with caplog.at_level(logging.WARNING, "orderdp"):
        found = start(plan, tmp_path / "run", trackers=("tensorboard",), show=False)
    assert (found.failed, list(rows(notes[NAME]))) == ({}, [1, 2, 3])
    assert [record.message for record in caplog.records] == [
        "tensorboard could not be logged to (no network); the run goes on"
    ]


class Failing(Recorded):
    """Fails as often as it is asked to, in one of its calls."""

    def __init__(self, notes, call, times):
        super().__init__(notes)
        self.call, self.times = call, times

    def _fail(self, call):
        if call == self.call and self.times:
            self.times -= 1
            raise OSError(f"no\nserver to {call}")

    def store_init_configuration(self, values):
        self._fail("configure")
        super().store_init_configuration(values)

    def log(self, values, step):
        self._fail("log")
        super().log(values, step)

    def finish(self):
        super().finish()
        self._fail("finish")


@pytest.mark.parametrize("call", ["start", "configure", "finish"])
def test_a_run_goes_on_if_its_tracker_cannot_begin_or_end(tmp_path, tiny, monkeypatch, caplog, call):
    """Two of three tries fail; the rows come with the third one, and the tracker that was started ends."""
    tracker, tries = Failing([], call, times=2), []

    def started(path, known):
        tries.append(known)
        tracker._fail("start")
        return tracker, "id"

    monkeypatch.setitem(trackers._STARTED, "tensorboard", started)
    plan = Comparison(tiny(prune_ratio=0.5), against=())
    with caplog.at_level(logging.WARNING, "orderdp"):
        found = start(plan, tmp_path / "run", trackers=("tensorboard",), show=False)
    assert (found.failed, len(found.finished)) == ({}, 1)
    assert [each if isinstance(each, str) else each[0] for each in tracker.notes] == ["config", 1, 2, 3, "finished"]
    assert [record.message for record in caplog.records] == [
        f"tensorboard could not be logged to (no server to {call}); the run goes on"
    ]
    assert tries == [None] * (3 if call == "start" else 1)


def end_by(error, names, path, recipe):
    """Starts trackers, and ends the run by an error."""
    with tracking(names, path, recipe) as log:
        log([])
        raise error


def test_a_tracker_that_cannot_end_keeps_no_other_from_ending_and_hides_no_stop(tmp_path, tiny, monkeypatch):
    found = {"tensorboard": Failing([], "finish", times=1), "mlflow": Failing([], "finish", times=0)}
    for name, tracker in found.items():
        monkeypatch.setitem(trackers._STARTED, name, lambda path, known, tracker=tracker: (tracker, "id"))
    monkeypatch.setitem(trackers._UNFINISHED, "mlflow", lambda tracker, error: tracker.notes.append(type(error)))
    for error in (KeyboardInterrupt, FloatingPointError):
        with pytest.raises(error):
            end_by(error, tuple(found), tmp_path, tiny())
    assert [each.notes.count("finished") for each in found.values()] == [2, 2]
    assert [each for each in found["mlflow"].notes if isinstance(each, type)] == [KeyboardInterrupt, FloatingPointError]


def test_finished_runs_are_added_to_a_tracker_that_is_named_later_or_failed(tmp_path, plan, notes, monkeypatch):
    path = tmp_path / "run"
    start(plan, path, show=False)
    write_trackers(path, ("tensorboard",))
    resume([path], show=False)
    assert {name: list(rows(noted)) for name, noted in notes.items()} == {
        NAME: [1, 2, 3],
        "full-data-seed0": [1, 2, 3],
    }
    before = {name: list(noted) for name, noted in notes.items()}
    resume([path], show=False)
    assert notes == before  # they lack nothing
    with RunFolder(path / NAME).locked():  # another process is at it
        (path / NAME / FILE).unlink()
        resume([path], show=False)
    assert notes == before


def test_a_folder_of_logs_is_no_installed_tracker(tmp_path, monkeypatch):
    """As `wandb/` in the working folder, which Python takes for a package without a file."""
    (tmp_path / "logs_of_mine").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trackers, "NAMES", ("logs_of_mine",))
    with pytest.raises(ImportError, match=r"^--log logs_of_mine needs logs_of_mine: pip install logs_of_mine$"):
        check_trackers(["logs_of_mine"])


def test_trackers_that_cannot_be_are_refused_before_anything_is_written(tmp_path, plan, monkeypatch):
    hints = {"tensorbord": "; did you mean 'tensorboard'?", "x": "; choose from tensorboard, wandb, mlflow"}
    for name, hint in hints.items():
        with pytest.raises(ValueError, match=f"^{re.escape(f'no tracker named {name!r}{hint}')}$"):
            start(plan, tmp_path / "run", trackers=(name,), show=False)
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^--log wandb needs wandb: pip install wandb$"):
        start(plan, tmp_path / "run", trackers=("wandb",), show=False)
    assert not list(tmp_path.iterdir())


def test_a_folder_whose_tracker_is_not_installed_is_not_resumed_without_it(tmp_path, plan, notes, monkeypatch):
    start(plan, tmp_path / "run", trackers=("tensorboard",), show=False)
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^--log tensorboard needs tensorboard: pip install tensorboard$"):
        resume([tmp_path / "run"], show=False)


def test_the_trackers_of_a_folder_are_kept_in_it(tmp_path):
    assert read_trackers(tmp_path) == ()
    write_trackers(tmp_path, ())
    assert not list(tmp_path.iterdir())
    write_trackers(tmp_path, ("wandb", "mlflow", "wandb"))
    assert read_trackers(tmp_path) == ("wandb", "mlflow")
    write_trackers(tmp_path, ())
    assert read_trackers(tmp_path) == ("wandb", "mlflow")
    (tmp_path / FILE).write_text('{"a": 1}')
    message = f"{tmp_path / FILE} must hold what 'orderdp train --log' wrote, got another; delete it to log anew"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_trackers(tmp_path)


def half_then_all(path, tiny, name):
    """The metrics of a run that is stopped before its third epoch is logged, and resumed."""
    plan, close = Comparison(tiny(prune_ratio=0.5), against=()), Run._close_epoch

    def stopping(run, *, lr):
        close(run, lr=lr)
        if len(run.progress.history) == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_close_epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            start(plan, path, trackers=(name,), show=False)
    resume([path], show=False)
    return RunFolder(path / NAME).metrics()


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # TensorBoard's own
def test_tensorboard_shows_a_curve_of_each_number(tmp_path, tiny):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = half_then_all(tmp_path / "run", tiny, "tensorboard")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / NAME)).Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(ROW)
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([line["loss"] for line in history])
    (config,) = (tmp_path / "run" / "tensorboard" / NAME).rglob("hparams.yml")
    assert "strategy.name: orderdp" in config.read_text()


@pytest.mark.filterwarnings("ignore")  # of what it imports
def test_mlflow_has_one_run_of_all_epochs(tmp_path, tiny, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path / 'store'}")
    history = half_then_all(tmp_path / "run", tiny, "mlflow")
    (experiment,) = mlflow.search_experiments(filter_string="name = 'run'")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params["strategy.name"]) == (NAME, "FINISHED", "orderdp")
    logged = client.get_metric_history(run.info.run_id, "loss")
    assert [(each.step, each.value) for each in logged] == [(line["epoch"], line["loss"]) for line in history]
    assert sorted(run.data.metrics) == sorted(ROW)
    for error, status in ((KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")):
        with pytest.raises(error):
            end_by(error, ["mlflow"], tmp_path / "run" / NAME, tiny())
        assert client.get_run(run.info.run_id).info.status == status


@pytest.mark.filterwarnings("ignore")  # of what it imports
def test_wandb_has_all_epochs_under_one_id(tmp_path, tiny, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    half_then_all(tmp_path / "run", tiny, "wandb")
    noted = json.loads((tmp_path / "run" / NAME / FILE).read_text())["wandb"]
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{noted['id']}.wandb"] * 2  # `wandb sync` joins them
    assert noted["epochs"] == 3
    finish, codes = wandb.Run.finish, []

    def finished(run, exit_code=None):
        codes.append(exit_code)
        finish(run, exit_code)

    monkeypatch.setattr(wandb.Run, "finish", finished)
    with pytest.raises(KeyError):
        end_by(KeyError, ["wandb"], tmp_path / "run" / NAME, tiny())
    assert codes[0] == 1


def test_of_several_ranks_the_first_one_logs(tmp_path, tiny, monkeypatch, on_two_ranks):
    plan = Comparison(tiny(epochs=1), against=())

    def started(path, known):
        (tmp_path / f"started.{os.environ['RANK']}").touch()
        return Recorded([]), "id"

    monkeypatch.setitem(trackers._STARTED, "tensorboard", started)
    assert on_two_ranks(lambda: start(plan, tmp_path / "run", trackers=("tensorboard",), show=False)) == [0, 0]
    assert [path.name for path in tmp_path.glob("started.*")] == ["started.0"]


def test_only_known_trackers_are_known():
    check_trackers(())
    assert set(trackers._STARTED) == set(trackers.NAMES)
