"""What a step makes of a batch before the model sees it: nothing, mixed images, or masks."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from orderdp.data.augment import Purpose, draws, seeded
from orderdp.data.imports import import_image_library

Batch = tuple[Tensor, Tensor]


class View(Protocol):
    """Turns a batch of samples into inputs of the model and targets of the loss."""

    def __call__(self, index: Tensor, batch: Batch, epoch: int) -> Batch:
        """Returns inputs and targets on the device of the batch.

        Args:
            index: (b,) int64 ids of the samples.
            batch: (b, ...) inputs, which may be changed in place, and (b,) labels.
            epoch: number of the epoch, from 0.
        """
        ...

    def scores(self, outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor | None:
        """Returns (b,) scores to remember; None for the losses themselves.

        Args:
            outputs: (b, k), of the model.
            labels: (b,), of the batch before.
            targets: what the view returned.
        """
        ...


class Plain:
    """The batch as it is."""

    def __call__(self, index: Tensor, batch: Batch, epoch: int) -> Batch:
        """Returns the batch."""
        return batch

    def scores(self, outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor | None:
        """Returns None: the losses are the scores."""
        return None


class Mixed:
    """A batch mixed with its reverse, by timm's Mixup or CutMix with one share for the whole batch.

    With both, each has a chance of one half. The draw is a function of seed, epoch and the first sample's id, whatever
    the workers and restarts. The middle sample of an odd batch stays as it is.

    The loss of a mixed sample is that of its mixed image against both targets. Sample i is in two mixed images: in its
    own with share λ, in its partner's with 1 - λ. Its score is the loss against its own target alone, of the one in
    which its share is larger. Of five scores that cost nothing, this one ranks the samples most as their losses before
    mixing do (`benchmarks/mixed_ranks.py`).

    Args:
        mixup: α of Mixup, whose share is drawn from Beta(α, α); 0 for none.
        cutmix: α of CutMix; 0 for none.
        num_classes: of the labels.
        label_smoothing: of the scores.
        seed: of the run.

    Source: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018; Yun et al., "CutMix", ICCV 2019.
    """

    def __init__(self, mixup: float, cutmix: float, *, num_classes: int, label_smoothing: float, seed: int) -> None:
        self._seed, self._num_classes, self._label_smoothing = seed, num_classes, label_smoothing
        # Without smoothing, which the loss adds: the smoothed target of a mixture is the mixture of smoothed targets.
        self._mixup: Any = import_image_library("timm.data.mixup").Mixup(
            mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=0.0, num_classes=num_classes
        )

    def __call__(self, index: Tensor, batch: Batch, epoch: int) -> Batch:
        """Returns the images, mixed in place, and (b, num_classes) float32 shares of the classes."""
        images, labels = batch
        targets = F.one_hot(labels, self._num_classes).float()
        half = len(labels) // 2
        paired = [*range(half), *range(len(labels) - half, len(labels))]
        if half:
            with seeded(int(draws(self._seed, epoch, index[:1].cpu(), Purpose.MIX)[0])):
                images[paired], targets[paired] = self._mixup(images[paired], labels[paired])
        return images, targets

    def scores(self, outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor | None:
        """Returns the losses against the own targets, each of the mixed image in which the sample's share is larger."""
        mine, partners = (targets.gather(1, each[:, None]) for each in (labels, labels.flip(0)))
        shown = torch.where(mine >= partners, outputs, outputs.flip(0))
        return F.cross_entropy(shown, labels, reduction="none", label_smoothing=self._label_smoothing)


class Masks:
    """Images without labels. Targets are numbers that order the patches of each image: the largest are masked.

    They are a function of seed, epoch and the sample's id.

    Args:
        num_patches: of an image.
        seed: of the run.
    """

    def __init__(self, num_patches: int, *, seed: int) -> None:
        self._num_patches, self._seed = num_patches, seed

    def __call__(self, index: Tensor, batch: Batch, epoch: int) -> Batch:
        """Returns the images, and (b, num_patches) float32, uniform in [0, 1)."""
        patches = index.cpu().numpy()[:, None] * self._num_patches + np.arange(self._num_patches)
        bits = draws(self._seed, epoch, patches, Purpose.MASK) >> np.uint64(40)
        return batch[0], torch.from_numpy(bits.astype(np.float32) / 2**24).to(batch[0].device, non_blocking=True)

    def scores(self, outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor | None:
        """Returns None: the losses are the scores."""
        return None
