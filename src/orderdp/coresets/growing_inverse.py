"""The inverse of a symmetric matrix whose rows come and go."""

from __future__ import annotations

import torch
from torch import Tensor

_PENDING = 64  # changes that wait to be applied together, as one matrix product
_ROWS = 1024  # rows at once, so that a product needs no second matrix


class GrowingInverse:
    """The float64 inverse of a positive definite matrix, changed by rank one when a row comes or goes.

    A change waits with up to 63 others. So the large matrix is read once a step, and written once in 64 steps.

    Args:
        capacity: how many rows there can be at most.
        device: where the numbers are.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self._base = torch.zeros((capacity, capacity), dtype=torch.float64, device=device)
        self._changes = torch.zeros((capacity, _PENDING), dtype=torch.float64, device=device)
        self._signs = torch.zeros(_PENDING, dtype=torch.float64, device=device)
        self._waiting = self.size = 0

    def times(self, vector: Tensor) -> Tensor:
        """Returns (k,) the product with a vector."""
        changes = self._changes[: self.size, : self._waiting]
        waiting = changes @ (self._signs[: self._waiting] * (changes.T @ vector))
        return self._base[: self.size, : self.size] @ vector + waiting

    def column(self, position: int) -> Tensor:
        """Returns (k,) one column."""
        changes = self._changes[: self.size, : self._waiting]
        return self._base[: self.size, position] + changes @ (self._signs[: self._waiting] * changes[position])

    def append(self, products: Tensor, square: Tensor, least: float) -> None:
        """Adds a row to the matrix.

        Args:
            products: (k,) entries beside the rows that are there.
            square: its entry on the diagonal.
            least: what the square less its projection cannot be below, but for rounding errors.
        """
        change = self.times(products)
        rest = (square - products @ change).clamp(min=least)
        self.size += 1
        self._wait(torch.cat([-change, change.new_ones(1)]) / rest.sqrt(), 1)

    def drop(self, position: int) -> None:
        """Takes a row out of the matrix; the last one moves to its place."""
        column = self.column(position)
        self._wait(column / column[position].sqrt(), -1)
        last = self.size - 1
        for table in (self._base, self._base.T, self._changes):
            table[position] = table[last].clone()
            table[last] = 0
        self.size = last

    def _wait(self, change: Tensor, sign: int) -> None:
        self._changes[: self.size, self._waiting] = change
        self._signs[self._waiting] = sign
        self._waiting += 1
        if self._waiting == _PENDING:
            for begin in range(0, self.size, _ROWS):
                rows = slice(begin, min(begin + _ROWS, self.size))
                self._base[rows, : self.size] += (self._changes[rows] * self._signs) @ self._changes[: self.size].T
            self._waiting = 0  # rows beyond the size are zero, so what is left in the columns never counts
