"""Files and folders that are complete at any moment: written under another name, flushed and then renamed.

Each writer has a name of its own, so several processes and threads may write the same file at once. A writer holds a
lock on what it has not finished. If it is killed, the system frees the lock, and the next writer in that folder removes
what was left.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{16}\.unfinished")
_ADVICE = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within your quota",
    errno.EACCES: "write a path where you may write, or change the permissions of the folder",
    errno.EPERM: "write a path where you may write, or change the permissions of the folder",
    errno.EROFS: "write a path on a disk that is not read-only",
    errno.ENOENT: "create the folder first, or correct the path",
    errno.EEXIST: "correct the path, since a part of it is a file",
    errno.ENOTDIR: "correct the path, since a part of it is a file",
    errno.EISDIR: "write the name of a file, since this is a folder",
    errno.ENAMETOOLONG: "write a shorter name",
}


@contextmanager
def new_folder(path: Path, *, flag: str = "--run") -> Iterator[Path]:
    """Yields a folder to fill, which becomes `path` when the block ends without an error.

    Until then there is nothing at `path`, so a killed process leaves no half of a folder there.

    Args:
        path: the new folder.
        flag: the option of the command line that gives it, for the message.

    Raises:
        FileExistsError: there is something at `path`. OSError: the folder cannot be made.
    """
    exists = FileExistsError(
        f"the {'run' if flag == '--run' else 'output'} folder must be new, got {path}, which exists; "
        f"write another {flag}" + ("" if path.is_file() else f", or --resume {path}")
    )
    if path.exists():  # a rename would replace an empty folder
        raise exists
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(path, Path.mkdir) as folder:
            yield folder
            flush_folder(folder)
            if path.exists():  # another process was faster
                raise exists
            folder.rename(path)
        flush_folder(path.parent)
    except OSError as error:
        if error is exists:
            raise
        raise cannot_write(path, error) from error


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that at any moment it has either the complete old content or the complete new one.

    Of several writers at once, the last one wins.

    Raises:
        OSError: it could not be written; it has the old content.
    """
    try:
        with _unfinished(path, Path.touch) as file:
            write_flushed(file, data)
            file.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def _unfinished(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yields a new file or folder beside `path`, locked and under a name of its own; removes it unless it was renamed.

    Args:
        path: what it will be.
        make: makes it.
    """
    _remove_leftovers(path.parent)
    lock, apart = None, path
    try:
        while lock is None:
            apart = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.unfinished")
            make(apart)
            lock = _locked(apart)  # None if another writer removed it before it was locked
        yield apart
    finally:
        if apart != path:
            _remove(apart)
        if lock is not None:
            os.close(lock)


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed writers left in a folder."""
    with suppress(OSError):
        for left in [Path(entry) for entry in os.scandir(folder) if _UNFINISHED.fullmatch(entry.name)]:
            with suppress(OSError):
                if os.name == "posix" and (lock := _locked(left, wait=False)) is not None:
                    _remove(left)
                    os.close(lock)


def _locked(path: Path, *, wait: bool = True) -> int | None:
    """Returns an open file that holds the lock of a file or folder; None if that was removed meanwhile.

    Raises:
        OSError: another writer holds the lock, without `wait`.
    """
    if os.name != "posix":  # no locks: what a killed writer left stays
        return os.open(os.devnull, os.O_RDONLY)
    import fcntl

    try:
        lock = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        removed = os.fstat(lock).st_nlink == 0
    except BaseException:
        os.close(lock)
        raise
    if removed:
        os.close(lock)
    return None if removed else lock


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_flushed(path: Path, data: bytes) -> None:
    """Writes a file that is on the disk when this returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Makes a rename survive a power cut, if the system can open folders."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> OSError:
    """Returns the error to raise if `path` could not be written; it says what to do about this reason."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    advice = _ADVICE.get(cause.errno or 0, "check the path and the disk")
    return OSError(
        cause.errno,
        f"{path} could not be written ({cause.strerror or cause}); existing files are unchanged; {advice}",
    )
