"""What a DataLoader reads, of any kind."""

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset


class Samples(Dataset[Any]):
    """Base of all parts of data sets as they are read: equal seed, epoch and id give equal bits.

    Worker processes keep the epoch that was set when they started.

    Args:
        labels: (n,) classes, or numbers to predict.
        seed: of what is random in a sample.
    """

    def __init__(self, labels: Tensor, seed: int) -> None:
        self.seed = seed
        self.epoch = 0
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which decides the augmentation."""
        self.epoch = epoch
