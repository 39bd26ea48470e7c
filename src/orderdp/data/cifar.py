"""CIFAR-10 and CIFAR-100, loaded from the published files."""

from pathlib import Path
from typing import Any

import torch

from orderdp.data.archives import download_published, md5_of, missing_file, wrong_file
from orderdp.data.base import DataSets, ImageArrays, from_arrays
from orderdp.data.imports import import_image_library

_MEAN, _STD = (0.5074, 0.4867, 0.4411), (0.2011, 0.1987, 0.2025)  # the paper's, for both


def load_cifar10(*, data_root: Path | None, download: bool) -> DataSets:
    """Returns 50,000 training and 10,000 test images of ten classes, (n, 3, 32, 32).

    Args:
        data_root: holds torchvision's folder cifar-10-batches-py.
        download: download what is missing.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: data_root is None, or a file differs from the published one.
        OSError: the download failed.
    """
    return _load("cifar10", data_root, download=download)


def load_cifar100(*, data_root: Path | None, download: bool) -> DataSets:
    """Returns as many images as CIFAR-10, of a hundred classes; data_root holds cifar-100-python."""
    return _load("cifar100", data_root, download=download)


def _load(name: str, data_root: Path | None, *, download: bool) -> DataSets:
    if data_root is None:
        raise ValueError(f"data_root must name the folder that holds {name}, got None; write its path")
    published = getattr(import_image_library("torchvision.datasets"), name.upper())
    try:
        train, test = (_part(published(data_root, train=train)) for train in (True, False))
    except RuntimeError as error:  # torchvision's one message for missing and wrong files
        if not download:
            raise _what_is_wrong(name, data_root / published.base_folder, published) from error
        download_published(name, name.upper(), data_root)
        return _load(name, data_root, download=False)
    return from_arrays(train, test, mean=_MEAN, std=_STD)


def _part(read: Any) -> ImageArrays:
    return ImageArrays(torch.from_numpy(read.data.transpose(0, 3, 1, 2).copy()), torch.tensor(read.targets))


def _what_is_wrong(name: str, home: Path, published: Any) -> Exception:
    if not home.is_dir():
        return FileNotFoundError(
            f"data_root must hold {name} in the folder {home.name}, got {home.parent}; "
            f"unpack {published.filename} there, or write download=True"
        )
    meta = (published.meta["filename"], published.meta["md5"])
    for file, md5 in [*published.train_list, *published.test_list, meta]:
        if not (home / file).is_file():
            return FileNotFoundError(missing_file(name, home / file))
        if (got := md5_of((home / file).read_bytes())) != md5:
            return ValueError(wrong_file(name, home / file, f"must have md5 {md5}, got {got}"))
    raise AssertionError(f"torchvision refused {home}, whose files are all right")
