"""One file for each published method, and the contract that they keep."""

from orderdp.strategies.base import Memory, Selection, Strategy
from orderdp.strategies.dynamic_random import DynamicRandom
from orderdp.strategies.epsilon_greedy import EpsilonGreedy
from orderdp.strategies.fixed_subset import FixedSubset
from orderdp.strategies.full_data import FullData
from orderdp.strategies.infobatch import InfoBatch
from orderdp.strategies.kakurenbo import Kakurenbo
from orderdp.strategies.orderdp import OrderDP
from orderdp.strategies.ordered_sgd import OrderedSGD
from orderdp.strategies.repeated_random import RepeatedRandom
from orderdp.strategies.selective_backprop import SelectiveBackprop
from orderdp.strategies.seta import SeTa
from orderdp.strategies.ucb import UCB

__all__ = [
    "UCB",
    "DynamicRandom",
    "EpsilonGreedy",
    "FixedSubset",
    "FullData",
    "InfoBatch",
    "Kakurenbo",
    "Memory",
    "OrderDP",
    "OrderedSGD",
    "RepeatedRandom",
    "SeTa",
    "Selection",
    "SelectiveBackprop",
    "Strategy",
]
