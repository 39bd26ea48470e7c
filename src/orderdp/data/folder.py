"""Image files in one folder for each class: read, and made from images in memory."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from orderdp.data.base import DataSets, ImageArrays, ImageFiles
from orderdp.data.imports import import_image_library
from orderdp.data.subsets import subset
from orderdp.output.files import new_folder

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as published
_IMAGE_SIZE = 224
_NAMED = 5  # classes that a message names
_QUALITY = 95
_EXAMPLES = {"image_size": 64, "classes": 10, "train_size": 2_000}


def load_folder(*, data_root: Path | None, image_size: int | None) -> DataSets:
    """Returns the images in data_root/train/CLASS/IMAGE and data_root/val/CLASS/IMAGE (or test instead of val).

    Args:
        data_root: the folder.
        image_size: side that the images are resized to; 224 if None.

    Raises:
        ValueError: data_root is None, an image_size below 1, or parts of different classes.
        FileNotFoundError: a part is missing, or a class has no image.
    """
    if data_root is None:
        raise ValueError("data_root must name the folder that holds train/CLASS/IMAGE, got None; write its path")
    size = _IMAGE_SIZE if image_size is None else image_size
    if size < 1:
        raise ValueError(f"image_size is a number of pixels and must lie in [1, inf), got {size}; write {_IMAGE_SIZE}")
    (classes, train), (test_classes, test) = (_image_files(data_root, names) for names in (("train",), ("val", "test")))
    if classes != test_classes:
        parts = {"train": set(classes) - set(test_classes), "val or test": set(test_classes) - set(classes)}
        odd = " and ".join(f"{_listed(names)} in {part} only" for part, names in parts.items() if names)
        raise ValueError(f"the two parts of {data_root} must hold the same classes, got {odd}; add or remove them")
    return DataSets(train, test, num_classes=len(classes), in_channels=3, image_size=size, mean=_MEAN, std=_STD)


def make_folder(
    data: DataSets, folder: Path, *, image_size: int, classes: int | None = None, train_size: int | None = None
) -> tuple[int, int]:
    """Writes images in memory as JPEG files, in the layout that `load_folder` reads: the whole folder or nothing.

    An image is resized with Pillow's bicubic filter and compressed at quality 95, with colours at full resolution. Its
    file is train/CLASS/POSITION.jpg or val/CLASS/POSITION.jpg, by the number of its class and its position in that
    part of the data set. Equal arguments write equal bytes, with the same version of Pillow.

    Args:
        data: images and classes; its test part becomes val.
        folder: the new folder.
        image_size: side of the images, in pixels.
        classes: take only the classes below this number; None takes all.
        train_size: take a stratified subset of this many training images of these classes; None takes all.

    Returns:
        The number of training images and of those in val.

    Raises:
        ValueError: an argument out of range, or data of another kind. FileExistsError: there is something at `folder`.
        OSError: it cannot be written.
    """
    for name, value in {"image_size": image_size, "classes": classes, "train_size": train_size}.items():
        if value is not None and not (type(value) is int and value >= 1):
            raise ValueError(f"{name} must be a whole number from 1, got {value!r}; write {_EXAMPLES[name]}")
    if not isinstance(data.train, ImageArrays) or not isinstance(data.test, ImageArrays) or not data.num_classes:
        raise ValueError(
            "dataset must hold images in memory and their classes, got other inputs or labels; write cifar100"
        )
    if data.train.images.shape[1] not in (1, 3):
        raise ValueError(
            f"images must be grey or have three colours to be JPEG files, got {data.train.images.shape[1]} channels; "
            "choose three of them"
        )
    count = data.num_classes if classes is None else classes
    if count > data.num_classes:
        raise ValueError(f"classes must lie in [1, {data.num_classes}], got {count}; leave it out to take all")
    taken = {name: _of_classes(part, count) for name, part in (("train", data.train), ("val", data.test))}
    if train_size is not None:
        taken["train"] = taken["train"][subset(data.train.labels[torch.from_numpy(taken["train"])], train_size)]
    for (name, positions), part in zip(taken.items(), (data.train, data.test), strict=True):
        if missing := set(range(count)) - set(part.labels[torch.from_numpy(positions)].tolist()):
            raise ValueError(
                f"every class must have an image in both parts, got none of {_listed(missing)} in {name}; "
                "take more images"
            )
    if folder.exists():
        raise FileExistsError(f"output must be a new folder, got {folder}, which exists; write another, or remove it")
    with new_folder(folder, flag="--output") as unfinished:
        for (name, positions), part in zip(taken.items(), (data.train, data.test), strict=True):
            _write_images(part, positions, unfinished / name, size=image_size, digits=len(str(data.num_classes - 1)))
    return len(taken["train"]), len(taken["val"])


def _of_classes(part: ImageArrays, count: int) -> npt.NDArray[np.int64]:
    """Returns the positions of the images of the first classes, ascending."""
    return np.flatnonzero(part.labels.numpy() < count)


def _write_images(part: ImageArrays, positions: npt.NDArray[np.int64], home: Path, *, size: int, digits: int) -> None:
    """Writes the images at these positions; class numbers have equal length, so that their order is that of names."""
    from PIL import Image

    for position in positions.tolist():
        pixels = part.images[position].permute(1, 2, 0).numpy()
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        file = home / f"{int(part.labels[position]):0{digits}}" / f"{position:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        resized = image.resize((size, size), Image.Resampling.BICUBIC)
        resized.save(file, format="JPEG", quality=_QUALITY, subsampling=0)


def _image_files(data_root: Path, names: tuple[str, ...]) -> tuple[list[str], ImageFiles]:
    """Returns the classes and the images of the first of these folders that exists."""
    home = next((data_root / name for name in names if (data_root / name).is_dir()), None)
    if home is None:
        raise FileNotFoundError(
            f"data_root must hold a folder {' or '.join(names)}, got {data_root}; put images at {names[0]}/CLASS/IMAGE"
        )
    try:
        found = import_image_library("torchvision.datasets").ImageFolder(home)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{home} must hold a folder of images for each class ({error})") from error
    return found.classes, ImageFiles(tuple(path for path, _ in found.samples), torch.tensor(found.targets))


def _listed(names: set[str] | set[int]) -> str:
    """Returns the first few names."""
    first = ", ".join(map(str, sorted(names)[:_NAMED]))
    return f"{first}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}"
