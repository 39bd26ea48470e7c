"""Two tables of the R package mlbench, taken from UCI's repository: letters and Shuttle."""

import lzma
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from orderdp.data.archives import md5_of, wrong_file
from orderdp.data.base import DataSets, Features
from orderdp.data.r_files import data_frame

DEBIAN = Path("/usr/lib/R/site-library/mlbench/data")

# Checksums of the content before compression, as in mlbench 2.1-3.
MD5 = {"LetterRecognition": "24e0909ff15eaf2ee013382f7ba45259", "Shuttle": "743737ad2a30ddde3c37c70a7b843ede"}


def load_letters(*, data_root: Path | None) -> DataSets:
    """Returns 16,000 training and 4,000 test rows of 16 whole numbers that describe the image of a letter.

    The split is UCI's: the last 4,000 rows are for tests. 380 of them have the same numbers and label as a training
    row. Labels are the 26 letters, in alphabetical order.

    Raises:
        FileNotFoundError: the file is missing. ValueError: it differs from mlbench's.

    Source: Frey and Slate, "Letter recognition using Holland-style adaptive classifiers", Machine Learning 6, 1991.
    """
    return _load("letters", "LetterRecognition", data_root, label="lettr", num_train=16_000)


def load_shuttle(*, data_root: Path | None) -> DataSets:
    """Returns 43,500 training and 14,500 test rows of 9 whole numbers, sensors of a space shuttle.

    The split is that of Statlog. Of the 7 classes, the first has 78.6 % of the rows. The smallest one has 6 training
    rows, and another has 2 test rows. No two rows are the same.

    Raises:
        FileNotFoundError, ValueError: as `load_letters`.

    Source: Michie, Spiegelhalter and Taylor, "Machine learning, neural and statistical classification", 1994.
    """
    return _load("shuttle", "Shuttle", data_root, label="Class", num_train=43_500)


def letters_installed() -> bool:
    """Returns whether Debian's package holds the letters."""
    return _path("LetterRecognition", DEBIAN).is_file()


def shuttle_installed() -> bool:
    """Returns whether Debian's package holds Shuttle."""
    return _path("Shuttle", DEBIAN).is_file()


def _path(frame: str, home: Path) -> Path:
    return home / f"{frame}.rda"


def _load(name: str, frame: str, data_root: Path | None, *, label: str, num_train: int) -> DataSets:
    """Returns a table of which the first rows are for training, each column standardised by their mean and deviation.

    Looks in the folder mlbench below data_root, and in data_root itself. Without a data_root, it looks where Debian's
    package r-cran-mlbench puts the files.
    """
    homes = [DEBIAN] if data_root is None else [data_root / "mlbench", data_root]
    path = next((path for home in homes if (path := _path(frame, home)).is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"data_root must hold {name}, got {data_root} without {frame}.rda; install Debian's r-cran-mlbench, or "
            "name the folder data of R's package mlbench"
        )
    columns = data_frame(_read_checked(name, path, MD5[frame]), frame)
    target = columns.pop(label)
    values = np.stack([column.values for column in columns.values()], axis=1).astype(np.float64)
    mean, std = values[:num_train].mean(0), values[:num_train].std(0)
    train, test = (
        _part((values[rows] - mean) / std, target.values[rows]) for rows in (slice(num_train), slice(num_train, None))
    )
    return DataSets(train, test, num_classes=len(target.levels))


def _read_checked(name: str, path: Path, md5: str) -> bytes:
    try:
        content = lzma.decompress(path.read_bytes())
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(wrong_file(name, path, f"cannot be decompressed ({error})")) from error
    if (got := md5_of(content)) != md5:
        raise ValueError(wrong_file(name, path, f"must have content of md5 {md5}, got {got}"))
    return content


def _part(values: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> Features:
    return Features(torch.from_numpy(values.astype(np.float32)), torch.from_numpy(labels.astype(np.int64)))
