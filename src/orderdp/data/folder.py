"""Image files in one folder for each class."""

from pathlib import Path

import torch

from orderdp.data.base import DataSets, ImageFiles
from orderdp.data.imports import import_image_library

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as published
_IMAGE_SIZE = 224


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
        odd = ", ".join(sorted(set(classes) ^ set(test_classes)))
        raise ValueError(f"train and test of {data_root} must hold the same classes, got {odd} in one only; add them")
    return DataSets(train, test, num_classes=len(classes), in_channels=3, image_size=size, mean=_MEAN, std=_STD)


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
