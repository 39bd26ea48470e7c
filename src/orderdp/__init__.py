"""Dynamic data pruning for PyTorch: exactly q samples an epoch, chosen by order statistics of their losses."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orderdp import theory
    from orderdp.loader import IndexedDataset
    from orderdp.pruner import Pruner, Report
    from orderdp.samplers import PrunedBatchSampler, PrunedSampler
    from orderdp.schedule import Constant
    from orderdp.strategies import (
        UCB,
        DynamicRandom,
        EpsilonGreedy,
        FixedSubset,
        FullData,
        InfoBatch,
        Kakurenbo,
        Memory,
        OrderDP,
        OrderedSGD,
        RepeatedRandom,
        Selection,
        SelectiveBackprop,
        SeTa,
        Strategy,
    )

__version__ = "0.1.0"

__all__ = [
    "UCB",
    "Constant",
    "DynamicRandom",
    "EpsilonGreedy",
    "FixedSubset",
    "FullData",
    "IndexedDataset",
    "InfoBatch",
    "Kakurenbo",
    "Memory",
    "OrderDP",
    "OrderedSGD",
    "PrunedBatchSampler",
    "PrunedSampler",
    "Pruner",
    "RepeatedRandom",
    "Report",
    "SeTa",
    "Selection",
    "SelectiveBackprop",
    "Strategy",
    "theory",
]

# A part is loaded when it is first used: what needs no torch (the theory, the command line) does not wait for it.
_HOMES = {
    "IndexedDataset": "loader",
    "PrunedBatchSampler": "samplers",
    "PrunedSampler": "samplers",
    "Pruner": "pruner",
    "Report": "pruner",
    "Constant": "schedule",
}
_PARTS = ("loader", "pruner", "samplers", "schedule", "scores", "strategies", "theory")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"orderdp.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'orderdp' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"orderdp.{_HOMES.get(name, 'strategies')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS, "__version__"})
