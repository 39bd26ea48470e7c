"""Windows of a long stream of tokens, as trainers of small language models read them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from orderdp.checks import check_integer


class TokenWindows(Dataset[tuple[Tensor, Tensor]]):
    """A data set whose sample i is the window of `length` tokens at i·stride, with the token that follows each.

    Each window has an id, so a pruner can remember its loss. A trainer that draws random positions has none: there, no
    two steps see the same window. The file is mapped into memory, and only the windows that are read are loaded. Worker
    processes map it anew.

    Args:
        tokens: path of a `.npy` file, path of a file of bare numbers, or (N,) integers as a NumPy array or tensor.
        length: tokens of a window, >= 1.
        stride: tokens from the start of a window to the start of the next, >= 1; None is `length`, so that windows do
            not overlap.
        dtype: type of the numbers in a file that is no `.npy`, such as "uint16".

    Raises:
        FileNotFoundError: no such file. TypeError: tokens that are no integers. ValueError: tokens in several
            dimensions, or too few for a window; a file without a dtype, or of a size that does not fit it.

    >>> windows = TokenWindows(np.arange(10), length=3)
    >>> len(windows), windows[1]
    (3, (tensor([3, 4, 5]), tensor([4, 5, 6])))
    """

    def __init__(
        self,
        tokens: str | os.PathLike[str] | npt.NDArray[Any] | Tensor,
        length: int,
        *,
        stride: int | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        self.length = check_integer("length", length, 1, 2**31, "write the tokens that the model reads, such as 256")
        self.stride = self.length if stride is None else check_integer("stride", stride, 1, 2**31, f"write {length}")
        in_file = isinstance(tokens, (str, os.PathLike))
        self._path = Path(os.fspath(tokens)).absolute() if in_file else None  # type: ignore[arg-type]
        if dtype is not None and (self._path is None or self._path.suffix == ".npy"):
            raise ValueError(f"dtype is for a file of bare numbers, got {dtype!r} beside numbers with a type; omit it")
        self._dtype = None if dtype is None else np.dtype(dtype)
        self._tokens = _map(self._path, self._dtype) if self._path is not None else _array(tokens)
        of = "tokens" if self._path is None else str(self._path)
        if self._tokens.ndim != 1 or not np.issubdtype(self._tokens.dtype, np.integer):
            shape = f"{self._tokens.dtype} of shape {self._tokens.shape}"
            error = ValueError if np.issubdtype(self._tokens.dtype, np.integer) else TypeError
            raise error(f"{of} must hold integers in one dimension, got {shape}; write them one after another")
        self._size = (len(self._tokens) - self.length - 1) // self.stride + 1
        if self._size < 1:
            raise ValueError(
                f"{of} must hold at least length + 1 = {self.length + 1} tokens, got {len(self._tokens)}; "
                "write a smaller length"
            )

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns (length,) int64 tokens, and for each the token that follows it, (length,) int64."""
        if not 0 <= index < self._size:
            raise IndexError(f"index must lie in 0 .. {self._size - 1}, got {index}")
        start = int(index) * self.stride  # the product may not fit the type of an index of 32 bits
        window = torch.from_numpy(self._tokens[start : start + self.length + 1].astype(np.int64))
        return window[:-1], window[1:]

    def __getstate__(self) -> dict[str, Any]:
        """Returns the path without the map, which would be copied whole."""
        return {**self.__dict__, "_tokens": self._tokens if self._path is None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._path is not None:
            self._tokens = _map(self._path, self._dtype)


def _array(tokens: Any) -> npt.NDArray[Any]:
    return tokens.numpy(force=True) if isinstance(tokens, Tensor) else np.asarray(tokens)


def _map(path: Path, dtype: np.dtype[Any] | None) -> npt.NDArray[Any]:
    """Returns a file's numbers, mapped into memory."""
    if path.suffix == ".npy":
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    if dtype is None:
        raise ValueError(f'dtype must be given for {path}, which is no .npy file, got None; write dtype="uint16"')
    size = path.stat().st_size
    if size == 0 or size % dtype.itemsize:
        raise ValueError(
            f"{path} must hold a whole number of tokens of {dtype.itemsize} bytes, got {size} bytes; "
            f"it is cut, or its dtype is not {dtype}"
        )
    return np.memmap(path, dtype=dtype, mode="r")
