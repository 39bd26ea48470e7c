#!/usr/bin/env bash
# webdataset 1.0.2: the shards are shuffled once, so each epoch has them in the same order, with a seed or without.
#
# `WebDataset(urls, shardshuffle=8)` is for training: the shards are to come in another order in each epoch. It draws its
# seed once, when it is made, and each pass begins the draw at that seed again. A buffer, `shuffle(4)`, mixes neighbours
# anew in each pass, so batches look different. But an epoch always begins and ends with the same shards. With
# `with_epoch` for shorter epochs, the shards behind its end are never trained. The number of samples is right, and
# nothing warns. `detshuffle=True` draws anew in each epoch. It counts the epochs in the worker, so with workers it needs
# `persistent_workers=True`. `resampled=True` draws anew too.
#
# Output seen (Python 3.11, Linux), 10 epochs of 8 shards of 6 samples; 27 and the numbers of orders above 1 may vary:
#     shardshuffle=8: 1 order
#     shardshuffle=8, seed=1: 1 order
#     shardshuffle=8, num_workers=2: 1 order
#     shardshuffle=8, detshuffle=True: 10 orders
#     shardshuffle=8, detshuffle=True, num_workers=2: 1 order
#     shardshuffle=8, detshuffle=True, num_workers=2, persistent=True: 9 orders
#     shuffle(4), with_epoch(24): 27 of 48 samples trained
#     shuffle(4), with_epoch(24), detshuffle=True: 48 of 48 samples trained
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


def epochs(num_workers=0, persistent=False, short=False, **settings):
    """Returns the samples of ten epochs."""
    dataset = webdataset.WebDataset(URLS, **settings).decode().to_tuple("txt")
    if short:
        dataset = dataset.shuffle(4).with_epoch(24)
    loader = DataLoader(dataset, batch_size=None, num_workers=num_workers, persistent_workers=persistent)
    return [tuple(int(text) for (text,) in loader) for _ in range(10)]


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
    orders = len(set(read))
    print(", ".join(f"{name}={value}" for name, value in settings.items()), end=": ")
    print(orders, "order" if orders == 1 else "orders")
    assert (orders == 1) == same, "webdataset behaves otherwise now"
for settings, shown in (({}, ""), ({"detshuffle": True}, ", detshuffle=True")):
    trained = len({sample for samples in epochs(short=True, shardshuffle=8, **settings) for sample in samples})
    print(f"shuffle(4), with_epoch(24){shown}: {trained} of 48 samples trained")
    assert (trained < 32) == (not settings), "webdataset behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/order.py" "$folder" 2>/dev/null
