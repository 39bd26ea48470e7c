#!/usr/bin/env bash
# torch 2.13.0: after a restart by torchrun, a rank may connect to the address of a process that has ended.
#
# `torchrun --max-restarts` starts all ranks again when one has failed. The ranks find each other in a store that the
# agent keeps for all attempts, under the same keys, though a comment in torch's source says that each attempt has a new
# one. So a rank that is ready first reads where the other one was before. Which of the two connects depends on their
# ports. So one job fails at once, another after several timeouts, and a third one works; the restart is used up. Here
# rank 1 begins two seconds after rank 0, as a rank does that loads data first. At least every second job failed.
#
# With TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 each attempt has a store of its own.
#
# Output seen (Python 3.11, Linux), jobs of two ranks, of which rank 1 exits with status 1 in the first attempt:
#     the default: second attempt has the store of the first: {True}, status [1]
#       RuntimeError: Gloo connectFullMesh failed with ... Connect timeout
#     TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1: second attempt has the store of the first: {False}, status [0, 0, 0]
#
# orderdp cannot change this: its restarted jobs need the variable too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$folder/rank.py" <<'PYTHON'
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
limit = timedelta(seconds=10)
begun = Path(f"{__file__}.{os.getppid()}.{attempt}")  # the parent is the agent
if rank == "0":
    begun.touch()
else:
    while not begun.exists():
        time.sleep(0.1)
    time.sleep(2)
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(*address, is_master=False, wait_for_workers=False, timeout=limit)
    print(f"attempt {attempt}: key {store.check(['left here'])}", flush=True)
    store.set("left here", "by rank 1")
dist.init_process_group("gloo", timeout=limit)
total = torch.ones(1)
dist.all_reduce(total)
assert total == 2
dist.barrier()
if (rank, attempt) == ("1", "0"):
    sys.exit(1)
dist.destroy_process_group()
PYTHON
cat > "$folder/restart.py" <<'PYTHON'
import os
import re
import subprocess
import sys

JOB = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]


def jobs(most, disabled):
    """Runs jobs until one fails. Returns torchrun's status of each, and whether each second attempt had the key."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": disabled}
    status, had_key = [], set()
    while len(status) < most and not any(status):
        done = subprocess.run([*JOB, sys.argv[1]], env=environment, capture_output=True, text=True, timeout=200)
        status.append(done.returncode)
        assert "attempt 0: key False" in done.stdout
        had_key.add("attempt 1: key True" in done.stdout)
    errors = re.findall(r"(RuntimeError: Gloo connectFullMesh failed with) .*(Connect\w* [rt]\w+)", done.stderr)
    return status, had_key, errors


seen = []
for name, most, disabled in (("the default", 8, "0"), ("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1", 3, "1")):
    status, had_key, errors = jobs(most, disabled)
    print(f"{name}: second attempt has the store of the first: {had_key}, status {status}")
    for failed, reason in errors[:1]:
        print(f"  {failed} ... {reason}")
    seen.append((had_key, status[-1]))
assert seen == [({True}, 1), ({False}, 0)], "torch behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/restart.py" "$folder/rank.py" 2>/dev/null
