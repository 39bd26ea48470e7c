"""Images as a DataLoader reads them: whole batches on the device, one sample at a time, or files."""

import logging
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.data.augment import (
    Augment,
    Purpose,
    draw_views,
    draws,
    erase,
    erase_at_random,
    normalize,
    padding_of,
    seeded,
    source_pixels,
)
from orderdp.data.base import ImageArrays, ImageFiles
from orderdp.data.imports import import_image_library
from orderdp.data.samples import Samples

_NAMED = 10  # files that a warning names
# What Pillow's decoders raise. Other errors may be those of a signal, such as that of a worker that was killed.
_UNDECODABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError),
    *(struct.error, zlib.error),
)
_ERASING = {"flip_crop_erase": erase, "flip_crop_random_erase": erase_at_random}


class AugmentedImages(Samples):
    """Base of the data sets below.

    Args:
        source: images and labels.
        augment: one of `Augment`.
        seed: seed of the augmentation.

    Raises:
        ValueError: unknown augmentation.
    """

    def __init__(self, source: ImageArrays | ImageFiles, augment: Augment, seed: int) -> None:
        if augment not in get_args(Augment):
            names = ", ".join(repr(name) for name in get_args(Augment))
            raise ValueError(f"augment must be one of {names}, got {augment!r}; write augment='none' for none")
        super().__init__(source.labels, seed)
        self.augment: Augment = augment

    def _erased(self, images: Tensor, ids: npt.ArrayLike) -> Tensor:
        if self.augment in _ERASING:
            _ERASING[self.augment](images, ids, seed=self.seed, epoch=self.epoch)
        return images


