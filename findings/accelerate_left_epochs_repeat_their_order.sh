#!/usr/bin/env bash
# accelerate 1.15.0: with `use_seedable_sampler`, epochs that are left early all have the same batches.
#
# accelerate offers the seedable sampler for reproducible runs. Its order depends on a seed and on the number of the
# epoch. A prepared loader counts an epoch only when it has been read to its end. A loop that makes 4 of 10 batches in
# each epoch, to evaluate more often or for a trial, therefore gets the same 8 samples in the same order each time, and
# never trains the others. `shuffle=True` is set, each epoch has the right number of batches, and nothing warns. The
# usual sampler draws anew. `loader.set_epoch(epoch)` before each epoch avoids it.
#
# Output seen (Python 3.11, Linux), 5 epochs of 4 batches of 2, of 20 samples:
#     the usual sampler: 18 samples trained, 5 orders
#     use_seedable_sampler=True: 8 samples trained, 1 order
#     use_seedable_sampler=True and set_epoch: 19 samples trained, 5 orders
#
# A pass of orderdp's loader that is left early counts as an epoch, so the next one is chosen anew.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 accelerate==1.15.0
cat > "$folder/order.py" <<'PYTHON'
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch.utils.data import DataLoader


def left_early(seedable, calls_set_epoch):
    """Returns how many of 20 samples were trained, and how many orders there were, in 5 epochs of 4 batches of 2."""
    set_seed(0)
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=seedable))
    loader = accelerator.prepare(DataLoader(range(20), batch_size=2, shuffle=True))
    orders = []
    for epoch in range(5):
        if calls_set_epoch:
            loader.set_epoch(epoch)
        order = []
        for number, batch in enumerate(loader, 1):
            order += batch.tolist()
            if number == 4:
                break
        orders.append(tuple(order))
    return len(set().union(*orders)), len(set(orders))


seen = []
for name, seedable, calls_set_epoch in (
    ("the usual sampler", False, False),
    ("use_seedable_sampler=True", True, False),
    ("use_seedable_sampler=True and set_epoch", True, True),
):
    samples, orders = left_early(seedable, calls_set_epoch)
    print(f"{name}: {samples} samples trained, {orders} order{'s' * (orders > 1)}")
    seen.append((samples > 8, orders))
assert seen == [(True, 5), (False, 1), (True, 5)], "accelerate behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/order.py" 2>/dev/null
