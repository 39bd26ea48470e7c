#!/usr/bin/env bash
# datasets 5.2.0: half of a streamed validation part, taken with `take`, is trained when workers read the rest.
#
# The documented split of a stream is `take(n)` for validation and `skip(n)` for training, after `shuffle` if it is to
# be random. A DataLoader with workers gives each of them some files, and each skips its part of the n samples there.
# So n samples are skipped in all, but half of them are others than the main process took. After a shuffle, each worker
# and each epoch has its own seed. So a training part whose epoch was set, as a new order needs it, has samples of the
# validation part too. The number of samples is right, there is no warning, and validation looks better than it is. A
# split of the files, or by a hash of each sample, avoids it.
#
# Output seen (Python 3.11, Linux), 10,000 samples in 8 files, of which the first 1,000 are for validation:
#     not shuffled, 0 workers, epoch 0: 9000 trained, 0 of them are for validation
#     not shuffled, 0 workers, epoch 1: 9000 trained, 0 of them are for validation
#     not shuffled, 2 workers, epoch 0: 9000 trained, 500 of them are for validation
#     shuffled, 0 workers, epoch 0: 9000 trained, 0 of them are for validation
#     shuffled, 0 workers, epoch 1: 9000 trained, 303 of them are for validation
#     shuffled, 2 workers, epoch 0: 9000 trained, 497 of them are for validation
#
# orderdp reads the source that it is given, so StreamPruner would train them too. Its page on streams says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 datasets==5.2.0
cat > "$folder/split.py" <<'PYTHON'
from datasets import Dataset
from torch.utils.data import DataLoader


def overlap(shuffled, num_workers, epoch):
    """Returns how many samples are trained, and how many of them are for validation."""
    data = Dataset.from_dict({"id": range(10_000)}).to_iterable_dataset(num_shards=8)
    if shuffled:
        data = data.shuffle(seed=42, buffer_size=1_000)
    validation, training = data.take(1_000), data.skip(1_000)
    held_out = {row["id"] for row in validation}
    training.set_epoch(epoch)
    loader = DataLoader(training, batch_size=100, num_workers=num_workers)
    trained = {sample for batch in loader for sample in batch["id"].tolist()}
    return len(trained), len(trained & held_out)


seen = []
for shuffled in (False, True):
    for num_workers, epoch in ((0, 0), (0, 1), (2, 0)):
        trained, both = overlap(shuffled, num_workers, epoch)
        name = f"{'shuffled' if shuffled else 'not shuffled'}, {num_workers} workers, epoch {epoch}"
        print(f"{name}: {trained} trained, {both} of them are for validation")
        assert trained == 9_000
        seen.append(both)
plain, later, workers, shuffled, shuffled_later, shuffled_workers = seen
assert plain == later == shuffled == 0, "datasets behaves otherwise now"
assert workers == 500 and shuffled_later > 100 and shuffled_workers > 300, "datasets behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/split.py" 2>/dev/null
