"""Diagnostics for any training loop: which samples pruning used, and how selection and gradient change.

Coverage, stability and the gradient norm cost O(n) an epoch and no pass over the data. Alignment costs forward and
backward passes over the full data, more than an epoch. Measure it at a few checkpoints.
"""

from orderdp.diagnostics.alignment import Alignment, alignment
from orderdp.diagnostics.coverage import Coverage, coverage, gini
from orderdp.diagnostics.dynamics import correlation, gradient_norm, rolling_deviation
from orderdp.diagnostics.stability import jaccard

__all__ = [
    "Alignment",
    "Coverage",
    "alignment",
    "correlation",
    "coverage",
    "gini",
    "gradient_norm",
    "jaccard",
    "rolling_deviation",
]
