"""The form of a data set: raw inputs and labels in two parts, and what a model must know about them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.data.augment import Purpose, draws
from orderdp.data.subsets import stratified_order, subset

Option = Literal["data_root", "download", "image_size"]
EDGE_KINDS = 4  # of graphs; as many as molecules have: single, double, triple and aromatic bonds


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """Images in memory.

    Args:
        images: (n, c, h, w) uint8.
        labels: (n,) int64 classes, or float32 numbers to predict.
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
        labels: (n,) as in `ImageArrays`.
    """

    paths: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: npt.NDArray[np.int64]) -> "ImageFiles":
        """Returns the images at these positions."""
        return ImageFiles(tuple(self.paths[i] for i in indices), self.labels[torch.from_numpy(indices)])


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts in memory, as tokens.

    Args:
        tokens: (n, length) int64; 0 fills up shorter texts.
        labels: (n,) as in `ImageArrays`.
    """

    tokens: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: npt.NDArray[np.int64]) -> "Texts":
        """Returns the texts at these positions."""
        where = torch.from_numpy(indices)
        return Texts(self.tokens[where], self.labels[where])


@dataclass(frozen=True, eq=False)
class Features:
    """Rows of a table in memory, as numbers.

    Args:
        values: (n, k) float32, of each row k numbers, best with mean 0 and variance 1 over the training part.
        labels: (n,) as in `ImageArrays`.
    """

    values: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: npt.NDArray[np.int64]) -> "Features":
        """Returns the rows at these positions."""
        where = torch.from_numpy(indices)
        return Features(self.values[where], self.labels[where])


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of a long text in memory; of each token, the next one is to be predicted.

    Args:
        tokens: (n, length + 1) int64: a window, and the token after it.
    """

    tokens: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def labels(self) -> Tensor:
        """Returns (n, length) int64, for each token of the windows the one that follows."""
        return self.tokens[:, 1:]

    def subset(self, indices: npt.NDArray[np.int64]) -> "Windows":
        """Returns the windows at these positions."""
        return Windows(self.tokens[torch.from_numpy(indices)])


@dataclass(frozen=True, eq=False)
class Graphs:
    """Graphs in memory, such as molecules.

    Args:
        matrices: (n, m, m) uint8, symmetric. On the diagonal stands the kind of each node, and 0 after the last one.
            Elsewhere stands the kind of the edge between two nodes, at most `EDGE_KINDS`, and 0 where there is none.
        labels: (n,) as in `ImageArrays`.
    """

    matrices: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: npt.NDArray[np.int64]) -> "Graphs":
        """Returns the graphs at these positions."""
        where = torch.from_numpy(indices)
        return Graphs(self.matrices[where], self.labels[where])


Part: TypeAlias = ImageArrays | ImageFiles | Texts | Features | Windows | Graphs


@dataclass(frozen=True, eq=False)
class DataSets:
    """A data set, raw, in two parts.

    Args:
        train: what a run trains on.
        test: what it is evaluated on.
        num_classes: labels are in [0, num_classes); 0 if they are numbers or tokens to predict.
        in_channels: of images: 1 for grey, 3 for colour.
        image_size: side of the square images, in pixels.
        mean: of each channel, on the scale of 0 to 1.
        std: of each channel, on the scale of 0 to 1.
        vocabulary: tokens of texts, or kinds of nodes, are in [0, vocabulary); 0 for images.
        rows: (n,) positions of the training samples in the whole training part; None if it is whole.
    """

    train: Part
    test: Part
    num_classes: int
    in_channels: int = 0
    image_size: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    vocabulary: int = 0
    rows: npt.NDArray[np.int64] | None = None

    @property
    def kind(self) -> str:
        """What its samples are: images, texts, rows of numbers, windows of tokens or graphs."""
        kinds: dict[type, str] = {
            Texts: "texts",
            Features: "rows of numbers",
            Windows: "windows of tokens",
            Graphs: "graphs",
        }
        return kinds.get(type(self.train), "images")

    @property
    def predicted(self) -> str:
        """What its labels are: classes, numbers or tokens."""
        if self.num_classes:
            return "classes"
        return "tokens" if isinstance(self.train, Windows) else "numbers"

    @property
    def rare_classes(self) -> tuple[int, ...]:
        """Classes with less than half of the training samples that each would have if all had as many."""
        if not self.num_classes:
            return ()
        counts = torch.bincount(self.train.labels, minlength=self.num_classes)
        return tuple(torch.nonzero(2 * self.num_classes * counts < len(self.train)).flatten().tolist())

    @cached_property
    def sha256(self) -> str:
        """Returns the digest of the training part: inputs and labels, or the names of its files and their labels."""
        found = hashlib.sha256(self.train.labels.contiguous().numpy().tobytes())
        if isinstance(self.train, ImageFiles):
            for path in self.train.paths:  # not where the folder lies
                found.update("/".join(Path(path).parts[-2:]).encode() + b"\n")
        else:
            inputs = inputs_of(self.train)
            found.update(repr(tuple(inputs.shape)).encode())
            found.update(inputs.contiguous().numpy().tobytes())
        return found.hexdigest()

    def with_train_size(self, size: int) -> "DataSets":
        """Returns the data set with a stratified subset of this many training samples, and the same mean and std."""
        return self._training_on(subset(self.train.labels, size))

    def with_imbalance(self, ratio: float) -> "DataSets":
        """Returns the data set with one training sample in `ratio` of each class of the second half, at least one.

        With an odd number of classes, the one in the middle keeps all. Which samples stay is random and the same in
        every run; those at one ratio stay at a smaller one too. The test part has its classes as before.

        Raises:
            ValueError: the labels are numbers, or there is one class.

        Source: Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019,
        section 4: step imbalance with half of the classes in the minority.
        """
        self._check_classes("imbalance", ratio)
        order = stratified_order(self.train.labels)
        classes = self.train.labels.numpy()[order]
        kept = [order[classes < (self.num_classes + 1) // 2]]
        for rare in range((self.num_classes + 1) // 2, self.num_classes):
            members = order[classes == rare]
            kept.append(members[: max(1, round(len(members) / ratio))])
        return self._training_on(np.sort(np.concatenate(kept)))

    def with_label_noise(self, share: float) -> "DataSets":
        """Returns the data set with wrong labels for a random share of the training samples, the same in every run.

        Each of the other classes is equally likely. Samples that are wrong at one share are wrong at a larger one.

        Raises:
            ValueError: the labels are no classes, or there is one class.
        """
        self._check_classes("label_noise", share)
        assert not isinstance(self.train, Windows)  # whose labels are no classes
        labels = self.train.labels.numpy()
        ids = np.arange(len(labels))
        wrong = np.argsort(draws(0, 0, ids, Purpose.NOISE), kind="stable")[: round(share * len(labels))]
        moves = 1 + draws(0, 1, wrong, Purpose.NOISE) % np.uint64(self.num_classes - 1)
        noisy = labels.copy()
        noisy[wrong] = (labels[wrong] + moves.astype(np.int64)) % self.num_classes
        return replace(self, train=replace(self.train, labels=torch.from_numpy(noisy)))

    def holding_out(self, share: float) -> "DataSets":
        """Returns the data set with a stratified share of the training samples as its test part, not trained.

        Raises:
            ValueError: it leaves no sample in one of the parts.
        """
        order = stratified_order(self.train.labels)
        count = round(share * len(order))
        if not 0 < count < len(order):
            raise ValueError(
                f"held_out must leave samples on both sides, got {share} of {len(order)}; "
                "write 0.1, or 0 for the test set"
            )
        held, rest = np.sort(order[:count]), np.sort(order[count:])
        return replace(self._training_on(rest), test=self.train.subset(held))

    def _check_classes(self, name: str, value: float) -> None:
        if self.num_classes < 2:
            kind = "one class" if self.num_classes else self.predicted
            raise ValueError(f"{name} needs labels of several classes, got {value:g} for {kind}; leave it out")

    def _training_on(self, kept: npt.NDArray[np.int64]) -> "DataSets":
        return replace(self, train=self.train.subset(kept), rows=kept if self.rows is None else self.rows[kept])


@dataclass(frozen=True)
class DataSetRow:
    """A data set by name.

    Args:
        name: its name in recipes.
        summary: what it holds, in a few words.
        load: returns it; takes the options in `takes` by name.
        takes: options that it understands: the folder that holds it, whether to download it, the size of its images.
        is_installed: whether it is found without a folder.
    """

    name: str
    summary: str
    load: Callable[..., DataSets]
    takes: tuple[Option, ...] = ()
    is_installed: Callable[[], bool] = lambda: False


def inputs_of(part: ImageArrays | Texts | Features | Windows | Graphs) -> Tensor:
    """Returns (n, ...) what a model sees of the samples in memory, images before they are normalised."""
    if isinstance(part, ImageArrays):
        return part.images
    if isinstance(part, Features):
        return part.values
    if isinstance(part, Graphs):
        return part.matrices
    return part.tokens[:, :-1] if isinstance(part, Windows) else part.tokens


def from_arrays(
    train: ImageArrays,
    test: ImageArrays,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> DataSets:
    """Returns a data set of images in memory, with classes, channels and size of the training images.

    Args:
        train: what a run trains on.
        test: what it is evaluated on.
        mean: of each channel, on the scale of 0 to 1; None measures it on the training images.
        std: of each channel; None measures it.
    """
    measured = channel_moments(train.images) if mean is None or std is None else (mean, std)
    return DataSets(
        train=train,
        test=test,
        num_classes=0 if train.labels.is_floating_point() else int(train.labels.max()) + 1,
        in_channels=train.images.shape[1],
        image_size=train.images.shape[2],
        mean=measured[0] if mean is None else mean,
        std=measured[1] if std is None else std,
    )


def channel_moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel, on the scale of 0 to 1, from exact counts of the values.

    Args:
        images: (n, c, h, w) uint8.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).to(torch.float64) / channel.numel()
        mean = share @ values
        means.append(mean.item())
        deviations.append((share @ (values - mean).square()).sqrt().item())
    return tuple(means), tuple(deviations)
