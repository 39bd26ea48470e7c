"""Fashion-MNIST, loaded from the published files."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch

from orderdp.data.archives import download_published, md5_of, missing_file, wrong_file
from orderdp.data.base import DataSets, ImageArrays, from_arrays

DEBIAN = Path("/usr/share/datasets/fashion-mnist")

# Checksums of the unzipped files, because Debian compressed its files again.
MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


def load_fashion_mnist(*, data_root: Path | None, download: bool) -> DataSets:
    """Returns 60,000 training and 10,000 test images, (n, 1, 28, 28).

    Looks in torchvision's folder FashionMNIST/raw below data_root, and in data_root itself. Without a data_root, it
    looks where Debian's package dataset-fashion-mnist puts the files. Each file may be gzipped.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file differs from the published one.
        OSError: the download failed.
    """
    homes = [DEBIAN] if data_root is None else [data_root / "FashionMNIST" / "raw", data_root]
    found = {home: {name: path for name in MD5 if (path := _find(home, name))} for home in homes}
    best = max(homes, key=lambda home: len(found[home]))  # the first of equals
    if download and len(found[best]) < len(MD5):
        best = download_published("fashion_mnist", "FashionMNIST", data_root) / "FashionMNIST" / "raw"
        found[best] = {name: best / name for name in MD5}
    if not found[best]:
        raise FileNotFoundError(
            f"data_root must hold fashion_mnist, got {data_root} without {next(iter(MD5))}; "
            "install Debian's dataset-fashion-mnist, or name a data_root and write download=True"
        )
    for name in MD5:
        if name not in found[best]:
            raise FileNotFoundError(missing_file("fashion_mnist", best / name))
    content = {name: _read_checked(path, MD5[name]) for name, path in found[best].items()}
    return from_arrays(_part(content, "train"), _part(content, "t10k"))


def is_installed() -> bool:
    """Returns whether Debian's package is installed."""
    return all(_find(DEBIAN, name) for name in MD5)


def _find(home: Path, name: str) -> Path | None:
    return next((path for path in (home / name, home / f"{name}.gz") if path.is_file()), None)


def _read_checked(path: Path, md5: str) -> bytes:
    raw = path.read_bytes()
    try:
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(wrong_file("fashion_mnist", path, f"cannot be unzipped ({error})")) from error
    if (got := md5_of(content)) != md5:
        raise ValueError(wrong_file("fashion_mnist", path, f"must have content of md5 {md5}, got {got}"))
    return content


def _part(content: dict[str, bytes], part: str) -> ImageArrays:
    """Splits off the headers of the IDX format, 16 bytes before images and 8 before labels."""
    pixels = np.frombuffer(content[f"{part}-images-idx3-ubyte"], dtype=np.uint8, offset=16)
    labels = np.frombuffer(content[f"{part}-labels-idx1-ubyte"], dtype=np.uint8, offset=8)
    images = torch.from_numpy(pixels.copy()).view(-1, 1, 28, 28)
    return ImageArrays(images, torch.from_numpy(labels.astype(np.int64)))
