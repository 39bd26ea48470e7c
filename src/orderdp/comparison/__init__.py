"""Comparisons: planned runs, the processes that train them, and their results."""
