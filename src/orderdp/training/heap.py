"""The heap of a process that trains on a processor."""

from __future__ import annotations

import ctypes
import os

# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 32 << 20  # bytes; glibc refuses more
_KEPT = 1 << 30  # bytes
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Makes glibc keep freed blocks of up to 32 MiB, up to 1 GiB in all, instead of giving them back to the kernel.

    Otherwise the activations of every batch lie in new pages, which the kernel has to clear first. Does nothing where
    the allocator is another, or where the environment sets these limits.
    """
    if any(name in os.environ for name in _SETTINGS):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # Windows, macOS, musl
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
