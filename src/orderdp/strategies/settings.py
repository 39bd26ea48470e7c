"""The settings of a method as values: what they are compared by, how they are written, and which are unfit."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from numbers import Number
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orderdp.output.suggestions import did_you_mean

_MOST_WRITTEN = 1_000  # entries of a tuple; a longer one is digested, as are all arrays


def key_of(value: Any) -> Hashable:
    """Returns what a setting is compared by: the value, or the type, shape and digest of an array or a long tuple.

    >>> key_of(np.arange(3)) == key_of(np.arange(3)) != key_of(np.arange(4))
    True
    """
    if isinstance(value, (np.ndarray, Tensor)):
        return _described(value)
    if isinstance(value, tuple):
        return tuple(map(key_of, value)) if len(value) <= _MOST_WRITTEN else _described(value)
    if _is_record(value):
        return type(value), tuple(key_of(getattr(value, field.name)) for field in fields(value) if field.compare)
    key: Hashable = value
    return key


def literal(value: Any) -> tuple[str, bool]:
    """Returns a setting as text, and whether the text is Python source that evaluates back.

    Infinities have no literal, and NumPy's numbers become Python's.

    >>> literal((1, math.inf))
    ("(1, float('inf'))", True)
    """
    if isinstance(value, (np.ndarray, Tensor)) or (isinstance(value, tuple) and len(value) > _MOST_WRITTEN):
        return _described(value), False
    if isinstance(value, tuple):
        parts = [literal(part) for part in value]
        comma = "," if len(parts) == 1 else ""
        return f"({', '.join(text for text, _ in parts)}{comma})", all(back for _, back in parts)
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}", True
    if isinstance(value, np.generic):
        return literal(value.item())
    if isinstance(value, float):
        text = float.__repr__(value)
        return (text if math.isfinite(value) else f"float('{text}')"), True
    if hasattr(type(value), "_not_default"):  # a strategy, which leaves out its defaults
        text = repr(value)
        return text, not text.startswith("<")
    if _is_record(value):
        named = [(field.name, *literal(getattr(value, field.name))) for field in fields(value)]
        text = ", ".join(f"{name}={text}" for name, text, _ in named)
        return f"{type(value).__name__}({text})", all(back for _, _, back in named)
    return repr(value), True


def short(value: Any) -> str:
    """Returns a setting as tables show it: 2.0 is 2."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else literal(value)[0].strip("'")


def instead_of(value: Any) -> tuple[str, str] | None:
    """Returns what is unfit about a setting and what to write instead; None if it is fit.

    A setting is fit if it cannot change, if equal settings are equal in every process, and if it can be written.

    >>> instead_of([1, 2])
    ('a list', 'write a tuple, or an array of many numbers')
    """
    if isinstance(value, tuple):
        faults = (instead_of(part) for part in value)
        return next((fault for fault in faults if fault), None)
    if isinstance(value, np.ndarray):
        return ("an array of objects", "write an array of numbers") if value.dtype.hasobject else None
    if isinstance(value, Tensor):
        plain = value.layout == torch.strided and not value.is_quantized
        return None if plain else ("a sparse or quantized tensor", "write a dense tensor")
    if value is None or isinstance(value, (Number, np.generic, str, bytes, Enum)):
        return None
    if _is_record(value):
        return instead_of(tuple(getattr(value, field.name) for field in fields(value)))
    if isinstance(value, list):
        return "a list", "write a tuple, or an array of many numbers"
    if isinstance(value, (set, frozenset)):
        return "a set", "write a sorted tuple"
    if isinstance(value, dict):
        return "a dict", "write a tuple of pairs"
    if callable(value):
        return "a function", "write its name, and look the function up in select"
    return (
        f"an object of {type(value).__name__}",
        "write numbers, texts, tuples or arrays, or a frozen dataclass of them",
    )


def _is_record(value: Any) -> bool:
    """Whether a value is a frozen dataclass, such as another strategy."""
    parameters: Any = getattr(type(value), "__dataclass_params__", None)
    return is_dataclass(value) and bool(parameters and parameters.frozen)


def _described(value: npt.NDArray[Any] | Tensor | tuple[Any, ...]) -> str:
    """Returns kind, shape and digest."""
    if isinstance(value, tuple):
        content = f"{len(value)} of ".encode() + ", ".join(literal(part)[0] for part in value).encode()
        kind = f"tuple of {len(value)}"
    elif isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous().reshape(-1)
        content = (torch.view_as_real(plain) if plain.is_complex() else plain).view(torch.uint8).numpy().tobytes()
        kind = f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    else:
        content = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
        kind = f"{value.dtype.newbyteorder('=')} array of shape {value.shape}"
    return f"{kind}, sha256 {hashlib.sha256(content).hexdigest()[:32]}"


def check_names(cls: Any, positional: Sequence[Any], settings: Mapping[str, Any]) -> None:
    """Raises TypeError for settings that a class of strategies does not take or lacks, and names them.

    A call without any is let pass, since copying and unpickling make an empty object first.
    """
    if not (positional or settings):
        return
    taken = inspect.signature(cls.__init__).parameters
    kinds = [parameter.kind for parameter in taken.values()]
    names = list(taken)[1:]
    if inspect.Parameter.VAR_KEYWORD in kinds or inspect.Parameter.VAR_POSITIONAL in kinds:
        return  # a class with an __init__ of its own
    most = kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) - 1
    takes = f"{cls.__name__} takes {', '.join(names)}" if names else f"{cls.__name__} takes no settings"
    if len(positional) > max(most, 0):
        example = cls.ratio_setting if cls.ratio_setting in names else (names or [""])[0]
        write = f"; write {cls.__name__}({example}={positional[most]!r})" if names else ""
        raise TypeError(f"{takes}, got {positional[most]!r} without a name{write}")
    for name in settings:
        if name not in names:
            value, near = settings[name], did_you_mean(name, names)
            if "ratio" in name and cls.ratio_setting in names and isinstance(value, float):
                near = f"; did you mean {cls.ratio_setting}={cls._of_ratio(value):.12g}?"
            raise TypeError(f"{name} is no setting of {cls.__name__}, got {value!r}{near or ';'} {takes}")
    if missing := [name for name in needed(cls)[len(positional) :] if name not in settings]:
        raise TypeError(f"{missing[0]} is needed by {cls.__name__}, got none; write {cls.__name__}({missing[0]}=...)")


def needed(cls: type) -> list[str]:
    """Returns the settings that a class of strategies must be given."""
    taken = inspect.signature(cls).parameters.values()
    rest = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in taken if each.default is each.empty and each.kind not in rest]


def check_settings(strategy: Any) -> None:
    """Raises unless the settings are values: fixed, comparable in every process, and possible to write down.

    Raises:
        TypeError: a list, a dict, a set, a function or another object; or a strategy that is no dataclass.
    """
    name = type(strategy).__name__
    if not is_dataclass(strategy):
        raise TypeError(f"a strategy must be a frozen dataclass, got {name}; write @dataclass(frozen=True) above it")
    for field in fields(strategy):
        fault = instead_of(getattr(strategy, field.name))
        if fault:
            raise TypeError(f"{field.name} of {name} must be a value that cannot change, got {fault[0]}; {fault[1]}")
    hash(strategy)  # digests large settings now, not in the middle of a run
