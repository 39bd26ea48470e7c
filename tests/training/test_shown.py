"""What a run shows: bars in a terminal, and elsewhere a plain line an epoch."""

import io
import re

import pytest

from orderdp.training.loop import Run
from orderdp.training.run_folder import RunFolder
from orderdp.training.shown import Shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def trained(tmp_path, tiny, digits, monkeypatch):
    """What a run of three epochs writes on standard error."""

    def train(stream, *, show=True, **settings):
        monkeypatch.setattr("sys.stderr", stream)
        folder = RunFolder.create(tmp_path / "OrderDP-50-seed0", tiny(prune_ratio=0.5, **settings))
        Run(folder.recipe(), digits, folder, show=show).train()
        return stream.getvalue(), folder

    return train


def test_without_a_terminal_each_epoch_is_a_plain_line(trained):
    text, folder = trained(io.StringIO())
    lines = text.splitlines()
    assert len(lines) == 3
    for number, (line, found) in enumerate(zip(lines, folder.metrics(), strict=True), 1):
        shown = re.escape(
            f"OrderDP-50-seed0: epoch {number} of 3: loss {found['loss']:.3f}, accuracy {found['accuracy']:.2f} %, "
            f"mastered {100 * found['mastered']:.0f} %, "
        )
        assert re.fullmatch(rf"{shown}\d+\.\d s", line)
    assert all(character.isprintable() or character == "\n" for character in text)


def test_the_seconds_of_a_line_are_those_of_training_selection_and_data(capsys):
    seconds = {"training_s": 1.0, "selection_s": 20.0, "data_s": 300.0, "evaluation_s": 4000.0}
    line = {"epoch": 1, "loss": 0.5, "accuracy": None, "mastered": None, **seconds}
    with Shown("mine", None, 2, step=0, show=True) as shown:
        shown.epoch([line])
    assert capsys.readouterr().err == "mine: epoch 1 of 2: loss 0.500, 321.0 s\n"


def test_an_epoch_without_evaluation_shows_the_last_accuracy(trained):
    text, folder = trained(io.StringIO(), evaluations=1)
    assert ["accuracy" in line for line in text.splitlines()] == [
        found["accuracy"] is not None for found in folder.metrics()
    ]


def test_the_accuracy_shown_is_the_last_and_not_the_best(capsys):
    seconds = {"training_s": 1.0, "selection_s": 0.0, "data_s": 0.0}
    history = [
        {"epoch": epoch, "loss": 0.5, "accuracy": accuracy, "mastered": None, **seconds}
        for epoch, accuracy in enumerate((80.0, 70.0, None), 1)
    ]
    with Shown("mine", None, 3, step=0, show=True) as shown:
        shown.epoch(history)
    assert capsys.readouterr().err == "mine: epoch 3 of 3: loss 0.500, accuracy 70.00 %, 1.0 s\n"


def test_in_a_terminal_there_are_bars_and_no_lines(trained):
    text, _ = trained(Terminal())
    assert "OrderDP-50-seed0: 100%" in text
    assert "epoch 1:" in text
    assert "epoch 1 of 3" not in text


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_run_that_is_not_to_be_shown_is_silent(trained, stream):
    assert trained(stream(), show=False)[0] == ""
