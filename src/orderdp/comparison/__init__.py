"""Comparisons: the runs of a plan, the processes that train them, and what the results show."""
