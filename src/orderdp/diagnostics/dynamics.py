"""How steady training is: the gradient norm of each step, how much it varies, and what it correlates with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ROLLING_WINDOW = 20  # steps over which a run takes the deviation of its gradient norm
_MOST_NUMBERS = 2**20


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Returns the norm of the parameters' gradient, without waiting for the device.

    Call it between `backward` and `step`, keep the tensors, and move them to the host once an epoch. The number is that
    of `torch.nn.utils.get_total_norm`. It takes about half the time on small tensors, since all are on one device.

    Args:
        parameters: `model.parameters()`, all on one device; those without gradient count as zero.

    Returns:
        () scalar; 0 if no parameter has a gradient.

    >>> weight = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> (weight**2 / 2).sum().backward()
    >>> gradient_norm([weight])
    tensor(5.)
    """
    gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
    if not gradients:
        return torch.zeros(())
    total: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return total


def rolling_deviation(values: Any, window: int) -> npt.NDArray[np.float64]:
    """Returns the standard deviation over each window of neighbouring values, such as the gradient norms of steps.

    Takes the memory of a few million numbers at most.

    Args:
        values: (t,) numbers, array or tensor.
        window: values in a window, at least 2.

    Returns:
        (t - window + 1,) float64, with the divisor window - 1; empty if there are fewer values.

    Raises:
        ValueError: a window below 2, or values that are not (t,).

    >>> rolling_deviation([1.0, 3.0, 3.0], 2).round(4)
    array([1.4142, 0.    ])
    """
    series = np.asarray(on_host(values), dtype=np.float64)
    if series.ndim != 1:
        raise ValueError(f"values has shape (t,), got {series.shape}; pass one number a step")
    if window < 2:
        raise ValueError(f"window must be at least 2, got {window}; write the steps to look back")
    if len(series) < window:
        return np.empty(0)
    windows = np.lib.stride_tricks.sliding_window_view(series, window)
    rows = max(1, _MOST_NUMBERS // window)  # numpy copies a view to take its deviation
    parts = [windows[begin : begin + rows].std(axis=1, ddof=1) for begin in range(0, len(windows), rows)]
    return np.concatenate(parts)


def mean_norm(norms: Tensor, first_step: int) -> float:
    """Returns the mean of the gradient norms since a step.

    Args:
        norms: (steps,) norm of the gradient of each step of a run.
        first_step: steps made before those of the mean.
    """
    return float(norms[first_step:].double().mean())


def mean_deviation(norms: Tensor, first_step: int) -> float | None:
    """Returns how much the gradient norm moves from step to step: the mean of its rolling deviation since a step.

    The first windows include earlier steps. None if no window of `ROLLING_WINDOW` steps is full.

    Args:
        norms: (steps,) norm of the gradient of each step of a run.
        first_step: steps made before those of the mean.
    """
    rolling = rolling_deviation(norms[max(first_step - ROLLING_WINDOW + 1, 0) :].double(), ROLLING_WINDOW)
    return float(rolling.mean()) if len(rolling) else None


def correlation(first: Any, second: Any) -> float:
    """Returns Pearson's r of two series, such as test accuracy and mean gradient norm of each epoch.

    Args:
        first: (t,) numbers, array or tensor.
        second: (t,) numbers.

    Returns:
        A number in [-1, 1]; nan if there are fewer than three pairs, or a series does not vary.

    Raises:
        ValueError: another shape.

    Source: OrderDP, Figure 1 and Table 9, which compare the two.

    >>> correlation([1.0, 2.0, 3.0], [6.0, 4.0, 2.0])
    -1.0
    """
    x, y = (np.asarray(on_host(values), dtype=np.float64) for values in (first, second))
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"both series have shape (t,), got {x.shape} and {y.shape}; pass one number an epoch of each")
    if len(x) < 3 or not (x.std() and y.std()):
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def on_host(values: Any) -> Any:
    """Returns a tensor without gradient on the host, and anything else unchanged."""
    return values.detach().cpu() if hasattr(values, "detach") else values
