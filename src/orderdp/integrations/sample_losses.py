"""The loss of each sample from logits and labels, where a model returns one number for a batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # a label that does not count


def sample_losses(
    logits: Tensor, labels: Tensor, *, shift: bool = False, several: bool | None = None, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor | None] | None:
    """Returns the loss of each sample, and how much each counts; None if the shapes are of no known kind.

    A sequence has the mean over its tokens, and a sample with several labels or targets the mean over these.

    Args:
        logits: (b, t, c) of tokens, (b, c) of samples, or (b, d) predicted values, floating.
        labels: (b, t) or (b,) integers, of which -100 does not count; or (b, d), or (b,) if d is 1, floating.
        shift: each token predicts the next label.
        several: whether d values are logits of d yes-or-no labels; otherwise they are compared with targets. None is
            yes for more than one.
        label_smoothing: share of a label that is spread over all classes.

    Returns:
        (b,) float32 losses with gradient, and (b,) int64 labels that count; None if every sample counts the same.
    """
    logits = logits.float()
    if logits.dim() == 3 and labels.shape == logits.shape[:2]:
        if shift:
            labels = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
        return _of_tokens(logits, labels, label_smoothing)
    if logits.dim() != 2 or len(labels) != len(logits):
        return None
    if logits.shape[1] > 1 and labels.numel() == len(logits) and not labels.is_floating_point():
        return _of_tokens(logits[:, None], labels.view(-1, 1), label_smoothing)
    if labels.numel() != logits.numel():
        return None
    several = logits.shape[1] > 1 if several is None else several
    each = F.binary_cross_entropy_with_logits if several else F.mse_loss
    return each(logits, labels.view_as(logits).float(), reduction="none").mean(1), None


def _of_tokens(logits: Tensor, labels: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    each = F.cross_entropy(
        logits.flatten(0, 1),
        labels.flatten(),
        reduction="none",
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
    )
    counts = (labels != IGNORED).sum(1)
    return each.view_as(labels).sum(1) / counts.clamp(min=1), counts
