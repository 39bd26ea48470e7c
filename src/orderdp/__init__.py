"""Dynamic data pruning for PyTorch: exactly q samples an epoch, chosen by order statistics of their losses."""

from orderdp.loader import IndexedDataset
from orderdp.pruner import Pruner, Report
from orderdp.schedule import Constant
from orderdp.strategies import DynamicRandom, FullData, Memory, OrderDP, Selection, Strategy

__version__ = "0.1.0"

__all__ = [
    "Constant",
    "DynamicRandom",
    "FullData",
    "IndexedDataset",
    "Memory",
    "OrderDP",
    "Pruner",
    "Report",
    "Selection",
    "Strategy",
]
