"""Lets a process import torchvision where its compiled operators are built for another torch.

A CPU build of torch beside a torchvision for CUDA cannot load them, and `import torchvision` fails. torchmetrics, and
with it Lightning, imports torchvision wherever it is installed. With this folder on PYTHONPATH, a process declares the
two operators that the import asks for. It does nothing where the operators load.
"""

import importlib.machinery
import sys
from pathlib import Path


class Finder:
    """Asked before any other, finds nothing, and prepares torch when torchvision is imported."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(cls)
            found = importlib.machinery.PathFinder.find_spec(name)
            if found is not None:
                prepare(Path(found.origin).with_name("_C.so"))


def prepare(operators):
    """Loads the operators from their file, or declares two."""
    import torch

    try:
        torch.ops.load_library(str(operators))
    except OSError:
        for operator in ("nms", "qnms"):
            arguments = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", arguments)


if not sys.modules.get("torchvision"):
    sys.meta_path.insert(0, Finder)
