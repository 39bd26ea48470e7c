"""What a run minimises, and how well it predicts: classes, numbers, tokens or masked patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from orderdp.theory import loss_at

OF_CLASSES = ("accuracy_worst_class", "accuracy_mean_class", "accuracy_rare_classes")
EVALUATED = ("test_loss", "accuracy", *OF_CLASSES)


class Objective(Protocol):
    """The loss of a run, and its evaluation from sums that the ranks add up."""

    num_sums: int
    mastered_at: float  # loss at or below which a sample counts as mastered; nan for none

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns (b,) losses, of (b, ...) outputs of the model and (b, ...) labels, or (b, k) shares of classes."""
        ...

    def sums(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns (num_sums,) float64, sums over a batch, the first of them of the losses without smoothing."""
        ...

    def evaluation(self, sums: list[float]) -> dict[str, float | None]:
        """Returns `EVALUATED`, from the sums over the whole test set: the mean loss, and accuracies in percent.

        What a run does not have is None, such as the accuracy of rare classes if no class is rare.
        """
        ...


def objective(
    num_classes: int, label_smoothing: float, *, mixed: bool = False, rare: Sequence[int] = (), tokens: int = 0
) -> Objective:
    """Returns the objective for labels that are classes, or if there are none, for so many tokens or for numbers.

    The losses of mixed images do not say which samples are mastered.
    """
    if num_classes:
        return Classes(num_classes, label_smoothing, mixed=mixed, rare=rare)
    return Tokens(tokens) if tokens else Numbers()


class Classes:
    """Cross-entropy in nats; accuracy is the share of right predictions.

    Args:
        num_classes: outputs of the model.
        label_smoothing: of the losses that are trained.
        mixed: whether samples are mixed in training.
        rare: classes with few training samples.
    """

    def __init__(
        self, num_classes: int, label_smoothing: float, *, mixed: bool = False, rare: Sequence[int] = ()
    ) -> None:
        self._num_classes, self._label_smoothing, self._rare = num_classes, label_smoothing, rare
        self.num_sums = 1 + 2 * num_classes
        known = num_classes > 1 and not mixed
        self.mastered_at = loss_at(0.5, num_classes, label_smoothing) if known else math.nan

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns (b,) losses with label smoothing."""
        return F.cross_entropy(outputs, labels, reduction="none", label_smoothing=self._label_smoothing)

    def sums(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss, then the number of right predictions and of samples of each class."""
        loss = F.cross_entropy(outputs, labels, reduction="sum").double()
        right = torch.bincount(labels[outputs.argmax(1) == labels], minlength=self._num_classes)
        count = torch.bincount(labels, minlength=self._num_classes)
        return torch.cat([loss[None], right.double(), count.double()])

    def evaluation(self, sums: list[float]) -> dict[str, float | None]:
        """Returns the mean loss, the accuracy, and of the accuracies of single classes the lowest and two means.

        The means are over all classes of the test set, and over the rare ones among them.
        """
        rights, counts = sums[1 : 1 + self._num_classes], sums[1 + self._num_classes :]
        of_class = {each: 100 * right / counts[each] for each, right in enumerate(rights) if counts[each]}
        rare = [of_class[each] for each in self._rare if each in of_class]
        total = sum(counts)
        means = fmean(of_class.values()), fmean(rare) if rare else None
        found = sums[0] / total, 100 * sum(rights) / total, min(of_class.values()), *means
        return dict(zip(EVALUATED, found, strict=True))


class Numbers:
    """Squared error; accuracy is R², the share of the variance of the labels that the model explains."""

    num_sums = 4
    mastered_at = math.nan

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns (b,) squared errors, of (b, 1) outputs."""
        return (outputs[:, 0] - labels.to(outputs.dtype)).square()

    def sums(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the squared error, the number of labels, their sum and the sum of their squares."""
        wanted = labels.double()
        errors = (outputs[:, 0].double() - wanted).square()
        return torch.stack([errors.sum(), torch.ones_like(wanted).sum(), wanted.sum(), wanted.square().sum()])

    def evaluation(self, sums: list[float]) -> dict[str, float | None]:
        """Returns the mean squared error and R², which is below 0 where the mean label predicts better."""
        error, count, total, squares = sums
        explained = 1 - error / (squares - total**2 / count)
        return {**dict.fromkeys(EVALUATED), "test_loss": error / count, "accuracy": 100 * explained}


class Tokens:
    """Cross-entropy of the tokens that follow, in nats, the mean over a window.

    Accuracy is the share of the entropy of the test tokens that the model explains: 1 minus its mean loss, divided by
    the entropy of their frequencies. That entropy is the least loss of a prediction that sees no context. A model that
    predicts this way has 0, and one that knows each token has 100 %.

    Args:
        vocabulary: tokens are in [0, vocabulary).

    Source: McFadden, "Conditional logit analysis of qualitative choice behavior", 1974: the likelihood ratio index.
    """

    mastered_at = math.nan

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self.num_sums = 1 + vocabulary

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns (b,) mean losses, of (b, length, vocabulary) outputs and (b, length) tokens."""
        return F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels).mean(1)

    def sums(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss, then how often each token comes."""
        loss = F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="sum").double()
        return torch.cat([loss[None], torch.bincount(labels.flatten(), minlength=self._vocabulary).double()])

    def evaluation(self, sums: list[float]) -> dict[str, float | None]:
        """Returns the mean loss of a token, and the share of the entropy that is explained."""
        counts = [count for count in sums[1:] if count]
        total = sum(counts)
        entropy = -sum(count / total * math.log(count / total) for count in counts)
        loss = sums[0] / total
        return {**dict.fromkeys(EVALUATED), "test_loss": loss, "accuracy": 100 * (1 - loss / entropy)}


class Patches:
    """The losses that a `MaskedAutoencoder` returns; without labels, there is no accuracy."""

    num_sums = 2
    mastered_at = math.nan

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the outputs, (b,) losses."""
        return outputs

    def sums(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss and the number of images."""
        return torch.stack([outputs.double().sum(), torch.tensor(len(outputs), device=outputs.device).double()])

    def evaluation(self, sums: list[float]) -> dict[str, float | None]:
        """Returns the mean loss."""
        return {**dict.fromkeys(EVALUATED), "test_loss": sums[0] / sums[1]}
