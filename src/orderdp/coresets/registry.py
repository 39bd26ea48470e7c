"""The static methods by name. A new method is imported here and gets a row in `__all__`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orderdp.coresets.base import StaticMethod
from orderdp.coresets.glister import GLISTER
from orderdp.coresets.grad_match import GradMatch
from orderdp.coresets.influence import Influence
from orderdp.coresets.moso import MoSo
from orderdp.coresets.random import Random
from orderdp.output.suggestions import did_you_mean

__all__ = [
    "GLISTER",
    "GradMatch",
    "Influence",
    "MoSo",
    "Random",
]

BY_NAME: dict[str, type[StaticMethod]] = {globals()[row].name: globals()[row] for row in __all__}


def find(name: str) -> type[StaticMethod]:
    """Returns the class of a static method by its name.

    Raises:
        ValueError: no method of that name.

    >>> find("random").label
    'random'
    """
    if name not in BY_NAME:
        hint = did_you_mean(name, BY_NAME) or f"; choose from {', '.join(BY_NAME)}"
        raise ValueError(f"no static method named {name!r}{hint}")
    return BY_NAME[name]


def from_settings(name: str, settings: Mapping[str, Any]) -> StaticMethod:
    """Returns a static method with the settings of a recipe or of the command line.

    Raises:
        ValueError: no method of that name, or a setting that it does not take or refuses.
    """
    method = find(name)
    declared = method.__dataclass_fields__  # type: ignore[attr-defined]
    for setting, value in settings.items():
        if setting not in declared:
            hint = did_you_mean(setting, declared) or (
                f"; it takes {', '.join(declared)}" if declared else f"; leave {setting} out"
            )
            raise ValueError(f"{setting} does not apply to static method '{name}', got {value!r}{hint}")
    return method(**settings)
