"""Calls of the command line, each in a folder of its own."""

from pathlib import Path

import pytest

from orderdp.cli import main
from orderdp.data import fashion_mnist
from reference.command_line import SMALL


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test works in a folder of its own, where no installed data set is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "not installed")
    return tmp_path


@pytest.fixture
def call(capsys):
    """Exit status, standard output and standard error of `orderdp ARGUMENTS`."""

    def called(*arguments):
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return called


@pytest.fixture
def small(call):
    """A comparison in the folder `run`."""
    assert call(*SMALL)[0] == 0
    return Path("run")
