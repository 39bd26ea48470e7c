"""The gradient of the selected samples, compared with the full gradient and with the surrogate's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from orderdp.diagnostics.moment import Moment
from orderdp.samplers import PrunedBatchSampler, PrunedSampler
from orderdp.theory import surrogate_weights


class Alignment(NamedTuple):
    """Two gradients at the same weights.

    Args:
        cosine: of the angle between them.
        norm_ratio: norm of the selected samples' gradient over that of the other.
    """

    cosine: float
    norm_ratio: float


def alignment(
    model: nn.Module,
    losses_of: Callable[[nn.Module, Any], Tensor],
    batches: Iterable[tuple[Tensor, Any]],
    chosen: Any,
    *,
    weights: Any = None,
    sizes: tuple[int, int] | None = None,
) -> dict[str, Alignment]:
    """Compares the mean gradient of the selected samples with the full one, and with ∇L_q if the sizes are given.

    Costs a forward and a backward pass over the full data for each gradient. This changes neither the model's weights,
    gradients and buffers nor PyTorch's global generators. Put the model into eval mode: dropout makes the gradient
    random, and batch normalisation makes it depend on the batches.

    Args:
        model: at the weights to measure at.
        losses_of: from model and batch to its (b,) losses with gradient.
        batches: every sample once, as (index, batch), read three or four times, so no bare iterator. Not the pruner's
            own loader, whose passes are epochs.
        chosen: (q,) int64, distinct ids that the epoch trains, array or tensor: `pruner.selection.indices`.
        weights: (q,) factors of these samples' losses, `pruner.selection.weights`; None for one.
        sizes: (s, q) of OrderDP, for ∇L_q by Theorem 1.

    Returns:
        "full", and "surrogate" with sizes.

    Raises:
        TypeError: batches that can be read only once, or whose passes are epochs.
        ValueError: an id that is repeated or in no batch; not one loss a sample; weights or sizes that do not fit; a
            gradient that is zero or not finite.

    Source: OrderDP, Appendix E.2, Table 11; ∇L_q by eq. (11).
    """
    _check_batches(batches)
    chosen = torch.as_tensor(chosen)
    factors = torch.ones(len(chosen)) if weights is None else torch.as_tensor(weights).cpu()
    if factors.shape != chosen.shape:
        raise ValueError(
            f"weights has one factor for each of the {len(chosen)} chosen samples, got shape {tuple(factors.shape)}; "
            "pass pruner.selection.weights"
        )
    if sizes is not None and sizes[1] != len(chosen):
        raise ValueError(
            f"sizes must be (s, q) with the q of the selection, got {sizes} for {len(chosen)} chosen samples"
        )
    distinct = len(set(chosen.tolist()))
    if distinct < len(chosen):
        raise ValueError(
            f"chosen must be distinct ids, got {len(chosen)} of which {distinct} differ; pass the ids of one epoch"
        )
    with _restored(model):
        return _measure(model, losses_of, batches, chosen, factors, sizes)


def selection_alignment(moment: Moment) -> dict[str, dict[str, float]] | None:
    """Returns the alignment of what the next epoch would train, in plain values.

    None for a strategy that chooses within the batch: its choice depends on losses that do not exist yet.
    """
    strategy = moment.pruner.strategy
    if strategy.chooses_in_batch:
        return None
    selection = moment.preview()
    found = alignment(
        moment.model,
        moment.losses_of,
        moment.batches(),
        selection.indices,
        weights=selection.weights,
        sizes=strategy.surrogate_sizes(len(moment.trained)),
    )
    return {name: other._asdict() for name, other in found.items()}


def _check_batches(batches: Iterable[tuple[Tensor, Any]]) -> None:
    if isinstance(batches, Iterator):
        raise TypeError(
            f"batches must be readable several times, got {type(batches).__name__}, which ends after one; "
            "pass a list or a DataLoader"
        )
    if isinstance(batches, (PrunedBatchSampler, PrunedSampler)) or any(
        isinstance(getattr(batches, name, None), (PrunedBatchSampler, PrunedSampler))
        for name in ("batch_sampler", "sampler")
    ):
        raise TypeError(
            "batches must hold the full data and start no epoch, got a loader of the pruner; pass a DataLoader of "
            "IndexedDataset(dataset)"
        )


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Restores the buffers, which batch normalisation changes, and the generators, from which dropout draws."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])


def _measure(
    model: nn.Module,
    losses_of: Callable[[nn.Module, Any], Tensor],
    batches: Iterable[tuple[Tensor, Any]],
    chosen: Tensor,
    weights: Tensor,
    sizes: tuple[int, int] | None,
) -> dict[str, Alignment]:
    losses: dict[int, float] = {}
    with torch.no_grad():
        for index, batch in batches:
            found = _one_a_sample(losses_of(model, batch), index)
            for sample, loss in zip(index.tolist(), found.tolist(), strict=True):
                if sample in losses:
                    raise ValueError(
                        f"batches must hold each sample once, got {sample} twice; "
                        "pass batches over the data set without replacement"
                    )
                losses[sample] = loss
    ids = sorted(losses)
    place = {sample: position for position, sample in enumerate(ids)}
    missing = [sample for sample in chosen.tolist() if sample not in place]
    if missing:
        raise ValueError(f"chosen must be ids that the batches hold, got {missing[0]}; pass batches over the full data")
    factors = {"chosen": torch.zeros(len(ids), dtype=torch.float64), "full": torch.full((len(ids),), 1 / len(ids))}
    positions = torch.tensor([place[sample] for sample in chosen.tolist()])
    factors["chosen"][positions] = weights.double() / len(chosen)
    if sizes is not None:
        in_order = torch.tensor([losses[sample] for sample in ids], dtype=torch.float64)
        factors["surrogate"] = surrogate_weights(in_order, *sizes)
    gradients = {name: _gradient(model, losses_of, batches, place, factor) for name, factor in factors.items()}
    mine = gradients.pop("chosen")
    return {name: _compare(mine, other, name) for name, other in gradients.items()}


def _one_a_sample(losses: Tensor, index: Tensor) -> Tensor:
    if losses.shape != index.shape:
        raise ValueError(
            f"losses_of returned shape {tuple(losses.shape)} for a batch of {len(index)} samples; "
            'return one loss per sample (reduction="none")'
        )
    return losses


def _gradient(
    model: nn.Module,
    losses_of: Callable[[nn.Module, Any], Tensor],
    batches: Iterable[tuple[Tensor, Any]],
    place: dict[int, int],
    factors: Tensor,
) -> Tensor:
    """Returns the gradient of Σ factor·loss over all batches, flat, in float64 on the host."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = torch.zeros(sum(parameter.numel() for parameter in parameters), dtype=torch.float64)
    for index, batch in batches:
        factor = factors[[place[sample] for sample in index.tolist()]]
        if not factor.any():
            continue
        losses = _one_a_sample(losses_of(model, batch), index)
        loss = (losses * factor.to(losses)).sum()
        parts = torch.autograd.grad(loss, parameters, allow_unused=True)
        flat = [
            torch.zeros(parameter.numel()) if part is None else part.flatten().cpu()
            for part, parameter in zip(parts, parameters, strict=True)
        ]
        total += torch.cat([part.double() for part in flat])
    return total


def _compare(mine: Tensor, other: Tensor, name: str) -> Alignment:
    norms = float(mine.norm()), float(other.norm())
    if not all(map(math.isfinite, norms)):
        raise ValueError(f"both gradients must be finite, got norms {norms[0]:g} and {norms[1]:g} ({name})")
    if not all(norms):
        raise ValueError(f"both gradients must differ from zero, got norms {norms[0]:g} and {norms[1]:g} ({name})")
    return Alignment(float(mine @ other) / (norms[0] * norms[1]), norms[0] / norms[1])
