"""What pruning did, measured in any loop: which samples it used, how the choice moves, where its gradient points.

Coverage and stability cost O(n) an epoch and no pass over the data. Alignment costs forward and backward passes over
all the data, more than an epoch: measure it at a few checkpoints.
"""

from orderdp.diagnostics.alignment import Alignment, alignment
from orderdp.diagnostics.coverage import Coverage, coverage, gini
from orderdp.diagnostics.stability import jaccard, rolling_deviation

__all__ = ["Alignment", "Coverage", "alignment", "coverage", "gini", "jaccard", "rolling_deviation"]
