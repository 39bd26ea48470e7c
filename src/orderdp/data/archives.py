"""The published data sets as they lie on disk: read, checked, and what is missing or wrong called by its name."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orderdp.data.imports import import_vision

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

# Of the files unzipped, since a file zipped anew (as Debian's are) is as good as the published one.
FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


def read_fashion_mnist(data_root: Path | None, *, download: bool) -> list[tuple[Tensor, Tensor]]:
    """Returns training and test images, (n, 1, 28, 28) uint8, with their labels, (n,) int64.

    Looks in torchvision's folder FashionMNIST/raw below data_root, in data_root itself, and where Debian's package
    dataset-fashion-mnist puts the files; each file may be gzipped.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not what was published.
        OSError: the download failed.
    """
    homes = [] if data_root is None else [data_root / "FashionMNIST" / "raw", data_root]
    homes.append(DEBIAN_FASHION_MNIST)
    found = {home: {name: path for name in FASHION_MNIST_MD5 if (path := _find(home, name))} for home in homes}
    best = max(homes, key=lambda home: len(found[home]))  # the first of equals
    if download and len(found[best]) < len(FASHION_MNIST_MD5):
        best = _download("fashion_mnist", "FashionMNIST", data_root) / "FashionMNIST" / "raw"
        found[best] = {name: best / name for name in FASHION_MNIST_MD5}
    if not found[best]:
        raise FileNotFoundError(
            f"data_root must hold fashion_mnist, got {_shown(data_root)} without {next(iter(FASHION_MNIST_MD5))}; "
            "install Debian's dataset-fashion-mnist, or name a data_root and write download=True"
        )
    for name in FASHION_MNIST_MD5:
        if name not in found[best]:
            raise FileNotFoundError(_missing("fashion_mnist", best / name))
    content = {name: _read_checked(path, FASHION_MNIST_MD5[name]) for name, path in found[best].items()}
    return [_images_and_labels(content, part) for part in ("train", "t10k")]


def _find(home: Path, name: str) -> Path | None:
    return next((path for path in (home / name, home / f"{name}.gz") if path.is_file()), None)


def _read_checked(path: Path, md5: str) -> bytes:
    raw = path.read_bytes()
    try:
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(_wrong("fashion_mnist", path, f"cannot be unzipped ({error})")) from error
    got = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if got != md5:
        raise ValueError(_wrong("fashion_mnist", path, f"must have content of md5 {md5}, got {got}"))
    return content


def _images_and_labels(content: dict[str, bytes], part: str) -> tuple[Tensor, Tensor]:
    """Splits off the headers of the IDX format, 16 bytes before images and 8 before labels."""
    pixels = np.frombuffer(content[f"{part}-images-idx3-ubyte"], dtype=np.uint8, offset=16)
    labels = np.frombuffer(content[f"{part}-labels-idx1-ubyte"], dtype=np.uint8, offset=8)
    images = torch.from_numpy(pixels.copy()).view(-1, 1, 28, 28)
    return images, torch.from_numpy(labels.astype(np.int64))


def read_cifar(name: str, data_root: Path | None, *, download: bool) -> list[tuple[Tensor, Tensor]]:
    """Returns training and test images, (n, 3, 32, 32) uint8, with their labels, (n,) int64.

    Args:
        name: "cifar10" or "cifar100".
        data_root: holds torchvision's layout, cifar-10-batches-py or cifar-100-python.
        download: fetch what is not there.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: data_root is None, or a file is not what was published.
        OSError: the download failed.
    """
    if data_root is None:
        raise ValueError(f"data_root must name the folder that holds {name}, got None; write its path")
    published = getattr(import_vision("torchvision.datasets"), name.upper())
    try:
        parts = [published(data_root, train=train) for train in (True, False)]
    except RuntimeError as error:  # torchvision's one text for missing and for wrong
        if not download:
            raise _what_is_amiss(name, data_root / published.base_folder, published) from error
        _download(name, name.upper(), data_root)
        return read_cifar(name, data_root, download=False)
    return [(torch.from_numpy(part.data.transpose(0, 3, 1, 2).copy()), torch.tensor(part.targets)) for part in parts]


def _what_is_amiss(name: str, home: Path, published: Any) -> Exception:
    if not home.is_dir():
        return FileNotFoundError(
            f"data_root must hold {name} in the folder {home.name}, got {home.parent}; "
            f"unpack {published.filename} there, or write download=True"
        )
    meta = (published.meta["filename"], published.meta["md5"])
    for file, md5 in [*published.train_list, *published.test_list, meta]:
        if not (home / file).is_file():
            return FileNotFoundError(_missing(name, home / file))
        got = hashlib.md5((home / file).read_bytes(), usedforsecurity=False).hexdigest()
        if got != md5:
            return ValueError(_wrong(name, home / file, f"must have md5 {md5}, got {got}"))
    raise AssertionError(f"torchvision refused {home}, whose files are all right")


def _download(name: str, published: str, data_root: Path | None) -> Path:
    if data_root is None:
        raise ValueError(f"data_root must name the folder to download {name} into, got None; write its path")
    try:
        getattr(import_vision("torchvision.datasets"), published)(data_root, download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise OSError(f"{name} could not be downloaded into {data_root} ({reason}); put its files there") from error
    return data_root


def _missing(name: str, path: Path) -> str:
    return f"{name} lacks the file {path.name} in {path.parent}; put it there, or write download=True"


def _wrong(name: str, path: Path, why: str) -> str:
    return f"{name}: the file {path} {why}; delete it and fetch it again"


def _shown(data_root: Path | None) -> str:
    return "None" if data_root is None else str(data_root)
