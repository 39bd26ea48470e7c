"""Similarities of samples, computed in blocks of whole rows, without a rounding error that depends on the blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

HELD = 8_192  # samples whose n × n matrix may be held: 256 MiB
_ELEMENTS = 2**20  # of a block
_MIN_ROWS = 64  # fewer make a slow matrix product


class Similarity(ABC):
    """Similarities between samples and the candidates that may be kept, multiples of 2⁻²³ in [0, 1].

    The similarity of a pair is the same number in every block, on every device. Sums in float64 are exact, so they do
    not depend on their order. Equal gains are therefore equal numbers, and lazy greedy is plain greedy.

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

    def sums(self) -> tuple[Tensor, float] | None:
        """Returns (m,) float64, for each candidate the sum over all samples, and its largest error; None if unknown."""
        return None


class OfRows(Similarity):
    """Similarities that are a function of two rows of numbers.

    Args:
        samples: (n, d) float64.
        candidates: (m, d) float64; None for the samples.
    """

    def __init__(self, samples: Tensor, candidates: Tensor | None = None) -> None:
        self.samples = samples
        self.candidates = samples if candidates is None else candidates
        self.num_samples, self.num_candidates = len(self.samples), len(self.candidates)
        self.device = samples.device

    def of_samples(self, rows: Tensor) -> Tensor:
        """See `Similarity`."""
        return self._between(self.samples[rows], self.candidates).add_(1).sub_(1)  # rounds

    def of_candidates(self, rows: Tensor) -> Tensor:
        """See `Similarity`."""
        return self._between(self.candidates[rows], self.samples).add_(1).sub_(1)

    @abstractmethod
    def _between(self, rows: Tensor, others: Tensor) -> Tensor:
        """Returns (len(rows), len(others)) float32 similarities, computed in float64."""


class Cosine(OfRows):
    """0.5 + 0.5·cos of the angle between two rows of `unit_rows`; 0.5 if one is a row of zeros."""

    def sums(self) -> tuple[Tensor, float] | None:
        """See `Similarity`. Without rounding, a sum needs only the sum of all rows."""
        total = self.samples.sum(0)
        return (self.candidates @ total).add_(self.num_samples).mul_(0.5), 2.0**-23 * self.num_samples

    def _between(self, rows: Tensor, others: Tensor) -> Tensor:
        return (rows @ others.T).float().add_(1).mul_(0.5)


class Gaussian(OfRows):
    """exp(-distance² / scale) of two rows of `centred_rows`.

    Args:
        samples: (n, d) float64.
        candidates: (m, d) float64; None for the samples.
        scale: positive.
    """

    def __init__(self, samples: Tensor, candidates: Tensor | None = None, *, scale: float) -> None:
        super().__init__(samples, candidates)
        self._scale = scale

    def _between(self, rows: Tensor, others: Tensor) -> Tensor:
        return squared_distances(rows, others).mul_(-1 / self._scale).exp_().float()


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


def blocks(rows: Tensor, width: int) -> list[Tensor]:
    """Returns the rows in blocks, so that a block of (rows, width) numbers stays small."""
    step = max(_MIN_ROWS, _ELEMENTS // width)
    return [rows[begin : begin + step] for begin in range(0, len(rows), step)]


def squared_distances(rows: Tensor, others: Tensor) -> Tensor:
    """Returns (len(rows), len(others)) float64 squared Euclidean distances, by a matrix product."""
    squares = (rows * rows).sum(1)[:, None] + (others * others).sum(1)
    return squares.addmm_(rows, others.T, alpha=-2)
