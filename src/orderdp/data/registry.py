"""The data sets by name, a row each, and custom ones, which a function returns."""

from collections.abc import Collection, Mapping
from pathlib import Path

from orderdp.data import molecules, wikipedia
from orderdp.data.base import DataSetRow, DataSets, Option
from orderdp.data.cifar import load_cifar10, load_cifar100
from orderdp.data.custom import custom_row
from orderdp.data.digits import load_digits
from orderdp.data.fashion_mnist import is_installed, load_fashion_mnist
from orderdp.data.folder import load_folder
from orderdp.data.mlbench import letters_installed, load_letters, load_shuttle, shuttle_installed
from orderdp.data.rotated import load_rotated
from orderdp.data.sst2 import load_sst2
from orderdp.output.suggestions import did_you_mean

_ROWS = (
    DataSetRow("digits", "handwritten digits of 8 x 8, no download", load_digits),
    DataSetRow("fashion_mnist", "grey images of 28 x 28", load_fashion_mnist, ("data_root", "download"), is_installed),
    DataSetRow(
        "rotated_fashion_mnist",
        "the same images turned, angles to predict",
        load_rotated,
        ("data_root", "download"),
        is_installed,
    ),
    DataSetRow("cifar10", "images of 32 x 32, ten classes", load_cifar10, ("data_root", "download")),
    DataSetRow("cifar100", "images of 32 x 32, 100 classes", load_cifar100, ("data_root", "download")),
    DataSetRow("sst2", "phrases of film reviews, two classes", load_sst2, ("data_root",)),
    DataSetRow("letters", "rows of 16 numbers, 26 classes", load_letters, ("data_root",), letters_installed),
    DataSetRow("shuttle", "rows of 9 numbers, 7 unequal classes", load_shuttle, ("data_root",), shuttle_installed),
    DataSetRow(
        "wikipedia",
        "windows of articles, the next byte to predict",
        wikipedia.load_wikipedia,
        ("data_root",),
        wikipedia.is_installed,
    ),
    DataSetRow(
        "solubility",
        "molecules, solubility in water to predict",
        molecules.load_solubility,
        ("data_root",),
        molecules.is_installed,
    ),
    DataSetRow(
        "freesolv",
        "molecules, energy of hydration to predict",
        molecules.load_freesolv,
        ("data_root",),
        molecules.is_installed,
    ),
    DataSetRow("folder", "images in train/CLASS and val/CLASS", load_folder, ("data_root", "image_size")),
)
DATASETS = {row.name: row for row in _ROWS}
PLACE: tuple[Option, ...] = ("data_root", "download")  # which may change without changing the data


def load_dataset(
    name: str,
    *,
    data_root: Path | None = None,
    train_size: int | None = None,
    image_size: int | None = None,
    download: bool = False,
) -> DataSets:
    """Returns the data set of that name.

    Args:
        name: one of `DATASETS`, or MODULE:FUNCTION of a custom one, see `orderdp.data.custom`.
        data_root: folder that holds the files. Digits need none, and Fashion-MNIST as installed by Debian needs none.
        train_size: train on a stratified subset of this many images, the same in every run.
        image_size: side of the images that "folder" is resized to; 224 if None.
        download: fetch Fashion-MNIST or CIFAR into data_root through torchvision if it is missing.

    Raises:
        ValueError: unknown name, a train_size out of range, a data_root, image_size or download that the set does not
            use, a file that differs from the published one.
        TypeError: a custom function that returns something else.
        FileNotFoundError: data_root, a folder or a file is missing.
        OSError: the download failed.
        ImportError: a library that the set needs is missing.
    """
    row = find_dataset(name)
    if data_root is not None:
        data_root = data_root.expanduser()
    given: dict[Option, object] = {"data_root": data_root, "image_size": image_size, "download": download}
    for option, value in given.items():
        _check_option(row, option, value)
    if data_root is not None:
        check_data_root(data_root, download=download)
    data = row.load(**{option: given[option] for option in row.takes})
    return data if train_size is None else data.with_train_size(train_size)


def find_dataset(name: str) -> DataSetRow:
    """Returns the row of a data set; imports the module of a custom one.

    Raises:
        ValueError: no such data set, or no such function. TypeError: a function that needs other arguments.
    """
    if ":" in name:
        return custom_row(name)
    if name not in DATASETS:
        hint = did_you_mean(name, DATASETS) or f"; choose from {', '.join(DATASETS)}, or write MODULE:FUNCTION"
        raise ValueError(f"no data set named {name!r}{hint}")
    return DATASETS[name]


def sharing_folder(names: Collection[str], given: Mapping[Option, object]) -> set[str]:
    """Returns which data sets of a study get the folder that was given for all of them.

    A data set that needs no folder gets none. One that is installed gets it only if the others need none.

    Args:
        names: of the data sets.
        given: `data_root`, `download` or both.

    Raises:
        ValueError: none of them uses a folder.
    """
    rows = {name: find_dataset(name) for name in names}
    using = {name for name, row in rows.items() if set(given) & set(row.takes)}
    if not using:
        option, value = next(iter(given.items()))
        _check_option(next(iter(rows.values())), option, value)
    return {name for name in using if not rows[name].is_installed()} or using


def check_image_size(row: DataSetRow, image_size: int | None) -> None:
    """Refuses an image size for a data set of fixed size.

    Raises:
        ValueError: it is given, and the data set does not take it.
    """
    _check_option(row, "image_size", image_size)


def _check_option(row: DataSetRow, option: Option, value: object) -> None:
    """Refuses an option that the data set would ignore."""
    if value in (None, False) or option in row.takes:
        return
    if row.name not in DATASETS:
        raise ValueError(f"{option} must be an argument of the function, got {value} for {row.name!r}; leave it out")
    known = [repr(known.name) for known in _ROWS if option in known.takes]
    listed = " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)
    sets = "data set" if len(known) == 1 else "data sets"
    raise ValueError(f"{option} applies to {sets} {listed} only, got {value} for {row.name!r}; leave it out")


def check_data_root(data_root: Path, *, download: bool) -> None:
    """Refuses a folder that does not exist; a download may make one within a folder that does.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not data_root.is_dir() and not (download and data_root.parent.is_dir() and not data_root.exists()):
        raise FileNotFoundError(f"data_root must be a folder that exists, got {data_root}; create it or correct it")
