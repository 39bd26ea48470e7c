"""The data sets by name, a row each, and custom ones, which a function returns."""

from pathlib import Path

from orderdp.data.base import DataSetRow, DataSets, Option
from orderdp.data.cifar import load_cifar10, load_cifar100
from orderdp.data.custom import custom_row
from orderdp.data.digits import load_digits
from orderdp.data.fashion_mnist import load_fashion_mnist
from orderdp.data.folder import load_folder
from orderdp.output.suggestions import did_you_mean

_ROWS = (
    DataSetRow("digits", "handwritten digits of 8 x 8, no download", load_digits),
    DataSetRow("fashion_mnist", "grey images of 28 x 28", load_fashion_mnist, ("data_root", "download")),
    DataSetRow("cifar10", "images of 32 x 32, ten classes", load_cifar10, ("data_root", "download")),
    DataSetRow("cifar100", "images of 32 x 32, 100 classes", load_cifar100, ("data_root", "download")),
    DataSetRow("folder", "images in train/CLASS and val/CLASS", load_folder, ("data_root", "image_size")),
)
DATASETS = {row.name: row for row in _ROWS}


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
        ValueError: unknown name, a train_size out of range, an image_size for a set of fixed size, a file that differs
            from the published one.
        TypeError: a custom function that returns something else.
        FileNotFoundError: data_root, a folder or a file is missing.
        OSError: the download failed.
        ImportError: a library that the set needs is missing.
    """
    row = find_dataset(name)
    check_image_size(row, image_size)
    if data_root is not None:
        data_root = data_root.expanduser()
        if not data_root.is_dir() and not download:
            raise FileNotFoundError(f"data_root must be a folder that exists, got {data_root}; create it or correct it")
    given: dict[Option, object] = {"data_root": data_root, "image_size": image_size, "download": download}
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


def check_image_size(row: DataSetRow, image_size: int | None) -> None:
    """Refuses an image size for a data set of fixed size.

    Raises:
        ValueError: it is given, and the data set does not take it.
    """
    if image_size is not None and "image_size" not in row.takes:
        known = " or ".join(repr(known.name) for known in _ROWS if "image_size" in known.takes)
        raise ValueError(
            f"image_size applies to data set {known} only, got {image_size} for {row.name!r}; leave it out"
        )
