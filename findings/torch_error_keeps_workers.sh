#!/usr/bin/env bash
# torch 2.13.0: a DataLoader whose worker raised keeps its workers until the garbage collector runs, and then blocks.
#
# A loop catches the error of an item that cannot be read, goes on, and leaves the epoch early. `del iterator` should
# then end the workers, as it does without an error. Seen: both workers stay alive, because the error holds its own
# traceback, whose frames hold the iterator. When the garbage collector frees them, it waits about five seconds for each
# worker, in the middle of whatever the loop does then.
#
# Output seen (Python 3.11, Linux):
#     without an error: 0 workers after del
#     after an error: 2 workers after del, then gc.collect() took 10 s
#
# orderdp's own loader clears those frames, so its workers end with the loop.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.2.6
cat > "$folder/keeps_workers.py" <<'PYTHON'
import gc
import multiprocessing
import time

from torch.utils.data import DataLoader, Dataset


class Items(Dataset):
    def __init__(self, unreadable):
        self.unreadable = unreadable

    def __len__(self):
        return 18

    def __getitem__(self, item):
        if item in self.unreadable:
            raise OSError(f"cannot read item {item}")
        return item


def leave_early(unreadable):
    iterator = iter(DataLoader(Items(unreadable), batch_size=3, num_workers=2))
    for _ in range(4):
        try:
            next(iterator)
        except OSError:
            pass
    del iterator
    return len(multiprocessing.active_children())


gc.disable()
without = leave_early(())
after = leave_early((6,))
began = time.monotonic()
gc.collect()
seconds = time.monotonic() - began
print(f"without an error: {without} workers after del")
print(f"after an error: {after} workers after del, then gc.collect() took {seconds:.0f} s")
assert (without, after) == (0, 2) and seconds > 4, "torch behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/keeps_workers.py" 2>/dev/null
