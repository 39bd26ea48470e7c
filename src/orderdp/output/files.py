"""Files and folders that are complete at any moment: written under another name, flushed and then renamed."""

from __future__ import annotations

import os
from pathlib import Path


def make_new(path: Path) -> None:
    """Makes a folder that must not exist yet.

    Raises:
        FileExistsError: it exists. OSError: it cannot be made.
    """
    try:
        path.mkdir(parents=True)
        flush_folder(path.parent)
    except FileExistsError:
        raise FileExistsError(
            f"the run folder must be new, got {path}, which exists; write another --run, or --resume {path}"
        ) from None
    except OSError as error:
        raise cannot_write(path, error) from error


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that at any moment it has either the complete old content or the complete new one.

    Raises:
        OSError: it could not be written; it has the old content.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        write_flushed(unfinished, data)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
    flush_folder(path.parent)


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
    """Returns the error to raise if `path` could not be written."""
    reason = error.strerror or str(error)
    return OSError(
        error.errno,
        f"{path} could not be written ({reason}); existing files are unchanged; check path and free space",
    )
