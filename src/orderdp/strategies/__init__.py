"""One file for each published method, and the contract that they keep."""

from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.dynamic_random import DynamicRandom
from orderdp.strategies.full_data import FullData
from orderdp.strategies.orderdp import OrderDP

__all__ = ["DynamicRandom", "FullData", "Memory", "OrderDP", "Selection", "Strategy"]
