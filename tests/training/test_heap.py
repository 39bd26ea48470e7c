"""The memory of one batch serves the next."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from orderdp.training.heap import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def batches():
    for _ in range(20):
        torch.ones(4 << 20)  # 16 MiB: 4,096 pages of 4 KiB
batches()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
batches()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how, **environment):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(command, env={**plain, **environment}, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other settings")
def test_freed_memory_serves_the_next_batch_unless_the_environment_says_otherwise():
    assert faults("kept") < 1_000
    small = "131072"
    assert faults("kept", MALLOC_TRIM_THRESHOLD_=small, MALLOC_MMAP_THRESHOLD_=small) > 20_000
