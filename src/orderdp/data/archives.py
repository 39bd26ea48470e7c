"""What the published data sets have in common: their download, and messages about missing or wrong files."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from orderdp.data.imports import import_image_library


def md5_of(content: bytes) -> str:
    """Returns the checksum under which data sets are published."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def download_published(name: str, published: str, data_root: Path | None) -> Path:
    """Downloads a data set through torchvision and returns the folder that holds it.

    Args:
        name: of the data set, for messages.
        published: torchvision's class.
        data_root: folder to download into.

    Raises:
        ValueError: data_root is None.
        OSError: the download failed.
    """
    if data_root is None:
        raise ValueError(f"data_root must name the folder to download {name} into, got None; write its path")
    try:
        getattr(import_image_library("torchvision.datasets"), published)(data_root, download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise OSError(f"{name} could not be downloaded into {data_root} ({reason}); put its files there") from error
    return data_root


def shipped_by(package: str, folder: str) -> Path | None:
    """Returns a folder within an installed package, or None if it is not installed; imports nothing."""
    found = find_spec(package)
    return None if found is None or found.origin is None else Path(found.origin).parent / folder


def missing_file(name: str, path: Path) -> str:
    """Returns the message about a file that a data set lacks."""
    return f"{name} lacks the file {path.name} in {path.parent}; put it there, or write download=True"


def wrong_file(name: str, path: Path, why: str) -> str:
    """Returns the message about a file that is not the published one."""
    return f"{name}: the file {path} {why}; delete it and fetch it again"
