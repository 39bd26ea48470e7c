"""Cross-entropy losses that mean something: of a probability of the right class, with label smoothing."""

from __future__ import annotations

import math
from typing import SupportsIndex

from orderdp.theory.sizes import check_count, check_fraction


def loss_at(probability: float, num_classes: SupportsIndex, label_smoothing: float = 0.0) -> float:
    """Returns the cross-entropy of a prediction that gives the right class a probability and the others equal shares.

    A probability of 1/2 divides mastered samples from others. `ceiling=loss_at(0.5, ...)` lets the others count alike,
    and `mastered=loss_at(0.5, ...)` counts the share of the mastered. The lowest loss is that of 1 - ε + ε/c, where ε
    is the smoothing and c the number of classes.

    Args:
        probability: of the right class, in (0, 1); 1 too without smoothing.
        num_classes: c, at least 2.
        label_smoothing: ε, share of the target spread evenly over all classes, in [0, 1).

    Returns:
        The loss in nats, as `torch.nn.functional.cross_entropy` has it.

    Raises:
        TypeError: a probability that is no number, or no whole number of classes. ValueError: a value out of range.

    >>> round(loss_at(0.5, 10), 3), round(loss_at(0.5, 10, 0.1), 3), round(loss_at(0.91, 10, 0.1), 3)
    (0.693, 0.891, 0.5)
    """
    check_fraction("probability", probability, low_open=True, high_open=bool(label_smoothing))
    check_fraction("label_smoothing", label_smoothing, low_open=False, high_open=True)
    classes = check_count("num_classes", num_classes)
    if classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {classes}; one class has no other to predict")
    others = label_smoothing / classes * (classes - 1)
    loss = -(1 - others) * math.log(probability)
    return loss - others * math.log((1 - probability) / (classes - 1)) if others else loss
