#!/usr/bin/env bash
# webdataset 1.0.2: the shards are shuffled once, so each epoch has them in the same order, with a seed or without.
#
# `WebDataset(urls, shardshuffle=8)` is for training: the shards are to come in another order in each epoch. It draws its
# seed once, when it is made, and each pass begins the draw at that seed again. The shuffle of samples by a buffer differs
# from pass to pass, so batches look different, but it moves a sample by no more than the buffer. So an epoch always
# begins and ends with the same shards. With `with_epoch` for shorter epochs, the shards behind its end are never
# trained. The number of samples is right, and nothing warns. `detshuffle=True` draws anew in each epoch. It counts the
# epochs in the worker, so with workers it needs `persistent_workers=True`. `resampled=True` draws anew too.
#
# Output seen (Python 3.11, Linux), 10 epochs of 8 shards of 6 samples, a buffer of 4 samples:
#     shardshuffle=8: 1 orders of shards, 10 orders of samples
#     shardshuffle=8, seed=1: 1 orders of shards, 10 orders of samples
#     shardshuffle=8, num_workers=2: 1 orders of shards, 10 orders of samples
#     shardshuffle=8, detshuffle=True: 10 orders of shards, 10 orders of samples
#     shardshuffle=8, detshuffle=True, num_workers=2: 1 orders of shards, 10 orders of samples
#     shardshuffle=8, detshuffle=True, num_workers=2, persistent=True: 9 orders of shards, 10 orders of samples
#     with_epoch(24), as it is: 26 of 48 samples in 10 epochs
#     with_epoch(24), {'detshuffle': True}: 48 of 48 samples in 10 epochs
# The numbers above 1, and the 26, vary a little from run to run.
#
# A Pruner draws each epoch from the whole data set. StreamPruner reads its source as it comes. The page on streams says
# how to have another order in each pass.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 webdataset==1.0.2
cat > "$folder/order.py" <<'PYTHON'
import sys

import webdataset
from torch.utils.data import DataLoader

URLS = f"{sys.argv[1]}/{{0..7}}.tar"
for shard in range(8):
    with webdataset.TarWriter(f"{sys.argv[1]}/{shard}.tar") as writer:
        for number in range(6 * shard, 6 * shard + 6):
            writer.write({"__key__": f"{number:03}", "txt": str(number)})


def epochs(length=None, num_workers=0, persistent=False, **settings):
    """Returns the samples of ten epochs."""
    dataset = webdataset.WebDataset(URLS, **settings).shuffle(4).decode().to_tuple("txt")
    if length:
        dataset = dataset.with_epoch(length)
    loader = DataLoader(dataset, batch_size=None, num_workers=num_workers, persistent_workers=persistent)
    return [[int(text) for (text,) in loader] for _ in range(10)]


def order(samples, num_workers=0, **_):
    """Returns the shards of each worker in the order of their middles, which a buffer of four samples leaves alone."""
    step = max(num_workers, 1)
    workers = [[sample // 6 for sample in samples[worker::step]] for worker in range(step)]
    return str([sorted(set(shards), key=lambda shard: sum_of_places(shards, shard)) for shards in workers])


def sum_of_places(shards, shard):
    return sum(place for place, other in enumerate(shards) if other == shard)


for settings, same in (
    ({"shardshuffle": 8}, True),
    ({"shardshuffle": 8, "seed": 1}, True),
    ({"shardshuffle": 8, "num_workers": 2}, True),
    ({"shardshuffle": 8, "detshuffle": True}, False),
    ({"shardshuffle": 8, "detshuffle": True, "num_workers": 2}, True),
    ({"shardshuffle": 8, "detshuffle": True, "num_workers": 2, "persistent": True}, False),
):
    read = epochs(**settings)
    assert all(sorted(samples) == list(range(48)) for samples in read)
    orders = len({order(samples, **settings) for samples in read})
    samples = len({tuple(samples) for samples in read})
    shown = ", ".join(f"{name}={value}" for name, value in settings.items())
    print(f"{shown}: {orders} orders of shards, {samples} orders of samples")
    assert (orders == 1) == same, "webdataset behaves otherwise now"
for settings in ({}, {"detshuffle": True}):
    seen = len({sample for samples in epochs(24, shardshuffle=8, **settings) for sample in samples})
    print(f"with_epoch(24), {settings or 'as it is'}: {seen} of 48 samples in 10 epochs")
    assert (seen < 32) == (not settings), "webdataset behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/order.py" "$folder" 2>/dev/null
