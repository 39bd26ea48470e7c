"""Optimisers and learning-rate schedules by name; the recipe has checked their settings."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, LRScheduler, OneCycleLR

from orderdp.data.imports import import_image_library
from orderdp.training.recipe import Recipe
from orderdp.training.release_optimizers import ReleaseLamb, ReleaseLars

_OF_TIMM = ("lars", "lamb")


def build_optimizer(
    model: nn.Module, *, name: str, momentum: float, weight_decay: float, nesterov: bool = False
) -> torch.optim.Optimizer:
    """An optimiser over all parameters of `model`, in one group; `build_schedule` sets its learning rate.

    Weight decay applies to every parameter, biases and normalisation included, as in the paper's release. For `sgd` and
    the two LARS it is part of the gradient, for `adamw` decoupled from it, for the two LAMB part of the update that is
    scaled. On a processor, `sgd` and `adamw` are torch's fused forms, which make a step of a small network
    faster; on CUDA, torch chooses.

    Args:
        model: its parameters are optimised.
        name: "sgd", "adamw", "lars" or "lamb", of which the last two are timm's; or "lars_release" or "lamb_release",
            which compute them as the paper's release does.
        momentum: of `sgd` and the two LARS; β₁ of `adamw` and the two LAMB, whose β₂ is 0.999. One-cycle replaces it.
        weight_decay: coefficient of the decay.
        nesterov: Nesterov's form of the momentum, of `sgd` only.

    Raises:
        ValueError: an unknown name.
        ImportError: the optimiser is timm's, and timm is not installed.

    Source: `lars` You et al., "Large batch training of convolutional networks", 2017; `lamb` You et al., "Large batch
    optimization for deep learning", ICLR 2020; `adamw` Loshchilov and Hutter, "Decoupled weight decay
    regularization", ICLR 2019.

    >>> build_optimizer(nn.Linear(2, 1), name="sgd", momentum=0.9, weight_decay=5e-4).defaults["momentum"]
    0.9
    """
    parameters = list(model.parameters())
    fused = True if parameters[0].device.type == "cpu" else None
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused)
    if name == "adamw":
        return torch.optim.AdamW(parameters, betas=(momentum, 0.999), weight_decay=weight_decay, fused=fused)
    if name == "lars_release":
        return ReleaseLars(parameters, momentum=momentum, weight_decay=weight_decay)
    if name == "lamb_release":
        return ReleaseLamb(parameters, betas=(momentum, 0.999), weight_decay=weight_decay)
    # always_adapt: with weight_decay=0, timm would otherwise silently leave out the layer-wise scaling.
    optimizer: torch.optim.Optimizer
    if name == "lars":
        optimizer = import_image_library("timm.optim").Lars(
            parameters, momentum=momentum, weight_decay=weight_decay, always_adapt=True
        )
        return optimizer
    if name == "lamb":
        optimizer = import_image_library("timm.optim").Lamb(
            parameters, betas=(momentum, 0.999), weight_decay=weight_decay, always_adapt=True
        )
        return optimizer
    raise ValueError(
        f"no optimizer named {name!r}; write 'sgd', 'adamw', 'lars', 'lamb', 'lars_release' or 'lamb_release'"
    )


def check_optimizer(name: str) -> None:
    """Raises ImportError if an optimiser is timm's and timm is not installed."""
    if name in _OF_TIMM:
        import_image_library("timm.optim")


def optimization(model: nn.Module, recipe: Recipe, *, total_steps: int) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """Returns the optimiser of a recipe, and the schedule of its learning rate over `total_steps` steps."""
    optimizer = build_optimizer(
        model,
        name=recipe.optimizer,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
    schedule = build_schedule(
        optimizer,
        total_steps=total_steps,
        max_lr=recipe.max_lr,
        pct_start=recipe.pct_start,
        div_factor=recipe.div_factor,
        final_div_factor=recipe.final_div_factor,
        name=recipe.schedule,
    )
    return optimizer, schedule


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
    final_div_factor, which is the rate of the last step. Meanwhile the momentum (β₁ of `adamw` and LAMB) falls from
    0.95 to 0.85 and returns, whatever the optimiser was given. A one-step schedule has only the last rate.
    `cosine` rises in a straight line and falls on a cosine between the same rates, as for vision transformers.
    `constant` is max_lr throughout. These two leave the momentum alone.

    To resume, build both again and load the optimiser's state, then the schedule's.

    Args:
        optimizer: its rate, and with `onecycle` its momentum, are set at once.
        total_steps: optimiser steps in the whole run, not epochs; one more is an error with `onecycle`.
        max_lr: the peak.
        pct_start: fraction of the steps in which the rate rises, in [0, 1).
        div_factor: peak over first rate.
        final_div_factor: first over last rate.
        name: "onecycle", "cosine" or "constant".

    Raises:
        ValueError: an unknown name.

    Source: Smith and Topin, "Super-convergence", 2019, in the two-phase cosine form of torch's OneCycleLR.
    """
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
    if name == "cosine":
        first, rise = 1 / div_factor, round(pct_start * total_steps)
        last, fall = first / final_div_factor, max(total_steps - 1 - rise, 1)

        def share(step: int) -> float:
            """Returns the rate of a step over max_lr."""
            if step < rise:
                return first + (1 - first) * step / rise
            return last + (1 - last) * (1 + math.cos(math.pi * min((step - rise) / fall, 1.0))) / 2

        for group in optimizer.param_groups:
            group["lr"] = max_lr
        return LambdaLR(optimizer, share)
    raise ValueError(f"no schedule named {name!r}; write 'onecycle', 'cosine' or 'constant'")
