"""Data frames in R's files, read without R.

The Python libraries for it bring pandas and xarray (rdata, 100 MB) or come under the AGPL (pyreadr).

Source: "R Internals", section 1.8, serialization formats: XDR, versions 2 and 3.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_SYMBOL, _PAIRS, _CHARS, _LOGICAL, _INTEGER, _REAL, _STRINGS, _LIST = 1, 2, 9, 10, 13, 14, 16, 19
_NULL, _REFERENCE = 254, 255
_NUMBERS = {_LOGICAL: ">i4", _INTEGER: ">i4", _REAL: ">f8"}
_HAS_ATTRIBUTES, _HAS_TAG = 0x200, 0x400


class Column(NamedTuple):
    """A column of a data frame.

    Args:
        values: (n,) float64 or int64 numbers; of a factor the positions of its levels, from 0.
        levels: of a factor; () for numbers.
    """

    values: npt.NDArray[Any]
    levels: tuple[str, ...] = ()


class _Value(NamedTuple):
    data: Any
    attributes: dict[str, Any]


def data_frame(content: bytes, name: str) -> dict[str, Column]:
    """Returns the columns of a data frame, by name.

    Args:
        content: of a file that R's `save` wrote, after decompression.
        name: of the data frame in it.

    Raises:
        ValueError: it holds no data frame of that name, or something else than numbers, factors and texts.
    """
    if content[:4] not in (b"RDX2", b"RDX3") or content[4:7] != b"\nX\n":
        raise ValueError(f"a file of R must begin with RDX2 or RDX3 and X, got {content[:7]!r}; save it again with R")
    reader = _Reader(content, start=7)
    version, _, _ = (reader.integer() for _ in range(3))
    if version == 3:
        reader.bytes(reader.integer())  # the encoding of its texts
    saved: dict[str, _Value] = reader.item().data
    if name not in saved:
        raise ValueError(f"a file of R must hold {name}, got {', '.join(saved)}; write another file")
    frame = saved[name]
    names: list[str] = frame.attributes["names"].data
    return {column: _column(value) for column, value in zip(names, frame.data, strict=True)}


def _column(value: _Value) -> Column:
    if "levels" not in value.attributes:
        return Column(value.data)
    return Column(value.data - 1, tuple(value.attributes["levels"].data))


class _Reader:
    """Reads one item after the other.

    Args:
        content: of the file.
        start: where the serialized part begins.
    """

    def __init__(self, content: bytes, start: int) -> None:
        self._content, self._at = content, start
        self._symbols: list[str] = []  # which later items name by their number, from 1

    def bytes(self, count: int) -> bytes:
        found = self._content[self._at : self._at + count]
        if len(found) < count:
            raise ValueError(f"a file of R must be complete, got {len(self._content)} bytes; fetch it again")
        self._at += count
        return found

    def integer(self) -> int:
        (found,) = struct.unpack(">i", self.bytes(4))
        return int(found)

    def item(self) -> _Value:
        flags = self.integer()
        kind = flags & 0xFF
        if kind == _PAIRS:
            return self._pairs(flags)
        if kind == _NULL:
            return _Value({}, {})
        if kind == _SYMBOL:
            self._symbols.append(self.item().data)
            return _Value(self._symbols[-1], {})
        if kind == _REFERENCE:
            return _Value(self._symbols[(flags >> 8 or self.integer()) - 1], {})
        count = self.integer()
        if kind == _CHARS:
            return _Value(self.bytes(count).decode() if count >= 0 else "NA", {})
        if kind in _NUMBERS:
            form = np.dtype(_NUMBERS[kind])
            data: Any = np.frombuffer(self.bytes(count * form.itemsize), form)
            data = data.astype(np.float64 if kind == _REAL else np.int64)
        elif kind == _STRINGS:
            data = [self.item().data for _ in range(count)]
        elif kind == _LIST:
            data = [self.item() for _ in range(count)]
        else:
            raise ValueError(
                f"a file of R must hold numbers, factors and texts, got an item of type {kind}; leave it out"
            )
        return _Value(data, self.item().data if flags & _HAS_ATTRIBUTES else {})

    def _pairs(self, flags: int) -> _Value:
        """Returns a list of pairs as a table; the rest of the list is an item of its own."""
        found: dict[str, Any] = {}
        while flags & 0xFF == _PAIRS:
            if flags & _HAS_ATTRIBUTES:
                self.item()
            name = self.item().data if flags & _HAS_TAG else ""
            found[name] = self.item()
            flags = self.integer()
        return _Value(found, {})
