"""What a trained proxy says of samples: outputs, inputs of its last layer, gradients, distances to the boundary."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orderdp.coresets.deepfool import perturbation_norms
from orderdp.coresets.per_sample import alignments, gradient_norms
from orderdp.data.samples import Samples
from orderdp.training.data_path import DataPath

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]

AT_AN_EPOCH = ("probabilities", "features", "gradient_norms", "perturbations")
ALONG = ("trajectory", "alignments")  # after each epoch
OF_HELD_OUT = ("probabilities", "features")
_DEEPFOOL_CLASSES = 10  # as in the authors' code; each class is a backward pass in each step


def measure(names: Collection[str], model: nn.Module, batches: Batches, *, num_classes: int) -> Arrays:
    """Returns what is named of each sample, in float32; `trajectory` is the probabilities in float16.

    Args:
        names: of `AT_AN_EPOCH` and `ALONG`.
        model: the proxy, in evaluation mode.
        batches: the samples in order.
        num_classes: outputs of the model.

    Raises:
        ValueError: the features are asked of a model that does not end in a linear layer.
    """
    found: Arrays = {}
    outputs = {"probabilities", "features", "trajectory"} & set(names)
    if outputs:
        found |= _outputs(outputs, model, batches, num_classes)
    for name, function in _BY_GRADIENTS.items():
        if name in names:
            found[name] = function(model, batches, num_classes)
    return found


class Batches:
    """Batches of images in order, as (images, labels) on the device; each pass reads them again.

    Args:
        data_path: reads the images.
        images: what to read.
        progress: wraps the batches in a progress bar, or returns them.
    """

    def __init__(
        self,
        data_path: DataPath,
        images: Samples,
        progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda batches, _: batches,
    ) -> None:
        self._data_path, self._images, self._progress = data_path, images, progress

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        number = -(-len(self._images) // self._data_path.recipe.eval_batch_size)
        for _, (images, labels) in self._progress(self._data_path.in_order(self._images), number):
            yield images.to(self._data_path.device), labels.to(self._data_path.device)


def last_linear(model: nn.Module, num_classes: int) -> nn.Linear:
    """Returns the layer that gives the logits, whose inputs are the features.

    Raises:
        ValueError: no linear layer has as many outputs as there are classes.

    >>> last_linear(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), 3)
    Linear(in_features=8, out_features=3, bias=True)
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer.out_features == num_classes]
    if not layers:
        raise ValueError(
            f"features are the inputs of a linear layer with {num_classes} outputs, got a model without; "
            "write a model that ends in one"
        )
    return layers[-1]


def _outputs(names: set[str], model: nn.Module, batches: Batches, num_classes: int) -> Arrays:
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    inputs: list[Tensor] = []
    hook = None
    if "features" in names:
        layer = last_linear(model, num_classes)
        hook = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        with torch.no_grad():
            for images, _ in batches:
                probabilities = model(images).float().softmax(1).cpu()
                if "probabilities" in names:
                    parts["probabilities"].append(probabilities)
                if "trajectory" in names:
                    parts["trajectory"].append(probabilities.half())
                if "features" in names:
                    parts["features"].append(inputs.pop().float().cpu())
    finally:
        if hook is not None:
            hook.remove()
    return {name: torch.cat(found).numpy() for name, found in parts.items()}


def _losses(model: Callable[..., Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    return F.cross_entropy(model(images).float(), labels, reduction="none")


def _perturbations(model: nn.Module, batches: Batches, num_classes: int) -> npt.NDArray[Any]:
    most = min(num_classes, _DEEPFOOL_CLASSES)
    norms = [perturbation_norms(model, images, num_classes=most).cpu().float() for images, _ in batches]
    return np.asarray(torch.cat(norms).numpy())


_BY_GRADIENTS: dict[str, Callable[[nn.Module, Batches, int], npt.NDArray[Any]]] = {
    "gradient_norms": lambda model, batches, _: gradient_norms(model, _losses, batches),
    "alignments": lambda model, batches, _: alignments(model, _losses, batches),
    "perturbations": _perturbations,
}
