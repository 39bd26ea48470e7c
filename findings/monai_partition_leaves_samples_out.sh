#!/usr/bin/env bash
# monai 1.6.1: a split by ratios leaves samples out, and with rare classes the whole test part.
#
# `partition_dataset(data, ratios=[8, 1, 1])` splits the data into partitions, as its documentation says. It rounds the
# size of each partition, and no partition takes what is left: 13 samples become 10, 1 and 1. In one long list this is a
# sample or two. `partition_dataset_classes` splits each class so, and says that every partition has the same ratio of
# classes. Of classes of four samples, three go to training and one goes nowhere: a quarter of the data is lost, and
# validation and test are empty. There is no error and no warning. Two splits into two parts each lose nothing.
#
# Output seen (Python 3.11, Linux):
#     10 samples, ratios 8:1:1: 8 1 1, 0 left out
#     13 samples, ratios 8:1:1: 10 1 1, 1 left out
#     32 samples, ratios 1:1:1:1:1: 6 6 6 6 6, 2 left out
#     100 classes of 4 samples, ratios 8:1:1: 300 0 0, 100 left out
#     100 classes of 7 samples, ratios 8:1:1: 600 100 0, 0 left out
#     100 classes of 10 samples, ratios 8:1:1: 800 100 100, 0 left out
#     100 classes of 14 samples, ratios 8:1:1: 1100 100 100, 100 left out
#     100 classes of 14 samples, 8:2 and then 1:1: 1100 200 100, 0 left out
#
# orderdp holds out a stratified share of the training samples, and trains on all the others.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 monai==1.6.1
cat > "$folder/split.py" <<'PYTHON'
from monai.data import partition_dataset, partition_dataset_classes


def shown(parts, num_samples):
    left = num_samples - sum(map(len, parts))
    return f"{' '.join(str(len(part)) for part in parts)}, {left} left out"


for num_samples, ratios, left_out in ((10, [8, 1, 1], 0), (13, [8, 1, 1], 1), (32, [1, 1, 1, 1, 1], 2)):
    parts = partition_dataset(range(num_samples), ratios=ratios, shuffle=True)
    print(f"{num_samples} samples, ratios {':'.join(map(str, ratios))}: {shown(parts, num_samples)}")
    assert num_samples - sum(map(len, parts)) == left_out, "monai behaves otherwise now"
for size, sizes in ((4, [300, 0, 0]), (7, [600, 100, 0]), (10, [800, 100, 100]), (14, [1_100, 100, 100])):
    classes = [number for number in range(100) for _ in range(size)]
    parts = partition_dataset_classes(range(100 * size), classes, ratios=[8, 1, 1], shuffle=True)
    print(f"100 classes of {size} samples, ratios 8:1:1: {shown(parts, 100 * size)}")
    assert list(map(len, parts)) == sizes, "monai behaves otherwise now"
train, rest = partition_dataset_classes(range(1_400), classes, ratios=[8, 2], shuffle=True)
parts = [train, *partition_dataset_classes(rest, [classes[sample] for sample in rest], ratios=[1, 1], shuffle=True)]
print(f"100 classes of 14 samples, 8:2 and then 1:1: {shown(parts, 1_400)}")
assert sum(map(len, parts)) == 1_400, "monai behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/split.py" 2>/dev/null
