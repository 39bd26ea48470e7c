"""The pruning methods, one file each, and their contract. `registry` lists them by name."""

from orderdp.strategies import registry
from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.references import citation
from orderdp.strategies.registry import *  # noqa: F403

__all__: list[str] = ["Memory", "Selection", "Strategy", "citation"]
__all__ += registry.__all__
