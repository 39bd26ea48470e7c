#!/usr/bin/env bash
# datasets 5.2.0 with accelerate 1.15.0: a stream that was never shuffled comes in another order from its third pass on.
#
# A prepared loader of accelerate calls `set_epoch` of its data set with the number of the pass. An IterableDataset of
# datasets then shuffles its files, though the program has called neither `shuffle` nor `set_epoch`. With 8 files the
# order of the second pass differs already. So predictions no longer stand beside the labels of a table in the order
# of the files, and a curriculum from easy to hard files mixes. `concatenate_datasets` changes the order of its parts
# alike. Each pass has all samples, and there is no warning. A plain DataLoader keeps the order. So does
# `prepared.set_epoch(0)` before each pass.
#
# Output seen (Python 3.11, Linux), 24 samples in 8 files, "right" are those that stand at their place:
#     DataLoader: 24 right, 24 right, 24 right, 24 right
#     prepared: 24 right, 3 right, 0 right, 9 right
#     prepared, set_epoch(0): 24 right, 24 right, 24 right, 24 right
#
# orderdp's pruner has data sets with random access only, and StreamPruner never calls `set_epoch`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 datasets==5.2.0 accelerate==1.15.0
cat > "$folder/passes.py" <<'PYTHON'
from accelerate import Accelerator
from datasets import Dataset
from torch.utils.data import DataLoader


def passes(prepare, calls_set_epoch):
    """Returns for each of 4 passes over 24 samples how many stand at their place, and how many come at all."""
    stream = Dataset.from_dict({"id": range(24)}).to_iterable_dataset(num_shards=8)
    loader = DataLoader(stream, batch_size=4)
    if prepare:
        loader = Accelerator(cpu=True).prepare(loader)
    counts = []
    for _ in range(4):
        if calls_set_epoch:
            loader.set_epoch(0)
        order = [sample for batch in loader for sample in batch["id"].tolist()]
        counts.append((sum(sample == place for place, sample in enumerate(order)), len(set(order))))
    return counts


seen = []
for name, prepare, calls_set_epoch in (
    ("DataLoader", False, False),
    ("prepared", True, False),
    ("prepared, set_epoch(0)", True, True),
):
    counts = passes(prepare, calls_set_epoch)
    print(f"{name}: {', '.join(f'{right} right' for right, _ in counts)}")
    assert {samples for _, samples in counts} == {24}
    seen.append([right for right, _ in counts])
plain, prepared, held = seen
assert plain == held == [24] * 4, "they behave otherwise now"
assert prepared[0] == 24 and max(prepared[2:]) < 12, "they behave otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/passes.py" 2>/dev/null
