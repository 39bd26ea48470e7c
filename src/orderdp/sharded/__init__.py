"""A pruner whose table is shared out over the ranks, for data sets too large for one."""

from orderdp.sharded.pruner import ShardedPruner as ShardedPruner
