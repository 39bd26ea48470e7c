"""Optimisers and learning-rate schedules by name."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from orderdp.data.imports import import_image_library


def build_optimizer(
    model: nn.Module, *, name: str, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimiser over all parameters of `model`, in one group.

    Weight decay applies to every parameter, biases and normalisation included, as in the paper's release. For `sgd` and
    `lars` it is part of the gradient, for `adamw` decoupled from it, for `lamb` part of the update that is scaled.

    Args:
        model: its parameters are optimised.
        name: "sgd", "adamw", "lars" or "lamb"; the last two are timm's.
        lr: learning rate; a schedule replaces it.
        momentum: of `sgd` and `lars`; β₁ of `adamw` and `lamb`, whose β₂ is 0.999. One-cycle replaces it.
        weight_decay: coefficient of the decay.

    Raises:
        ValueError: an unknown name, or a value out of range.
        ImportError: the optimiser is timm's, and timm is not installed.

    Source: `lars` You et al., "Large batch training of convolutional networks", 2017; `lamb` You et al., "Large batch
    optimization for deep learning", ICLR 2020; `adamw` Loshchilov and Hutter, "Decoupled weight decay
    regularization", ICLR 2019.

    >>> build_optimizer(nn.Linear(2, 1), name="sgd", lr=0.2, momentum=0.9, weight_decay=5e-4).defaults["momentum"]
    0.9
    """
    _check_positive("lr", lr, example=0.1)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is a fraction and must lie in [0, 1), got {momentum}; 0.9 is usual")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be 0 or a positive number, got {weight_decay}; write 0 for none")
    parameters = list(model.parameters())
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, betas=(momentum, 0.999), weight_decay=weight_decay)
    # always_adapt: with weight_decay=0, timm would otherwise silently leave out the layer-wise scaling.
    optimizer: torch.optim.Optimizer
    if name == "lars":
        optimizer = import_image_library("timm.optim").Lars(
            parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, always_adapt=True
        )
        return optimizer
    if name == "lamb":
        optimizer = import_image_library("timm.optim").Lamb(
            parameters, lr=lr, betas=(momentum, 0.999), weight_decay=weight_decay, always_adapt=True
        )
        return optimizer
    raise ValueError(f"no optimizer named {name!r}; write 'sgd', 'adamw', 'lars' or 'lamb'")


def build_schedule(
    optimizer: torch.optim.Optimizer,
    *,
    total_steps: int,
    max_lr: float,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    name: str = "onecycle",
) -> LRScheduler:
    """The learning rate of each of `total_steps` optimiser steps; call its `step()` after every one of them.

    `onecycle` rises on a cosine from max_lr / div_factor to max_lr and falls on one to max_lr / div_factor /
    final_div_factor, which is the rate of the last step. Meanwhile the momentum (β₁ of `adamw` and `lamb`) falls from
    0.95 to 0.85 and returns, whatever the optimiser was given. A one-step schedule has only the last rate.
    `constant` is max_lr throughout and leaves the momentum alone.

    To resume, build both again and load the optimiser's state, then the schedule's.

    Args:
        optimizer: its rate, and with `onecycle` its momentum, are set at once.
        total_steps: optimiser steps in the whole run, not epochs; one more is an error with `onecycle`.
        max_lr: the peak.
        pct_start: fraction of the steps in which the rate rises, in [0, 1).
        div_factor: peak over first rate.
        final_div_factor: first over last rate.
        name: "onecycle" or "constant".

    Raises:
        ValueError: an unknown name, or a value out of range.

    Source: Smith and Topin, "Super-convergence", 2019, in the two-phase cosine form of torch's OneCycleLR.
    """
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}; write the optimiser steps of the run")
    _check_positive("max_lr", max_lr, example=0.2)
    if not 0 <= pct_start < 1:
        raise ValueError(
            f"pct_start is a fraction and must lie in [0, 1), got {pct_start}; for 30 % of the steps write 0.3"
        )
    _check_positive("div_factor", div_factor, example=25.0)
    _check_positive("final_div_factor", final_div_factor, example=1e4)
    if name == "constant":
        for group in optimizer.param_groups:
            group["lr"] = max_lr
        return ConstantLR(optimizer, factor=1.0, total_iters=0)
    if name == "onecycle":
        # A rise of exactly one step has length 0, by which OneCycleLR divides (torch 2.13): shorten it by a hair.
        rise = pct_start * (1 - 1e-9) if math.isclose(pct_start * total_steps, 1) else float(pct_start)
        return OneCycleLR(
            optimizer,
            max_lr=max_lr,
            total_steps=total_steps,
            pct_start=rise,
            div_factor=div_factor,
            final_div_factor=final_div_factor,
        )
    raise ValueError(f"no schedule named {name!r}; write 'onecycle' or 'constant'")


def _check_positive(argument: str, value: float, *, example: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{argument} must be a positive number, got {value}; write for example {example}")
