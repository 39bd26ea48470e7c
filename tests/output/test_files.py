"""A file is complete at any moment; the tests of a run folder cover the rest."""

import errno
import multiprocessing
import os
import signal
import stat
import threading

import pytest

from orderdp.output import files

LENGTH = 50_000


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="could not be written"):
        files.write_whole(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_whole(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_the_file_and_then_its_folder_are_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    files.write_whole(tmp_path / "a", b"new")
    assert flushed == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]


def test_a_file_may_be_read_by_whom_the_system_allows(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    files.write_whole(tmp_path / "a", b"new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_the_error_keeps_its_number(tmp_path):
    with pytest.raises(OSError, match="could not be written") as caught:
        files.write_whole(tmp_path / "missing" / "a", b"")
    assert caught.value.errno == errno.ENOENT


ADVICE = {
    errno.EACCES: "write a path where you may write",
    errno.EROFS: "write a path on a disk that is not read-only",
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within your quota",
    errno.EIO: "check the path and the disk",
}


@pytest.mark.parametrize("number", list(ADVICE), ids=[errno.errorcode[number] for number in ADVICE])
def test_the_advice_fits_the_reason(tmp_path, monkeypatch, number):
    def refuse(path, data):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "write_flushed", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        files.write_whole(tmp_path / "a", b"")
    assert ADVICE[number] in caught.value.strerror
    assert ("room" in caught.value.strerror) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_files_of_one_stem_do_not_meet(tmp_path):
    (tmp_path / "a.unfinished").mkdir()
    files.write_whole(tmp_path / "a.csv", b"new")
    assert (tmp_path / "a.csv").read_bytes() == b"new"


def test_a_long_name_can_be_written(tmp_path):
    name = "é" * 120
    files.write_whole(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def write_often(path, letters):
    """Writes the file by a thread for each letter."""

    def write(letter):
        for _ in range(40):
            files.write_whole(path, letter.encode() * LENGTH)

    threads = [threading.Thread(target=call, args=(letter,)) for letter in letters for call in (raising(write),)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(len(raising.caught))


def raising(call):
    """The function, whose errors are kept, as a thread would only print them."""

    def called(*arguments):
        try:
            call(*arguments)
        except BaseException as error:
            raising.caught.append(error)

    return called


raising.caught = []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_several_writers_of_one_file_disturb_neither_each_other_nor_a_reader(tmp_path):
    path = tmp_path / "a"
    files.write_whole(path, b"0" * LENGTH)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(path, letters)) for letters in ("ab", "cd", "ef")]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        content = path.read_bytes()
        assert content == content[:1] * LENGTH
        assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"a"}
        reads += 1
    assert ([writer.exitcode for writer in writers], reads > 20) == ([0, 0, 0], True)
    assert list(tmp_path.iterdir()) == [path]


def killed_while_writing(path):
    def kill(unfinished, data):
        unfinished.write_bytes(data[:1])
        os.kill(os.getpid(), signal.SIGKILL)

    files.write_flushed = kill
    files.write_whole(path, b"new")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_what_a_killed_writer_left_is_removed_by_the_next_one_in_the_folder(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    process = multiprocessing.get_context("fork").Process(target=killed_while_writing, args=(tmp_path / "a",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = sorted(path.name for path in tmp_path.iterdir())
    assert (len(left), left[1], (tmp_path / "a").read_bytes()) == (2, "a", b"old")
    files.write_whole(tmp_path / "b", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_another_writer_is_writing_is_no_leftover(tmp_path, monkeypatch):
    write = files.write_flushed

    def meanwhile(path, data):
        if data == b"outer":
            files.write_whole(tmp_path / "b", b"inner")
        write(path, data)

    monkeypatch.setattr(files, "write_flushed", meanwhile)
    files.write_whole(tmp_path / "a", b"outer")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"outer", "b": b"inner"}


def test_a_new_folder_is_there_only_once_it_is_filled(tmp_path):
    with files.new_folder(tmp_path / "more" / "run") as folder:
        (folder / "a").write_bytes(b"1")
        assert not (tmp_path / "more" / "run").exists()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["more", "more/run", "more/run/a"]


def fill(path, then):
    """Makes a folder with a file in it, and calls a function before that is done."""
    with files.new_folder(path) as folder:
        files.write_whole(folder / "a", b"mine")
        then()


def test_a_folder_that_could_not_be_filled_leaves_nothing(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "run", interrupt)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_process_made_meanwhile_is_left_alone(tmp_path):
    path = tmp_path / "run"

    def be_faster():
        path.mkdir()
        (path / "a").write_bytes(b"theirs")

    message = r"^the run folder must be new, got .*run, which exists; write another --run, or --resume .*run$"
    with pytest.raises(FileExistsError, match=message):
        fill(path, be_faster)
    assert {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == {"a": b"theirs"}


def test_a_file_in_the_place_of_a_new_folder_is_not_offered_to_resume(tmp_path):
    (tmp_path / "run").write_bytes(b"notes")
    with pytest.raises(FileExistsError, match=r"got .*run, which exists; write another --run$"):
        fill(tmp_path / "run", list)


def test_an_error_within_a_new_folder_names_the_folder_and_the_reason(tmp_path, monkeypatch):
    def refuse(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_flushed", refuse)
    with pytest.raises(OSError, match=r"run could not be written \(No space left on device\); .*; make room on that"):
        fill(tmp_path / "run", refuse)
    assert not list(tmp_path.iterdir())
