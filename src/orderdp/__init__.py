"""Dynamic data pruning for PyTorch: each epoch trains q samples, selected by order statistics of their losses."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from orderdp.version import __version__ as __version__

if TYPE_CHECKING:
    from orderdp import strategies, theory
    from orderdp.loader import IndexedDataset
    from orderdp.notices import Report
    from orderdp.pruner import Pruner
    from orderdp.samplers import PrunedBatchSampler, PrunedSampler
    from orderdp.schedule import Constant
    from orderdp.strategies import *  # noqa: F403

    __all__ = ["Constant", "IndexedDataset", "PrunedBatchSampler", "PrunedSampler", "Pruner", "Report", "theory"]
    __all__ += strategies.__all__

# Each part is loaded when it is first used, so the theory and the command line need not wait for torch. Every other
# name is one of the strategies, which their registry lists.
_HOMES = {
    "Constant": "schedule",
    "IndexedDataset": "loader",
    "PrunedBatchSampler": "samplers",
    "PrunedSampler": "samplers",
    "Pruner": "pruner",
    "Report": "notices",
}
_PARTS = ("coresets", "loader", "pruner", "samplers", "schedule", "scores", "strategies", "theory")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"orderdp.{name}")
    if name == "__all__":
        return sorted([*_HOMES, "theory", *import_module("orderdp.strategies").__all__])
    if name in _HOMES or (not name.startswith("_") and name in import_module("orderdp.strategies").__all__):
        value = globals()[name] = getattr(import_module(f"orderdp.{_HOMES.get(name, 'strategies')}"), name)
        return value
    raise AttributeError(f"module 'orderdp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__getattr__("__all__"), *_PARTS, "__version__"})
