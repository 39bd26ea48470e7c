"""A file is complete at any moment; the tests of a run folder cover the rest."""

import errno
import os

import pytest

from orderdp.output import files


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="could not be written"):
        files.write_whole(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_the_file_and_then_its_folder_are_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    files.write_whole(tmp_path / "a", b"new")
    assert flushed == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]


def test_the_error_keeps_its_number(tmp_path):
    with pytest.raises(OSError, match="could not be written") as caught:
        files.write_whole(tmp_path / "missing" / "a", b"")
    assert caught.value.errno == errno.ENOENT


def test_files_of_one_stem_do_not_meet(tmp_path):
    (tmp_path / "a.unfinished").mkdir()
    files.write_whole(tmp_path / "a.csv", b"new")
    assert (tmp_path / "a.csv").read_bytes() == b"new"
