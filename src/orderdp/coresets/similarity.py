"""Similarities of samples, computed in blocks of whole rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from orderdp.coresets.evidence import Floats

HELD = 8_192  # samples whose n × n matrix may be held: 256 MiB
_ELEMENTS = 2**20  # of a block
_MIN_ROWS = 64  # fewer make a slow matrix product


class Similarity(ABC):
    """Similarities between samples and the candidates that may be kept, in [0, 1].

    They are multiples of 2⁻³⁶ or coarser: sums in float64 are exact, so they do not depend on their order.

    Attributes:
        num_samples: n.
        num_candidates: m; often the samples themselves.
        device: where they are computed.
    """

    num_samples: int
    num_candidates: int
    device: torch.device

    @abstractmethod
    def of_samples(self, rows: Tensor) -> Tensor:
        """Returns (len(rows), m) float32, similarities of these samples with all candidates."""

    @abstractmethod
    def of_candidates(self, rows: Tensor) -> Tensor:
        """Returns (len(rows), n) float32, similarities of these candidates with all samples."""


class OfRows(Similarity):
    """Similarities that are a function of two rows of features.

    Args:
        samples: (n, d) float32.
        candidates: (m, d) float32; None for the samples.
    """

    def __init__(self, samples: Tensor, candidates: Tensor | None = None) -> None:
        self._samples = samples
        self._candidates = samples if candidates is None else candidates
        self.num_samples, self.num_candidates = len(self._samples), len(self._candidates)
        self.device = samples.device

    def of_samples(self, rows: Tensor) -> Tensor:
        """See `Similarity`."""
        return self._between(self._samples[rows], self._candidates)

    def of_candidates(self, rows: Tensor) -> Tensor:
        """See `Similarity`."""
        return self._between(self._candidates[rows], self._samples)

    @abstractmethod
    def _between(self, rows: Tensor, others: Tensor) -> Tensor:
        """Returns (len(rows), len(others)) similarities."""


class Cosine(OfRows):
    """0.5 + 0.5·cos of the angle between two rows, which have norm 1; 0.5 if one is a row of zeros."""

    def _between(self, rows: Tensor, others: Tensor) -> Tensor:
        return (rows @ others.T).add_(1).mul_(0.5)


class Gaussian(OfRows):
    """exp(-distance² / scale) of two rows.

    Args:
        samples: (n, d) float32.
        candidates: (m, d) float32; None for the samples.
        scale: positive.
    """

    def __init__(self, samples: Tensor, candidates: Tensor | None = None, *, scale: float) -> None:
        super().__init__(samples, candidates)
        self._scale = scale

    def _between(self, rows: Tensor, others: Tensor) -> Tensor:
        return on_grid(squared_distances(rows, others).mul_(-1 / self._scale).exp_())


class Held(Similarity):
    """The whole matrix of a small group, whose samples are the candidates.

    Args:
        similarity: what is computed and held.
    """

    def __init__(self, similarity: Similarity) -> None:
        self.num_samples = self.num_candidates = n = similarity.num_samples
        self.device = similarity.device
        self._matrix = torch.empty((n, n), device=self.device)
        for rows in blocks(torch.arange(n, device=self.device), n):
            self._matrix[rows] = similarity.of_samples(rows)

    def of_samples(self, rows: Tensor) -> Tensor:
        """See `Similarity`."""
        return self._matrix[rows]

    def of_candidates(self, rows: Tensor) -> Tensor:
        """See `Similarity`."""
        return self._matrix[rows]


def blocks(rows: Tensor, width: int) -> Iterator[Tensor]:
    """Returns the rows in blocks, so that a block of (rows, width) numbers stays small."""
    step = max(_MIN_ROWS, _ELEMENTS // width)
    return (rows[begin : begin + step] for begin in range(0, len(rows), step))


def on_grid(similarities: Tensor) -> Tensor:
    """Rounds numbers in [0, 1] to multiples of 2⁻²³, in place."""
    return similarities.add_(1).sub_(1)


def squared_distances(rows: Tensor, others: Tensor) -> Tensor:
    """Returns (len(rows), len(others)) squared Euclidean distances, by a matrix product."""
    squares = (rows * rows).sum(1)[:, None] + (others * others).sum(1)
    return squares.addmm_(rows, others.T, alpha=-2).clamp_(min=0)


def as_rows(features: Floats, device: torch.device) -> Tensor:
    """Returns the features as float32 on the device, always a copy.

    Raises:
        ValueError: a feature that float32 cannot hold.
    """
    with np.errstate(over="ignore"):
        rows = np.array(features, dtype=np.float32)
    if not np.isfinite(rows.max()) or not np.isfinite(rows.min()):
        raise ValueError(f"features must lie within float32, got up to {np.abs(features).max():.3g}; scale them")
    return torch.from_numpy(rows).to(device)


def unit_rows(features: Floats, device: torch.device) -> Tensor:
    """Returns the features as float32, each row divided by its norm. A row of zeros stays."""
    rows = as_rows(features, device)
    rows /= rows.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)  # squares could overflow
    rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=0.5)  # at least 1, but for a row of zeros
    return rows


def centred(rows: Tensor) -> tuple[Tensor, float]:
    """Returns the rows minus their mean, divided by the largest number left, and that number; in place.

    Distances stay the same but for this factor. Squares in float32 then lose least, and cannot overflow.
    """
    rows -= rows.mean(0, dtype=torch.float64).float()
    largest = float(rows.abs().max()) or 1.0
    return rows.div_(largest), largest
