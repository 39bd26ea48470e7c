"""Gradients of each sample in all parameters of any model: their norms, and their products with one direction."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

Batch: TypeAlias = Any
LossesOf: TypeAlias = Callable[[Callable[..., Any], Batch], Tensor]
"""(model, batch) -> (b,) losses. It calls `model` as the module is called, and does not average."""

_CHUNK_BYTES = 2**29  # of the gradients that are held at once


def gradient_norms(
    model: nn.Module, losses_of: LossesOf, batches: Iterable[Batch], *, chunk_size: int | None = None
) -> npt.NDArray[np.float32]:
    """Returns (n,) float32, the L2 norm of each sample's loss gradient in all parameters that are trained.

    The model is in eval mode meanwhile, so batch normalisation uses its running statistics and samples do not mix. A
    model with `nn.LSTM`, `nn.GRU` or `nn.RNN` takes one backward pass for each sample, since vmap cannot batch them.

    Args:
        model: the proxy.
        losses_of: (model, batch) -> (b,) losses. It is traced by `torch.func.vmap`: no `.item()`, no branch on values.
        batches: tensors with one row for each sample, or tuples, lists and dictionaries of them.
        chunk_size: how many gradients are held at once; None takes as many as fit into 512 MiB.

    Raises:
        ValueError: `losses_of` returns another shape than (b,), or no parameter is trained.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> gradient_norms(model, lambda model, x: model(x).sum(1), [torch.tensor([[3.0, 4.0], [0.0, 1.0]])])
    array([5., 1.], dtype=float32)
    """
    parameters = _trained(model)
    size = sum(parameter.numel() * parameter.element_size() for parameter in parameters.values())
    chunk_size = chunk_size or max(1, _CHUNK_BYTES // size)

    def loss(parameters: dict[str, Tensor], sample: Batch) -> Tensor:
        one = _map(lambda tensor: tensor.unsqueeze(0), sample)
        return _losses(model, losses_of, parameters, one)[0]

    def norm(parameters: dict[str, Tensor], sample: Batch) -> Tensor:
        gradients = grad(loss)(parameters, sample)
        return torch.stack([gradient.float().square().sum() for gradient in gradients.values()]).sum().sqrt()

    def one_by_one(parameters: dict[str, Tensor], batch: Batch) -> Tensor:
        rows = range(len(_first(batch)))
        return torch.stack([norm(parameters, _map(itemgetter(row), batch)) for row in rows])

    norms = one_by_one if _recurrent(model) else vmap(norm, in_dims=(None, 0), chunk_size=chunk_size)
    with _evaluating(model), torch.no_grad():
        return _gathered(norms(parameters, batch) for batch in _on_device(parameters, batches))


def alignments(
    model: nn.Module,
    losses_of: LossesOf,
    batches: Iterable[Batch],
    direction: Mapping[str, Tensor] | None = None,
) -> npt.NDArray[np.float32]:
    """Returns (n,) float32, the product of each sample's loss gradient with one direction in parameter space.

    The product is a directional derivative. Forward mode takes it for a whole batch at about the price of two forward
    passes, and no gradient of a single sample is made. The model is in eval mode meanwhile.

    Args:
        model: the proxy.
        losses_of: (model, batch) -> (b,) losses.
        batches: as for `gradient_norms`. Without a direction they are read twice.
        direction: one tensor for each trained parameter, by its name; None is the mean gradient of these batches.

    Raises:
        ValueError: `losses_of` returns another shape than (b,), no parameter is trained, or a direction does not fit.
        TypeError: batches that can be read only once, where they must be read twice.
    """
    if direction is None:
        direction = mean_gradient(model, losses_of, batches)
        if iter(batches) is batches:
            raise TypeError("batches are read twice, got an iterator; pass a list, a loader, or a direction")
    parameters = _trained(model)
    sizes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    given = {name: tuple(tensor.shape) for name, tensor in direction.items()}
    if given != sizes:
        wrong = sorted(name for name in given.keys() | sizes.keys() if given.get(name) != sizes.get(name))
        raise ValueError(f"direction must have the shape of every trained parameter, got another one for {wrong[0]!r}")
    tangents = {name: direction[name].to(parameter) for name, parameter in parameters.items()}

    def products(batch: Batch) -> Tensor:
        along: Tensor = jvp(lambda moved: _losses(model, losses_of, moved, batch), (parameters,), (tangents,))[1]
        return along

    with _evaluating(model), torch.no_grad():
        return _gathered(products(batch) for batch in _on_device(parameters, batches))


def mean_gradient(model: nn.Module, losses_of: LossesOf, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Returns the mean loss gradient over all samples, by parameter name; the model is in eval mode meanwhile.

    Args:
        model: the proxy.
        losses_of: (model, batch) -> (b,) losses.
        batches: as for `gradient_norms`.

    Raises:
        ValueError: `losses_of` returns another shape than (b,), or no parameter is trained.
    """
    parameters = _trained(model)
    count = 0
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    with _evaluating(model), torch.enable_grad():
        for batch in _on_device(parameters, batches):
            leaves = {name: parameter.requires_grad_() for name, parameter in _trained(model).items()}
            losses = _losses(model, losses_of, leaves, batch)
            gradients = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True)
            count += len(losses)
            for name, gradient in zip(leaves, gradients, strict=True):
                total[name] += gradient
    return {name: tensor / count for name, tensor in total.items()}


def _trained(model: nn.Module) -> dict[str, Tensor]:
    parameters = {name: tensor.detach() for name, tensor in model.named_parameters() if tensor.requires_grad}
    if not parameters:
        raise ValueError("a gradient needs trained parameters, got a model where none requires a gradient")
    return parameters


def _losses(model: nn.Module, losses_of: LossesOf, parameters: dict[str, Tensor], batch: Batch) -> Tensor:
    def call(*args: Any, **kwargs: Any) -> Any:
        return functional_call(model, parameters, args, kwargs)

    losses = losses_of(call, batch)
    size = len(_first(batch))
    if losses.shape != (size,):
        raise ValueError(
            f"losses_of must return one loss per sample, got shape {tuple(losses.shape)} for {size} samples; "
            'pass reduction="none"'
        )
    return losses


def _recurrent(model: nn.Module) -> bool:
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Puts the model into eval mode, and picks kernels that torch.func can differentiate and batch."""
    training = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            # PyTorch 2.13 warns of its own `torch.jit.script` when forward mode is first used, and of its own flags.
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN", UserWarning)
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if _recurrent(
                model
            ):  # fused kernels know neither forward mode nor vmap, and cuDNN's no gradient in eval mode
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in training.items():
            module.training = mode


def _on_device(parameters: dict[str, Tensor], batches: Iterable[Batch]) -> Iterator[Batch]:
    device = next(iter(parameters.values())).device
    return (_map(lambda tensor: tensor.to(device), batch) for batch in batches)


def _gathered(parts: Iterable[Tensor]) -> npt.NDArray[np.float32]:
    return torch.cat([part.float() for part in parts]).cpu().numpy()


def _map(function: Callable[[Tensor], Tensor], batch: Batch) -> Batch:
    """Applies the function to each tensor of a batch."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {name: _map(function, value) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(_map(function, value) for value in batch)
    raise TypeError(f"a batch holds tensors, got {type(batch).__name__}; leave it out or make a tensor of it")


def _first(batch: Batch) -> Tensor:
    while not isinstance(batch, Tensor):
        batch = next(iter(batch.values() if isinstance(batch, Mapping) else batch))
    return batch
