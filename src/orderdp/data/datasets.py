"""Image data sets by name: raw images and labels, and what a model and a transform must know of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.data.archives import read_cifar, read_fashion_mnist
from orderdp.data.augment import Purpose, draws
from orderdp.data.imports import import_vision
from orderdp.output.suggestions import did_you_mean

DATASETS = ("digits", "fashion_mnist", "cifar10", "cifar100", "folder")

# The paper's for both CIFAR sets, ImageNet's for folders; the others are measured.
_CIFAR_MEAN, _CIFAR_STD = (0.5074, 0.4867, 0.4411), (0.2011, 0.1987, 0.2025)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NUM_DIGITS_TEST = 360


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """Images in memory.

    Args:
        images: (n, c, h, w) uint8.
        labels: (n,) int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: npt.NDArray[np.int64]) -> "ImageArrays":
        """Returns the images at these positions."""
        where = torch.from_numpy(indices)
        return ImageArrays(self.images[where], self.labels[where])


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images in files.

    Args:
        paths: one for each image.
        labels: (n,) int64.
    """

    paths: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: npt.NDArray[np.int64]) -> "ImageFiles":
        """Returns the images at these positions."""
        return ImageFiles(tuple(self.paths[i] for i in indices), self.labels[torch.from_numpy(indices)])


@dataclass(frozen=True, eq=False)
class DataSets:
    """A data set, raw, in two parts.

    Args:
        train: what a run trains on.
        test: what it is evaluated on.
        num_classes: labels are in [0, num_classes).
        in_channels: 1 for grey, 3 for colour.
        image_size: side of the square images, in pixels.
        mean: of each channel, on the scale of 0 to 1.
        std: of each channel, on the scale of 0 to 1.
    """

    train: ImageArrays | ImageFiles
    test: ImageArrays | ImageFiles
    num_classes: int
    in_channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


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
        name: "digits" (scikit-learn's, 1,437 and 360 images), "fashion_mnist", "cifar10", "cifar100", or "folder":
            data_root/train/CLASS/IMAGE and data_root/val/CLASS/IMAGE (or test instead of val).
        data_root: folder that holds the files. Digits need none, nor does a Fashion-MNIST that Debian installed.
        train_size: train on a subset of so many images, class by class in proportion, the same in every run.
        image_size: side of the images that "folder" is resized to; 224 if None.
        download: fetch Fashion-MNIST or CIFAR into data_root through torchvision where it is not there.

    Raises:
        ValueError: unknown name, a train_size that the set cannot give, an image_size for a set that has its own, a
            file that is not what was published.
        FileNotFoundError: data_root, a folder or a file is missing.
        OSError: the download failed.
        ImportError: a library that the set needs is missing.
    """
    if name not in DATASETS:
        hint = did_you_mean(name, DATASETS) or f"; choose from {', '.join(DATASETS)}"
        raise ValueError(f"no data set named {name!r}{hint}")
    if image_size is not None and name != "folder":
        raise ValueError(f"image_size applies to data set 'folder' only, got {image_size} for {name!r}; leave it out")
    if data_root is not None:
        data_root = data_root.expanduser()
        if not data_root.is_dir() and not download:
            raise FileNotFoundError(f"data_root must be a folder that exists, got {data_root}; create it or correct it")
    if name == "folder":
        return _folder(data_root, train_size, 224 if image_size is None else image_size)
    return _arrays(name, data_root, train_size, download=download)


def _arrays(name: str, data_root: Path | None, train_size: int | None, *, download: bool) -> DataSets:
    if name == "digits":
        parts = _digits()
    elif name == "fashion_mnist":
        parts = read_fashion_mnist(data_root, download=download)
    else:
        parts = read_cifar(name, data_root, download=download)
    train, test = (ImageArrays(images, labels) for images, labels in parts)
    mean, std = (_CIFAR_MEAN, _CIFAR_STD) if name.startswith("cifar") else _moments(train.images)
    return DataSets(
        train=train if train_size is None else train.subset(_subset(train.labels, train_size)),
        test=test,
        num_classes=int(train.labels.max()) + 1,
        in_channels=train.images.shape[1],
        image_size=train.images.shape[2],
        mean=mean,
        std=std,
    )


def _moments(images: Tensor) -> tuple[tuple[float], tuple[float]]:
    """Returns mean and standard deviation of grey images, on the scale of 0 to 1, from exact counts of the values."""
    share = torch.bincount(images.flatten(), minlength=256).to(torch.float64) / images.numel()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    return (mean.item(),), ((share @ (values - mean).square()).sqrt().item(),)


def _digits() -> list[tuple[Tensor, Tensor]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('the digits data set needs scikit-learn: pip install "orderdp[train]"') from error
    pixels, target = load_digits(return_X_y=True)
    images = torch.from_numpy(np.rint(pixels * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    labels = torch.from_numpy(target.astype(np.int64))
    order = _stratified_order(labels)
    parts = order[_NUM_DIGITS_TEST:], order[:_NUM_DIGITS_TEST]
    return [(images[where], labels[where]) for where in (torch.from_numpy(np.sort(part)) for part in parts)]


def _folder(data_root: Path | None, train_size: int | None, image_size: int) -> DataSets:
    if data_root is None:
        raise ValueError("data_root must name the folder that holds train/CLASS/IMAGE, got None; write its path")
    if image_size < 1:
        raise ValueError(f"image_size is a number of pixels and must lie in [1, inf), got {image_size}; write 224")
    (classes, train), (test_classes, test) = (_image_files(data_root, names) for names in (("train",), ("val", "test")))
    if classes != test_classes:
        odd = ", ".join(sorted(set(classes) ^ set(test_classes)))
        raise ValueError(f"train and test of {data_root} must hold the same classes, got {odd} in one only; add them")
    return DataSets(
        train=train if train_size is None else train.subset(_subset(train.labels, train_size)),
        test=test,
        num_classes=len(classes),
        in_channels=3,
        image_size=image_size,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    )


def _image_files(data_root: Path, names: tuple[str, ...]) -> tuple[list[str], ImageFiles]:
    """Returns the classes and the images of the first of these folders that exists."""
    home = next((data_root / name for name in names if (data_root / name).is_dir()), None)
    if home is None:
        raise FileNotFoundError(
            f"data_root must hold a folder {' or '.join(names)}, got {data_root}; put images at {names[0]}/CLASS/IMAGE"
        )
    try:
        found = import_vision("torchvision.datasets").ImageFolder(home)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{home} must hold a folder of images for each class ({error})") from error
    return found.classes, ImageFiles(tuple(path for path, _ in found.samples), torch.tensor(found.targets))


def _subset(labels: Tensor, size: int) -> npt.NDArray[np.int64]:
    """Returns the positions of a stratified subset, ascending; a smaller one is part of a larger one."""
    if not 1 <= size <= len(labels):
        raise ValueError(
            f"train_size must lie in [1, {len(labels)}], the images there are, got {size}; leave it out to take all"
        )
    return np.sort(_stratified_order(labels)[:size])


def _stratified_order(labels: Tensor) -> npt.NDArray[np.int64]:
    """Returns all positions in a fixed random order of which every beginning has each class in proportion.

    The r-th of a class's m samples, in random order, stands at (r + 1/2) / m of the way; equals in random order. So a
    beginning has of each class its proportional number, up to one.
    """
    classes = labels.numpy()
    chance = draws(0, 0, np.arange(len(classes)), Purpose.SUBSET)
    place = np.empty(len(classes))
    for members in (np.flatnonzero(classes == label) for label in np.unique(classes)):
        place[members[np.argsort(chance[members])]] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((chance, place))