class ResidentImages(AugmentedImages):
    """Images on the device, where a whole batch is gathered, augmented and normalised in one call.

    A DataLoader hands `__getitems__` a list of ids and gets the finished batch, so it needs a `collate_fn` that passes
    it on. This is several times as fast as sample by sample, and bitwise equal to `SampleImages`. For
    images that are cropped, a processor holds a second copy with their reflected borders: at 32 pixels 1.6 times the
    bytes of the first.

    Args:
        source: images and labels.
        mean: of each channel, on the scale of 0 to 1.
        std: of each channel, on the scale of 0 to 1.
        augment: one of `Augment`; crops reflect 4 pixels, or 2 in images smaller than 16.
        seed: seed of the augmentation.
        device: that holds the images and the batches.
        channels_last: lay batches out with the channels last.
    """

    def __init__(
        self,
        source: ImageArrays,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Augment = "none",
        seed: int = 0,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:
        super().__init__(source, augment, seed)
        self._size = (source.images.shape[-2], source.images.shape[-1])
        self._images = source.images.to(device)
        self._bordered = augment != "none" and self._copies_windows()
        if self._bordered:
            around = [(0, 0), (0, 0), *[(padding_of(*self._size),) * 2] * 2]
            self._images = torch.from_numpy(np.pad(source.images.numpy(), around, mode="reflect"))
        self._labels = source.labels.to(device)
        self._mean, self._std = (_per_channel(values).to(device) for values in (mean, std))
        self._channels_last = channels_last

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Returns a batch: (b, c, h, w) float32 and (b,) labels."""
        ids = np.asarray(indices, dtype=np.int64)
        views = draw_views(self.augment, ids, seed=self.seed, epoch=self.epoch, padding=padding_of(*self._size))
        if self._bordered:
            images, where = self._windows(ids, views), torch.from_numpy(ids)
        else:
            images, where = self._gathered(ids, views)
        batch = normalize(images, self._mean, self._std, channels_last=self._channels_last)
        return self._erased(batch, ids), self._labels.index_select(0, where)

    def _copies_windows(self) -> bool:
        """Returns whether windows are copied, or pixels gathered, which an accelerator does in one kernel."""
        return self._images.device.type == "cpu"

    def _windows(self, ids: npt.NDArray[np.int64], views: npt.NDArray[np.int64]) -> Tensor:
        """Returns the windows of images with borders, which are copies of rows rather than of single pixels."""
        down, right, flips = views
        padding = padding_of(*self._size)
        windows = np.lib.stride_tricks.sliding_window_view(self._images.numpy(), self._size, axis=(2, 3))
        seen = windows[ids, :, down + padding, right + padding]  # (b, c, h, w), a copy
        flipped = np.flatnonzero(flips)
        seen[flipped] = seen[flipped, :, :, ::-1]
        return torch.from_numpy(seen)

    def _gathered(self, ids: npt.NDArray[np.int64], views: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns the images, gathered pixel by pixel if they move, and their ids on the device."""
        # In one array, for one small transfer to the device.
        ids_and_views = torch.from_numpy(np.vstack([ids, views])).to(self._images.device, non_blocking=True)
        where, views_there = ids_and_views[0], ids_and_views[1:]
        images = self._images.index_select(0, where)
        if self.augment != "none":
            pixels = source_pixels(views_there, *self._size)[:, None].expand(-1, images.shape[1], -1)
            images = images.flatten(2).gather(2, pixels).view_as(images)
        return images, where


class SampleImages(AugmentedImages):
    """Images in memory, read sample by sample, for any DataLoader and any number of workers.

    Args:
        source: images and labels.
        mean: of each channel, on the scale of 0 to 1.
        std: of each channel, on the scale of 0 to 1.
        augment: as in `ResidentImages`.
        seed: seed of the augmentation.
    """

    def __init__(
        self,
        source: ImageArrays,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Augment = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(source, augment, seed)
        self._images = source.images
        self._mean, self._std = _per_channel(mean), _per_channel(std)

    def __getitem__(self, index: int) -> tuple[Tensor, int | float]:
        image = self._images[index]
        if self.augment != "none":
            height, width = image.shape[-2:]
            padding = padding_of(height, width)
            views = draw_views(self.augment, [index], seed=self.seed, epoch=self.epoch, padding=padding)
            pixels = source_pixels(torch.from_numpy(views), height, width)[0]
            image = image.flatten(1)[:, pixels].view_as(image)
        normal = normalize(image, self._mean, self._std)
        return self._erased(normal[None], [index])[0], self._labels[index].item()


class FileImages(AugmentedImages):
    """Images in files, decoded and transformed sample by sample with torchvision.

    "crop" resizes a random part, 8 to 100 % of the area. "flip_crop" also mirrors half of the images. Two others then
    erase: "flip_crop_erase" a square, "flip_crop_random_erase" a rectangle of some of the images. Without augmentation,
    the image is resized to 256/224 of the size and cropped to its centre.

    In the place of an image that cannot be decoded, the next one of its label is read, in every epoch and in every
    process. So the number of samples, their ids and their labels stay. A warning names each such file once, of many
    the first ten, and `unreadable` lists all that were met. A file that cannot be read at all, such as one that was
    removed, is an error.

    Args:
        source: paths and labels.
        mean: of each channel, on the scale of 0 to 1.
        std: of each channel, on the scale of 0 to 1.
        image_size: side of the resulting square, in pixels.
        augment: one of `Augment`.
        seed: seed of the augmentation.
    """

    def __init__(
        self,
        source: ImageFiles,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        image_size: int = 224,
        augment: Augment = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(source, augment, seed)
        self._paths = source.paths
        self._settings = (augment, image_size, tuple(mean), tuple(std))
        self._unreadable = torch.zeros(len(source), dtype=torch.bool)
        self._unreadable.share_memory_()  # type: ignore[no-untyped-call]  # what a worker notes, all processes see

    @property
    def unreadable(self) -> list[str]:
        """The files met so far, by any worker, that cannot be decoded."""
        return [self._paths[place] for place in self._unreadable.nonzero().flatten().tolist()]

    def __getitem__(self, index: int) -> tuple[Tensor, int | float]:
        image = self._decoded(index)
        bits = int(draws(self.seed, self.epoch, [index], Purpose.TRANSFORM)[0])
        with seeded(bits):  # torchvision's transforms draw from torch's global generator only
            view = _file_transform(*self._settings)(image)
        return self._erased(view[None], [index])[0], self._labels[index].item()

    def _decoded(self, index: int) -> Any:
        """Returns the image of a sample, or the next one of its label that can be decoded.

        Raises:
            ValueError: there is none. OSError: a file cannot be read at all.
        """
        decode = import_image_library("torchvision.datasets.folder").default_loader
        failed: dict[int, str] = {}
        for place in self._in_turn(index):
            try:
                image = decode(self._paths[place])
            except _UNDECODABLE as error:
                if getattr(error, "errno", None) is not None:
                    raise
                # Without the open file, which Pillow names by its address.
                failed[place] = " ".join(str(error).partition(" <")[0].split()) or type(error).__name__
                continue
            for bad, why in failed.items():
                self._note(bad, why, instead=place)
            return image
        raise ValueError(
            f"a class must have an image that can be decoded, got none beside {self._paths[index]} "
            f"({failed[index]}); add one, or remove the class"
        )

    def _in_turn(self, index: int) -> Iterator[int]:
        """Yields a position, then those of the same label behind it, and from the beginning."""
        yield index
        same = (self._labels == self._labels[index]).nonzero().flatten()
        yield from torch.cat([same[same > index], same[same < index]]).tolist()

    def _note(self, place: int, why: str, *, instead: int) -> None:
        """Marks a file as unreadable, and warns of it if it is one of the first."""
        if self._unreadable[place]:
            return
        self._unreadable[place] = True
        count = int(self._unreadable.sum())
        if count <= _NAMED:
            more = "; further files are counted, not named" if count == _NAMED else ""
            logging.getLogger("orderdp").warning(
                f"{self._paths[place]} cannot be decoded ({why}); {self._paths[instead]} of the same class is read in "
                f"its place in every epoch; replace or remove the file{more}"
            )


@lru_cache(maxsize=8)  # made in each process, not pickled: torchvision may have to be repaired first
def _file_transform(
    augment: Augment, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[Any], Tensor]:
    transforms = import_image_library("torchvision.transforms")
    if augment == "none":
        steps = [transforms.Resize(image_size * 256 // 224), transforms.CenterCrop(image_size)]
    else:
        steps = [transforms.RandomResizedCrop(image_size)]
    if augment not in ("none", "crop"):
        steps.append(transforms.RandomHorizontalFlip())
    steps += [transforms.ToTensor(), transforms.Normalize(mean, std)]
    transform: Callable[[Any], Tensor] = transforms.Compose(steps)
    return transform


def _per_channel(values: Sequence[float]) -> Tensor:
    """Returns (c, 1, 1) float32 on the scale of 0 to 255."""
    return torch.tensor([255 * value for value in values], dtype=torch.float32).view(-1, 1, 1)
