"""Imports torchvision and timm, also if torchvision's compiled operators are missing."""

import sys
from functools import cache
from importlib import import_module
from types import ModuleType

import torch


def import_image_library(name: str) -> ModuleType:
    """Returns a module of torchvision or timm.

    A torchvision built for another torch, such as one for CUDA beside a CPU build, cannot load its compiled operators.
    Its import then fails on two of them: `operator torchvision::nms does not exist`, a RuntimeError. This function then
    declares the two and imports again. All then works except the box operators, which this library does not call.

    Args:
        name: such as "torchvision.datasets" or "timm".

    Raises:
        ImportError: the package is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"the trainer needs {error.name}: pip install {error.name}") from error
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    _declare_missing_operators()
    _forget_failed_imports()
    return import_module(name)


@cache  # an operator can be declared only once
def _declare_missing_operators() -> None:
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _forget_failed_imports() -> None:
    # A package that fails to import leaves sys.modules, but the submodules that it had loaded stay there. On the next
    # import they would be found there and not become attributes of the new package.
    for package in ("torchvision", "timm"):
        if package not in sys.modules:
            for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
                del sys.modules[name]
