"""Losses in the order in which they came."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Log:
    """Values in the order in which they came, on the device of the losses. Appending never waits for the device.

    Args:
        capacity: how many values there is room for at first.
    """

    def __init__(self, capacity: int) -> None:
        # (where, size): the first position, the positions, or None if the ids are on the device.
        self.entries: list[tuple[Any, int]] = []
        self.on_host: bool | None = None  # where the values are; None before the first
        self._capacity = capacity
        self._size = 0
        self._host = np.empty(0, dtype=np.float32)
        self._buffers: dict[str, Tensor] = {}

    def append(self, where: Any, values: Tensor, kept: Tensor | None = None, ids: Tensor | None = None) -> None:
        """Appends the values of a batch, all of one log on the host or all on a device."""
        size = values.numel()
        begin, end = self._size, self._size + size
        if end > self._capacity:
            self._grow(2 * end)
        self._size = end
        if self.on_host:
            self._host[begin:end] = (values if values.dtype is torch.float32 else values.float()).numpy()
        else:
            self._buffer("values", values, torch.float32).narrow(0, begin, size).copy_(values, non_blocking=True)
        if ids is not None:
            self._buffer("ids", ids, torch.int64).narrow(0, begin, size).copy_(ids, non_blocking=True)
        if kept is not None:
            self._buffer("kept", kept, torch.bool).narrow(0, begin, size).copy_(kept, non_blocking=True)
        entries = self.entries
        if type(where) is int and entries:
            first, length = entries[-1]
            if type(first) is int and first + length == where:
                entries[-1] = first, length + size
                return
        entries.append((where, size))

    def emptied(self) -> Log:
        """Returns an empty log for values where these are."""
        log = Log(self._capacity)
        log.settle(on_host=bool(self.on_host))
        return log

    def settle(self, *, on_host: bool) -> None:
        """Makes room where the values are."""
        self.on_host = on_host
        if on_host:
            self._host = np.empty(self._capacity, dtype=np.float32)

    def _buffer(self, name: str, like: Tensor, dtype: torch.dtype) -> Tensor:
        """Returns a buffer on the device of what it is to hold; a new one of `kept` is all True."""
        if name not in self._buffers:
            with torch.inference_mode(mode=False):
                self._buffers[name] = torch.ones(self._capacity, dtype=dtype, device=like.device)
        return self._buffers[name]

    def _grow(self, capacity: int) -> None:
        self._capacity = capacity
        if self.on_host:
            self._host = np.concatenate([self._host, np.empty(capacity - len(self._host), dtype=np.float32)])
        for name, old in self._buffers.items():
            with torch.inference_mode(mode=False):
                new = torch.ones(capacity, dtype=old.dtype, device=old.device)
            new[: len(old)].copy_(old)
            self._buffers[name] = new

    def take(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None, npt.NDArray[np.int64] | None]:
        """Returns values, which of them were left out, and the ids that came on a device; waits for the device."""
        parts = {name: buffer[: self._size].cpu().numpy() for name, buffer in self._buffers.items()}
        values = self._host[: self._size] if self.on_host else parts["values"]
        left_out = ~parts["kept"] if "kept" in parts else None
        return values, left_out, parts.get("ids")
